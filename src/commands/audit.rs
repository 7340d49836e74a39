//! `tollgate audit`: the changes that were made by the admin API, newest first.

use jiff::Timestamp;
use serde_json::Value;

use super::CommandError;
use super::admin::{AdminClient, encode_path_segment};
use super::table::{cell, print_json, print_table};

/// The arguments of `tollgate audit`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  tollgate audit                                       the last 50 changes
  tollgate audit --path /apikeys --since 24h           changes of keys since yesterday
  tollgate audit --since 2026-11-28T09:00:00Z --until 2026-11-28T10:00:00Z --json

The last 100,000 changes are kept. Requests that were refused are in the service's log only.")]
pub struct AuditArgs {
    #[command(flatten)]
    admin: AdminClient,
    /// Only changes whose request, or a resource of it, has a path with this prefix
    #[arg(long, value_name = "PREFIX", default_value = "")]
    path: String,
    /// Only changes since this time: as in 2026-11-28T09:00:00Z, or how long ago, as in 24h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Only changes until this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
    /// The most changes [default: 50 without --since, otherwise all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// The most changes if neither a limit nor the first time is given.
const DEFAULT_LIMIT: usize = 50;

/// Prints the changes.
///
/// # Errors
/// If the service is unreachable or refuses a request.
pub async fn run(args: &AuditArgs) -> Result<bool, CommandError> {
    let AuditArgs { admin, path, since, until, limit } = args;
    let limit = limit.unwrap_or(if since.is_some() { usize::MAX } else { DEFAULT_LIMIT });
    let is_late = |entry: &Value| until.is_some_and(|until| time(entry) > Some(until));
    let mut selected = 0;
    let goes_on = |entry: &Value| {
        let is_in_time = since.is_none_or(|since| time(entry) >= Some(since));
        selected += usize::from(!is_late(entry));
        is_in_time && selected <= limit
    };
    let path = format!("/audit?path={}", encode_path_segment(path));
    let mut entries = admin.list_while(&path, goes_on).await?;
    entries.retain(|entry| !is_late(entry));
    if admin.json {
        print_json(&entries.into());
        return Ok(true);
    }
    let row = |entry: &Value| {
        let [at, who, method, path] = ["at", "who", "method", "path"].map(|it| cell(&entry[it]));
        let changed = entry["changed"].as_array().into_iter().flatten().map(cell);
        let changed: Vec<String> = changed.filter(|changed| *changed != path).collect();
        [at, who, method, path, changed.join(" ")]
    };
    print_table(["AT", "WHO", "METHOD", "PATH", "ALSO CHANGED"], entries.iter().map(row));
    Ok(true)
}

fn time(entry: &Value) -> Option<Timestamp> {
    entry["at"].as_str()?.parse().ok()
}

/// Reads a time, or a duration until now.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let why = "write a time with its zone, as in 2026-11-28T09:00:00Z, or how long ago, as in 24h";
    let ago = text.parse::<jiff::SignedDuration>().map_err(|_| why)?;
    Timestamp::now().checked_sub(ago).map_err(|_| why.into())
}
