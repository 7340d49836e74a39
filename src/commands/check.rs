//! `tollgate check`: one check request to a running service.

use std::io::Write as _;
use std::process::ExitCode;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};

use super::CommandError;
use super::check_request::RequestArgs;
use super::client::{TlsOptions, send, unreachable_error};

/// Arguments of `tollgate check`.
#[derive(Clone, clap::Args)]
pub struct CheckArgs {
    /// URL of the service
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    #[command(flatten)]
    request: RequestArgs,
    /// Ask only what the response would be: nothing is charged, opened or counted
    #[arg(long)]
    dry_run: bool,
    /// Token that the service asks for (--check-token)
    #[arg(long, value_name = "TOKEN", env = "TOLLGATE_CHECK_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    tls_options: TlsOptions,
}

/// Sends a check request and prints the body of the response. Returns the exit code: 0 if it was
/// allowed or a report was charged, 1 if a limit refuses it (429, 422), 3 if its key or token is
/// refused (401, 403), 4 if the service cannot decide (503), 2 if the request is invalid.
///
/// # Errors
/// If the request cannot be sent, or there is no response.
pub async fn check(args: &CheckArgs) -> Result<ExitCode, CommandError> {
    let mut body = args.request.to_json()?;
    if args.dry_run {
        body.insert("dry_run".into(), true.into());
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
    Ok(ExitCode::from(match status {
        StatusCode::OK => 0,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::UNPROCESSABLE_ENTITY => 1,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => 3,
        StatusCode::SERVICE_UNAVAILABLE => 4,
        _ => 2,
    }))
}
