//! The receiver of webhooks: signing an event and posting it.
//!
//! Signatures follow Standard Webhooks. Each call makes one attempt, on a connection of its own;
//! retries are made by `dispatcher`. Only the status of the response is read.

use std::fmt::Write as _;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::settings::{Webhook, WebhookSecrets, WebhookUrl};
use crate::tls;
use crate::transport::{ClientError, send_request};

/// The timeout of an attempt as a whole.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const PRODUCT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

/// The receiver of events.
pub(super) struct WebhookEndpoint {
    url: WebhookUrl,
    keys: Vec<hmac::Key>,
    tls: Option<tls::ClientTls>,
}

/// The reason why an attempt got no response. It does not contain the address, whose path may be a
/// secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("no response in {ATTEMPT_TIMEOUT:?}")]
    Timeout,
    #[error("the request cannot be built: {0}")]
    InvalidRequest(#[from] axum::http::Error),
}

impl WebhookEndpoint {
    /// A receiver; connects to nothing yet.
    ///
    /// # Errors
    /// If the certificate authorities for an encrypted receiver cannot be loaded.
    pub(super) fn new(settings: &Webhook) -> Result<Self, tls::TlsError> {
        let tls = || tls::ClientTls::new(settings.ca.as_deref(), None);
        let tls = settings.url.is_encrypted().then(tls).transpose()?;
        Ok(Self { url: settings.url.clone(), keys: hmac_keys(&settings.secrets), tls })
    }

    /// Posts an event once. `now` is the time in seconds since 1970, which is signed as well.
    pub(super) async fn post(
        &self,
        id: &str,
        now: u64,
        body: String,
    ) -> Result<StatusCode, AttemptError> {
        let attempt = tokio::time::timeout(ATTEMPT_TIMEOUT, self.try_post(id, now, body));
        attempt.await.unwrap_or(Err(AttemptError::Timeout))
    }

    async fn try_post(&self, id: &str, now: u64, body: String) -> Result<StatusCode, AttemptError> {
        let request = Request::post(self.url.path())
            .header(header::HOST, self.url.authority())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, body.len())
            .header(header::USER_AGENT, PRODUCT)
            .header("webhook-id", id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", signatures(&self.keys, id, now, &body))
            .body(Body::from(body))?;
        let address = (self.url.host(), self.url.port());
        let tls = self.tls.as_ref().map(|tls| (tls, self.url.host()));
        // The body of the response is not read.
        let (head, _body) = send_request(address, tls, request).await?;
        Ok(head.status)
    }
}

fn hmac_keys(secrets: &WebhookSecrets) -> Vec<hmac::Key> {
    secrets.0.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret)).collect()
}

/// A signature by each key, separated by spaces.
fn signatures(keys: &[hmac::Key], id: &str, now: u64, body: &str) -> String {
    let signed = format!("{id}.{now}.{body}");
    keys.iter().fold(String::new(), |mut signatures, key| {
        let space = if signatures.is_empty() { "" } else { " " };
        let signature = STANDARD.encode(hmac::sign(key, signed.as_bytes()));
        let _infallible = write!(signatures, "{space}v1,{signature}");
        signatures
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_standards_example() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let keys = hmac_keys(&WebhookSecrets(vec![secret, vec![7; 24]]));
        let (id, now) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330);
        let signed = signatures(&keys, id, now, r#"{"test": 2432232314}"#);
        let (first, second) = signed.split_once(' ').unwrap();
        assert_eq!(first, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(second.starts_with("v1,") && second.len() == first.len());
    }
}
