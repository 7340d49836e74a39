//! `tollgate check`: one check request to a running service.

use std::io::Write as _;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};

use super::CommandError;
use super::client::{TlsOptions, send, unreachable_error};

/// Arguments of `tollgate check`.
#[derive(Clone, clap::Args)]
pub struct CheckArgs {
    /// URL of the service
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
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
    /// Ask only what the response would be: nothing is charged, opened or counted
    #[arg(long)]
    dry_run: bool,
    /// Token that the service asks for (--check-token)
    #[arg(long, value_name = "TOKEN", env = "TOLLGATE_CHECK_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    tls_options: TlsOptions,
}

/// Sends a check request and prints the body of the response. Returns true if it was allowed, or if
/// a report was charged.
///
/// # Errors
/// If the request cannot be sent, or there is no response.
pub async fn check(args: &CheckArgs) -> Result<bool, CommandError> {
    let cost: serde_json::Value = serde_json::from_str(&args.cost)
        .map_err(|_| CommandError::InvalidCost(args.cost.clone()))?;
    let mut body = serde_json::Map::new();
    body.insert("cost".into(), cost);
    if let Some(usage) = &args.usage {
        let usage = serde_json::from_str(usage);
        let usage: serde_json::Value = usage.map_err(|_| CommandError::InvalidUsage)?;
        body.insert("usage".into(), usage);
    }
    if args.after_the_fact {
        body.insert("after_the_fact".into(), true.into());
    }
    if args.dry_run {
        body.insert("dry_run".into(), true.into());
    }
    let members = [
        ("api_key", &args.api_key),
        ("key_id", &args.key_id),
        ("api", &args.api),
        ("stage", &args.stage),
        ("method", &args.method),
        ("path", &args.path),
        ("policy", &args.policy),
        ("key", &args.key),
        ("model", &args.model),
    ];
    for (name, value) in members {
        if let Some(value) = value {
            body.insert(name.into(), value.as_str().into());
        }
    }
    let mut request = Request::post("/check").header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = &args.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = serde_json::Value::Object(body).to_string();
    let request =
        request.body(Body::from(body)).map_err(|error| unreachable_error(&args.url, &error))?;
    let (status, _, answer) = send(&args.url, &args.tls_options, request).await?;
    let mut out = std::io::stdout();
    let _reader_closed = out.write_all(&answer).and_then(|()| out.write_all(b"\n"));
    Ok(status == StatusCode::OK)
}
