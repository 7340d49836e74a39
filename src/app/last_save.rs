//! The last save of the memory store's counters, when the node stops.

use super::StartError;
use crate::store::{CounterStore, MemoryStore};

/// Saves the counters for the last time. A file that has failed is tried for a few seconds more,
/// in which it is opened again.
pub(super) fn save_at_stop(counters: &CounterStore) -> Result<(), StartError> {
    const RETRIES: usize = 5;
    let CounterStore::Memory(memory) = counters else { return Ok(()) };
    let mut saved = memory.save();
    for _ in 0..RETRIES {
        let Err(error) = &saved else { break };
        tracing::error!(%error, "counters were not saved; trying again");
        std::thread::sleep(MemoryStore::SAVE_INTERVAL);
        saved = memory.save();
    }
    saved.map_err(StartError::Unsaved)
}
