//! Calls of the check script as bytes: the arguments that a node sends, the strings that Redis keeps,
//! and the response. Twin of `lua/check.lua`, `lua/subject.lua` and `lua/store.lua`, which define the
//! bytes; change them together.
//!
//! Redis runs this code if it has loaded the module. Decisions are `judge`'s and the arithmetic is the
//! algorithms'; what remains is where rows stand in a string. Nothing here accesses a key, and the
//! operations on reservations are the script's.

mod arguments;
mod charge;
mod damage;
mod reply;
mod rows;
mod subject;
#[cfg(test)]
mod tests;

pub use arguments::MalformedCall;
pub use reply::{Reply, ReplyValue};
pub use subject::{SubjectString, SubjectWrite};

use arguments::{PackedCheck, PackedChecks, parse_limits};
use reply::ReplyBuilder;
use rows::CallRows;

use crate::judge::{NotJudged, OfferedWindows, assess, refund_charge, write_assessed};
use crate::time::Micros;

/// The version of the bytes of a call and of the decisions on it. A node calls a module of its own
/// version only, and the script otherwise. It is raised with every change after which an older module
/// would respond or write anything else.
pub const CALL_VERSION: &str = "1";

/// Makes the refunds of a call, then judges its checks in order, each all or nothing. `arguments` are
/// those behind the keys, and `subjects` the strings under the keys. The strings are to be stored as
/// they are then.
///
/// # Errors
/// If the arguments are not those of a node of this version; then no string has changed.
pub fn judge_call(
    arguments: &[&[u8]],
    now: Micros,
    subjects: &mut [SubjectString],
) -> Result<Reply, MalformedCall> {
    let (limits, checks, refunds) = match *arguments {
        [limits, checks] => (limits, checks, &[][..]),
        [limits, checks, refunds] => (limits, checks, refunds),
        _ => return Err(MalformedCall::Arguments),
    };
    let limits = parse_limits(limits)?;
    let checks = PackedChecks::parse(checks, &limits, subjects.len())?;
    let refunds = arguments::parse_refunds(refunds, &limits, subjects.len())?;
    let mut rows = CallRows::new(subjects, now);
    for (charge, charged) in refunds {
        refund_charge(&charge, charged, now, &mut rows);
        // A damaged row refunds nothing; the checks that read it report the error.
        rows.take_damage();
    }
    let mut reply = ReplyBuilder::new(now, checks.charge_count());
    for check in checks.iter() {
        judge_check(&check, now, &mut rows, &mut reply);
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
    let PackedCheck { charges, is_dry } = *check;
    let offered: OfferedWindows = charges.iter().map(|charge| charge.limit.windows).collect();
    let assessed = assess(charges, &offered, now, rows);
    if let Some(damage) = rows.take_damage() {
        reply.push_damage(damage);
        return;
    }
    let assessed =
        assessed.and_then(|assessed| if is_dry { Ok(assessed) } else { assessed.writable() });
    match assessed {
        Ok(assessed) => {
            if !is_dry {
                write_assessed(charges, &offered, &assessed, rows);
            }
            reply.push_verdict(charges, &assessed.verdict);
        }
        Err(NotJudged::WindowMiss) => reply.push_window_miss(),
        Err(NotJudged::DayRollover) => reply.push_day_rollover(),
        Err(NotJudged::NewSubject(key)) => reply.push_new_subject(charges, key),
    }
}
