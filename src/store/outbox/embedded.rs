//! The outbox of one process: a redb file beside the registry's, or the same in memory.
//!
//! Each call is one transaction, and blocks until it is on disk.

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition,
};

use super::{CLAIM_DURATION, Claim, DueEvent, MAX_EVENTS, OutboxEvent};
use crate::store::database::DatabaseFile;
use crate::store::{DataDir, DataDirError, StoreError};
use crate::time::{Clock as _, Micros, SystemClock};

/// By id: the time when the event is due in microseconds, the attempts made, and the body.
const EVENTS: TableDefinition<'_, &str, (u64, u64, &str)> = TableDefinition::new("events");
/// The events in the order in which they are due.
const QUEUE: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("queue");
/// The ids of all events that were enqueued, by the time until which they are remembered.
const NOTED: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("noted");

/// The outbox of one process.
pub struct EmbeddedOutbox(DatabaseFile);

impl EmbeddedOutbox {
    /// An outbox in memory, which is lost with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(DatabaseFile::in_memory())
    }

    /// The outbox in the data directory.
    ///
    /// # Errors
    /// If its file cannot be used.
    pub fn open(dir: &DataDir) -> Result<Self, DataDirError> {
        Ok(Self(DatabaseFile::open(dir, "outbox.redb")?))
    }

    pub(super) fn enqueue(&self, events: &[OutboxEvent]) -> Result<usize, StoreError> {
        self.0.run(|database| enqueue(database, events))
    }

    pub(super) fn claim(&self, max_events: usize) -> Result<Claim, StoreError> {
        self.0.run(|database| claim(database, max_events))
    }

    pub(super) fn remove(&self, id: &str) -> Result<(), StoreError> {
        self.0.run(|database| {
            let transaction = database.begin_write()?;
            if let Some(entry) = transaction.open_table(EVENTS)?.remove(id)? {
                transaction.open_table(QUEUE)?.remove((entry.value().0, id))?;
            }
            Ok(transaction.commit()?)
        })
    }

    pub(super) fn reschedule(&self, id: &str, until: Micros) -> Result<(), StoreError> {
        self.0.run(|database| {
            let transaction = database.begin_write()?;
            reschedule_entry(&transaction, id, until, 0)?;
            Ok(transaction.commit()?)
        })
    }
}

fn enqueue(database: &Database, events: &[OutboxEvent]) -> Result<usize, redb::Error> {
    let now = SystemClock.now().get();
    let transaction = database.begin_write()?;
    let accepted = {
        let mut noted = transaction.open_table(NOTED)?;
        let (mut entries, mut queue) =
            (transaction.open_table(EVENTS)?, transaction.open_table(QUEUE)?);
        while noted.first()?.is_some_and(|(key, _)| key.value().0 <= now) {
            noted.pop_first()?;
        }
        let mut accepted = 0;
        for OutboxEvent { id, body, remember_until } in events {
            let place = (remember_until.get(), &**id);
            if noted.get(place)?.is_none() {
                if entries.len()? >= MAX_EVENTS {
                    break;
                }
                noted.insert(place, ())?;
                entries.insert(&**id, (now, 0, &**body))?;
                queue.insert((now, &**id), ())?;
            }
            accepted += 1;
        }
        accepted
    };
    transaction.commit()?;
    Ok(accepted)
}

fn claim(database: &Database, max_events: usize) -> Result<Claim, redb::Error> {
    let now = SystemClock.now();
    let (ids, waiting) = due_ids(database, now, max_events)?;
    let mut due = Vec::with_capacity(ids.len());
    if !ids.is_empty() {
        let transaction = database.begin_write()?;
        for id in ids {
            if let Some((body, attempt)) =
                reschedule_entry(&transaction, &id, now + CLAIM_DURATION, 1)?
            {
                due.push(DueEvent { id, body, attempt });
            }
        }
        transaction.commit()?;
    }
    Ok(Claim { now, waiting, due })
}

/// The ids of the events that are due, and the number of all events. It only reads, because
/// most claims find nothing due and need no write transaction.
fn due_ids(
    database: &Database,
    now: Micros,
    max_events: usize,
) -> Result<(Vec<String>, u64), redb::Error> {
    let queue = match database.begin_read()?.open_table(QUEUE) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok((Vec::new(), 0)),
        queue => queue?,
    };
    let due = queue.range(..(now.get() + 1, ""))?.take(max_events);
    let ids = due.map(|entry| Ok(entry?.0.value().1.to_owned()));
    Ok((ids.collect::<Result<_, redb::Error>>()?, queue.len()?))
}

/// Sets the time when an event is due and adds to its attempts. Returns its body and all attempts,
/// or `None` if the event was removed.
fn reschedule_entry(
    transaction: &redb::WriteTransaction,
    id: &str,
    until: Micros,
    attempts: u64,
) -> Result<Option<(String, usize)>, redb::Error> {
    let mut entries = transaction.open_table(EVENTS)?;
    let Some((due, attempts_made, body)) = entries.get(id)?.map(|entry| {
        let (due, attempts_made, body) = entry.value();
        (due, attempts_made + attempts, body.to_owned())
    }) else {
        return Ok(None);
    };
    entries.insert(id, (until.get(), attempts_made, &*body))?;
    let mut queue = transaction.open_table(QUEUE)?;
    queue.remove((due, id))?;
    queue.insert((until.get(), id), ())?;
    Ok(Some((body, usize::try_from(attempts_made).unwrap_or(usize::MAX))))
}
