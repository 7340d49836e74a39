//! `tollgate completions`: the script by which a shell completes commands and flags.

use std::io::Write as _;

use clap_complete::{Shell, generate};

use super::CommandError;

/// Arguments of `tollgate completions`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples, for one user:
  tollgate completions bash >~/.local/share/bash-completion/completions/tollgate
  tollgate completions fish >~/.config/fish/completions/tollgate.fish
  tollgate completions zsh >~/.zfunc/_tollgate     (with fpath+=~/.zfunc before compinit)

A release has them in the folder completions.")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script for the commands of `program`.
///
/// # Errors
/// If standard output is closed.
pub fn run(args: &CompletionsArgs, program: &mut clap::Command) -> Result<(), CommandError> {
    let mut script = Vec::new();
    generate(args.shell, program, "tollgate", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}
