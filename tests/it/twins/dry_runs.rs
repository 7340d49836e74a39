//! Dry runs of random histories: they answer what the reference says and what the same check then
//! answers, and leave every byte and every expiry as it was.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tokio::time::Instant;
use tollgate::judge::reservation::Reserved;
use tollgate::limit::{Charges, NewReservation, Subject};
use tollgate::store::{CheckContext, RedisClient, ReserveReply, StoreError};
use tollgate::time::Micros;

use super::model::Model;
use super::store_failure;

/// The outcome of a check, or the subject that is new to a full store.
pub type DryOutcome = Result<Reserved, Subject>;

/// A digest of all keys, their values and their expiries. One in more than 190 years counts as that:
/// Rust's times end in 2255, and those of Lua do not.
const DIGEST: &str = "
local keys = redis.call('KEYS', '*')
table.sort(keys)
local all = {}
for i, key in ipairs(keys) do
  all[3 * i - 2], all[3 * i - 1], all[3 * i] = key, redis.call('DUMP', key), math.min(redis.call('PTTL', key), 6e12)
end
return redis.sha1hex(table.concat(all, ' '))";

/// Runs a check dry in Redis and by the reference, compares both, and returns the outcome.
pub async fn dry_run(
    charges: &Charges,
    new: Option<&NewReservation>,
    model: &Model,
    client: &RedisClient,
    now: Micros,
    deadline: Instant,
    connection: &mut redis::Connection,
) -> Result<DryOutcome, TestCaseError> {
    let before = digest(connection);
    let reply = client.dry_run(charges, new, &CheckContext::NONE, deadline).await;
    let lua = match reply {
        Err(StoreError::NewSubject(subject)) => Err(*subject),
        reply => Ok(outcome(reply.map_err(store_failure)?)),
    };
    prop_assert_eq!(before, digest(connection), "a dry run of {:#?} has written", charges);
    let rust = model.dry_run(charges, new, now);
    prop_assert_eq!(&rust, &lua, "left is Rust, dry: {:#?} {:#?}", new, charges);
    Ok(rust)
}

/// The reply without its order.
pub fn outcome(reply: ReserveReply) -> Reserved {
    match reply {
        ReserveReply::Judged(verdict) => Reserved::Judged(verdict.verdict),
        ReserveReply::Replayed(verdict, terms) => Reserved::Replayed(verdict.verdict, terms),
        ReserveReply::Conflict => Reserved::Conflict,
    }
}

/// The outcome as a response shows it. A check that first keeps a day drops slots that have expired,
/// so it finds none of them; a dry run does.
pub fn as_shown(outcome: &Reserved) -> Reserved {
    let mut outcome = outcome.clone();
    if let Reserved::Judged(verdict) | Reserved::Replayed(verdict, _) = &mut outcome {
        verdict.states.iter_mut().for_each(|state| state.expired_slots = 0);
    }
    outcome
}

pub fn digest(connection: &mut redis::Connection) -> String {
    redis::cmd("EVAL").arg(DIGEST).arg(0).query(connection).unwrap()
}
