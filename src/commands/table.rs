//! Output of the commands: tables for people, JSON for programs.

use std::io::Write as _;

use serde_json::Value;

/// Prints a head and rows, each column as wide as its widest cell.
pub(super) fn print_table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) {
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut out = std::io::stdout().lock();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _reader_closed = writeln!(out, "{}", line.trim_end());
    }
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &Value) {
    let mut out = std::io::stdout().lock();
    let _reader_closed = writeln!(out, "{value:#}");
}

/// The text of a cell: a dash for null and for empty text. Control characters, which could move the
/// cursor of a terminal, are replaced.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => {
            text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
        }
        other => other.to_string(),
    }
}

/// The date of a time in seconds since 1970.
pub(super) fn date(value: &Value) -> String {
    let second = value.as_i64().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    second.map_or_else(|| "-".into(), |second| second.to_string())
}
