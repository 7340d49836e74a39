//! What goes back of a charge that was not used: only what time has not given back already.
//!
//! Whoever refunds says when it was charged. Nothing here knows reservations or leases.

use super::{Row, Rows, calendar_quota, token_bucket};
use crate::limit::{Algorithm, Refund};
use crate::time::Micros;

/// Gives back what was charged and not used, as far as time has not done so already.
///
/// Afterwards a counter stands no lower than had the refund's units never been charged.
pub fn refund(refund: &Refund, now: Micros, rows: &mut impl Rows) {
    let Refund { charge, charged_at, window } = refund;
    match (rows.read(charge), charge.limit.algorithm()) {
        (Some(Row::Bucket(bucket)), Algorithm::TokenBucket(throttle)) => {
            let given = token_bucket::refund(bucket, charge.amount(), *charged_at, throttle, now);
            if given > 0 {
                let level = token_bucket::level(Some(bucket), throttle, now).saturating_sub(given);
                let bucket = token_bucket::updated(Some(bucket), level, throttle, now);
                let until = now + token_bucket::until_empty(level, throttle);
                rows.write(charge, Row::Bucket(bucket), until);
            }
        }
        (Some(Row::Count(count)), Algorithm::CalendarQuota(quota)) => {
            if let Some(count) = calendar_quota::after_refund(count, charge.amount(), *window) {
                let until = quota.calendar.end_of(*window) + charge.limit.retention();
                rows.write(charge, Row::Count(count), until);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{judge, offered_windows};
    use super::*;
    use crate::limit::{
        Calendar, Charge, Limit, Period, Quota, Subject, Throttle, Unit, WindowStart,
    };

    #[derive(Default)]
    struct Table(HashMap<u64, Row>);

    impl Rows for Table {
        fn read(&self, charge: &Charge) -> Option<Row> {
            self.0.get(&charge.limit.row().get()).copied()
        }

        fn write(&mut self, charge: &Charge, row: Row, _until: Micros) {
            self.0.insert(charge.limit.row().get(), row);
        }
    }

    fn charge(algorithm: Algorithm, cost: u64) -> Charge {
        let limit = Arc::new(Limit::new("t", Unit::requests(), algorithm, false));
        Charge { subject: Subject::api_key("a"), limit, cost }
    }

    /// One of three rates, whose levels all count millionths.
    fn throttle(rate: usize, cost: u64) -> Charge {
        let rate = ["1.000001/s", "3.000001/s", "20.000001/s"][rate].parse().unwrap();
        charge(Algorithm::TokenBucket(Throttle::new(rate, 100).unwrap()), cost)
    }

    fn level(rows: &Table, charge: &Charge, now: Micros) -> u64 {
        let Algorithm::TokenBucket(throttle) = charge.limit.algorithm() else { unreachable!() };
        token_bucket::level(rows.read(charge).and_then(Row::bucket), throttle, now)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// R7, and what follows from it: no later check is allowed that would not have been.
        #[test]
        fn a_refund_leaves_no_less_than_had_it_never_been_charged(
            before in 0_u64..60,
            (estimate, actual) in (1_u64..=40).prop_flat_map(|estimate| (Just(estimate), 0..=estimate)),
            events in vec((prop_oneof![0_u64..300_000, 0_u64..4_000_000], 0_usize..3, 0_u64..30, prop::bool::weighted(0.3)), 0..20),
        ) {
            let (mut real, mut ideal) = (Table::default(), Table::default());
            let mut now = Micros::from_secs(1_774_656_000);
            let mut rate = 0;
            judge(&[throttle(0, before)], &[None], now, &mut real).unwrap();
            judge(&[throttle(0, before)], &[None], now, &mut ideal).unwrap();
            judge(&[throttle(0, estimate)], &[None], now, &mut real).unwrap();
            judge(&[throttle(0, actual)], &[None], now, &mut ideal).unwrap();
            let charged_at = now;
            for (passed, other, cost, changes) in events {
                now = now + Micros::new(passed);
                rate = if changes { other } else { rate };
                // What the real world admits is admitted in the ideal one too.
                if judge(&[throttle(rate, cost)], &[None], now, &mut real).unwrap().allowed {
                    prop_assert!(judge(&[throttle(rate, cost)], &[None], now, &mut ideal).unwrap().allowed);
                }
            }
            let unused = Refund { charge: throttle(0, estimate - actual), charged_at, window: WindowStart::new(0) };
            refund(&unused, now, &mut real);
            let (real, ideal) = (level(&real, &unused.charge, now), level(&ideal, &unused.charge, now));
            prop_assert!(real >= ideal, "{real} is less than {ideal}");
        }
    }

    #[test]
    fn a_throttle_gives_back_what_time_has_not() {
        let now = Micros::from_secs(1_774_656_000);
        let later = |seconds| now + Micros::from_secs(seconds);
        let cases = [
            ("at once all of it", 0, now, 20),
            ("after ten seconds ten less", 0, later(10), 10),
            ("after thirty nothing", 0, later(30), 0),
            ("nothing where the rate is another one", 1, now, 0),
        ];
        let of_ten = |rate: usize, cost| {
            let rate = ["1/s", "2/s"][rate].parse().unwrap();
            charge(Algorithm::TokenBucket(Throttle::new(rate, 100).unwrap()), cost)
        };
        for (why, rate, then, given) in cases {
            let mut rows = Table::default();
            judge(&[of_ten(0, 100)], &[None], now, &mut rows).unwrap();
            let full = level(&rows, &of_ten(rate, 1), then);
            let unused =
                Refund { charge: of_ten(rate, 20), charged_at: now, window: WindowStart::new(0) };
            refund(&unused, then, &mut rows);
            let now_level = level(&rows, &of_ten(rate, 1), then);
            assert_eq!(full - now_level, unused.charge.limit.amount(given), "{why}");
        }
    }

    #[test]
    fn a_rate_that_came_and_went_within_one_tick_is_noticed() {
        let tick = Micros::new(token_bucket::TICK_MICROS);
        let begin = Micros::new(Micros::from_secs(1_774_656_000).get() / tick.get() * tick.get());
        let mut rows = Table::default();
        for (rate, cost, after) in [(0, 40, 0), (2, 1, 500_000), (0, 1, 600_000)] {
            let now = begin + Micros::new(after);
            judge(&[throttle(rate, cost)], &[None], now, &mut rows).unwrap();
        }
        let now = begin + Micros::new(700_000);
        let before = level(&rows, &throttle(0, 1), now);
        let unused =
            Refund { charge: throttle(0, 40), charged_at: begin, window: WindowStart::new(0) };
        refund(&unused, now, &mut rows);
        assert_eq!(level(&rows, &throttle(0, 1), now), before);
    }

    #[test]
    fn a_quota_gives_back_exactly_what_was_unused_and_only_within_its_window() {
        let calendar = Arc::new(Calendar::new(Period::Day, "UTC").unwrap());
        let quota = |cost| {
            charge(
                Algorithm::CalendarQuota(Quota { limit: 100, calendar: Arc::clone(&calendar) }),
                cost,
            )
        };
        let now = Micros::from_secs(1_774_656_000);
        let mut rows = Table::default();
        let judge = |cost, now, rows: &mut Table| {
            judge(&[quota(cost)], &offered_windows(&[quota(cost)], now), now, rows).unwrap()
        };
        let window = judge(60, now, &mut rows).states[0].window;
        let unused = Refund { charge: quota(25), charged_at: now, window };
        refund(&unused, now + Micros::from_secs(3_600), &mut rows);
        assert_eq!(judge(0, now, &mut rows).states[0].level, 35);
        let tomorrow = now + Micros::from_secs(86_400);
        judge(10, tomorrow, &mut rows);
        refund(&unused, tomorrow, &mut rows);
        assert_eq!(judge(0, tomorrow, &mut rows).states[0].level, 10);
    }
}
