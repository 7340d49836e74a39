//! Which server holds which slots, as one answer to CLUSTER SLOTS has it.
//!
//! A map is a value: what has become of it is for the topology.

use std::collections::BTreeSet;
use std::sync::Arc;

use redis::Value;

use super::slot::SLOTS;
use crate::store::redis::{Error, server::Server};

/// No server holds the slot.
const NOBODY: u16 = u16::MAX;

/// Which server holds which slot.
pub(in crate::store::redis) struct Map {
    /// The servers that hold slots.
    pub(in crate::store::redis) holders: Vec<Arc<Server>>,
    /// For each slot the place of its holder.
    slots: Vec<u16>,
}

impl Map {
    /// Nobody holds anything.
    pub(super) fn empty() -> Self {
        Self { holders: Vec::new(), slots: vec![NOBODY; SLOTS] }
    }

    /// Place of the server that holds `slot`, if any does.
    pub(in crate::store::redis) fn place(&self, slot: u16) -> Option<usize> {
        self.slots
            .get(usize::from(slot))
            .filter(|place| **place != NOBODY)
            .map(|place| usize::from(*place))
    }

    /// The server that holds `slot`, if any does.
    pub(super) fn holder(&self, slot: u16) -> Option<&Arc<Server>> {
        self.holders.get(self.place(slot)?)
    }

    /// Whether this server holds `slot`.
    pub(super) fn holds(&self, server: &Server, slot: u16) -> bool {
        self.holder(slot).is_some_and(|holder| holder.address == server.address)
    }

    /// The same but for one slot, which `server` holds.
    pub(super) fn with(&self, slot: u16, server: &Arc<Server>) -> Self {
        let mut map = Self { holders: self.holders.clone(), slots: self.slots.clone() };
        map.give(usize::from(slot)..=usize::from(slot), server);
        map
    }

    pub(super) fn give(&mut self, slots: std::ops::RangeInclusive<usize>, server: &Arc<Server>) {
        let known = self.holders.iter().position(|holder| holder.address == server.address);
        let place = known.unwrap_or_else(|| {
            self.holders.push(Arc::clone(server));
            self.holders.len() - 1
        });
        let place = u16::try_from(place).unwrap_or(NOBODY);
        if let Some(slots) = self.slots.get_mut(slots) {
            slots.fill(place);
        }
    }

    /// Whether the other says the same, of the same servers.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.holders.len() == other.holders.len()
            && (0..=u16::MAX).take(SLOTS).all(|slot| {
                let (one, another) = (self.holder(slot), other.holder(slot));
                one.map(Arc::as_ptr) == another.map(Arc::as_ptr)
            })
    }
}

/// A server as a Cluster names it.
pub(super) type Address = (String, u16);

/// What one server says of the slots.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// Ranges of slots from the lowest, and who holds each.
    pub(super) ranges: Vec<(u16, u16, Address)>,
}

impl Told {
    /// Reads the answer to CLUSTER SLOTS of the server at `host`, and which replicas it names.
    pub(super) fn read(
        answer: &Value,
        host: &str,
        replicas: &mut BTreeSet<Address>,
    ) -> Result<Self, Error> {
        let strange = || Error::BadReply("this is no answer to CLUSTER SLOTS".into());
        let Value::Array(answer) = answer else { return Err(strange()) };
        let mut ranges = Vec::new();
        for range in answer {
            let Value::Array(range) = range else { return Err(strange()) };
            let [Value::Int(first), Value::Int(last), holder, others @ ..] = &range[..] else {
                return Err(strange());
            };
            let first = u16::try_from(*first).map_err(|_| strange())?;
            let last = u16::try_from(*last).map_err(|_| strange())?;
            ranges.push((first, last, address(holder, host).ok_or_else(strange)?));
            replicas.extend(others.iter().filter_map(|other| address(other, host)));
        }
        ranges.sort();
        Ok(Self { ranges })
    }
}

/// A server's host and port; one whose host is not known to itself is where it was asked.
fn address(node: &Value, asked: &str) -> Option<Address> {
    let Value::Array(node) = node else { return None };
    let [host, Value::Int(port), ..] = &node[..] else { return None };
    let host = match host {
        Value::BulkString(host) if !host.is_empty() => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) if !host.is_empty() => host,
        _ => asked,
    };
    Some((host.to_owned(), u16::try_from(*port).ok()?))
}
