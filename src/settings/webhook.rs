//! The receiver of webhooks and the secrets that sign them. `Debug` output shows neither secret.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::Uri;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::raw::RawSettings;
use super::{SettingsError, parse_duration};

/// A receiver of webhooks, and the thresholds that it is notified of.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The URL that events are posted to.
    pub url: WebhookUrl,
    /// The secrets, each of which signs every event.
    pub secrets: WebhookSecrets,
    /// Whole percents of a quota, 1 to 100, rising; never empty.
    pub thresholds: Vec<u8>,
    /// Backoff before the first retry; the later ones are multiples of it.
    pub retry_after: Duration,
    /// PEM file with the authorities that may have signed the receiver's certificate.
    pub ca: Option<PathBuf>,
}

/// The URL of a receiver. Its path may hold a secret, as receivers of webhooks often want it.
#[derive(Clone)]
pub struct WebhookUrl(Uri);

impl WebhookUrl {
    fn new(text: &str, allow_plaintext: bool) -> Result<Self, &'static str> {
        const HINT: &str = "is not a URL; write https://HOST/PATH";
        let uri: Uri = text.parse().map_err(|_| HINT)?;
        let url = Self(uri);
        let scheme = url.0.scheme_str();
        if !matches!(scheme, Some("http" | "https")) || url.host().is_empty() {
            return Err(HINT);
        }
        if url.authority().contains('@') {
            return Err("has a user name; the receiver knows the sender by the signature");
        }
        if !url.is_encrypted() && !url.is_loopback() && !allow_plaintext {
            return Err(
                "is not encrypted; write https://, or set webhook_allow_plaintext = true if something else encrypts the connection",
            );
        }
        Ok(url)
    }

    /// Returns true for `https://`.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// The host, and the port if it is written.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.0.authority().map_or("", |authority| authority.as_str())
    }

    /// The host, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_encrypted() { 443 } else { 80 })
    }

    /// Path and query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.path_and_query().map_or("/", |path| path.as_str())
    }

    fn is_loopback(&self) -> bool {
        let address = self.host().parse::<IpAddr>();
        address.map_or(self.host() == "localhost", |address| address.is_loopback())
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/…", self.authority())
    }
}

/// Secrets that sign webhooks. They are kept: a signature cannot be made with a digest.
#[derive(Clone)]
pub struct WebhookSecrets(pub Vec<Vec<u8>>);

impl WebhookSecrets {
    fn new(text: &str) -> Result<Self, &'static str> {
        const HINT: &str = "a secret is whsec_ and 24 to 64 bytes in base64; `echo whsec_$(openssl rand -base64 32)` makes one";
        let secrets = text.split(',').map(str::trim).filter(|secret| !secret.is_empty());
        let read = |secret: &str| {
            let bytes = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
            (24..=64).contains(&bytes.len()).then_some(bytes)
        };
        secrets.map(|secret| read(secret).ok_or(HINT)).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Debug for WebhookSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookSecrets({}, …)", self.0.len())
    }
}

/// The receiver, if there is one. The other webhook settings are validated in any case.
pub(super) fn from_raw(raw: &RawSettings) -> Result<Option<Webhook>, SettingsError> {
    let invalid = |key, why: String| SettingsError::Value { key, why };
    let secrets = WebhookSecrets::new(&raw.webhook_secret)
        .map_err(|why| invalid("webhook_secret", why.into()))?;
    let thresholds = parse_thresholds(&raw.webhook_thresholds).ok_or_else(|| {
        let why = "write whole percents from 1 to 100, rising, such as 80, 90, 100";
        invalid("webhook_thresholds", why.into())
    })?;
    let retry_after = parse_duration("webhook_retry_after", &raw.webhook_retry_after)?;
    if !(Duration::from_millis(1)..=Duration::from_mins(1)).contains(&retry_after) {
        return Err(invalid("webhook_retry_after", "must be between 1ms and 1min".into()));
    }
    if raw.webhook_url.is_empty() {
        return Ok(None);
    }
    // The error does not repeat the URL: its path may be a secret.
    let url = WebhookUrl::new(&raw.webhook_url, raw.webhook_allow_plaintext)
        .map_err(|why| invalid("webhook_url", why.into()))?;
    if secrets.0.is_empty() {
        let why = "without it the receiver cannot verify the sender; set TOLLGATE_WEBHOOK_SECRET";
        return Err(invalid("webhook_secret", why.into()));
    }
    let ca = (!raw.webhook_ca.is_empty()).then(|| raw.webhook_ca.clone().into());
    Ok(Some(Webhook { url, secrets, thresholds, retry_after, ca }))
}

fn parse_thresholds(text: &str) -> Option<Vec<u8>> {
    let percents = text.split(',').map(|percent| percent.trim().parse().ok());
    let percents: Vec<u8> = percents.collect::<Option<_>>()?;
    let within = percents.iter().all(|percent| (1..=100).contains(percent));
    (within && percents.is_sorted_by(|one, next| one < next)).then_some(percents)
}

#[cfg(test)]
mod tests {
    use crate::settings::{Settings, SettingsError, SettingsSources};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn load(vars: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let variable = |(name, value): &(&str, &str)| {
            (format!("TOLLGATE_WEBHOOK_{name}"), (*value).to_owned())
        };
        let environment = vars.iter().map(variable).collect();
        Settings::load(&SettingsSources { environment, ..SettingsSources::default() })
    }

    #[test]
    #[rustfmt::skip]
    fn an_error_names_the_setting_and_what_to_write() {
        let cases = [
            ("URL",         "receiver.example/hook",            "webhook_url",         "https://HOST"),
            ("URL",         "ftp://receiver.example",           "webhook_url",         "https://HOST"),
            ("URL",         "https://",                         "webhook_url",         "https://HOST"),
            ("URL",         "https://me:secret@receiver.example", "webhook_url",       "user"),
            ("URL",         "http://receiver.example",          "webhook_url",         "webhook_allow_plaintext"),
            ("URL",         "http://localhost.example",         "webhook_url",         "webhook_allow_plaintext"),
            ("SECRET",      "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "webhook_secret",      "openssl"),
            ("SECRET",      "whsec_c2hvcnQ=",                   "webhook_secret",      "24 to 64"),
            ("THRESHOLDS",  "",                                 "webhook_thresholds",  "80, 90, 100"),
            ("THRESHOLDS",  "0, 50",                            "webhook_thresholds",  "1 to 100"),
            ("THRESHOLDS",  "101",                              "webhook_thresholds",  "1 to 100"),
            ("THRESHOLDS",  "90, 80",                           "webhook_thresholds",  "rising"),
            ("THRESHOLDS",  "80, 80",                           "webhook_thresholds",  "rising"),
            ("THRESHOLDS",  "80.5",                             "webhook_thresholds",  "whole"),
            ("RETRY_AFTER", "soon",                             "webhook_retry_after", "50ms"),
            ("RETRY_AFTER", "0s",                               "webhook_retry_after", "between"),
        ];
        for (name, value, named, hint) in cases {
            let error = load(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains(hint), "{name}={value}: {error}");
            assert!(!error.contains("secret@"), "{error}");
        }
        let unsigned = load(&[("URL", "https://receiver.example")]).unwrap_err().to_string();
        assert!(unsigned.contains("webhook_secret"), "{unsigned}");
    }

    #[test]
    fn a_url_beyond_loopback_needs_https_or_webhook_allow_plaintext() {
        for url in
            ["https://a.example/x", "http://127.0.0.1:9/", "http://[::1]/", "http://localhost"]
        {
            assert!(load(&[("URL", url), ("SECRET", SECRET)]).is_ok(), "{url}");
        }
        let open = [("URL", "http://a.example"), ("SECRET", SECRET), ("ALLOW_PLAINTEXT", "true")];
        assert!(load(&open).is_ok());
        assert!(load(&[]).unwrap().webhook.is_none(), "there are no webhooks without a URL");
    }

    #[test]
    fn a_url_has_a_host_a_port_and_a_path() {
        let settings = load(&[("URL", "https://[::1]:8443/a?b=c"), ("SECRET", SECRET)]).unwrap();
        let url = settings.webhook.unwrap().url;
        assert_eq!((url.host(), url.port(), url.path()), ("::1", 8443, "/a?b=c"));
        let settings = load(&[("URL", "https://a.example"), ("SECRET", SECRET)]).unwrap();
        let url = settings.webhook.unwrap().url;
        assert_eq!((url.host(), url.port(), url.path()), ("a.example", 443, "/"));
    }

    #[test]
    fn debug_output_has_neither_secrets_nor_the_path() {
        let two = format!("{SECRET}, whsec_{}", "A".repeat(32));
        let settings = load(&[("URL", "https://a.example/T0KEN"), ("SECRET", &two)]).unwrap();
        assert_eq!(settings.webhook.as_ref().unwrap().secrets.0.len(), 2);
        let shown = format!("{settings:?}");
        for secret in ["MfKQ", "T0KEN", "49, 242"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
