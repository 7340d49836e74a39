//! `tollgate man`: writes a man page for each command, from its help.

use std::path::PathBuf;

use super::CommandError;

/// Arguments of `tollgate man`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Example, for one user:
  tollgate man ~/.local/share/man/man1
  man tollgate-keys-rotate

A release has them in the folder man/man1.")]
pub struct ManArgs {
    /// The folder to write to, which is created
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Writes the pages of `program` and of all commands below it: `tollgate.1`, `tollgate-keys.1`.
///
/// # Errors
/// If the folder cannot be written.
pub fn run(args: &ManArgs, program: clap::Command) -> Result<(), CommandError> {
    std::fs::create_dir_all(&args.folder)?;
    clap_mangen::generate_to(program, &args.folder)?;
    Ok(())
}
