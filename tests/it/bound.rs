//! R3: no window of any length admits more than the burst and the rate allow, exactly.
//!
//! Tested on the reference implementation; the twin tests hold that Lua is equal to it. The windows
//! are those between any two admitted charges, not only those from the first one.

use std::sync::Arc;

use proptest::prelude::*;
use tollgate::algorithm::{Counting as _, Throttle};
use tollgate::judge::{self, RowTable};
use tollgate::limit::{Charge, Charges, Limit, Subject, Unit};
use tollgate::time::Micros;

const RATES: [&str; 7] =
    ["10/s", "3/min", "1234567/d", "0.7/s", "1000000/s", "333.333/s", "2500000/s"];

/// One step of a history: time that passes, in drain intervals and microseconds, and a cost.
#[derive(Clone, Debug)]
struct Step {
    intervals: u64,
    off: u64,
    cost: u64,
    change: Option<(usize, u64)>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = prop_oneof![9 => Just(None), 1 => (0..RATES.len(), 1_u64..40).prop_map(Some)];
    let step = (0_u64..4, 0_u64..3, 1_u64..6, change);
    let step =
        step.prop_map(|(intervals, off, cost, change)| Step { intervals, off, cost, change });
    proptest::collection::vec(step, 1..120)
}

fn throttle(rate: usize, burst: u64) -> Throttle {
    Throttle::new(RATES[rate].parse().unwrap(), burst).unwrap()
}

/// Returns true if `cost` is at most `burst + rate * time`, in whole numbers.
fn within(cost: u64, throttle: &Throttle, time: u64) -> bool {
    u128::from(cost) * u128::from(throttle.per())
        <= u128::from(throttle.size()) + u128::from(throttle.drain()) * u128::from(time)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_window_admits_more_than_burst_and_rate(rate in 0..RATES.len(), burst in 1_u64..40, steps in steps()) {
        let mut rows = RowTable::default();
        let mut now = 1_774_656_000_000_000_u64;
        let mut current = throttle(rate, burst);
        // Each admitted charge: its time, its cost, and the throttle in force.
        let mut admitted: Vec<(u64, u64, Throttle)> = Vec::new();
        for step in &steps {
            now += (current.per() / current.drain()) * step.intervals + step.off;
            if let Some((rate, burst)) = step.change {
                current = throttle(rate, burst);
            }
            let limit = Arc::new(Limit::new("t", Unit::requests(), current, false));
            let charge = Charge::new(Subject::api_key("a"), limit, step.cost);
            let charges: Charges = [charge].into_iter().collect();
            let offered = judge::offered_windows(&charges, Micros::new(now));
            if judge::judge(&charges, &offered, Micros::new(now), &mut rows).unwrap().allowed {
                admitted.push((now, step.cost, current));
            }
        }
        for (from, &(start, ..)) in admitted.iter().enumerate() {
            let mut cost = 0;
            let mut faster: Throttle = admitted[from].2;
            let mut larger = faster.burst();
            for &(at, more, in_force) in &admitted[from..] {
                cost += more;
                // If the limit changed within the window, the larger burst and the larger rate
                // bound it.
                larger = larger.max(in_force.burst());
                if in_force.rate().excess_over(faster.rate()) > 0.0 {
                    faster = in_force;
                }
                // When the window began, the token bucket had at most the larger burst available.
                let bound = Throttle::new(faster.rate(), larger).unwrap();
                prop_assert!(within(cost, &bound, at - start), "{cost} within {} us of {:?}", at - start, bound);
            }
        }
    }

    #[test]
    fn a_client_that_waits_for_retry_after_gets_the_whole_rate(rate in 0..RATES.len(), burst in 1_u64..40) {
        // The lower bound: a retry after Retry-After is always admitted.
        let throttle = throttle(rate, burst);
        let limit = Arc::new(Limit::new("t", Unit::requests(), throttle, false));
        let charge = Charge::new(Subject::api_key("a"), limit, 1);
        let charges: Charges = [charge.clone()].into_iter().collect();
        let (mut rows, mut now, mut passed) = (RowTable::default(), 1_774_656_000_000_000_u64, 0);
        let start = now;
        for _ in 0..300 {
            let verdict = judge::judge(&charges, &[None], Micros::new(now), &mut rows).unwrap();
            if verdict.allowed {
                passed += 1;
            } else {
                let status = judge::limit_status(&charge, verdict.states[0], false, Micros::new(now));
                let early = judge::judge(&charges, &[None], Micros::new(now + status.retry_after.get() - 1), &mut rows);
                prop_assert!(!early.unwrap().allowed, "admitted a microsecond before Retry-After");
                now += status.retry_after.get();
                let then = judge::judge(&charges, &[None], Micros::new(now), &mut rows).unwrap();
                prop_assert!(then.allowed, "refused after Retry-After");
                passed += 1;
            }
        }
        // At up to one unit per microsecond, waiting for whole units loses no capacity.
        let is_slow = throttle.drain() <= throttle.per();
        prop_assert!(!is_slow || !within(passed + 1, &throttle, now - start), "one more request should have been admitted");
    }
}
