//! `tollgate keys`: API keys of a running service.

use axum::http::Method;
use serde_json::{Value, json};

use super::CommandError;
use super::admin::{AdminClient, encode_path_segment};
use super::table::{cell, date, print_json, print_table};
use crate::control::{Patch, PatchOperation};

/// The arguments of `tollgate keys`.
#[derive(Clone, clap::Args)]
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
        #[arg(long, value_name = "ID")]
        plan: Option<String>,
    },
    /// Shows one key
    Show {
        /// The key's id
        id: String,
    },
    /// Creates a key and shows its value, which is not shown again
    Create {
        /// The key's name, for people
        name: String,
        /// Adds the key to this plan; may be given several times
        #[arg(long = "plan", value_name = "ID")]
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
    /// Enables a key
    Enable {
        /// The key's id
        id: String,
    },
    /// Disables a key: every node refuses it within a second
    Disable {
        /// The key's id
        id: String,
    },
    /// Deletes a key
    Delete {
        /// The key's id
        id: String,
    },
}

/// Runs the command, and prints the keys as they are then.
///
/// # Errors
/// If the service is unreachable or refuses a request.
pub async fn run(args: &KeysArgs) -> Result<bool, CommandError> {
    let admin = &args.admin;
    match &args.command {
        KeysCommand::List { plan } => {
            let path =
                plan.as_ref().map(|plan| format!("/usageplans/{}/keys", encode_path_segment(plan)));
            let listed = admin.list_all(path.as_deref().unwrap_or("/apikeys")).await?;
            if plan.is_none() || admin.json {
                show_all(admin, listed);
            } else {
                print_table(
                    ["ID", "NAME"],
                    listed.iter().map(|key| [&key["id"], &key["name"]].map(cell)),
                );
            }
        }
        KeysCommand::Show { id } => show(admin, &admin.get(&key_path(id)).await?),
        KeysCommand::Create { name, plans, customer_id, expires_at, disabled } => {
            let key = json!({
                "name": name, "enabled": !disabled, "customerId": customer_id, "expiresAt": expires_at,
            });
            show(admin, &create(admin, key, plans).await?);
        }
        KeysCommand::Enable { id } => show(admin, &set_enabled(admin, id, true).await?),
        KeysCommand::Disable { id } => show(admin, &set_enabled(admin, id, false).await?),
        KeysCommand::Delete { id } => drop(admin.call(Method::DELETE, &key_path(id), None).await?),
    }
    Ok(true)
}

fn key_path(id: &str) -> String {
    format!("/apikeys/{}", encode_path_segment(id))
}

/// Creates a key on all of its plans, or none: the cause of a missing plan would be hard to find.
async fn create(admin: &AdminClient, key: Value, plans: &[String]) -> Result<Value, CommandError> {
    let key = admin.call(Method::POST, "/apikeys", Some(key)).await?;
    let id = key["id"].as_str().unwrap_or_default();
    for plan in plans {
        let link = json!({ "keyId": id, "keyType": "API_KEY" });
        let path = format!("/usageplans/{}/keys", encode_path_segment(plan));
        if let Err(error) = admin.call(Method::POST, &path, Some(link)).await {
            admin.call(Method::DELETE, &key_path(id), None).await?;
            return Err(error);
        }
    }
    Ok(key)
}

async fn set_enabled(admin: &AdminClient, id: &str, on: bool) -> Result<Value, CommandError> {
    let operation = PatchOperation::set("/enabled", &on);
    let patch = json!(Patch { patch_operations: vec![operation] });
    admin.call(Method::PATCH, &key_path(id), Some(patch)).await
}

fn show_all(admin: &AdminClient, keys: Vec<Value>) {
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

fn show(admin: &AdminClient, key: &Value) {
    if admin.json {
        return print_json(key);
    }
    show_all(admin, vec![key.clone()]);
    if let Some(value) = key["value"].as_str() {
        print_table(["", ""], [["value, shown only once:".into(), value.into()]]);
    }
}
