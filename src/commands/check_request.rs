//! The arguments of a check request, which are its members in JSON.

use serde_json::{Map, Value};

use super::CommandError;

/// A check request.
#[derive(Clone, clap::Args)]
pub(super) struct RequestArgs {
    /// API key of the client
    #[arg(long, value_name = "KEY", env = "TOLLGATE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Id of an API key, if the service trusts this machine (--trusted-peers)
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    /// API that is called
    #[arg(long, value_name = "ID", requires = "stage")]
    api: Option<String>,
    /// Stage of the API
    #[arg(long, value_name = "NAME", requires = "api")]
    stage: Option<String>,
    /// HTTP method of the request
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Path of the request
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Policy to check
    #[arg(long, value_name = "NAME", requires = "key")]
    policy: Option<String>,
    /// Key that the policy counts: an address, a user
    #[arg(long, value_name = "TEXT", requires = "policy")]
    key: Option<String>,
    /// Cost: a number of requests, or a JSON object with an amount per unit; 0 charges nothing
    #[arg(long, value_name = "NUMBER|JSON", default_value = "1")]
    cost: String,
    /// Model that the request is for
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Tokens: the usage object of the model's provider, as JSON
    #[arg(long, value_name = "JSON")]
    usage: Option<String>,
    /// Report a cost that has been used already: it is charged in any case
    #[arg(long)]
    after_the_fact: bool,
}

impl RequestArgs {
    /// The request's body.
    ///
    /// # Errors
    /// If the cost or the usage is not JSON.
    pub(super) fn to_json(&self) -> Result<Map<String, Value>, CommandError> {
        let cost: Value = serde_json::from_str(&self.cost)
            .map_err(|_| CommandError::InvalidCost(self.cost.clone()))?;
        let mut body = Map::new();
        body.insert("cost".into(), cost);
        if let Some(usage) = &self.usage {
            let usage = serde_json::from_str(usage);
            let usage: Value = usage.map_err(|_| CommandError::InvalidUsage)?;
            body.insert("usage".into(), usage);
        }
        if self.after_the_fact {
            body.insert("after_the_fact".into(), true.into());
        }
        let members = [
            ("api_key", &self.api_key),
            ("key_id", &self.key_id),
            ("api", &self.api),
            ("stage", &self.stage),
            ("method", &self.method),
            ("path", &self.path),
            ("policy", &self.policy),
            ("key", &self.key),
            ("model", &self.model),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                body.insert(name.into(), value.as_str().into());
            }
        }
        Ok(body)
    }
}
