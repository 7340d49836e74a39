//! Calls of the check script as bytes: the arguments that a node sends, the strings that Redis keeps,
//! and the response. Twin of `lua/check.lua`, `lua/reservations.lua`, `lua/subject.lua` and
//! `lua/store.lua`, which define the bytes; change them together.
//!
//! Redis runs this code if it has loaded the module. Decisions are `judge`'s and the arithmetic is the
//! algorithms'; what remains is where rows stand in a string. Nothing here accesses a key.

mod arguments;
mod charge;
mod damage;
mod operations;
mod reply;
mod reservation;
mod rows;
mod subject;
#[cfg(test)]
mod tests;

pub use arguments::MalformedCall;
pub use reply::{Reply, ReplyValue};
pub use reservation::ReservationString;
pub use subject::SubjectString;

use arguments::{CallArguments, PackedCheck};
use operations::{Operation, PackedAdjustment};
use reply::ReplyBuilder;
use rows::CallRows;

use crate::judge::reservation::{
    self as reservations, AdjustmentParts, Prepared, prepare_adjustment, prepare_reserve,
    write_adjustment, write_reserve,
};
use crate::judge::{OfferedWindows, assess, refund_charge, write_assessed};
use crate::limit::NewReservation;
use crate::time::Micros;

/// The version of the bytes of a call and of the decisions on it. A node calls a module of its own
/// version only, and the script otherwise. It is raised with every change after which an older module
/// would decide or write anything else. A module that refuses what it does not know needs no raise:
/// the first one refuses operations on reservations.
pub const CALL_VERSION: &str = "1";

/// The value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredValue<'s> {
    /// There is no such key.
    Missing,
    /// A string.
    String(&'s [u8]),
    /// A value that is no string.
    OtherType,
}

/// A change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWrite<'s> {
    /// It is set to a string.
    Set {
        /// The string.
        value: &'s [u8],
        /// The time at which it expires, in milliseconds since 1970; `None` if that stays.
        expires_at_ms: Option<u64>,
    },
    /// It is deleted.
    Delete,
}

/// The number of the keys that are those of subjects; the others are those of reservations.
/// `arguments` are those behind the keys.
///
/// # Errors
/// If they name another number of keys than there are.
pub fn subject_count(arguments: &[&[u8]], keys: usize) -> Result<usize, MalformedCall> {
    let Some(count) = arguments.get(3) else { return Ok(keys) };
    let count = std::str::from_utf8(count).ok().and_then(|count| count.parse().ok());
    count.filter(|count| *count <= keys).ok_or(MalformedCall::Arguments)
}

/// Makes the refunds of a call, then judges its checks and operations in order, each all or nothing.
/// `arguments` are those behind the keys, and `subjects` and `reservations` the strings under the
/// keys. The strings are to be stored as they are then.
///
/// # Errors
/// If the arguments are not those of a node of this version; then no string has changed.
pub fn judge_call(
    arguments: &[&[u8]],
    now: Micros,
    subjects: &mut [SubjectString],
    reservations: &mut [ReservationString],
) -> Result<Reply, MalformedCall> {
    let [limits, checks, refunds] = match *arguments {
        [limits, checks] => [limits, checks, &[]],
        [limits, checks, refunds] | [limits, checks, refunds, _] => [limits, checks, refunds],
        _ => return Err(MalformedCall::Arguments),
    };
    let limits = arguments::parse_limits(limits)?;
    let call = CallArguments {
        limits: &limits,
        subjects: subjects.len(),
        reservations: reservations.len(),
    };
    let checks = call.parse_checks(checks)?;
    let refunds = call.parse_refunds(refunds)?;
    let mut rows = CallRows::new(subjects, reservations, now);
    for (charge, charged) in refunds {
        refund_charge(&charge, charged, now, &mut rows);
        // A damaged row refunds nothing; the checks that read it report the error.
        rows.take_damage();
    }
    let mut reply = ReplyBuilder::new(now, checks.charge_count());
    for check in checks.iter() {
        match check.operation {
            None => judge_check(&check, now, &mut rows, &mut reply),
            Some(Operation::Reserve(new)) => reserve(&check, new, now, &mut rows, &mut reply),
            Some(Operation::Adjust(adjustment)) => adjust(adjustment, now, &mut rows, &mut reply),
        }
    }
    Ok(reply.finish())
}

/// Judges one check, makes its charges unless it is a dry run, and adds its verdict to the reply.
fn judge_check(
    check: &PackedCheck<'_>,
    now: Micros,
    rows: &mut CallRows<'_>,
    reply: &mut ReplyBuilder,
) {
    let PackedCheck { charges, is_dry, .. } = *check;
    let offered = check.offered();
    let assessed = assess(charges, &offered, now, rows);
    if let Some(damage) = rows.take_damage() {
        reply.push_damage(damage);
        return;
    }
    // Borrowed throughout: it is the largest value that judging makes.
    let written = assessed.as_ref().map_err(|why| *why).and_then(|assessed| {
        if !is_dry {
            assessed.ensure_writable()?;
            write_assessed(charges, &offered, assessed, rows);
        }
        Ok(&assessed.verdict)
    });
    match written {
        Ok(verdict) => reply.push_verdict(charges, verdict),
        Err(why) => reply.push_not_judged(charges, why),
    }
}

/// Judges a check and opens a reservation if it is allowed, unless it is a dry run.
fn reserve(
    check: &PackedCheck<'_>,
    new: &NewReservation<usize>,
    now: Micros,
    rows: &mut CallRows<'_>,
    reply: &mut ReplyBuilder,
) {
    let PackedCheck { charges, is_dry, .. } = *check;
    let offered = check.offered();
    let reserved = if is_dry {
        let reserved = reservations::dry_run(charges, &offered, new, now, rows);
        reserved.map(Prepared::Open)
    } else {
        prepare_reserve(charges, &offered, new, now, rows)
    };
    if let Some(damage) = rows.take_damage() {
        reply.push_damage(damage);
        return;
    }
    match reserved {
        Ok(prepared) => {
            let reserved = write_reserve(charges, &offered, new, prepared, rows);
            reply.push_reserved(charges, &reserved);
        }
        Err(why) => reply.push_not_judged(charges, why),
    }
}

/// Settles, cancels or extends a reservation.
fn adjust(
    adjustment: &PackedAdjustment<'_>,
    now: Micros,
    rows: &mut CallRows<'_>,
    reply: &mut ReplyBuilder,
) {
    let PackedAdjustment { reservation, terms, kind, charges } = adjustment;
    let parts = AdjustmentParts { name: *reservation, terms, kind: *kind, charges };
    let windows = charges.iter().map(|(charge, _)| charge.and_then(|charge| charge.limit.windows));
    let offered: OfferedWindows = windows.collect();
    let prepared = prepare_adjustment(&parts, &offered, now, rows);
    if let Some(damage) = rows.take_damage() {
        reply.push_damage(damage);
        return;
    }
    match prepared {
        Ok(prepared) => {
            reply.push_adjusted(charges, &write_adjustment(&parts, prepared, now, rows));
        }
        Err(why) => reply.push_not_judged(&[], why),
    }
}
