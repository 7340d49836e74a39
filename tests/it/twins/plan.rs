//! A plan whose days are kept, as histories charge and correct it.

use std::sync::Arc;

use proptest::prelude::*;
use tollgate::algorithm::{Calendar, Concurrency, Correction, Period, Quota, Throttle};
use tollgate::limit::{Limit, Unit};
use tollgate::time::Micros;

/// The number of versions of the plan: a slot beyond the others charges all of its limits.
pub const VERSIONS: usize = 3;

pub fn correction() -> impl Strategy<Value = Correction> {
    let amount = || prop_oneof![4 => 0_u64..20, 1 => any::<u64>().prop_map(|any| any >> 11)];
    prop_oneof![
        amount().prop_map(Correction::SetRemaining),
        amount().prop_map(Correction::Grant),
        amount().prop_map(Correction::Refund),
        Just(Correction::Reset),
    ]
}

/// A plan as it may be in turn: with a quota of a day, with one of a month, without.
pub fn versions() -> [Vec<Arc<Limit>>; VERSIONS] {
    let quota = |limit, period, zone| {
        let calendar = Arc::new(Calendar::new(period, zone).unwrap());
        let algorithm = Quota { limit, calendar };
        Limit::new("plan/quota", Unit::requests(), algorithm, false)
    };
    let meter = |zone, quota| Limit::meter("plan", Unit::requests(), zone, quota).unwrap();
    let mut day = quota(10, Period::Day, "UTC");
    day.track_days("plan");
    let month = Arc::new(quota(40, Period::Month(1), "UTC"));
    let beside = meter("UTC", Some(Arc::clone(&month)));
    let throttle = Throttle::new("2/s".parse().unwrap(), 100).unwrap();
    let throttle = Limit::new("plan/throttle", Unit::requests(), throttle, false);
    let streams = Concurrency::new(20, Micros::from_secs(60)).unwrap();
    let streams = Limit::new("plan/streams", Unit::requests(), streams, false);
    [
        vec![Arc::new(day)],
        vec![month, Arc::new(beside)],
        vec![Arc::new(throttle), Arc::new(meter("Asia/Kathmandu", None)), Arc::new(streams)],
    ]
}
