//! The client of the admin API: requests with a token, lists page by page.

use std::io::{ErrorKind, Write as _};

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::CommandError;
use super::client::{MAX_RESPONSE_BYTES, TlsOptions, send, start_request, unreachable_error};
use crate::transport::ResponseBody;

/// The options of all commands that use the admin API.
#[derive(Clone, clap::Args)]
pub(super) struct AdminClient {
    /// The URL of the admin API
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8082", global = true)]
    url: String,
    #[command(flatten)]
    access: AdminAccess,
    /// Prints the admin API's response as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// The credentials for an admin API.
#[derive(Clone, clap::Args)]
pub(super) struct AdminAccess {
    /// Its bearer token; a read-only token is enough for commands that change nothing
    #[arg(
        long,
        value_name = "TOKEN",
        env = "TOLLGATE_ADMIN_TOKEN",
        hide_env_values = true,
        global = true
    )]
    token: Option<String>,
    #[command(flatten)]
    tls_options: TlsOptions,
}

/// The most entries of a page.
const MAX_PAGE_SIZE: usize = 500;

impl AdminClient {
    /// A client of the admin API at `url`.
    pub(super) fn new(url: String, access: AdminAccess) -> Self {
        Self { url, access, json: false }
    }

    /// The URL of the admin API.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Sends one request. An empty response body is null.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, CommandError> {
        let body = body.map_or_else(String::new, |body| body.to_string());
        self.send(method, path, body).await
    }

    /// Sends a file of keys in CSV, and returns the response.
    pub(super) async fn import_keys(&self, csv: String) -> Result<Value, CommandError> {
        self.send(Method::POST, "/apikeys?mode=import&format=csv", csv).await
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Result<Value, CommandError> {
        let (status, _, body) =
            send(&self.url, &self.access.tls_options, self.build_request(method, path, body)?)
                .await?;
        let response: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() { Ok(response) } else { Err(rejection(status, &response)) }
    }

    fn build_request(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Request<Body>, CommandError> {
        let token = self
            .access
            .token
            .as_ref()
            .filter(|token| !token.is_empty())
            .ok_or(CommandError::MissingToken)?;
        let bearer = HeaderValue::try_from(format!("Bearer {token}"));
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, bearer.map_err(|_| CommandError::InvalidToken)?)
            .body(Body::from(body))
            .map_err(|error| unreachable_error(&self.url, &error))
    }

    /// Copies a response body to standard output while it arrives: it may be larger than memory.
    pub(super) async fn download(&self, path: &str) -> Result<(), CommandError> {
        let mut body = self.open(path).await?;
        let unreadable = |error| unreachable_error(&self.url, &error);
        let mut out = std::io::stdout().lock();
        while let Some(chunk) = body.next_chunk().await.map_err(unreadable)? {
            match out.write_all(&chunk) {
                // The reader of the pipe has closed it.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
        Ok(out.flush()?)
    }

    /// Gets the beginning of a response, whose body is read while it arrives.
    pub(super) async fn open(&self, path: &str) -> Result<ResponseBody, CommandError> {
        let request = self.build_request(Method::GET, path, String::new())?;
        let (head, body) = start_request(&self.url, &self.access.tls_options, request).await?;
        if head.status.is_success() {
            return Ok(body);
        }
        let response = body.read(MAX_RESPONSE_BYTES).await;
        let response = response.map_err(|error| unreachable_error(&self.url, &error))?;
        let response: Value = serde_json::from_slice(&response).unwrap_or_default();
        Err(rejection(head.status, &response))
    }

    /// Gets a resource.
    pub(super) async fn get(&self, path: &str) -> Result<Value, CommandError> {
        self.call(Method::GET, path, None).await
    }

    /// Gets all entries of a list, page by page. The path may have a query.
    pub(super) async fn list_all(&self, path: &str) -> Result<Vec<Value>, CommandError> {
        self.list_while(path, |_| true).await
    }

    /// Gets entries of a list, page by page, until `goes_on` is false for one: that one and all
    /// behind it are left out.
    pub(super) async fn list_while(
        &self,
        path: &str,
        mut goes_on: impl FnMut(&Value) -> bool,
    ) -> Result<Vec<Value>, CommandError> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}limit={MAX_PAGE_SIZE}");
        let mut entries = Vec::new();
        let mut page = self.get(&path).await?;
        loop {
            if let Value::Array(items) = page["item"].take() {
                for item in items {
                    if !goes_on(&item) {
                        return Ok(entries);
                    }
                    entries.push(item);
                }
            }
            let Some(position) = page["position"].as_str() else { return Ok(entries) };
            page = self.get(&format!("{path}&position={}", encode_path_segment(position))).await?;
        }
    }
}

fn rejection(status: StatusCode, response: &Value) -> CommandError {
    CommandError::Rejected(status, response["message"].as_str().unwrap_or("no reason given").into())
}

/// The characters of a segment that are encoded: those that RFC 3986 reserves, so that the audit log
/// shows the path of a request as people write it.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An id, percent-encoded as a segment of a path.
pub(super) fn encode_path_segment(id: &str) -> String {
    // `.` and `..` would be taken for the place of another segment.
    let is_dots = id.bytes().all(|byte| byte == b'.');
    utf8_percent_encode(id, if is_dots { NON_ALPHANUMERIC } else { RESERVED }).to_string()
}
