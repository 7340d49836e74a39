//! `tollgate export`: the resources of a service's admin API as a catalog file.
//!
//! They are read and translated by the types of the service itself, so the file means the same. It
//! contains nothing of the service's own catalog file. Keys are exported by the digests of their
//! values, never by the values.

use std::collections::HashMap;
use std::io::Write as _;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::CommandError;
use super::admin::{AdminClient, encode_path_segment};
use super::names::resource_id;
use super::table::print_json;
use crate::catalog::Catalog;
use crate::catalog::raw::RawKey;
use crate::control::translate::{document_to_catalog, key_to_catalog};
use crate::control::{Document, KeyAttributes};

/// The arguments of `tollgate export`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  tollgate export > catalog.yaml && tollgate validate catalog.yaml
  tollgate export --keys > all.yaml            also the keys, by the SHA-256 of their values
  tollgate apply all.yaml --url http://NEW:8082        moves everything to a service on another Redis

The file has the APIs with their stages, and the plans, of the admin API. Resources of the service's
own catalog file are not in it, nor are descriptions, tags, counters, and values that a rotation has
replaced. Keys with policies need those in the file: copy `policies` from the service's own.")]
pub struct ExportArgs {
    #[command(flatten)]
    admin: AdminClient,
    /// Also exports the keys, each with the SHA-256 of its value; needs the admin token
    #[arg(long)]
    keys: bool,
}

/// Prints the catalog.
///
/// # Errors
/// If the service is unreachable or refuses a request. Also, after the catalog is printed, if it is
/// invalid on its own because it refers to the service's own catalog file.
pub async fn run(args: &ExportArgs) -> Result<bool, CommandError> {
    let admin = &args.admin;
    let declared = fetch_declared(admin).await?;
    let mut catalog = document_to_catalog(&declared).map_err(unexpected_response)?;
    if args.keys {
        catalog.keys = fetch_keys(admin, declared.usage_plans.keys()).await?;
    }
    let catalog = json!(catalog);
    if admin.json {
        print_json(&catalog);
        return Ok(true);
    }
    let keys = if args.keys {
        "Each key has\n# the SHA-256 of its value. Keep this file secret if the values could be guessed.\n"
    } else {
        "Keys are left\n# out: --keys adds them.\n"
    };
    let mut text =
        format!("# The resources of the admin API, without the service's own catalog file. {keys}");
    text += &serde_saphyr::to_string(&CatalogYaml(&catalog)).map_err(unexpected_response)?;
    std::io::stdout().write_all(text.as_bytes())?;
    let whole = Catalog::parse(&text, "what the admin API declares");
    whole.map(|_| true).map_err(|invalid| CommandError::IncompleteCatalog(invalid.to_string()))
}

pub(super) fn unexpected_response(why: impl std::fmt::Display) -> CommandError {
    CommandError::UnexpectedResponse(why.to_string())
}

/// The APIs and plans of the admin API, without deployments and resources, which have no limits.
pub(super) async fn fetch_declared(admin: &AdminClient) -> Result<Document, CommandError> {
    let (mut apis, mut plans) = (Map::new(), Map::new());
    for mut api in admin.list_all("/restapis").await?.into_iter().filter(is_api_owned) {
        let id = resource_id(&api);
        let mut response =
            admin.get(&format!("/restapis/{}/stages", encode_path_segment(&id))).await?;
        let stages = response["item"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let named = |stage: Value| (stage["stageName"].as_str().unwrap_or_default().into(), stage);
        api["stages"] = Value::Object(stages.into_iter().map(named).collect());
        (api["resources"], api["deployments"]) = (json!({}), json!({}));
        apis.insert(id, api);
    }
    for plan in admin.list_all("/usageplans").await?.into_iter().filter(is_api_owned) {
        plans.insert(resource_id(&plan), plan);
    }
    serde_json::from_value(json!({ "restApis": apis, "usagePlans": plans }))
        .map_err(unexpected_response)
}

/// True if the resource does not belong to the service's own catalog file.
fn is_api_owned(resource: &Value) -> bool {
    resource["owner"].is_null()
}

/// The keys, each with the digest of its value, and with its plans among `plans`.
async fn fetch_keys(
    admin: &AdminClient,
    plans: impl Iterator<Item = &String>,
) -> Result<Vec<RawKey>, CommandError> {
    let mut plans_of: HashMap<String, Vec<String>> = HashMap::new();
    for plan in plans {
        for key in
            admin.list_all(&format!("/usageplans/{}/keys", encode_path_segment(plan))).await?
        {
            plans_of.entry(resource_id(&key)).or_default().push(plan.clone());
        }
    }
    let listed = admin.list_all("/apikeys?includeDigests=true").await?;
    let export = |key: Value| {
        let (id, digest) = (resource_id(&key), key["valueSha256"].as_str().map(str::to_owned));
        let attributes: KeyAttributes = serde_json::from_value(key).map_err(unexpected_response)?;
        let plans = plans_of.remove(&id).unwrap_or_default();
        key_to_catalog(&id, &attributes, digest, plans).map_err(unexpected_response)
    };
    listed.into_iter().filter(is_api_owned).map(export).collect()
}

/// A part of a catalog in the order in which people write it: names first, empty members left out.
struct CatalogYaml<'v>(&'v Value);

impl Serialize for CatalogYaml<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const LEADING_MEMBERS: [&str; 5] = ["version", "id", "name", "api", "stage"];
        match self.0 {
            Value::Object(members) => {
                let first = LEADING_MEMBERS.iter().filter_map(|name| members.get_key_value(*name));
                let rest = members.iter().filter(|(name, _)| !LEADING_MEMBERS.contains(&&***name));
                let members = first.chain(rest).filter(|(_, value)| !is_empty(value));
                serializer.collect_map(members.map(|(name, value)| (name, CatalogYaml(value))))
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(CatalogYaml)),
            other => other.serialize(serializer),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}
