//! The rows of a subject's string and of its days, as `lua/subject.lua` packs them, read in Rust.
//!
//! Writing is the scripts'. Rows of unknown kinds are skipped.

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
    /// The rows of a string whose header has `header` bytes, the format among them. An empty string
    /// has no rows.
    pub(super) fn new(bytes: &'b [u8], header: usize) -> Result<Self, StoreError> {
        match bytes.first() {
            None | Some(&FORMAT) => Ok(Self { rest: bytes.get(header..).unwrap_or_default() }),
            Some(format) => {
                Err(StoreError::BadRow(format!("a string of rows has format {format}")))
            }
        }
    }

    /// The next row with its id; `None` in place of a row too long for any kind of this release.
    fn next_row(&mut self) -> Result<(RowId, Option<Row>), StoreError> {
        let cut = || StoreError::BadRow("the last row is cut short".into());
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(cut)?;
        let (id, len) = RowId::from_head(*head);
        let (body, rest) = rest.split_at_checked(len).ok_or_else(cut)?;
        self.rest = rest;
        Ok((id, Row::new(id.kind(), body)))
    }

    /// The row of this id, if there is one.
    pub(super) fn find(self, id: RowId) -> Result<Option<Row>, StoreError> {
        for row in self {
            if let (found, Some(row)) = row?
                && found == id
            {
                return Ok(Some(row));
            }
        }
        Ok(None)
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
