//! Damage of stored strings, as crashes and other programs leave it: cut, with stray or missing bytes,
//! of another format or type.

use proptest::prelude::*;
use tokio::time::Instant;
use tollgate::limit::Charges;
use tollgate::store::{CheckContext, HeldLeases, StoreError};

use super::history::HistoryStep;
use super::reservations::Operation;
use super::{DEADLINE, Fleet, Replayed, Side};

/// The answer to a check that has met damage.
pub const DAMAGED: &str = "damaged";

/// A damage of one of the stored strings, at a place modulo its length.
#[derive(Clone, Debug)]
pub struct Damage {
    key: usize,
    place: usize,
    kind: DamageKind,
}

#[derive(Clone, Debug)]
enum DamageKind {
    Cut,
    Stray(u8),
    Missing,
    Format(u8),
    OtherType,
}

pub fn damage() -> impl Strategy<Value = Damage> {
    let kind = prop_oneof![
        3 => Just(DamageKind::Cut),
        3 => any::<u8>().prop_map(DamageKind::Stray),
        3 => Just(DamageKind::Missing),
        1 => any::<u8>().prop_map(DamageKind::Format),
        1 => Just(DamageKind::OtherType),
    ];
    (any::<usize>(), any::<usize>(), kind).prop_map(|(key, place, kind)| Damage {
        key,
        place,
        kind,
    })
}

impl Damage {
    pub fn apply(&self, redis: &mut redis::Connection) {
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("tg:*").query(redis).unwrap();
        keys.retain(|key| !key.ends_with(":usage"));
        keys.sort();
        let Some(key) = keys.get(self.key % keys.len().max(1)) else { return };
        let stored = redis::cmd("GET").arg(key).query::<Vec<u8>>(redis);
        let Some(mut bytes) = stored.ok().filter(|bytes| !bytes.is_empty()) else { return };
        let place = self.place % bytes.len();
        match self.kind {
            DamageKind::Cut => bytes.truncate(place),
            DamageKind::Stray(byte) => bytes.insert(place, byte),
            DamageKind::Missing => {
                bytes.remove(place);
            }
            DamageKind::Format(format) => bytes[0] = format,
            DamageKind::OtherType => {
                redis::cmd("DEL").arg(key).exec(redis).unwrap();
                redis::cmd("RPUSH").arg(key).arg("a list").exec(redis).unwrap();
                return;
            }
        }
        redis::cmd("SET").arg(key).arg(bytes).arg("KEEPTTL").exec(redis).unwrap();
    }
}

/// The answers to the checks and operations of a step, and a digest of what is stored then.
pub async fn answers(side: &Side, replayed: Replayed, step: &HistoryStep) -> Vec<String> {
    let Replayed { mut world, mut reservations, .. } = replayed;
    let Fleet { client, .. } = &side.fleets[0];
    side.server.set_clock(world.advance(step));
    let (deadline, mut answers) = (Instant::now() + DEADLINE, Vec::new());
    // The node learns the clock first: a check that is sent twice has another index.
    let peeked = client.judge(&Charges::new(), &CheckContext::NONE, deadline).await;
    peeked.unwrap();
    for answer in client.judge_all(&world.checks(step), &CheckContext::NONE, deadline).await {
        answers.push(to_text(answer));
    }
    for operation in &step.reservations {
        answers.push(match reservations.operation(operation, &world) {
            Some(Operation::Reserve(new, charges)) => to_text(
                client
                    .reserve(&charges, &new, HeldLeases::default(), &CheckContext::NONE, deadline)
                    .await,
            ),
            Some(Operation::Adjust(adjustment)) => {
                to_text(client.adjust(&adjustment, &[], deadline).await)
            }
            None => continue,
        });
    }
    answers.extend(stored(&mut side.server.connection()));
    answers
}

/// The stored strings in hexadecimal digits, without their deadlines: those beyond 2^53 µs, which
/// damage makes, differ.
fn stored(redis: &mut redis::Connection) -> Vec<String> {
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("tg:*").query(redis).unwrap();
    keys.sort();
    let mut text = |key: &String| {
        let bytes = redis::cmd("GET").arg(key).query::<Vec<u8>>(redis);
        let text = bytes.map_or_else(|_| "no string".into(), |bytes| format!("{bytes:02x?}"));
        format!("{key} {text}")
    };
    keys.iter().map(&mut text).collect()
}

/// The script and the module say in their own words what is damaged.
fn to_text<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::BadRow(_)) => DAMAGED.into(),
        answer => format!("{answer:?}"),
    }
}
