//! Counters on the disk, which survive a restart: a redb file beside the registry's.
//!
//! Checks never wait for it. Changed counters are written once a second and when the process stops;
//! a crash loses the charges since the last write.

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::row::{PACKED_ROW, PackedRow, RowKey};
use crate::judge::usage::UsageDays;
use crate::store::database::DatabaseFile;
use crate::store::{DataDir, DataDirError, StoreError};

/// Rows as packed in memory. Another packing gets another name.
const ROWS: TableDefinition<'_, [u8; 16], [u8; PACKED_ROW]> = TableDefinition::new("rows 2");
/// Days, as JSON: they are few and seldom written.
const DAYS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("days 1");

/// The database file.
pub(super) struct Disk(DatabaseFile);

/// A counter that changed since it was last written.
pub(super) struct DirtyRow {
    pub(super) key: RowKey,
    /// `None` if it was removed.
    pub(super) row: Option<PackedRow>,
    /// `None` if there are none.
    pub(super) days: Option<UsageDays>,
}

impl Disk {
    /// Opens the file, which is created if it is missing.
    pub(super) fn open(dir: &DataDir) -> Result<Self, DataDirError> {
        Ok(Self(DatabaseFile::open(dir, "counts.redb")?))
    }

    /// True while the data directory cannot be used.
    pub(super) fn is_failing(&self) -> bool {
        self.0.dir().is_some_and(DataDir::is_failing)
    }

    /// Calls `row` and `days` for every saved entry.
    pub(super) fn load(
        &self,
        mut restore_row: impl FnMut(RowKey, PackedRow),
        mut restore_days: impl FnMut(RowKey, UsageDays),
    ) -> Result<(), StoreError> {
        self.0.run(|database| {
            let transaction = database.begin_read()?;
            match transaction.open_table(ROWS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
                table => {
                    for entry in table?.iter()? {
                        let (key, value) = entry?;
                        restore_row(
                            RowKey::from_bytes(&key.value()),
                            PackedRow::from_bytes(value.value()),
                        );
                    }
                }
            }
            for entry in transaction.open_table(DAYS)?.iter()? {
                let (key, value) = entry?;
                match serde_json::from_slice(value.value()) {
                    Ok(days) => restore_days(RowKey::from_bytes(&key.value()), days),
                    Err(error) => tracing::error!(%error, "days that were kept cannot be read"),
                }
            }
            Ok(())
        })
    }

    /// Writes all entries or none; they are durable when this returns.
    pub(super) fn write(&self, dirty: &[DirtyRow]) -> Result<(), StoreError> {
        self.0.run(|database| {
            let transaction = database.begin_write()?;
            {
                let (mut rows, mut days) =
                    (transaction.open_table(ROWS)?, transaction.open_table(DAYS)?);
                for DirtyRow { key, row, days: kept } in dirty {
                    let key = key.to_bytes();
                    match row {
                        Some(row) => drop(rows.insert(key, row.to_bytes())?),
                        None => drop(rows.remove(key)?),
                    }
                    match kept {
                        Some(kept) => {
                            let kept = serde_json::to_vec(kept).unwrap_or_default();
                            days.insert(key, &*kept)?;
                        }
                        None => drop(days.remove(key)?),
                    }
                }
            }
            Ok(transaction.commit()?)
        })
    }
}
