//! The rows of a subject's string and of its days, as `lua/subject.lua` packs them, read in Rust.
//!
//! Writing is the scripts'. Rows of unknown kinds are skipped. A damaged string is an error, as it
//! is in Lua: one that does not end with a row's end, or with a row of another length than its
//! kind.

use super::StoreError;
use crate::algorithm::Row;
use crate::limit::RowId;

/// The format that this release reads and writes, of both strings.
const FORMAT: u8 = 2;

/// The rows behind the header of `bytes`, in their order.
pub(super) struct PackedRows<'b> {
    rest: &'b [u8],
}

impl<'b> PackedRows<'b> {
    /// The rows of a string whose header has `header` bytes, the format among them. A missing
    /// string has no rows.
    pub(super) fn new(bytes: Option<&'b [u8]>, header: usize) -> Result<Self, StoreError> {
        let Some(bytes) = bytes else { return Ok(Self { rest: &[] }) };
        match bytes.split_at_checked(header) {
            Some(([FORMAT, ..], rest)) => Ok(Self { rest }),
            Some(([format, ..], _)) => {
                Err(StoreError::BadRow(format!("a string of rows has format {format}")))
            }
            _ => Err(StoreError::BadRow("the header is cut short".into())),
        }
    }

    /// The next row with its id; `None` in place of a row too long for any kind of this release.
    fn next_row(&mut self) -> Result<(RowId, Option<Row>), StoreError> {
        let cut = || StoreError::BadRow("the last row is cut short".into());
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(cut)?;
        let (id, len) = RowId::from_head(*head);
        let (body, rest) = rest.split_at_checked(len).ok_or_else(cut)?;
        let kind = id.kind();
        if kind.get() == 0 || kind.body_len().is_some_and(|its_len| its_len != len) {
            return Err(StoreError::BadRow(format!("a row has the length {len}")));
        }
        self.rest = rest;
        Ok((id, Row::new(kind, body)))
    }

    /// The first row of this id, if there is one. All rows are read, so that damage is noticed.
    pub(super) fn find(self, id: RowId) -> Result<Option<Row>, StoreError> {
        let mut wanted = None;
        for row in self {
            let (found, row) = row?;
            if found == id && wanted.is_none() {
                wanted = row;
            }
        }
        Ok(wanted)
    }
}

impl Iterator for PackedRows<'_> {
    type Item = Result<(RowId, Option<Row>), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let row = self.next_row();
        if row.is_err() {
            self.rest = &[];
        }
        Some(row)
    }
}
