//! Reservations as a gateway sees them: the handle, and what a settlement needs to know of the
//! check that opened it.
//!
//! A handle carries the check's charges, so that any node can settle it in one call of the store,
//! whatever has become of the key, the plan or the limits since. A store keeps the same bytes and
//! compares them: a forged handle matches none. Judging and charging are the stores'; nothing here
//! does I/O or reads a clock.

mod actual;
mod bytes;
mod check_digest;
mod handle;
mod reserved_check;

pub use actual::Actual;
pub use check_digest::digest_check;
pub use handle::{Handle, MAX_HANDLE_LEN};
pub use reserved_check::{NodeId, ReservedAmount, ReservedCharge, ReservedCheck, UnencodableCheck};
