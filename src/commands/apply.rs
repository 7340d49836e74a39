//! `tollgate diff` and `tollgate apply`: compare a catalog file with the admin API of a running
//! service, and make the service declare the same.
//!
//! Plans and stages are deleted only with `--prune`, and keys never: an exported file has none.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;

use serde_json::json;

use super::CommandError;
use super::admin::AdminClient;
use super::changes::{ResourceChange, diff_resources};
use super::desired::DesiredState;
use super::export::fetch_declared;
use super::table::{cell, print_json};
use crate::catalog::CounterPlacement;
use crate::catalog::raw::RawCatalog;
use crate::control::read_catalog;

/// The arguments of `tollgate diff`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
A line begins with + for a resource that only the file has, with - for one that only the service has,
and with ~ for one that differs. Stages, plans and keys are compared; the keys' values are not. Resources of the service's own
catalog file are ignored.
The exit code is 0 if nothing differs, 1 if something does, and 2 after an error.")]
pub struct DiffArgs {
    #[command(flatten)]
    admin: AdminClient,
    /// The catalog file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// The arguments of `tollgate apply`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  tollgate diff catalog.yaml && echo nothing to do
  tollgate apply catalog.yaml                  prints the changes, and asks before it makes them
  tollgate apply catalog.yaml --yes --prune    for a job; also deletes all other plans and stages

Each plan, stage and key is changed by requests of its own. If the service refuses one, such as a plan
of its own catalog file, the error is printed, the others are changed, and the exit code is 1. Keys are
never deleted.")]
pub struct ApplyArgs {
    #[command(flatten)]
    admin: AdminClient,
    /// The catalog file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Makes the changes without asking
    #[arg(long)]
    yes: bool,
    /// Also deletes the plans and stages that the file does not have
    #[arg(long)]
    prune: bool,
}

/// Prints the differences; true if there are none.
///
/// # Errors
/// If the file cannot be used, or the service is unreachable or refuses a request.
pub async fn diff(args: &DiffArgs) -> Result<bool, CommandError> {
    let changes = compute_changes(&args.admin, &args.file).await?;
    print_changes(&args.admin, &changes)?;
    Ok(changes.is_empty())
}

/// Changes the service's resources to those of the file; true if all changes were made.
///
/// # Errors
/// As [`diff`]; also if standard input is no terminal and `--yes` is missing.
pub async fn apply(args: &ApplyArgs) -> Result<bool, CommandError> {
    let admin = &args.admin;
    let mut changes = compute_changes(admin, &args.file).await?;
    changes.retain(|change| args.prune || change.sign != '-');
    print_changes(admin, &changes)?;
    let mut stderr = io::stderr();
    if changes.is_empty() {
        writeln!(stderr, "nothing to change")?;
        return Ok(true);
    }
    if !args.yes && !confirm()? {
        writeln!(stderr, "nothing was changed")?;
        return Ok(false);
    }
    let mut applied = 0;
    for change in &changes {
        match apply_change(admin, change).await {
            Ok(()) => applied += 1,
            Err(CommandError::Rejected(status, why)) => {
                writeln!(stderr, "tollgate: {} {}: {status}: {why}", change.sign, change.what)?;
            }
            Err(error) => return Err(error),
        }
    }
    writeln!(stderr, "{applied} of {} changes made", changes.len())?;
    Ok(applied == changes.len())
}

async fn compute_changes(
    admin: &AdminClient,
    file: &std::path::Path,
) -> Result<Vec<ResourceChange>, CommandError> {
    // Only the service knows its store, and checks whether a cluster can keep the limits.
    read_catalog(file, CounterPlacement::Together)?;
    // The file is valid, so an error means that it has changed since.
    let changed = |why| CommandError::Unsupported(file.display().to_string(), why);
    let catalog = RawCatalog::from_yaml(&std::fs::read_to_string(file)?).map_err(changed)?;
    let desired = DesiredState::from_catalog(&catalog)?;
    for left_out in &desired.left_out {
        writeln!(io::stderr(), "left out: {left_out}")?;
    }
    diff_resources(admin, &desired, &fetch_declared(admin).await?).await
}

/// Asks at the terminal; true if the response is yes.
fn confirm() -> Result<bool, CommandError> {
    if !io::stdin().is_terminal() {
        return Err(CommandError::NotATerminal);
    }
    write!(io::stderr(), "Apply these changes? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn apply_change(admin: &AdminClient, change: &ResourceChange) -> Result<(), CommandError> {
    for super::changes::ApiCall(method, path, body) in &change.calls {
        admin.call(method.clone(), path, body.clone()).await?;
    }
    Ok(())
}

fn print_changes(admin: &AdminClient, changes: &[ResourceChange]) -> Result<(), CommandError> {
    if admin.json {
        let shown = changes.iter().map(|ResourceChange { sign, what, sides: [from, to], .. }| {
            json!({ "change": sign.to_string(), "what": what, "from": from, "to": to })
        });
        print_json(&shown.collect::<Vec<_>>().into());
        return Ok(());
    }
    let mut out = io::stdout().lock();
    for ResourceChange { sign, what, sides: [from, to], .. } in changes {
        writeln!(out, "{sign} {what}")?;
        let side = if to.is_null() { from } else { to };
        let mut members: Vec<&String> =
            side.as_object().into_iter().flat_map(|side| side.keys()).collect();
        if *sign == '~' {
            members.extend(from.as_object().into_iter().flat_map(|from| from.keys()));
            members.sort_unstable();
            members.dedup();
            for member in members.into_iter().filter(|member| from[member] != to[member]) {
                writeln!(out, "    {member}: {} -> {}", cell(&from[member]), cell(&to[member]))?;
            }
        }
    }
    Ok(())
}
