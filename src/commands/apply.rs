//! `tollgate diff` and `tollgate apply`: a catalog file against what a running service declares.
//!
//! Nothing is removed that was not asked for, and keys never are: an exported file has none.

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

/// What `tollgate diff` compares.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
A line begins with + for what the file has and the service does not, - for what only the service has,
~ for what differs. Compared are stages, plans, and keys that have a `value` in the file, which itself
is not compared: the service does not tell it. The service's own catalog file is left out of it.
Exits with 0 where nothing differs, 1 where something does, 2 where it cannot be told.")]
pub struct DiffArgs {
    #[command(flatten)]
    admin: AdminClient,
    /// The catalog
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// What `tollgate apply` makes so.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  tollgate diff catalog.yaml && echo nothing to do
  tollgate apply catalog.yaml                  shows what it would change, and asks
  tollgate apply catalog.yaml --yes --prune    as a job does; the service then has no other plan or stage

A plan, stage or key is changed in calls of its own. What the service refuses, such as a plan that its
own catalog file declares, is said, and the rest is done; it then exits with 1. Keys are never removed.")]
pub struct ApplyArgs {
    #[command(flatten)]
    admin: AdminClient,
    /// The catalog
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Does not ask
    #[arg(long)]
    yes: bool,
    /// Also removes the plans and stages that the file does not have
    #[arg(long)]
    prune: bool,
}

/// Prints what differs; whether nothing does.
///
/// # Errors
/// Where the file cannot be used, or the service does not answer, or says no.
pub async fn diff(args: &DiffArgs) -> Result<bool, CommandError> {
    let changes = compute_changes(&args.admin, &args.file).await?;
    print_changes(&args.admin, &changes)?;
    Ok(changes.is_empty())
}

/// Makes the service declare what the file does; whether all of it could be done.
///
/// # Errors
/// As [`diff`]; and where nobody can be asked.
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
    // The service knows its store: it checks whether a cluster can keep the limits.
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

/// Whether somebody at the terminal agrees.
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
