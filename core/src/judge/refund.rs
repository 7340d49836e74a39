//! Refunds: units that were charged and not used go back, as far as time has not returned them.
//!
//! The caller states when they were charged. Nothing here knows reservations or leases.

use super::{JudgedCharge, Rows, replace};
use crate::algorithm::ChargeTime;
use crate::limit::Refund;
use crate::time::Micros;

/// Gives back units that were charged and not used, as far as time has not done so already.
///
/// Afterwards a counter stands no lower than if the refunded units had never been charged. A
/// counter whose row is gone has nothing to refund.
pub fn refund(refund: &Refund, now: Micros, rows: &mut impl Rows) {
    refund_charge(&refund.charge, refund.charged, now, rows);
}

/// Gives back a charge of the units that were not used; see [`refund`].
pub(crate) fn refund_charge<C: JudgedCharge>(
    charge: &C,
    charged: ChargeTime,
    now: Micros,
    rows: &mut impl Rows<C>,
) {
    let Some(row) = rows.read(charge) else { return };
    if let Some(written) = charge.refund(&row, charged, now) {
        // Marks follow the refunded level, which is the lower one.
        replace(charge, Some(&row), i64::MAX, written, rows);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{RowTable, judge, offered_windows};
    use super::*;
    use crate::algorithm::{
        Algorithm, Calendar, Counting as _, Period, Quota, Throttle, WindowStart, token_bucket,
    };
    use crate::limit::{Charge, Limit, Subject, Unit};

    fn charge(algorithm: impl Into<Algorithm>, cost: u64) -> Charge {
        let limit = Arc::new(Limit::new("t", Unit::requests(), algorithm, false));
        Charge::new(Subject::api_key("a"), limit, cost)
    }

    fn at(time: Micros) -> ChargeTime {
        ChargeTime { at: time, window: WindowStart::new(0) }
    }

    /// One of three rates, whose levels all count millionths.
    fn throttle(rate: usize, cost: u64) -> Charge {
        let rate = ["1.000001/s", "3.000001/s", "20.000001/s"][rate].parse().unwrap();
        charge(Throttle::new(rate, 100).unwrap(), cost)
    }

    fn level(rows: &RowTable, charge: &Charge, now: Micros) -> u64 {
        let reading = charge.limit.algorithm().read((rows.read(charge).as_ref(), &[]), None, now);
        reading.unwrap().state.unsigned_level()
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
            let (mut real, mut ideal) = (RowTable::default(), RowTable::default());
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
                // A check that the real store admits is admitted by the ideal one too.
                if judge(&[throttle(rate, cost)], &[None], now, &mut real).unwrap().allowed {
                    prop_assert!(judge(&[throttle(rate, cost)], &[None], now, &mut ideal).unwrap().allowed);
                }
            }
            let unused = Refund { charge: throttle(0, estimate - actual), charged: at(charged_at) };
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
            charge(Throttle::new(rate, 100).unwrap(), cost)
        };
        for (why, rate, then, given) in cases {
            let mut rows = RowTable::default();
            judge(&[of_ten(0, 100)], &[None], now, &mut rows).unwrap();
            let full = level(&rows, &of_ten(rate, 1), then);
            let unused = Refund { charge: of_ten(rate, 20), charged: at(now) };
            refund(&unused, then, &mut rows);
            let now_level = level(&rows, &of_ten(rate, 1), then);
            assert_eq!(full - now_level, unused.charge.limit.amount(given), "{why}");
        }
    }

    #[test]
    fn a_rate_that_came_and_went_within_one_tick_is_noticed() {
        let tick = Micros::new(token_bucket::TICK_MICROS);
        let begin = Micros::new(Micros::from_secs(1_774_656_000).get() / tick.get() * tick.get());
        let mut rows = RowTable::default();
        for (rate, cost, after) in [(0, 40, 0), (2, 1, 500_000), (0, 1, 600_000)] {
            let now = begin + Micros::new(after);
            judge(&[throttle(rate, cost)], &[None], now, &mut rows).unwrap();
        }
        let now = begin + Micros::new(700_000);
        let before = level(&rows, &throttle(0, 1), now);
        let unused = Refund { charge: throttle(0, 40), charged: at(begin) };
        refund(&unused, now, &mut rows);
        assert_eq!(level(&rows, &throttle(0, 1), now), before);
    }

    #[test]
    fn a_quota_gives_back_exactly_what_was_unused_and_only_within_its_window() {
        let calendar = Arc::new(Calendar::new(Period::Day, "UTC").unwrap());
        let quota = |cost| charge(Quota { limit: 100, calendar: Arc::clone(&calendar) }, cost);
        let now = Micros::from_secs(1_774_656_000);
        let mut rows = RowTable::default();
        let judge = |cost, now, rows: &mut RowTable| {
            judge(&[quota(cost)], &offered_windows(&[quota(cost)], now), now, rows).unwrap()
        };
        let window = judge(60, now, &mut rows).states[0].window;
        let unused = Refund { charge: quota(25), charged: ChargeTime { at: now, window } };
        refund(&unused, now + Micros::from_secs(3_600), &mut rows);
        assert_eq!(judge(0, now, &mut rows).states[0].level, 35);
        let tomorrow = now + Micros::from_secs(86_400);
        judge(10, tomorrow, &mut rows);
        refund(&unused, tomorrow, &mut rows);
        assert_eq!(judge(0, tomorrow, &mut rows).states[0].level, 10);
    }
}
