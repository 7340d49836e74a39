//! Keys as tables: in a list, after a change, and one with its plans and usage.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::commands::CommandError;
use crate::commands::admin::{AdminClient, encode_path_segment};
use crate::commands::names::resource_id;
use crate::commands::plans::quota_text;
use crate::commands::table::{cell, date, print_json, print_table};
use crate::time::MAX_EXACT;

pub(super) fn print_keys(admin: &AdminClient, keys: Vec<Value>) {
    if admin.json {
        return print_json(&keys.into());
    }
    let row = |key: Value| {
        let [id, name, enabled, customer, expires, owner] =
            ["id", "name", "enabled", "customerId", "expiresAt", "owner"]
                .map(|member| cell(&key[member]));
        [id, name, enabled, customer, expires, date(&key["createdDate"]), owner]
    };
    print_table(
        ["ID", "NAME", "ENABLED", "CUSTOMER", "EXPIRES", "CREATED", "OWNER"],
        keys.into_iter().map(row),
    );
}

/// Prints a key, with its value if the response has it.
pub(super) fn print_key(admin: &AdminClient, key: &Value) {
    if admin.json {
        return print_json(key);
    }
    print_keys(admin, vec![key.clone()]);
    if let Some(value) = key["value"].as_str() {
        print_table(["", ""], [["value, shown only once:".into(), value.into()]]);
    }
}

/// The plans that a key is on.
pub(super) async fn plans_of_key(
    admin: &AdminClient,
    key: &str,
) -> Result<Vec<Value>, CommandError> {
    admin.list_all(&format!("/usageplans?keyId={}", encode_path_segment(key))).await
}

/// Prints the plans that a key is on.
pub(super) async fn print_plans(admin: &AdminClient, key: &str) -> Result<(), CommandError> {
    let plans = plans_of_key(admin, key).await?;
    if admin.json {
        print_json(&plans.into());
    } else {
        print_table(
            ["PLAN", "NAME"],
            plans.iter().map(|plan| [&plan["id"], &plan["name"]].map(cell)),
        );
    }
    Ok(())
}

/// Prints a key with its plans, overrides, policies, usage, and the rest of each quota.
pub(super) async fn show_key(admin: &AdminClient, mut key: Value) -> Result<(), CommandError> {
    let id = resource_id(&key);
    let mut usage = Vec::new();
    for plan in plans_of_key(admin, &id).await? {
        for unit in units(&plan) {
            usage.push(usage_in_unit(admin, &key, &plan, unit).await?);
        }
    }
    if admin.json {
        key["usage"] = usage.into();
        print_json(&key);
        return Ok(());
    }
    print_keys(admin, vec![key.clone()]);
    if !usage.is_empty() {
        print_next_table(
            ["PLAN", "UNIT", "TODAY", "THIS MONTH", "QUOTA", "LEFT"],
            usage.iter().map(|row| {
                ["plan", "unit", "today", "month", "quota", "left"].map(|name| cell(&row[name]))
            }),
        );
    }
    let settings = settings(&key);
    if !settings.is_empty() {
        print_next_table(["SETTING", "OF", "VALUE"], settings);
    }
    Ok(())
}

/// Prints a table behind another one.
fn print_next_table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    print_table([""], []);
    print_table(head, rows);
}

/// Overrides by plan and policies by name, and those of them that are ignored.
fn settings(key: &Value) -> Vec<[String; 3]> {
    let members = [
        ("override", "overrides"),
        ("policy", "policies"),
        ("ignored override", "ignoredOverrides"),
        ("ignored policy", "ignoredPolicies"),
    ];
    let mut rows = Vec::new();
    for (setting, member) in members {
        match &key[member] {
            Value::Object(entries) => {
                let row = |(of, value)| [setting.into(), cell(&json!(of)), cell(value)];
                rows.extend(entries.iter().map(row));
            }
            Value::Array(entries) => {
                rows.extend(entries.iter().map(|why| [setting.into(), "-".into(), cell(why)]));
            }
            _ => {}
        }
    }
    rows
}

/// The units that a plan counts: requests, and those of its limits.
fn units(plan: &Value) -> BTreeSet<&str> {
    let limits = plan["limits"].as_array().into_iter().flatten();
    limits.filter_map(|limit| limit["unit"].as_str()).chain(["requests"]).collect()
}

/// A key's usage today and this month in a unit, and what is left of the plan's quota of it.
async fn usage_in_unit(
    admin: &AdminClient,
    key: &Value,
    plan: &Value,
    unit: &str,
) -> Result<Value, CommandError> {
    let (id, plan_id) = (resource_id(key), resource_id(plan));
    let [of_key, of_unit] = [&*id, unit].map(encode_path_segment);
    let of_plan = encode_path_segment(&plan_id);
    let path = format!("/usageplans/{of_plan}/usage?keyId={of_key}&unit={of_unit}");
    let usage = admin.get(&path).await?;
    let days = usage["values"][&id].as_array().map_or(&[][..], Vec::as_slice);
    let today = days.last().unwrap_or(&Value::Null);
    let month: i64 = days.iter().filter_map(|day| day[0].as_i64()).sum();
    let left = Some(&today[1]).filter(|left| **left != MAX_EXACT);
    let quota = quota_of(key, plan, unit);
    Ok(json!({
        "plan": plan_id, "unit": unit, "today": today[0], "month": month,
        "quota": quota, "left": left,
    }))
}

/// The text of the plan's quota of a unit, in the key's own size.
fn quota_of(key: &Value, plan: &Value, unit: &str) -> Option<String> {
    let own = &key["overrides"][resource_id(plan)];
    if unit == "requests" && !plan["quota"].is_null() {
        return quota_text(&plan["quota"], &own["quota"]["limit"]);
    }
    let mut limits = plan["limits"].as_array()?.iter();
    let limit = limits.find(|limit| limit["unit"] == *unit && !limit["quota"].is_null())?;
    let own = &own["limits"][limit["name"].as_str().unwrap_or_default()];
    quota_text(&limit["quota"], &own["quota"]["limit"])
}
