//! `tollgate keys`: API keys of a running service.

use axum::http::Method;
use serde_json::{Value, json};

use super::NoAnswer;
use super::admin::{Admin, encoded};
use super::table::{cell, date, print, print_json};

/// What `tollgate keys` is asked for.
#[derive(Clone, clap::Args)]
pub struct Keys {
    #[command(flatten)]
    admin: Admin,
    #[command(subcommand)]
    wanted: Wanted,
}

#[derive(Clone, clap::Subcommand)]
enum Wanted {
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
pub async fn run(keys: &Keys) -> Result<bool, NoAnswer> {
    let admin = &keys.admin;
    match &keys.wanted {
        Wanted::List { plan } => {
            let path = plan.as_ref().map(|plan| format!("/usageplans/{}/keys", encoded(plan)));
            let listed = admin.all(path.as_deref().unwrap_or("/apikeys")).await?;
            if plan.is_none() || admin.json {
                show_all(admin, listed);
            } else {
                print(
                    ["ID", "NAME"],
                    listed.iter().map(|key| [&key["id"], &key["name"]].map(cell)),
                );
            }
        }
        Wanted::Show { id } => show(admin, &admin.get(&path_of(id)).await?),
        Wanted::Create { name, plans, customer_id, expires_at, disabled } => {
            let wanted = json!({
                "name": name, "enabled": !disabled, "customerId": customer_id, "expiresAt": expires_at,
            });
            show(admin, &create(admin, wanted, plans).await?);
        }
        Wanted::Enable { id } => show(admin, &switch(admin, id, true).await?),
        Wanted::Disable { id } => show(admin, &switch(admin, id, false).await?),
        Wanted::Delete { id } => drop(admin.call(Method::DELETE, &path_of(id), None).await?),
    }
    Ok(true)
}

fn path_of(id: &str) -> String {
    format!("/apikeys/{}", encoded(id))
}

/// A key on all of its plans, or none: one that lacks a plan would be refused for no visible reason.
async fn create(admin: &Admin, wanted: Value, plans: &[String]) -> Result<Value, NoAnswer> {
    let key = admin.call(Method::POST, "/apikeys", Some(wanted)).await?;
    let id = key["id"].as_str().unwrap_or_default();
    for plan in plans {
        let link = json!({ "keyId": id, "keyType": "API_KEY" });
        let path = format!("/usageplans/{}/keys", encoded(plan));
        if let Err(error) = admin.call(Method::POST, &path, Some(link)).await {
            admin.call(Method::DELETE, &path_of(id), None).await?;
            return Err(error);
        }
    }
    Ok(key)
}

async fn switch(admin: &Admin, id: &str, on: bool) -> Result<Value, NoAnswer> {
    let operation = json!({ "op": "replace", "path": "/enabled", "value": on.to_string() });
    let patch = json!({ "patchOperations": [operation] });
    admin.call(Method::PATCH, &path_of(id), Some(patch)).await
}

fn show_all(admin: &Admin, keys: Vec<Value>) {
    if admin.json {
        return print_json(&keys.into());
    }
    let row = |key: Value| {
        let [id, name, enabled, customer, expires, owner] =
            ["id", "name", "enabled", "customerId", "expiresAt", "owner"]
                .map(|member| cell(&key[member]));
        [id, name, enabled, customer, expires, date(&key["createdDate"]), owner]
    };
    print(
        ["ID", "NAME", "ENABLED", "CUSTOMER", "EXPIRES", "CREATED", "OWNER"],
        keys.into_iter().map(row),
    );
}

fn show(admin: &Admin, key: &Value) {
    if admin.json {
        return print_json(key);
    }
    show_all(admin, vec![key.clone()]);
    if let Some(value) = key["value"].as_str() {
        print(["", ""], [["value, told this once:".into(), value.into()]]);
    }
}
