//! Histories of two limits on which many reservations are open at a time.

use proptest::collection::vec;
use proptest::prelude::*;

use super::history::{CONCURRENCIES, ChargeSpec, ClockMove, HistoryStep, LimitSpec, concurrency};
use super::reservations::reservation_step;

/// Histories of two buckets, so that marks have to be dropped.
pub fn histories_of_marks(steps: usize) -> impl Strategy<Value = Vec<HistoryStep>> {
    let clock = prop_oneof![
        4 => (0_i64..2_000_000).prop_map(ClockMove::By),
        2 => Just(ClockMove::By(0)),
        1 => (-3_000_000_i64..0).prop_map(ClockMove::By),
    ];
    let cost = || {
        // Equal costs make equal losses, of which one must go.
        let units = prop_oneof![3 => Just(100), 1 => 1_u64..400];
        (prop_oneof![Just(0), Just(2)], units)
            .prop_map(|(slot, units)| ChargeSpec::of_units(slot, units))
    };
    let large =
        (1_usize..4, prop_oneof![Just(0), Just(2)], 6_usize..8).prop_map(|(rate, slot, burst)| {
            (slot, LimitSpec::Throttle { rate: 13 - rate, burst, mode: (false, false) })
        });
    let change = prop_oneof![12 => Just(None), 1 => large.prop_map(Some)];
    let reservations = vec(reservation_step(cost(), 200, 600), 1..6);
    let step = (clock, change, vec(vec(cost(), 1..3), 1..2), reservations);
    let step = step.prop_map(|(clock, change, checks, reservations)| {
        HistoryStep::new(clock, change, checks, reservations)
    });
    let large = LimitSpec::Throttle { rate: 4, burst: 6, mode: (false, false) };
    beginning_with([(0, large.clone()), (2, large)], vec(step, 1..=steps))
}

/// Histories of two concurrency limits, most of whose reservations are never settled.
pub fn histories_of_slots(steps: usize) -> impl Strategy<Value = Vec<HistoryStep>> {
    let clock = prop_oneof![
        6 => (0_i64..3_000_000).prop_map(ClockMove::By),
        2 => (0_i64..2_000_000_000).prop_map(ClockMove::By),
        1 => (-3_000_000_000_i64..0).prop_map(ClockMove::By),
    ];
    let change = prop::option::weighted(0.2, (0_usize..2, concurrency()));
    let one = (0_usize..2).prop_map(|slot| ChargeSpec::of_units(slot, 1));
    let step = (clock, change, vec(reservation_step(one, u8::MAX, 4_000), 0..16));
    let step = step.prop_map(|(clock, change, reservations)| {
        HistoryStep::new(clock, change, Vec::new(), reservations)
    });
    let large = LimitSpec::Concurrency { limit: CONCURRENCIES.len() - 1, mode: (false, false) };
    beginning_with([(0, large.clone()), (1, large)], vec(step, 1..=steps))
}

/// The same histories with these limits from the beginning.
fn beginning_with(
    limits: [(usize, LimitSpec); 2],
    histories: impl Strategy<Value = Vec<HistoryStep>>,
) -> impl Strategy<Value = Vec<HistoryStep>> {
    let first = limits
        .map(|change| HistoryStep::new(ClockMove::By(0), Some(change), Vec::new(), Vec::new()));
    histories.prop_map(move |mut steps| {
        steps.splice(0..0, first.clone());
        steps
    })
}
