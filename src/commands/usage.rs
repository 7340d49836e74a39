//! `tollgate usage`: the usage of keys by day, and its corrections.
//!
//! The service knows which day it is and when it began: no date is computed here.

use axum::http::Method;
use jiff::ToSpan as _;
use jiff::civil::Date;
use serde_json::{Map, Value, json};

use super::CommandError;
use super::admin::{AdminClient, encode_path_segment};
use super::names::{find_key_id, find_plan_id};
use super::table::{cell, print_json, print_table};
use crate::control::{Patch, PatchOperation, escape_pointer};
use crate::time::MAX_EXACT;

/// The arguments of `tollgate usage`.
#[derive(Clone, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  tollgate usage basic                                   this month so far, all keys of the plan
  tollgate usage basic --key KEY --unit total_tokens
  tollgate usage basic --from 2026-11-01 --to 2026-11-30 --csv > november.csv
  tollgate usage grant basic KEY 1000                    1,000 requests more in this period

Days are those of the plan's quota's time zone, UTC without one; they are kept for 62 days. The table
leaves out days without use, but for a key's last."
)]
pub struct UsageArgs {
    #[command(flatten)]
    admin: AdminClient,
    /// The plan: its id, or a name that no other plan has
    #[arg(required = true)]
    plan: Option<String>,
    /// Only this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The first day, as in 2026-11-01; this month so far without it and --to
    #[arg(long, value_name = "DATE", requires = "to")]
    from: Option<String>,
    /// The last day; up to 90 at once
    #[arg(long, value_name = "DATE", requires = "from")]
    to: Option<String>,
    /// The unit: requests, or one that the plan limits
    #[arg(long, value_name = "UNIT", default_value = "requests")]
    unit: String,
    /// Writes a CSV file with every day
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(subcommand)]
    correction: Option<UsageCorrection>,
}

#[derive(Clone, clap::Subcommand)]
enum UsageCorrection {
    /// Sets the units left of the quota in this period
    SetRemaining(CorrectionAmount),
    /// Grants units beyond the quota in this period; do not repeat it after a timeout
    Grant(CorrectionAmount),
    /// Refunds units that were counted and not used; do not repeat it after a timeout
    Refund(CorrectionAmount),
    /// Resets all limits of the key by this plan, except those of methods that only a `*` names
    Reset(CorrectionTarget),
}

#[derive(Clone, clap::Args)]
struct CorrectionTarget {
    /// The plan: its id, or a name that no other plan has
    plan: String,
    /// The key: its id, or a name that no other key has
    key: String,
}

#[derive(Clone, clap::Args)]
struct CorrectionAmount {
    #[command(flatten)]
    target: CorrectionTarget,
    /// The number of units
    #[arg(value_name = "AMOUNT")]
    count: u64,
    /// The unit
    #[arg(long, default_value = "requests")]
    unit: String,
}

/// Makes the correction, if there is one, and prints the usage.
///
/// # Errors
/// If the service is unreachable or refuses a request.
pub async fn run(args: &UsageArgs) -> Result<bool, CommandError> {
    let admin = &args.admin;
    if let Some(correction) = &args.correction {
        let (plan, key, unit) = send_correction(admin, correction).await?;
        let query =
            format!("?unit={}&keyId={}", encode_path_segment(unit), encode_path_segment(&key));
        show(admin, &all_pages(admin, &usage_path(&plan, &query)).await?);
        return Ok(true);
    }
    let plan = find_plan_id(admin, args.plan.as_deref().unwrap_or_default()).await?;
    let key = match &args.key {
        Some(key) => Some(find_key_id(admin, key).await?),
        None => None,
    };
    let path = usage_path(&plan, &args.query(key.as_ref()));
    if args.csv {
        admin.download(&path).await?;
    } else {
        show(admin, &all_pages(admin, &path).await?);
    }
    Ok(true)
}

impl UsageArgs {
    fn query(&self, key: Option<&String>) -> String {
        let given =
            [("keyId", key), ("startDate", self.from.as_ref()), ("endDate", self.to.as_ref())];
        let mut query = format!("?unit={}", encode_path_segment(&self.unit));
        for (name, value) in given {
            if let Some(value) = value {
                query.extend(["&", name, "=", &encode_path_segment(value)]);
            }
        }
        if self.csv { query + "&format=csv" } else { query }
    }
}

fn usage_path(plan: &str, query: &str) -> String {
    format!("/usageplans/{}/usage{query}", encode_path_segment(plan))
}

/// Sends a correction; returns the ids of its plan and key, and the unit whose usage is to be
/// printed.
async fn send_correction<'c>(
    admin: &AdminClient,
    correction: &'c UsageCorrection,
) -> Result<(String, String, &'c str), CommandError> {
    let (what, target, amount) = match correction {
        UsageCorrection::SetRemaining(amount) => ("remaining", &amount.target, Some(amount)),
        UsageCorrection::Grant(amount) => ("grant", &amount.target, Some(amount)),
        UsageCorrection::Refund(amount) => ("refund", &amount.target, Some(amount)),
        UsageCorrection::Reset(target) => ("reset", target, None),
    };
    let operation = match amount {
        Some(CorrectionAmount { count, unit, .. }) => {
            PatchOperation::set(format!("/{what}/{}", escape_pointer(unit)), count)
        }
        // The value of a reset is ignored.
        None => PatchOperation::set(format!("/{what}"), &""),
    };
    let patch = json!(Patch { patch_operations: vec![operation] });
    let plan = find_plan_id(admin, &target.plan).await?;
    let key = find_key_id(admin, &target.key).await?;
    let target_path = format!(
        "/usageplans/{}/keys/{}/usage",
        encode_path_segment(&plan),
        encode_path_segment(&key)
    );
    admin.call(Method::PATCH, &target_path, Some(patch)).await?;
    Ok((plan, key, amount.map_or("requests", |amount| &amount.unit)))
}

/// Gets the keys of all pages, as one page.
async fn all_pages(admin: &AdminClient, path: &str) -> Result<Value, CommandError> {
    let path = format!("{path}&limit=500");
    let mut page = admin.get(&path).await?;
    let mut keys = Map::new();
    loop {
        if let Value::Object(values) = page["values"].take() {
            keys.extend(values);
        }
        let Some(position) = page["position"].as_str() else { break };
        page = admin.get(&format!("{path}&position={}", encode_path_segment(position))).await?;
    }
    page["values"] = keys.into();
    Ok(page)
}

fn show(admin: &AdminClient, usage: &Value) {
    if admin.json {
        return print_json(usage);
    }
    let first = usage["startDate"].as_str().and_then(|day| day.parse::<Date>().ok());
    let mut rows = Vec::new();
    for (key, days) in usage["values"].as_object().into_iter().flatten() {
        let days = days.as_array().map_or(&[][..], Vec::as_slice);
        let dates = first.into_iter().flat_map(|first| first.series(1.day()));
        for (place, (date, day)) in dates.zip(days).enumerate() {
            if day[0] != 0 || place + 1 == days.len() {
                let left = Some(&day[1]).filter(|left| **left != MAX_EXACT);
                let left = left.unwrap_or(&Value::Null);
                rows.push([key.clone(), date.to_string(), cell(&day[0]), cell(left)]);
            }
        }
    }
    print_table(["KEY", "DAY", "USED", "REMAINING"], rows);
}
