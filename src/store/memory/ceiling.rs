//! The ceiling of the memory store: at it, subjects that callers make up and that it does not know
//! are refused, once no expired counter can make room. A counter in use is never dropped.

use std::sync::atomic::Ordering;

use super::shard::Shard;
use super::{Inner, MemoryStore, SHARD_COUNT, lock, unjudged};
use crate::judge::NotJudged;
use crate::store::StoreError;
use crate::time::Micros;

/// The interval at which a store at its ceiling looks for expired rows in a shard: a sweep for each
/// new subject would cost far more than its check.
const SWEEP_INTERVAL: Micros = Micros::from_secs(1);
/// The most rows that are looked at to make room for one new subject.
const MAX_ROWS_VISITED: usize = 32_768;

impl MemoryStore {
    /// The result of `judge`, which is called again if a new subject has got room.
    pub(super) fn with_room<T>(
        &self,
        judge: impl Fn() -> Result<T, NotJudged>,
    ) -> Result<T, StoreError> {
        let error = |why: NotJudged| match why {
            NotJudged::NewSubject(subject) => StoreError::NewSubject(subject.into()),
            why => unjudged(why),
        };
        match judge() {
            Ok(judged) => Ok(judged),
            Err(NotJudged::NewSubject(_)) if self.make_room() => judge().map_err(error),
            Err(why) => Err(error(why)),
        }
    }

    /// Removes expired rows of some shards, and returns true if there is room then.
    fn make_room(&self) -> bool {
        let (now, mut visited) = (self.0.clock.now(), 0);
        for _ in 0..SHARD_COUNT {
            let index = self.0.hand.fetch_add(1, Ordering::Relaxed) % SHARD_COUNT;
            let mut shard = lock(&self.0.shards[index]);
            if now.get().abs_diff(shard.swept_at().get()) < SWEEP_INTERVAL.get() {
                continue;
            }
            visited += shard.len();
            self.0.sweep(&mut shard, now);
            if !self.0.is_full() || visited > MAX_ROWS_VISITED {
                break;
            }
        }
        !self.0.is_full()
    }
}

impl Inner {
    /// Removes expired counters of a shard.
    pub(super) fn sweep(&self, shard: &mut Shard, now: Micros) {
        self.rows.fetch_sub(shard.sweep(now), Ordering::Relaxed);
    }

    /// True from `max_rows` counters on. Threads that judge at the same time may exceed them by one
    /// check each.
    pub(super) fn is_full(&self) -> bool {
        self.rows.load(Ordering::Relaxed) >= self.max_rows
    }
}
