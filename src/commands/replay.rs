//! `tollgate replay`: decides recorded checks again by the reference implementation, and compares.

use std::io::Write as _;
use std::path::PathBuf;

use serde::de::IgnoredAny;

use super::CommandError;
use crate::engine;

/// Arguments of `tollgate replay`.
#[derive(Clone, clap::Args)]
pub struct ReplayArgs {
    /// Files written with --record, of all nodes that shared the store
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Replays the decisions of all files as one history, and prints their number.
///
/// # Errors
/// If a file cannot be read, or at the first decision that the reference does not repeat.
pub fn run(args: &ReplayArgs) -> Result<(), CommandError> {
    let lines = args.files.iter().map(read_lines).collect::<Result<String, _>>()?;
    let decisions = engine::replay(&lines)?;
    writeln!(std::io::stdout(), "{decisions} decisions, all equal to the reference's")?;
    Ok(())
}

/// The lines of a file, each with its end. A last line that was cut, by a node that was killed or
/// a full disk, is left out, and the user is notified.
fn read_lines(file: &PathBuf) -> Result<String, CommandError> {
    let text = std::fs::read_to_string(file);
    let mut text = text.map_err(|why| CommandError::UnreadableRecords(file.clone(), why))?;
    let last = text.rfind('\n').map_or(0, |end| end + 1);
    if last < text.len() {
        if serde_json::from_str::<IgnoredAny>(&text[last..]).is_ok() {
            text.push('\n');
        } else {
            text.truncate(last);
            let note = "the last line is cut, and left out";
            writeln!(std::io::stderr(), "tollgate: {}: {note}", file.display())?;
        }
    }
    Ok(text)
}
