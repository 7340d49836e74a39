//! How the admin API is asked: with a token, page by page.

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{NoAnswer, Trust, send, silent};

/// Which admin API, and how to show what it says.
#[derive(Clone, clap::Args)]
pub(super) struct Admin {
    /// The admin API to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8082", global = true)]
    url: String,
    /// Its token; one that may only read is enough to look
    #[arg(
        long,
        value_name = "TOKEN",
        env = "TOLLGATE_ADMIN_TOKEN",
        hide_env_values = true,
        global = true,
        default_value = ""
    )]
    token: String,
    #[command(flatten)]
    trust: Trust,
    /// Shows the resource as JSON, as the admin API tells it
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// The longest page there is.
const PAGE: usize = 500;

impl Admin {
    /// One call; no body is null.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, NoAnswer> {
        let bearer = HeaderValue::try_from(format!("Bearer {}", self.token));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, bearer.map_err(|_| NoAnswer::Token)?)
            .body(Body::from(body.map_or_else(String::new, |body| body.to_string())))
            .map_err(|error| silent(&self.url, &error))?;
        let (status, _, body) = send(&self.url, &self.trust, request).await?;
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() { Ok(told) } else { Err(refused(status, &told)) }
    }

    /// What is there.
    pub(super) async fn get(&self, path: &str) -> Result<Value, NoAnswer> {
        self.call(Method::GET, path, None).await
    }

    /// All entries of a list, page after page.
    pub(super) async fn all(&self, path: &str) -> Result<Vec<Value>, NoAnswer> {
        let mut entries = Vec::new();
        let mut page = self.get(&format!("{path}?limit={PAGE}")).await?;
        loop {
            if let Value::Array(items) = page["item"].take() {
                entries.extend(items);
            }
            let Some(position) = page["position"].as_str() else { return Ok(entries) };
            let position = encoded(position);
            page = self.get(&format!("{path}?limit={PAGE}&position={position}")).await?;
        }
    }
}

fn refused(status: StatusCode, told: &Value) -> NoAnswer {
    NoAnswer::Refused(status, told["message"].as_str().unwrap_or("no reason given").into())
}

/// An id as a part of a path.
pub(super) fn encoded(id: &str) -> String {
    utf8_percent_encode(id, NON_ALPHANUMERIC).to_string()
}
