//! `tollgate check` and `tollgate ready`: one request to a running service.

use std::io::Write as _;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};

use super::{NoAnswer, Trust, send, silent};

/// What `tollgate check` asks.
#[derive(Clone, clap::Args)]
pub struct Question {
    /// The service to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// API key of the client
    #[arg(long, value_name = "KEY", env = "TOLLGATE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Id of an API key, where this caller may speak for it
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    /// API and stage that are called
    #[arg(long, value_name = "ID", requires = "stage")]
    api: Option<String>,
    /// Stage of the API
    #[arg(long, value_name = "NAME", requires = "api")]
    stage: Option<String>,
    /// HTTP method of the call
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Path of the call
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Policy to judge by
    #[arg(long, value_name = "NAME", requires = "key")]
    policy: Option<String>,
    /// Whom the policy counts: an address, a user
    #[arg(long, value_name = "TEXT", requires = "policy")]
    key: Option<String>,
    /// What it costs: a number of requests, or a JSON object of units; 0 only looks
    #[arg(long, value_name = "NUMBER|JSON", default_value = "1")]
    cost: String,
    /// The service's --check-token
    #[arg(long, value_name = "TOKEN", env = "TOLLGATE_CHECK_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    trust: Trust,
}

/// Asks, prints the answer's body, and says whether the check was allowed.
///
/// # Errors
/// Where the question cannot be asked or is not answered.
pub async fn check(question: &Question) -> Result<bool, NoAnswer> {
    let cost: serde_json::Value =
        serde_json::from_str(&question.cost).map_err(|_| NoAnswer::Cost(question.cost.clone()))?;
    let mut body = serde_json::Map::new();
    body.insert("cost".into(), cost);
    let members = [
        ("api_key", &question.api_key),
        ("key_id", &question.key_id),
        ("api", &question.api),
        ("stage", &question.stage),
        ("method", &question.method),
        ("path", &question.path),
        ("policy", &question.policy),
        ("key", &question.key),
    ];
    for (name, value) in members {
        if let Some(value) = value {
            body.insert(name.into(), value.as_str().into());
        }
    }
    let mut request = Request::post("/check").header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = &question.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = serde_json::Value::Object(body).to_string();
    let request = request.body(Body::from(body)).map_err(|error| silent(&question.url, &error))?;
    let (status, _, answer) = send(&question.url, &question.trust, request).await?;
    let mut out = std::io::stdout();
    let _nobody_reads = out.write_all(&answer).and_then(|()| out.write_all(b"\n"));
    Ok(status == StatusCode::OK)
}

/// Whether the service at `url` says that it is ready.
///
/// # Errors
/// Where it does not answer.
pub async fn ready(url: &str, trust: &Trust) -> Result<bool, NoAnswer> {
    let request =
        Request::get("/readyz").body(Body::empty()).map_err(|error| silent(url, &error))?;
    Ok(send(url, trust, request).await?.0 == StatusCode::OK)
}
