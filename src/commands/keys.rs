//! `tollgate keys`: API keys of a running service.

use axum::http::Method;
use serde_json::{Value, json};

use super::CommandError;
use super::admin::{AdminClient, encode_path_segment};
use super::table::{cell, date, print_json, print_table};
use crate::control::{Patch, PatchOperation};

/// What `tollgate keys` is asked for.
#[derive(Clone, clap::Args)]
pub struct KeysArgs {
    #[command(flatten)]
    admin: AdminClient,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Clone, clap::Subcommand)]
enum KeysCommand {
    /// Lists keys; never their values, which nobody knows any more
    List {
        /// Only those on this plan
        #[arg(long, value_name = "ID")]
        plan: Option<String>,
    },
    /// Shows one key
    Show {
        /// The key's id
        id: String,
    },
    /// Makes a key and shows its value, this once
    Create {
        /// What people call it
        name: String,
        /// Puts it on this plan; may be given several times
        #[arg(long = "plan", value_name = "ID")]
        plans: Vec<String>,
        /// The customer that it belongs to
        #[arg(long, value_name = "ID")]
        customer_id: Option<String>,
        /// From when on it is refused: a time with its zone, as 2030-01-31T00:00:00Z
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// Makes it, but does not switch it on yet
        #[arg(long)]
        disabled: bool,
    },
    /// Switches a key on
    Enable {
        /// The key's id
        id: String,
    },
    /// Switches a key off: within a second every node refuses it
    Disable {
        /// The key's id
        id: String,
    },
    /// Removes a key for good
    Delete {
        /// The key's id
        id: String,
    },
}

/// Does what is asked for, and prints what is then there.
///
/// # Errors
/// Where the service does not answer, or says no.
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

/// A key on all of its plans, or none: one that lacks a plan would be refused for no visible reason.
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
        print_table(["", ""], [["value, told this once:".into(), value.into()]]);
    }
}
