//! `tollgate keys import`: sends a CSV file of keys in parts, with their progress.
//!
//! The service reads the lines. Here they are only counted, and looked through for a value that
//! comes twice, which the service would notice within one part only.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::PathBuf;

use csv::ByteRecord;
use serde_json::{Value, json};

use crate::commands::CommandError;
use crate::commands::admin::AdminClient;
use crate::commands::progress::Progress;
use crate::commands::table::print_json;
use crate::digest::{SecretDigest, digest_secret};

/// The most keys of one request.
const MAX_PART_KEYS: usize = 1_000;
/// The largest part of the file in one request, in bytes; the service takes ten times as much.
const MAX_PART_BYTES: usize = 1024 * 1024;

/// The arguments of `tollgate keys import`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
The file has the columns of AWS API Gateway: Name and Key, and optionally Description, Enabled and
UsagePlanIds (ids, several in quotes with commas between them):

  Name,Key,Enabled,UsagePlanIds
  acme,a-value-of-20-to-128-characters,TRUE,basic

A line with the value of an existing key changes that key, so an import that was interrupted is
simply repeated. Lines that cannot be used are skipped and printed; the exit code is then 1.")]
pub(super) struct ImportKeysArgs {
    /// The file, in UTF-8
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Keys of the file that are sent together.
struct Part {
    bytes: Range<usize>,
    /// Lines of the file before the part, less those of the head.
    line_offset: u64,
    keys: usize,
}

/// A file in parts.
struct KeyFile {
    text: String,
    /// The end of the line with the columns' names, in bytes.
    head_end: usize,
    parts: Vec<Part>,
}

/// Imports the file; true if every line was used.
pub(super) async fn run(admin: &AdminClient, args: &ImportKeysArgs) -> Result<bool, CommandError> {
    let file = KeyFile::read(&args.file)?;
    let total: usize = file.parts.iter().map(|part| part.keys).sum();
    let (mut ids, mut warnings, mut sent) = (Vec::new(), Vec::new(), 0);
    let progress = Progress::new(total as u64, "keys");
    for part in &file.parts {
        progress.show(sent as u64)?;
        let body = [&file.text[..file.head_end], &file.text[part.bytes.clone()]].concat();
        let response = admin.import_keys(body).await.inspect_err(|_| {
            let note = format!("{sent} of {total} lines were imported before; repeat the import");
            let _reader_closed = writeln!(io::stderr(), "\ntollgate: {note}");
        })?;
        let list = |member: &str| response[member].as_array().cloned().unwrap_or_default();
        ids.extend(list("ids"));
        warnings.extend(list("warnings").iter().map(|why| in_file(why, part.line_offset)));
        sent += part.keys;
    }
    progress.end(sent as u64)?;
    let all = warnings.is_empty();
    if admin.json {
        print_json(&json!({ "ids": ids, "warnings": warnings }));
        return Ok(all);
    }
    let mut stderr = io::stderr();
    for warning in &warnings {
        writeln!(stderr, "skipped: {warning}")?;
    }
    writeln!(stderr, "{} keys imported, {} lines skipped", ids.len(), warnings.len())?;
    Ok(all)
}

/// A warning with the line's number in the file, instead of that in the part.
fn in_file(warning: &Value, line_offset: u64) -> String {
    let warning = warning.as_str().unwrap_or_default();
    let rest = warning.strip_prefix("line ").and_then(|rest| rest.split_once(':'));
    let numbered = rest.and_then(|(line, why)| Some((line.parse::<u64>().ok()?, why)));
    match numbered {
        Some((line, why)) => format!("line {}:{why}", line + line_offset),
        None => warning.into(),
    }
}

impl KeyFile {
    fn read(path: &std::path::Path) -> Result<Self, CommandError> {
        let unusable =
            |why: &str| CommandError::UnusableImport(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|why| unusable(&why.to_string()))?;
        Self::divide(text).map_err(|why| unusable(&why))
    }

    /// Divides the text at the ends of its records.
    fn divide(text: String) -> Result<Self, String> {
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let is_key = |name: &[u8]| name.eq_ignore_ascii_case(b"Key");
        let key = reader.byte_headers().map_err(|why| why.to_string())?.iter().position(is_key);
        let key = key.ok_or("line 1: there is no column `Key`")?;
        let at = reader.position().clone();
        let (head_end, head_lines) = (offset(&at), at.line());
        let (mut start, mut line, mut keys) = (head_end, head_lines, 0);
        let (mut parts, mut seen) = (Vec::new(), HashMap::<SecretDigest, u64>::new());
        let mut record = ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(|why| why.to_string())? {
            let here = record.position().map_or(0, csv::Position::line);
            let value = record.get(key).and_then(|value| std::str::from_utf8(value).ok());
            let value = value.filter(|value| !value.is_empty()).map(digest_secret);
            if let Some(earlier) = value.and_then(|value| seen.insert(value, here)) {
                return Err(format!(
                    "line {here} has the same key as line {earlier}; nothing was imported"
                ));
            }
            keys += 1;
            let end = offset(reader.position());
            if keys == MAX_PART_KEYS || end - start >= MAX_PART_BYTES {
                parts.push(Part { bytes: start..end, line_offset: line - head_lines, keys });
                (start, line, keys) = (end, reader.position().line(), 0);
            }
        }
        if keys > 0 {
            parts.push(Part { bytes: start..text.len(), line_offset: line - head_lines, keys });
        }
        Ok(Self { text, head_end, parts })
    }
}

fn offset(position: &csv::Position) -> usize {
    usize::try_from(position.byte()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_divided_between_records_and_keeps_its_line_numbers() {
        let line = |number: usize| format!("key {number},value-{number:020},\"two\r\nlines\"\n");
        let head = "Name,Key,Description\n";
        let text = head.to_owned() + "\n" + &(0..2_500).map(line).collect::<String>();
        let file = KeyFile::divide(text.clone()).unwrap();
        let keys: Vec<usize> = file.parts.iter().map(|part| part.keys).collect();
        assert_eq!((keys, &text[..file.head_end]), (vec![1_000, 1_000, 500], head));
        let whole: String = file.parts.iter().map(|part| &text[part.bytes.clone()]).collect();
        assert_eq!(format!("{head}{whole}"), text, "nothing is lost");
        // The first key stands in line 3, each on two lines: key 1,000 in line 2,003.
        assert!(text[file.parts[1].bytes.clone()].starts_with("key 1000,"));
        let warning = in_file(&json!("line 2: no"), file.parts[1].line_offset);
        assert_eq!(warning, "line 2003: no");
    }

    #[test]
    fn a_value_that_comes_twice_is_found_wherever_it_is() {
        let file = "Key,Name\na-value,one\nb-value,two\n a-value ,three\n";
        let why = KeyFile::divide(file.into()).err().unwrap();
        assert_eq!(why, "line 4 has the same key as line 2; nothing was imported");
        assert!(KeyFile::divide("Name\nx\n".into()).err().unwrap().contains("column `Key`"));
    }
}
