//! The map from slots to primaries, and the reply to CLUSTER SLOTS that it is made from.
//!
//! A map is an immutable snapshot: `cluster` fetches it and replaces it.

use std::collections::BTreeSet;
use std::sync::Arc;

use redis::Value;

use super::slot::SLOT_COUNT;
use crate::store::redis::{StoreError, instance::RedisInstance};

/// The index of a slot that no server holds.
const UNASSIGNED: u16 = u16::MAX;

/// A snapshot of the primaries of all slots.
pub(in crate::store::redis) struct SlotMap {
    /// The servers that hold slots.
    pub(in crate::store::redis) primaries: Vec<Arc<RedisInstance>>,
    /// The index of each slot's primary.
    slots: Vec<u16>,
}

impl SlotMap {
    /// A map in which no server holds a slot.
    pub(super) fn empty() -> Self {
        Self { primaries: Vec::new(), slots: vec![UNASSIGNED; SLOT_COUNT] }
    }

    /// The index of the server that holds `slot`, if one does.
    pub(in crate::store::redis) fn primary_index(&self, slot: u16) -> Option<usize> {
        self.slots
            .get(usize::from(slot))
            .filter(|index| **index != UNASSIGNED)
            .map(|index| usize::from(*index))
    }

    /// The server that holds `slot`, if one does.
    pub(super) fn primary(&self, slot: u16) -> Option<&Arc<RedisInstance>> {
        self.primaries.get(self.primary_index(slot)?)
    }

    /// True if this server holds `slot`.
    pub(super) fn is_primary_of(&self, server: &RedisInstance, slot: u16) -> bool {
        self.primary(slot).is_some_and(|primary| primary.address == server.address)
    }

    /// A copy of the map in which `server` holds `slot`.
    pub(super) fn with_slot(&self, slot: u16, server: &Arc<RedisInstance>) -> Self {
        let mut map = Self { primaries: self.primaries.clone(), slots: self.slots.clone() };
        map.assign(usize::from(slot)..=usize::from(slot), server);
        map
    }

    /// Assigns a range of slots to `server`.
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

    /// True if both maps assign every slot to the same server instance.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.primaries.len() == other.primaries.len()
            && (0..=u16::MAX).take(SLOT_COUNT).all(|slot| {
                let (one, another) = (self.primary(slot), other.primary(slot));
                one.map(Arc::as_ptr) == another.map(Arc::as_ptr)
            })
    }
}

/// A host and port as a Cluster reports it.
pub(super) type NodeAddress = (String, u16);

/// The slots and primaries in one server's reply to CLUSTER SLOTS.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SlotTable {
    /// First slot, last slot and primary of each range, in ascending order.
    pub(super) ranges: Vec<(u16, u16, NodeAddress)>,
}

impl SlotTable {
    /// Parses the reply of the server at `host` and adds its replicas to `replicas`.
    pub(super) fn parse(
        reply: &Value,
        host: &str,
        replicas: &mut BTreeSet<NodeAddress>,
    ) -> Result<Self, StoreError> {
        let malformed = || StoreError::BadReply("the reply to CLUSTER SLOTS is malformed".into());
        let Value::Array(reply) = reply else { return Err(malformed()) };
        let mut ranges = Vec::new();
        for range in reply {
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

/// A server's host and port. A server that does not know its own host reports an empty one: it then
/// has the host that the request was sent to.
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
