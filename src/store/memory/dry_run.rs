//! Dry runs: a check is judged with its rows locked, and none of them is written.

use super::{LockedRows, MemoryStore};
use crate::judge;
use crate::judge::reservation::{self, Reserved};
use crate::limit::{Charge, NewReservation};
use crate::store::{ReserveReply, StoreError};

impl MemoryStore {
    /// The reply that a check, or a check that opens `reservation`, would get now. Changes no
    /// counter; at the ceiling expired ones are removed, as for any check.
    ///
    /// # Errors
    /// If it has a new subject, and the store is at its ceiling.
    pub fn dry_run(
        &self,
        charges: &[Charge],
        reservation: Option<&NewReservation>,
    ) -> Result<ReserveReply, StoreError> {
        let reserved = self.with_room(|| {
            let locked = match reservation {
                Some(new) => LockedRows::lock_reservation(&self.0, new.name, charges),
                None => LockedRows::lock_rows(&self.0, charges),
            };
            let now = self.0.clock.now();
            let offered = judge::offered_windows(charges, now);
            match reservation {
                Some(new) => reservation::dry_run(charges, &offered, new, now, &locked),
                None => judge::dry_run(charges, &offered, now, &locked).map(Reserved::Judged),
            }
        });
        // Only decisions that are recorded need an order.
        Ok(ReserveReply::new(reserved?, 0))
    }
}
