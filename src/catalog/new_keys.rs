//! The rate at which keys begin that a node does not know, under a policy: what the file writes, as
//! a limit. The keys that a node knows are the engine's.

use std::sync::Arc;

use super::raw::{Mode, RawPolicy};
use super::validation::Report;
use crate::algorithm::{Rate, Throttle};
use crate::limit::{Limit, Unit};

/// The rate if the file has none: far above what honest clients begin.
const DEFAULT_RATE: &str = "10000/s";
/// The name of the limit among those of its policy.
const NAME: &str = "new_keys";

/// The limit of new keys that a policy declares, whose metric label is `label`; `None` if it is not
/// valid, with the error in `report`.
pub(super) fn build_new_keys(
    raw: &RawPolicy,
    label: &str,
    at: &str,
    report: &mut Report,
) -> Option<Arc<Limit>> {
    if raw.limits.iter().any(|limit| limit.name == NAME) {
        let why = "`new_keys` is the name of the limit of new keys; choose another";
        report.error(&format!("{at}.limits"), why);
    }
    let at = format!("{at}.new_keys");
    let rate: Rate = match raw.new_keys.as_ref().map_or(DEFAULT_RATE, |rate| &rate.0).parse() {
        Ok(rate) => rate,
        Err(error) => {
            report.error(&at, error);
            return None;
        }
    };
    match Throttle::new(rate, rate.units_per_second().max(1)) {
        Ok(throttle) => {
            let shadow = raw.mode == Mode::Shadow;
            let name = format!("{label}/{NAME}");
            Some(Arc::new(Limit::new(&name, Unit::requests(), throttle, shadow)))
        }
        Err(error) => {
            report.error(&at, error);
            None
        }
    }
}
