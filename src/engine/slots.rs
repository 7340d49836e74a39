//! Concurrency limits among the limits of a check: a reservation takes one slot of each, whatever
//! its cost, and nothing else takes any.

use std::sync::Arc;

use crate::algorithm::Counting as _;
use crate::catalog::CheckError;
use crate::limit::{Charge, Charges, Limit};
use crate::time::Micros;

/// The time for which a reservation is open if neither its check nor a limit says.
const DEFAULT_TTL: Micros = Micros::from_secs(60);

/// The charges of a check that takes no slots: it reads their counters, as a report does, and a
/// check of a limit in shadow.
///
/// # Errors
/// If an enforced limit counts slots, and the check is neither a look nor a report.
pub(super) fn only_read(charges: &mut Charges) -> Result<(), CheckError> {
    for charge in charges.iter_mut().filter(|charge| charge.limit.algorithm().slot_ttl().is_some())
    {
        if charge.cost > 0 && !charge.is_forced() && !charge.limit.shadow() {
            let detail = format!(
                "`{}` counts requests in flight, so a check has to open a reservation: send `reservation` to POST /check, which /authz cannot, or a cost of 0 to look",
                charge.limit.name()
            );
            return Err(CheckError::Invalid { field: "reservation".into(), detail });
        }
        charge.cost = 0;
    }
    Ok(())
}

/// Makes the charges of a reservation take a slot of each limit that counts them, and returns the
/// time for which it is open; see [`open_for`].
pub(super) fn take(charges: &mut Charges, asked: Option<Micros>) -> Micros {
    for charge in charges.iter_mut().filter(|charge| charge.limit.algorithm().slot_ttl().is_some())
    {
        charge.cost = 1;
    }
    open_for(asked, charges.iter().map(|charge: &Charge| &charge.limit))
}

/// The time for which a reservation under these limits is open: no longer than any slot.
pub(super) fn open_for<'l>(
    asked: Option<Micros>,
    limits: impl Iterator<Item = &'l Arc<Limit>>,
) -> Micros {
    let shortest = limits.filter_map(|limit| limit.algorithm().slot_ttl()).min();
    match (asked, shortest) {
        (Some(asked), Some(shortest)) => asked.min(shortest),
        (asked, shortest) => asked.or(shortest).unwrap_or(DEFAULT_TTL),
    }
}
