//! `tollgate diff` and `tollgate apply`: a catalog file against what a running service declares.
//!
//! Nothing is removed that was not asked for, and keys never are: an exported file has none.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::NoAnswer;
use super::admin::Admin;
use super::changes::{Change, between};
use super::export::declared;
use super::table::{cell, print_json};
use super::wanted::Wanted;
use crate::catalog::Counters;
use crate::control::read_catalog;

/// What `tollgate diff` compares.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
A line begins with + for what the file has and the service does not, - for what only the service has,
~ for what differs. Compared are stages, plans, and keys that have a `value` in the file, which itself
is not compared: the service does not tell it. The service's own catalog file is left out of it.
Exits with 0 where nothing differs, 1 where something does, 2 where it cannot be told.")]
pub struct Diff {
    #[command(flatten)]
    admin: Admin,
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
pub struct Apply {
    #[command(flatten)]
    admin: Admin,
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
pub async fn diff(diff: &Diff) -> Result<bool, NoAnswer> {
    let changes = changes(&diff.admin, &diff.file).await?;
    show(&diff.admin, &changes)?;
    Ok(changes.is_empty())
}

/// Makes the service declare what the file does; whether all of it could be done.
///
/// # Errors
/// As [`diff`]; and where nobody can be asked.
pub async fn apply(apply: &Apply) -> Result<bool, NoAnswer> {
    let admin = &apply.admin;
    let mut changes = changes(admin, &apply.file).await?;
    changes.retain(|change| apply.prune || change.sign != '-');
    show(admin, &changes)?;
    let mut said = io::stderr();
    if changes.is_empty() {
        writeln!(said, "nothing to change")?;
        return Ok(true);
    }
    if !apply.yes && !agreed()? {
        writeln!(said, "nothing was changed")?;
        return Ok(false);
    }
    let mut made = 0;
    for change in &changes {
        match make(admin, change).await {
            Ok(()) => made += 1,
            Err(NoAnswer::Refused(status, why)) => {
                writeln!(said, "tollgate: {} {}: {status}: {why}", change.sign, change.what)?;
            }
            Err(error) => return Err(error),
        }
    }
    writeln!(said, "{made} of {} changes made", changes.len())?;
    Ok(made == changes.len())
}

async fn changes(admin: &Admin, file: &std::path::Path) -> Result<Vec<Change>, NoAnswer> {
    // Whether a cluster can keep its limits is the service's to say, which knows its store.
    read_catalog(file, Counters::Together)?;
    let text = std::fs::read_to_string(file)?;
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let catalog: Value = serde_saphyr::from_str_with_options(&text, options).map_err(|_| {
        // Its message would quote the file, in which keys stand in the clear.
        NoAnswer::Unsaid(
            file.display().to_string(),
            "it is no plain YAML of names and values".into(),
        )
    })?;
    let wanted = Wanted::read(&catalog)?;
    for left_out in &wanted.left_out {
        writeln!(io::stderr(), "left out: {left_out}")?;
    }
    between(admin, &wanted, &declared(admin).await?).await
}

/// Whether somebody at the terminal agrees.
fn agreed() -> Result<bool, NoAnswer> {
    if !io::stdin().is_terminal() {
        return Err(NoAnswer::Unasked);
    }
    write!(io::stderr(), "Apply these changes? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn make(admin: &Admin, change: &Change) -> Result<(), NoAnswer> {
    for super::changes::Call(method, path, body) in &change.calls {
        admin.call(method.clone(), path, body.clone()).await?;
    }
    Ok(())
}

fn show(admin: &Admin, changes: &[Change]) -> Result<(), NoAnswer> {
    if admin.json {
        let told = changes.iter().map(|Change { sign, what, sides: [from, to], .. }| {
            json!({ "change": sign.to_string(), "what": what, "from": from, "to": to })
        });
        print_json(&told.collect::<Vec<_>>().into());
        return Ok(());
    }
    let mut out = io::stdout().lock();
    for Change { sign, what, sides: [from, to], .. } in changes {
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
