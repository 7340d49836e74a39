//! `tollgate check` and `tollgate ready`: one request to a running service.

use std::io::Write as _;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

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
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The URL is no plain `http://host:port`.
    #[error("`{0}` is no address of a Tollgate; write http://HOST:PORT")]
    Url(String),
    /// The cost is no JSON.
    #[error("--cost `{0}` is neither a number nor JSON such as {{\"total_tokens\":350}}")]
    Cost(String),
    /// Nobody answers there.
    #[error("no answer from {0}: {1}; is it running?")]
    Silent(String, String),
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
    let (status, _, answer) = send(&question.url, request).await?;
    let mut out = std::io::stdout();
    let _nobody_reads = out.write_all(&answer).and_then(|()| out.write_all(b"\n"));
    Ok(status == StatusCode::OK)
}

/// Whether the service at `url` says that it is ready.
///
/// # Errors
/// Where it does not answer.
pub async fn ready(url: &str) -> Result<bool, NoAnswer> {
    let request =
        Request::get("/readyz").body(Body::empty()).map_err(|error| silent(url, &error))?;
    Ok(send(url, request).await?.0 == StatusCode::OK)
}

async fn send(
    url: &str,
    mut request: Request<Body>,
) -> Result<(StatusCode, HeaderMap, Bytes), NoAnswer> {
    let host = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let host = host.filter(|host| !host.contains('/')).ok_or_else(|| NoAnswer::Url(url.into()))?;
    let host_header = host.parse().map_err(|_| NoAnswer::Url(url.into()))?;
    request.headers_mut().insert(header::HOST, host_header);
    let stream = TcpStream::connect(host).await.map_err(|error| silent(url, &error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| silent(url, &error))?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| silent(url, &error))?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| silent(url, &error))?;
    Ok((head.status, head.headers, body.to_bytes()))
}

fn silent(url: &str, error: &dyn std::fmt::Display) -> NoAnswer {
    NoAnswer::Silent(url.into(), error.to_string())
}
