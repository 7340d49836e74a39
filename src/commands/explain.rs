//! `tollgate explain`: why a check would be admitted or refused now, limit by limit.

use axum::http::{Method, StatusCode};
use serde_json::Value;

use super::CommandError;
use super::admin::AdminClient;
use super::check_request::RequestArgs;
use super::names::find_key_id;
use super::table::{cell, print_json, print_table};

/// Arguments of `tollgate explain`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  tollgate explain --key-id 7f3a --api inference --stage prod --method POST --path /v1/chat/completions
  tollgate explain --policy login --key ip:203.0.113.7 --cost 5

A KEY-ID is an id, or a name that no other key has.
Nothing is charged. USED is before the check, LEFT after it if it were made.")]
pub struct ExplainArgs {
    #[command(flatten)]
    admin: AdminClient,
    #[command(flatten)]
    request: RequestArgs,
}

/// Prints the explanation of a check. Returns true if the check would be allowed.
///
/// # Errors
/// If the request cannot be sent or is rejected.
pub async fn run(args: &ExplainArgs) -> Result<bool, CommandError> {
    let mut body = args.request.to_json()?;
    if let Some(key) = body.get("key_id").and_then(Value::as_str) {
        // A key that does not exist is explained as well.
        match find_key_id(&args.admin, key).await {
            Err(CommandError::Rejected(StatusCode::NOT_FOUND, _)) => {}
            id => drop(body.insert("key_id".into(), id?.into())),
        }
    }
    let body = Value::Object(body);
    let explained = args.admin.call(Method::POST, "/explain", Some(body)).await?;
    if args.admin.json {
        print_json(&explained);
    } else {
        print(&explained)?;
    }
    Ok(explained["status"] == 200)
}

fn print(explained: &Value) -> Result<(), CommandError> {
    use std::io::Write as _;
    let detail = match &explained["detail"] {
        Value::String(detail) => format!(": {detail}"),
        _ if explained["allowed"] == true => ": allowed".into(),
        _ => ": charged, and in debt".into(),
    };
    let by = match explained["decided_by"].as_str() {
        Some(by) => format!(" (decided by {by})"),
        None => String::new(),
    };
    writeln!(std::io::stdout(), "{}{}{by}", cell(&explained["status"]), detail)?;
    let limits = explained["limits"].as_array().map(Vec::as_slice).unwrap_or_default();
    if limits.is_empty() {
        return Ok(());
    }
    let head = ["LIMIT", "UNIT", "SIZE", "USED", "COST", "LEFT", "FITS", "PATTERN", "DECLARED IN"];
    print_table(head, limits.iter().map(row));
    Ok(())
}

fn row(limit: &Value) -> [String; 9] {
    let left = match &limit["debt"] {
        Value::Null => cell(&limit["remaining"]),
        debt => format!("-{debt}"),
    };
    [
        cell(&limit["name"]),
        cell(&limit["unit"]),
        cell(&limit["limit"]),
        cell(&limit["used"]),
        cell(&limit["cost"]),
        left,
        fits(limit),
        cell(&limit["pattern"]),
        place(limit),
    ]
}

/// The time at which the cost fits: now, in a while, or never.
fn fits(limit: &Value) -> String {
    let shadow = if limit["shadow"] == true { " (shadow)" } else { "" };
    let when = match (&limit["fits"], limit["retry_after_ms"].as_u64()) {
        (Value::Null, _) => "?".into(),
        (Value::Bool(true), _) => "now".into(),
        (_, Some(wait)) if limit["shadow"] != true => {
            format!("in {}.{:03} s", wait / 1_000, wait % 1_000)
        }
        (_, Some(_)) => "not now".into(),
        (_, None) => "never".into(),
    };
    when + shadow
}

fn place(limit: &Value) -> String {
    let source = &limit["source"];
    let place = match (source["file"].as_str(), source["line"].as_u64()) {
        (Some(_), Some(line)) => format!("{}:{line}", cell(&source["file"])),
        (Some(_), None) => format!("{} (changed since)", cell(&source["file"])),
        _ => cell(&source["resource"]),
    };
    if limit["override"] == true { format!("{place} (override)") } else { place }
}
