//! `tollgate policies`: the policies of a running service, and the counters of one of their keys.

use axum::http::Method;
use serde_json::{Value, json};

use super::CommandError;
use super::admin::{AdminClient, encode_path_segment};
use super::table::{cell, print_json, print_table};

/// The arguments of `tollgate policies`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  tollgate policies list
  tollgate policies usage login ip:203.0.113.7         how much is left, and the wait if it is refused
  tollgate policies reset login ip:203.0.113.7         unblocks the address

A KEY is written as checks write it. A policy with `key_type: ip` counts an address in any spelling, and
IPv6 addresses by their network.")]
pub struct PoliciesArgs {
    #[command(flatten)]
    admin: AdminClient,
    #[command(subcommand)]
    command: PoliciesCommand,
}

#[derive(Clone, clap::Subcommand)]
enum PoliciesCommand {
    /// Lists the policies of the catalog file
    List,
    /// Shows what is left to one key of a policy
    Usage(PolicyKey),
    /// Empties the counters of one key of a policy; it is recorded in the audit log
    #[command(after_help = "\
Nodes repeat a refusal from memory for up to 10 seconds, never longer than its Retry-After: after that the
key is admitted everywhere.")]
    Reset(PolicyKey),
}

#[derive(Clone, clap::Args)]
struct PolicyKey {
    /// The policy's name
    #[arg(value_name = "POLICY")]
    policy: String,
    /// The key that it counts, such as an address
    #[arg(value_name = "KEY")]
    key: String,
}

/// Runs the command, and prints what is left then.
///
/// # Errors
/// If the service is unreachable or refuses a request.
pub async fn run(args: &PoliciesArgs) -> Result<bool, CommandError> {
    let admin = &args.admin;
    match &args.command {
        PoliciesCommand::List => list(admin, admin.list_all("/policies").await?),
        PoliciesCommand::Usage(PolicyKey { policy, key }) => {
            let [policy, key] = [policy, key].map(|text| encode_path_segment(text));
            show(admin, &admin.get(&format!("/policies/{policy}/usage?key={key}")).await?);
        }
        PoliciesCommand::Reset(PolicyKey { policy, key }) => {
            let path = format!("/policies/{}/reset", encode_path_segment(policy));
            show(admin, &admin.call(Method::POST, &path, Some(json!({ "key": key }))).await?);
        }
    }
    Ok(true)
}

fn list(admin: &AdminClient, policies: Vec<Value>) {
    if admin.json {
        return print_json(&policies.into());
    }
    let row = |policy: &Value| {
        let limits = policy["limits"].as_array().into_iter().flatten();
        let limits = limits.map(|limit| {
            format!("{} {} of {}", cell(&limit["name"]), limit["limit"], cell(&limit["unit"]))
        });
        let limits = limits.collect::<Vec<_>>().join(", ");
        [cell(&policy["name"]), cell(&policy["keyType"]), limits]
    };
    print_table(["NAME", "KEYS", "LIMITS"], policies.iter().map(row));
}

fn show(admin: &AdminClient, usage: &Value) {
    if admin.json {
        return print_json(usage);
    }
    let key = cell(&usage["key"]);
    let limits = usage["limits"].as_array().into_iter().flatten();
    let row = |limit: &Value| {
        let [name, unit, size, left] =
            ["name", "unit", "limit", "remaining"].map(|member| cell(&limit[member]));
        let wait = match limit["retryAfterMs"].as_u64() {
            Some(0) => "-".into(),
            Some(wait) => format!("{} s", wait.div_ceil(1_000)),
            None => "always".into(),
        };
        [key.clone(), name, unit, size, left, wait]
    };
    print_table(["KEY", "LIMIT", "UNIT", "SIZE", "LEFT", "REFUSED FOR"], limits.map(row));
}
