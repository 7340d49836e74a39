//! The changes of `tollgate keys update` as operations of a patch.

use serde_json::Value;

use super::show::plans_of_key;
use crate::commands::CommandError;
use crate::commands::admin::AdminClient;
use crate::commands::names::{find_plan_id, resource_id};
use crate::commands::plans::parse_rate;
use crate::control::{PatchOperation, escape_pointer};

/// The changes of a key. Members that are absent stay as they are.
#[derive(Clone, clap::Args)]
#[group(required = true, multiple = true)]
pub(super) struct KeyChanges {
    /// Its name, for people
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The id of the customer that it belongs to
    #[arg(long, value_name = "ID")]
    customer_id: Option<String>,
    /// The time after which it is refused, as in 2030-01-31T00:00:00Z, or `never`
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// True to enable it, false to disable it
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
    /// The plan whose limits are overridden [default: the key's only plan]
    #[arg(long, value_name = "PLAN")]
    plan: Option<String>,
    /// Its own rate on the plan, as in 10/s, 30/min or 1/h
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    rate: Option<serde_json::Number>,
    /// Its own burst on the plan, in requests
    #[arg(long, value_name = "N")]
    burst: Option<u64>,
    /// Its own quota on the plan, in requests per period of the plan's quota
    #[arg(long, value_name = "N")]
    quota: Option<u64>,
    /// Its own size of another limit of the plan; may be given several times
    #[arg(long = "limit", value_name = "NAME=JSON", value_parser = parse_limit)]
    limits: Vec<(String, Value)>,
    /// Removes its own sizes of the plan's limits, before others of this command are added
    #[arg(long)]
    no_overrides: bool,
}

impl KeyChanges {
    /// The operations that make the changes.
    pub(super) async fn to_operations(
        &self,
        admin: &AdminClient,
        key: &str,
    ) -> Result<Vec<PatchOperation>, CommandError> {
        let mut operations = Vec::new();
        for (member, value) in [("name", &self.name), ("customerId", &self.customer_id)] {
            operations.extend(value.iter().map(|it| PatchOperation::set(format!("/{member}"), it)));
        }
        operations.extend(self.expires_at.as_ref().map(|at| match &**at {
            "never" => PatchOperation::remove("/expiresAt"),
            at => PatchOperation::set("/expiresAt", &at),
        }));
        operations.extend(self.enabled.map(|on| PatchOperation::set("/enabled", &on)));
        if self.has_overrides() {
            let plan = escape_pointer(&self.overridden_plan(admin, key).await?);
            operations.extend(self.overrides(&format!("/overrides/{plan}")));
        } else if self.plan.is_some() {
            let why = "--plan selects whose limits are overridden: give --rate, --burst, --quota, --limit or --no-overrides; `tollgate keys attach` adds a key to a plan";
            return Err(CommandError::InvalidOption(why.into()));
        }
        Ok(operations)
    }

    fn has_overrides(&self) -> bool {
        let sizes = [self.rate.is_some(), self.burst.is_some(), self.quota.is_some()];
        self.no_overrides || !self.limits.is_empty() || sizes.contains(&true)
    }

    fn overrides(&self, at: &str) -> Vec<PatchOperation> {
        let mut operations = Vec::new();
        if self.no_overrides {
            operations.push(PatchOperation::remove(at));
        }
        let set = |path: &str, value: &Value| PatchOperation::set(format!("{at}/{path}"), value);
        let rate = self.rate.clone().map(Value::Number);
        operations.extend(rate.map(|rate| set("throttle/rateLimit", &rate)));
        operations.extend(self.burst.map(|burst| set("throttle/burstLimit", &burst.into())));
        operations.extend(self.quota.map(|quota| set("quota/limit", &quota.into())));
        for (name, size) in &self.limits {
            operations.push(set(&format!("limits/{}", escape_pointer(name)), size));
        }
        operations
    }

    /// The plan that is given, or the key's only one.
    async fn overridden_plan(
        &self,
        admin: &AdminClient,
        key: &str,
    ) -> Result<String, CommandError> {
        if let Some(plan) = &self.plan {
            return find_plan_id(admin, plan).await;
        }
        let plans = plans_of_key(admin, key).await?;
        if let [plan] = &plans[..] {
            return Ok(resource_id(plan));
        }
        let ids: Vec<String> = plans.iter().map(resource_id).collect();
        let why = match ids.len() {
            0 => "the key is on no plan; `tollgate keys attach KEY PLAN` adds it to one".into(),
            _ => format!("the key is on several plans; add --plan with one of {}", ids.join(", ")),
        };
        Err(CommandError::InvalidOption(why))
    }
}

/// Reads a time such as `24h` as whole seconds.
pub(super) fn parse_overlap(text: &str) -> Result<u64, String> {
    let why = "write whole seconds, minutes or hours, as in 24h, 30m or 0s";
    let span = text.trim().parse::<jiff::SignedDuration>().map_err(|_| why)?;
    let seconds = u64::try_from(span.as_secs()).ok().filter(|_| span.subsec_nanos() == 0);
    seconds.ok_or_else(|| why.into())
}

/// Reads the size of a limit, as in `tpm={"quota":{"limit":500}}`.
fn parse_limit(text: &str) -> Result<(String, Value), String> {
    let why = r#"write the limit's name and its size, as in tpm={"quota":{"limit":500}}"#;
    let (name, size) = text.split_once('=').ok_or(why)?;
    Ok((name.into(), serde_json::from_str(size).map_err(|error| format!("{why}: {error}"))?))
}
