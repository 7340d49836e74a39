//! `tollgate keys`: API keys of a running service, from their creation to their deletion.

mod edit;
mod import;
mod show;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::CommandError;
use super::admin::{AdminClient, encode_path_segment};
use super::names::{find_key, find_key_id, find_plan_id, resource_id};
use super::table::{cell, print_table};
use crate::control::{Patch, PatchOperation};
use edit::KeyChanges;
use import::ImportKeysArgs;

/// The arguments of `tollgate keys`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  tollgate keys create acme --plan basic
  tollgate keys show acme                              plans, usage, and the rest of each quota
  tollgate keys update acme --quota 5000               a larger quota, for this customer only
  tollgate keys rotate acme --overlap 24h              a new value; the old one lasts a day
  tollgate keys import keys.csv

A KEY or PLAN is an id, or a name that no other has.")]
pub struct KeysArgs {
    #[command(flatten)]
    admin: AdminClient,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Clone, clap::Subcommand)]
enum KeysCommand {
    /// Lists keys, without their values
    List {
        /// Only keys on this plan
        #[arg(long, value_name = "PLAN")]
        plan: Option<String>,
    },
    /// Shows one key: its plans, overrides, policies, usage, and the rest of each quota
    Show {
        /// The key
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Creates a key and shows its value, which is not shown again
    Create {
        /// The key's name, for people
        name: String,
        /// Adds the key to this plan; may be given several times
        #[arg(long = "plan", value_name = "PLAN")]
        plans: Vec<String>,
        /// The id of the customer that the key belongs to
        #[arg(long, value_name = "ID")]
        customer_id: Option<String>,
        /// The time after which the key is refused, with its zone, as in 2030-01-31T00:00:00Z
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// Creates the key disabled
        #[arg(long)]
        disabled: bool,
    },
    /// Changes a key: its name, customer, expiry, and its own sizes of its plans' limits
    #[command(after_help = "\
Examples:
  tollgate keys update acme --quota 5000               its own quota, on its only plan
  tollgate keys update acme --plan basic --rate 20 --burst 40
  tollgate keys update acme --plan basic --limit 'tpm={\"throttle\":{\"rate\":\"200000/min\"}}'
  tollgate keys update acme --plan basic --no-overrides
  tollgate keys update acme --expires-at never --customer-id c-7

Counters are kept. Members that are not named stay as they are.")]
    Update {
        /// The key
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        changes: Box<KeyChanges>,
    },
    /// Gives a key a new value and shows it, once; the old one is accepted for the overlap
    #[command(after_help = "\
Examples:
  tollgate keys rotate acme --overlap 24h
  tollgate keys rotate acme --overlap 0s               the old value leaked: refused within a second

A key has at most two values: a rotation within the overlap of another ends the oldest.")]
    Rotate {
        /// The key
        #[arg(value_name = "KEY")]
        key: String,
        /// The time for which the old value is accepted, as in 24h, 30m or 0s; a year at most
        #[arg(long, value_name = "TIME", value_parser = edit::parse_overlap)]
        overlap: u64,
    },
    /// Adds a key to a plan
    Attach {
        /// The key
        #[arg(value_name = "KEY")]
        key: String,
        /// The plan
        #[arg(value_name = "PLAN")]
        plan: String,
    },
    /// Removes a key from a plan
    Detach {
        /// The key
        #[arg(value_name = "KEY")]
        key: String,
        /// The plan
        #[arg(value_name = "PLAN")]
        plan: String,
    },
    /// Imports keys with their values from a CSV file, as AWS API Gateway does
    Import(ImportKeysArgs),
    /// Enables a key
    Enable {
        /// The key
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Disables a key: every node refuses it within a second
    Disable {
        /// The key
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Deletes a key
    Delete {
        /// The key
        #[arg(value_name = "KEY")]
        key: String,
    },
}

/// Runs the command, and prints the keys as they are then. False if an import skipped lines.
///
/// # Errors
/// If the service is unreachable or refuses a request.
pub async fn run(args: &KeysArgs) -> Result<bool, CommandError> {
    let admin = &args.admin;
    match &args.command {
        KeysCommand::List { plan: None } => {
            show::print_keys(admin, admin.list_all("/apikeys").await?);
        }
        KeysCommand::List { plan: Some(plan) } => {
            let plan = find_plan_id(admin, plan).await?;
            list_of_plan(admin, admin.list_all(&plan_keys_path(&plan)).await?);
        }
        KeysCommand::Show { key } => show::show_key(admin, find_key(admin, key).await?).await?,
        KeysCommand::Create { name, plans, customer_id, expires_at, disabled } => {
            let key = json!({
                "name": name, "enabled": !disabled, "customerId": customer_id, "expiresAt": expires_at,
            });
            show::print_key(admin, &create(admin, key, plans).await?);
        }
        KeysCommand::Update { key, changes } => {
            let key = find_key_id(admin, key).await?;
            let operations = changes.to_operations(admin, &key).await?;
            show::print_key(admin, &patch(admin, &key, operations).await?);
        }
        KeysCommand::Rotate { key, overlap } => {
            let path = format!("{}/rotate", key_path(&find_key_id(admin, key).await?));
            let body = json!({ "overlapSeconds": overlap });
            show::print_key(admin, &admin.call(Method::POST, &path, Some(body)).await?);
        }
        KeysCommand::Attach { key, plan } => {
            let (key, plan) = (find_key_id(admin, key).await?, find_plan_id(admin, plan).await?);
            attach(admin, &key, &plan).await?;
            show::print_plans(admin, &key).await?;
        }
        KeysCommand::Detach { key, plan } => {
            let (key, plan) = (find_key_id(admin, key).await?, find_plan_id(admin, plan).await?);
            let path = format!("{}/{}", plan_keys_path(&plan), encode_path_segment(&key));
            match admin.call(Method::DELETE, &path, None).await {
                Err(CommandError::Rejected(status @ StatusCode::NOT_FOUND, _)) => {
                    let why = format!("the key {key} is not on the plan {plan}");
                    return Err(CommandError::Rejected(status, why));
                }
                detached => drop(detached?),
            }
            show::print_plans(admin, &key).await?;
        }
        KeysCommand::Import(import) => return import::run(admin, import).await,
        KeysCommand::Enable { key } => show::print_key(admin, &enable(admin, key, true).await?),
        KeysCommand::Disable { key } => show::print_key(admin, &enable(admin, key, false).await?),
        KeysCommand::Delete { key } => {
            let path = key_path(&find_key_id(admin, key).await?);
            admin.call(Method::DELETE, &path, None).await?;
        }
    }
    Ok(true)
}

fn list_of_plan(admin: &AdminClient, keys: Vec<Value>) {
    if admin.json {
        return show::print_keys(admin, keys);
    }
    print_table(["ID", "NAME"], keys.iter().map(|key| [&key["id"], &key["name"]].map(cell)));
}

fn key_path(id: &str) -> String {
    format!("/apikeys/{}", encode_path_segment(id))
}

fn plan_keys_path(plan: &str) -> String {
    format!("/usageplans/{}/keys", encode_path_segment(plan))
}

/// Creates a key on all of its plans, or none: the cause of a missing plan would be hard to find.
async fn create(admin: &AdminClient, key: Value, plans: &[String]) -> Result<Value, CommandError> {
    let mut ids = Vec::with_capacity(plans.len());
    for plan in plans {
        ids.push(find_plan_id(admin, plan).await?);
    }
    let key = admin.call(Method::POST, "/apikeys", Some(key)).await?;
    let id = resource_id(&key);
    for plan in ids {
        if let Err(error) = attach(admin, &id, &plan).await {
            admin.call(Method::DELETE, &key_path(&id), None).await?;
            return Err(error);
        }
    }
    Ok(key)
}

async fn attach(admin: &AdminClient, key: &str, plan: &str) -> Result<(), CommandError> {
    let link = json!({ "keyId": key, "keyType": "API_KEY" });
    admin.call(Method::POST, &plan_keys_path(plan), Some(link)).await?;
    Ok(())
}

async fn enable(admin: &AdminClient, key: &str, on: bool) -> Result<Value, CommandError> {
    let key = find_key_id(admin, key).await?;
    patch(admin, &key, vec![PatchOperation::set("/enabled", &on)]).await
}

async fn patch(
    admin: &AdminClient,
    key: &str,
    patch_operations: Vec<PatchOperation>,
) -> Result<Value, CommandError> {
    admin.call(Method::PATCH, &key_path(key), Some(json!(Patch { patch_operations }))).await
}
