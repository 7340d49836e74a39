//! The outbox in Redis, shared by all nodes: a queue by Redis' clock, the events, and the ids of
//! all events that were ever enqueued.
//!
//! All keys lie in one slot. Each id is a key of its own, so that Redis expires it after the
//! event's window.

use redis::{Cmd, Value};

use super::{Redis, StoreError, registry::decode_value};
use crate::store::outbox::{CLAIM_DURATION, Claim, DueEvent, MAX_EVENTS, OutboxEvent};
use crate::time::Micros;

const QUEUE_KEY: &str = "tg:{webhooks}";
const EVENTS_KEY: &str = "tg:{webhooks}:events";
/// The prefix of the key that remembers an event's id for retries.
const ENQUEUED_KEY_PREFIX: &str = "tg:{webhooks}:noted:";

const ENQUEUE_SCRIPT: &str = include_str!("../../../lua/outbox_enqueue.lua");
const CLAIM_SCRIPT: &str = include_str!("../../../lua/outbox_claim.lua");
const SETTLE_SCRIPT: &str = include_str!("../../../lua/outbox_settle.lua");

impl Redis {
    pub(in crate::store) async fn outbox_enqueue(
        &self,
        events: &[OutboxEvent],
    ) -> Result<usize, StoreError> {
        let mut enqueue = eval_command(ENQUEUE_SCRIPT, 2 + events.len());
        for event in events {
            enqueue.arg(format!("{ENQUEUED_KEY_PREFIX}{}", event.id));
        }
        enqueue.arg(MAX_EVENTS);
        for OutboxEvent { id, body, remember_until } in events {
            enqueue.arg(id).arg(body).arg(remember_until.as_secs_ceil());
        }
        self.run_command(QUEUE_KEY, &enqueue).await
    }

    pub(in crate::store) async fn outbox_claim(
        &self,
        max_events: usize,
    ) -> Result<Claim, StoreError> {
        let mut claim = eval_command(CLAIM_SCRIPT, 2);
        claim.arg(CLAIM_DURATION.as_millis_ceil()).arg(max_events);
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

    pub(in crate::store) async fn outbox_remove(&self, id: &str) -> Result<(), StoreError> {
        self.run_command(QUEUE_KEY, eval_command(SETTLE_SCRIPT, 2).arg(id).arg("")).await
    }

    pub(in crate::store) async fn outbox_reschedule(
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

/// An EVAL of a script whose first two keys are the queue and the events.
fn eval_command(script: &str, keys: usize) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(keys).arg(QUEUE_KEY).arg(EVENTS_KEY);
    command
}
