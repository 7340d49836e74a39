//! The outbox that all nodes share: a queue by Redis' clock, the events, and what was noted already.
//!
//! All of it lies in one slot. That an event was noted is a key of its own, so that Redis forgets it by
//! itself once its window is over.

use redis::{Cmd, Value};

use super::{Redis, StoreError, registry::decode_value};
use crate::store::outbox::{CLAIM_DURATION, Claim, DueEvent, MAX_EVENTS, OutboxEvent};
use crate::time::Micros;

const QUEUE_KEY: &str = "tg:{webhooks}";
const EVENTS_KEY: &str = "tg:{webhooks}:events";
/// What stands before an event's id in the key that remembers it.
const NOTED_KEY_PREFIX: &str = "tg:{webhooks}:noted:";

const NOTE_SCRIPT: &str = include_str!("../../../lua/outbox_enqueue.lua");
const CLAIM_SCRIPT: &str = include_str!("../../../lua/outbox_claim.lua");
const SETTLE_SCRIPT: &str = include_str!("../../../lua/outbox_settle.lua");

impl Redis {
    pub(in crate::store) async fn outbox_note(
        &self,
        events: &[OutboxEvent],
    ) -> Result<usize, StoreError> {
        let mut note = eval_command(NOTE_SCRIPT, 2 + events.len());
        for event in events {
            note.arg(format!("{NOTED_KEY_PREFIX}{}", event.id));
        }
        note.arg(MAX_EVENTS);
        for OutboxEvent { id, body, remember_until } in events {
            note.arg(id).arg(body).arg(remember_until.as_secs_ceil());
        }
        self.run_command(QUEUE_KEY, &note).await
    }

    pub(in crate::store) async fn outbox_claim(&self, most: usize) -> Result<Claim, StoreError> {
        let mut claim = eval_command(CLAIM_SCRIPT, 2);
        claim.arg(CLAIM_DURATION.as_millis_ceil()).arg(most);
        let mut reply = self.run_command::<Vec<Value>>(QUEUE_KEY, &claim).await?.into_iter();
        let now = Micros::new(decode_value::<u64>(reply.next())?.saturating_mul(1_000));
        let waiting = decode_value(reply.next())?;
        let mut due = Vec::new();
        while let Some(id) = reply.next() {
            let id = decode_value(Some(id))?;
            due.push(DueEvent {
                id,
                attempt: decode_value(reply.next())?,
                body: decode_value(reply.next())?,
            });
        }
        Ok(Claim { now, waiting, due })
    }

    pub(in crate::store) async fn outbox_strike(&self, id: &str) -> Result<(), StoreError> {
        self.run_command(QUEUE_KEY, eval_command(SETTLE_SCRIPT, 2).arg(id).arg("")).await
    }

    pub(in crate::store) async fn outbox_put_off(
        &self,
        id: &str,
        until: Micros,
    ) -> Result<(), StoreError> {
        self.run_command(
            QUEUE_KEY,
            eval_command(SETTLE_SCRIPT, 2).arg(id).arg(until.as_millis_ceil()),
        )
        .await
    }
}

/// A script that touches the queue, the events, and what follows them among its keys.
fn eval_command(script: &str, keys: usize) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(keys).arg(QUEUE_KEY).arg(EVENTS_KEY);
    command
}
