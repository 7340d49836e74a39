//! The file of a record: whole lines are appended, it is rotated at a size, and opened again on
//! request.
//!
//! The contents of lines are not known here.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::settings::RecordSettings;
use crate::telemetry::LogThrottle;

/// The path of the rotated file with this number; 0 is the file itself.
fn numbered_path(path: &Path, number: usize) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

/// The newest whole lines of the record, at most `max_bytes` of them: a text for each file, the
/// newest first. Blocks.
///
/// # Errors
/// If the file cannot be read, or is no regular file.
pub fn read_recent(settings: &RecordSettings, max_bytes: u64) -> std::io::Result<Vec<String>> {
    let newest = File::open(&settings.path)?;
    if !newest.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    // All are opened first: a rotation in between shows one of them twice.
    let rotated = (1..=settings.kept_files)
        .map_while(|number| File::open(numbered_path(&settings.path, number)).ok());
    let files: Vec<File> = std::iter::once(newest).chain(rotated).collect();
    let (mut texts, mut seen, mut left) = (Vec::new(), Vec::new(), max_bytes);
    for file in files {
        let metadata = file.metadata()?;
        if left == 0 || seen.contains(&metadata.ino()) {
            continue;
        }
        seen.push(metadata.ino());
        let text = read_end(file, metadata.len(), left)?;
        left = left.saturating_sub(text.len() as u64);
        texts.push(text);
    }
    Ok(texts)
}

/// The whole lines among the last `max` of the `len` bytes of a file.
fn read_end(mut file: File, len: u64, max: u64) -> std::io::Result<String> {
    let start = len.saturating_sub(max);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line may be cut, and the last one is still being written.
    let first = if start == 0 { 0 } else { text.find('\n').map_or(text.len(), |end| end + 1) };
    let last = text.rfind('\n').map_or(first, |end| (end + 1).max(first));
    Ok(text[first..last].to_owned())
}

/// An open record.
pub(super) struct RecordFile {
    settings: RecordSettings,
    file: File,
    warning: LogThrottle,
}

impl RecordFile {
    pub(super) fn open(settings: RecordSettings) -> std::io::Result<Self> {
        let file = open_to_append(&settings.path)?;
        Ok(Self { settings, file, warning: LogThrottle::default() })
    }

    /// Opens the path again: another program may have renamed the file. If that fails, the old file
    /// stays open.
    pub(super) fn reopen(&mut self) {
        match open_to_append(&self.settings.path) {
            Ok(file) => self.file = file,
            Err(error) => {
                tracing::error!(%error, "the record cannot be opened again; the old file is written on");
            }
        }
    }

    /// Appends whole lines or nothing. A file that they would make too large is rotated first.
    pub(super) fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let metadata = self.file.metadata()?;
        let (mut len, is_regular) = (metadata.len(), metadata.is_file());
        let max = self.settings.max_bytes;
        if is_regular && max > 0 && len > 0 && len + lines.len() as u64 > max {
            match self.rotate() {
                Ok(()) => len = 0,
                Err(error) if self.warning.is_due() => {
                    tracing::warn!(%error, "the record cannot be rotated; the file grows on");
                }
                Err(_) => {}
            }
        }
        self.file.write_all(lines).inspect_err(|_| {
            if is_regular {
                let _still_cut = self.file.set_len(len);
            }
        })
    }

    /// Renames the file to the first of the kept ones, and begins a new one.
    fn rotate(&mut self) -> std::io::Result<()> {
        for number in (0..self.settings.kept_files).rev() {
            let path = |number| numbered_path(&self.settings.path, number);
            match std::fs::rename(path(number), path(number + 1)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = open_to_append(&self.settings.path)?;
        Ok(())
    }
}

/// Opens a file to append to. A last line that an earlier process did not finish is ended: nothing
/// must be appended to it.
fn open_to_append(path: &Path) -> std::io::Result<File> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    if file.metadata()?.is_file() && ends_within_a_line(&mut file)? {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

fn ends_within_a_line(file: &mut File) -> std::io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_rotated_between_lines_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let settings = RecordSettings { path, max_bytes: 10, kept_files: 2, requests: true };
        let mut file = RecordFile::open(settings.clone()).unwrap();
        for line in ["1234567\n", "a\n", "b\n", "123456789012\n", "c\n"] {
            file.append(line.as_bytes()).unwrap();
        }
        let read = |number| std::fs::read_to_string(numbered_path(&settings.path, number));
        assert_eq!(read(0).unwrap(), "c\n");
        assert_eq!(read(1).unwrap(), "123456789012\n", "a long line has a file of its own");
        assert_eq!(read(2).unwrap(), "b\n", "the oldest lines are gone");
        assert!(read(3).is_err());
        let recent = |max| read_recent(&settings, max).unwrap();
        assert_eq!(recent(100), ["c\n", "123456789012\n", "b\n"]);
        assert_eq!(recent(16), ["c\n", "123456789012\n", ""], "a cut line is left out");
    }

    #[test]
    fn a_file_that_was_renamed_is_begun_again_at_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let settings =
            RecordSettings { path: path.clone(), max_bytes: 0, kept_files: 1, requests: true };
        let mut file = RecordFile::open(settings).unwrap();
        file.append(b"one\n").unwrap();
        let moved = dir.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        file.append(b"two\n").unwrap();
        file.reopen();
        file.append(b"three\n").unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!([read(&moved), read(&path)], ["one\ntwo\n", "three\n"]);
    }
}
