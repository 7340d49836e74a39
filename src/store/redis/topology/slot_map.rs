//! Which server holds which slots, as one answer to CLUSTER SLOTS has it.
//!
//! A map is a value: what has become of it is for the topology.

use std::collections::BTreeSet;
use std::sync::Arc;

use redis::Value;

use super::slot::SLOT_COUNT;
use crate::store::redis::{StoreError, instance::RedisInstance};

/// No server holds the slot.
const UNASSIGNED: u16 = u16::MAX;

/// Which server holds which slot.
pub(in crate::store::redis) struct SlotMap {
    /// The servers that hold slots.
    pub(in crate::store::redis) primaries: Vec<Arc<RedisInstance>>,
    /// For each slot the index of its primary.
    slots: Vec<u16>,
}

impl SlotMap {
    /// Nobody holds anything.
    pub(super) fn empty() -> Self {
        Self { primaries: Vec::new(), slots: vec![UNASSIGNED; SLOT_COUNT] }
    }

    /// Place of the server that holds `slot`, if any does.
    pub(in crate::store::redis) fn primary_index(&self, slot: u16) -> Option<usize> {
        self.slots
            .get(usize::from(slot))
            .filter(|index| **index != UNASSIGNED)
            .map(|index| usize::from(*index))
    }

    /// The server that holds `slot`, if any does.
    pub(super) fn primary(&self, slot: u16) -> Option<&Arc<RedisInstance>> {
        self.primaries.get(self.primary_index(slot)?)
    }

    /// Whether this server holds `slot`.
    pub(super) fn is_primary_of(&self, server: &RedisInstance, slot: u16) -> bool {
        self.primary(slot).is_some_and(|primary| primary.address == server.address)
    }

    /// The same but for one slot, which `server` holds.
    pub(super) fn with_slot(&self, slot: u16, server: &Arc<RedisInstance>) -> Self {
        let mut map = Self { primaries: self.primaries.clone(), slots: self.slots.clone() };
        map.assign(usize::from(slot)..=usize::from(slot), server);
        map
    }

    pub(super) fn assign(
        &mut self,
        slots: std::ops::RangeInclusive<usize>,
        server: &Arc<RedisInstance>,
    ) {
        let known = self.primaries.iter().position(|primary| primary.address == server.address);
        let index = known.unwrap_or_else(|| {
            self.primaries.push(Arc::clone(server));
            self.primaries.len() - 1
        });
        let index = u16::try_from(index).unwrap_or(UNASSIGNED);
        if let Some(slots) = self.slots.get_mut(slots) {
            slots.fill(index);
        }
    }

    /// Whether the other says the same, of the same servers.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.primaries.len() == other.primaries.len()
            && (0..=u16::MAX).take(SLOT_COUNT).all(|slot| {
                let (one, another) = (self.primary(slot), other.primary(slot));
                one.map(Arc::as_ptr) == another.map(Arc::as_ptr)
            })
    }
}

/// A server as a Cluster names it.
pub(super) type NodeAddress = (String, u16);

/// What one server says of the slots.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SlotTable {
    /// Ranges of slots from the lowest, and who holds each.
    pub(super) ranges: Vec<(u16, u16, NodeAddress)>,
}

impl SlotTable {
    /// Reads the answer to CLUSTER SLOTS of the server at `host`, and which replicas it names.
    pub(super) fn parse(
        answer: &Value,
        host: &str,
        replicas: &mut BTreeSet<NodeAddress>,
    ) -> Result<Self, StoreError> {
        let malformed = || StoreError::BadReply("this is no answer to CLUSTER SLOTS".into());
        let Value::Array(answer) = answer else { return Err(malformed()) };
        let mut ranges = Vec::new();
        for range in answer {
            let Value::Array(range) = range else { return Err(malformed()) };
            let [Value::Int(first), Value::Int(last), primary, others @ ..] = &range[..] else {
                return Err(malformed());
            };
            let first = u16::try_from(*first).map_err(|_| malformed())?;
            let last = u16::try_from(*last).map_err(|_| malformed())?;
            ranges.push((first, last, parse_address(primary, host).ok_or_else(malformed)?));
            replicas.extend(others.iter().filter_map(|other| parse_address(other, host)));
        }
        ranges.sort();
        Ok(Self { ranges })
    }
}

/// A server's host and port; one whose host is not known to itself is where it was asked.
fn parse_address(node: &Value, asked_host: &str) -> Option<NodeAddress> {
    let Value::Array(node) = node else { return None };
    let [host, Value::Int(port), ..] = &node[..] else { return None };
    let host = match host {
        Value::BulkString(host) if !host.is_empty() => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) if !host.is_empty() => host,
        _ => asked_host,
    };
    Some((host.to_owned(), u16::try_from(*port).ok()?))
}
