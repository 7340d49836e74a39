//! `tollgate replay`: decides recorded checks again by the reference implementation, and compares.

use std::io::Write as _;
use std::path::PathBuf;

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
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file)
            .map_err(|why| CommandError::UnreadableRecords(file.clone(), why))
    };
    let lines = args.files.iter().map(read).collect::<Result<String, _>>()?;
    let decisions = engine::replay(&lines)?;
    writeln!(std::io::stdout(), "{decisions} decisions, all equal to the reference's")?;
    Ok(())
}
