//! The outbox that all nodes share: a queue by Redis' clock, the events, and what was noted already.
//!
//! All of it lies in one slot. That an event was noted is a key of its own, so that Redis forgets it by
//! itself once its window is over.

use redis::{Cmd, Value};

use super::{Error, Redis, registry::read};
use crate::store::outbox::{Claim, Due, Event, HELD, MOST};
use crate::time::Micros;

const QUEUE: &str = "tg:{webhooks}";
const EVENTS: &str = "tg:{webhooks}:events";
/// What stands before an event's id in the key that remembers it.
const NOTED: &str = "tg:{webhooks}:noted:";

const NOTE: &str = include_str!("../../../lua/outbox_note.lua");
const CLAIM: &str = include_str!("../../../lua/outbox_claim.lua");
const SETTLE: &str = include_str!("../../../lua/outbox_settle.lua");

impl Redis {
    pub(in crate::store) async fn outbox_note(&self, events: &[Event]) -> Result<usize, Error> {
        let mut note = call(NOTE, 2 + events.len());
        for event in events {
            note.arg(format!("{NOTED}{}", event.id));
        }
        note.arg(MOST);
        for Event { id, body, remembered } in events {
            note.arg(id).arg(body).arg(remembered.as_secs_ceil());
        }
        self.ask(QUEUE, &note).await
    }

    pub(in crate::store) async fn outbox_claim(&self, most: usize) -> Result<Claim, Error> {
        let mut claim = call(CLAIM, 2);
        claim.arg(HELD.as_millis_ceil()).arg(most);
        let mut reply = self.ask::<Vec<Value>>(QUEUE, &claim).await?.into_iter();
        let now = Micros::new(read::<u64>(reply.next())?.saturating_mul(1_000));
        let waiting = read(reply.next())?;
        let mut due = Vec::new();
        while let Some(id) = reply.next() {
            let id = read(Some(id))?;
            due.push(Due { id, attempt: read(reply.next())?, body: read(reply.next())? });
        }
        Ok(Claim { now, waiting, due })
    }

    pub(in crate::store) async fn outbox_strike(&self, id: &str) -> Result<(), Error> {
        self.ask(QUEUE, call(SETTLE, 2).arg(id).arg("")).await
    }

    pub(in crate::store) async fn outbox_put_off(
        &self,
        id: &str,
        until: Micros,
    ) -> Result<(), Error> {
        self.ask(QUEUE, call(SETTLE, 2).arg(id).arg(until.as_millis_ceil())).await
    }
}

/// A script that touches the queue, the events, and what follows them among its keys.
fn call(script: &str, keys: usize) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(keys).arg(QUEUE).arg(EVENTS);
    command
}
