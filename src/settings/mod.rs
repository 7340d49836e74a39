//! Settings: the configuration of a node, read from all sources and validated.
//!
//! The sources are the built-in defaults, a TOML file, the environment and the flags; the last one
//! that names a setting wins. Raw settings are validated once, here. No file or socket is opened,
//! and the store's address is parsed by the store.

mod access;
mod peers;
mod duration;
mod numbers;
mod raw;
mod record;
mod secret;
mod tls;
mod webhook;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use config::ConfigError;
pub use peers::{ForwardedHeaders, TrustedPeers};
use raw::RawSettings;
pub use raw::{Flags, SettingsSources};
pub use record::RecordSettings;
pub use secret::{AccessKey, AdminCredentials, BearerTokens, EncryptionKeys, StoreAddress};
use serde::de::{DeserializeOwned, IntoDeserializer as _};
pub use tls::TlsFiles;
pub use webhook::{Webhook, WebhookSecrets, WebhookUrl};

use crate::failure_policy::FailurePolicy;
use crate::syntax::{Expected, plain_message};

/// The validated configuration of a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address of the HTTP listener.
    pub listen: SocketAddr,
    /// Address of the admin API.
    pub listen_admin: SocketAddr,
    /// Address of Envoy's rate limit service (gRPC).
    pub listen_grpc: SocketAddr,
    /// Address of a further listener for `/healthz`, `/readyz` and `/metrics` only.
    pub listen_ops: Option<SocketAddr>,
    /// Rate limits of Envoy's service: a file or a folder of envoyproxy/ratelimit's YAML. Without
    /// it the service is not offered.
    pub envoy_config: Option<PathBuf>,
    /// Failure policy of Envoy's rate limits.
    pub envoy_on_store_failure: FailurePolicy,
    /// Credentials of the admin API.
    pub admin: AdminCredentials,
    /// Keys that encrypt the stored values of API keys.
    pub key_encryption_keys: EncryptionKeys,
    /// TLS of the HTTP listener; without it connections are plain.
    pub tls: Option<TlsFiles>,
    /// TLS of the admin API.
    pub admin_tls: Option<TlsFiles>,
    /// Address of the store that keeps the counters.
    pub store: StoreAddress,
    /// PEM file with the authorities to trust for `rediss://`; without it, the public ones.
    pub redis_ca: Option<PathBuf>,
    /// True if the node is ready before Redis could be used for the first time.
    pub start_without_store: bool,
    /// Folder that persists counters and the admin API's resources of the memory store.
    pub data_dir: Option<PathBuf>,
    /// Catalog file. Without it the catalog is what the API declares, or the built-in example.
    pub catalog: Option<PathBuf>,
    /// Deadline of a check, from the whole request being read to the response.
    pub check_deadline: Duration,
    /// Bearer tokens of which a check request must send one.
    pub check_token: Option<BearerTokens>,
    /// Networks whose key ids and forwarded headers are trusted.
    pub trusted_peers: TrustedPeers,
    /// Headers that carry the original request on `/authz`.
    pub forwarded_headers: ForwardedHeaders,
    /// Least number of nodes among which limits are divided when the store is unreachable.
    pub min_nodes: u64,
    /// Time from SIGTERM to closing the listeners.
    pub drain_delay: Duration,
    /// True if refusals of Redis are cached until their `Retry-After`.
    pub denial_memo: bool,
    /// Format of log lines.
    pub log_format: LogFormat,
    /// Record of every decision.
    pub record: Option<RecordSettings>,
    /// Number of worker threads.
    pub workers: usize,
    /// Most connections that a listener has open. A further one closes the idlest.
    pub max_connections: usize,
    /// Counters in this node's memory from which on it counts no new keys that callers make up.
    pub max_memory_rows: usize,
    /// Keys of each limit whose refusals and use the node counts; 0 counts none.
    pub top_keys: usize,
    /// Refusals that the node logs in a second, at most; 0 logs none.
    pub log_refusals: u32,
    /// Receiver of webhooks.
    pub webhook: Option<Webhook>,
}

/// An error in the settings, with what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value is not valid.
    #[error("setting `{key}`: {why}")]
    Value {
        /// Name of the setting.
        key: &'static str,
        /// The fault, and what to write instead.
        why: String,
    },
    /// The file cannot be read, or a source holds a value of another type.
    #[error("{message}", message = plain_config_error(.0))]
    Sources(#[from] config::ConfigError),
    /// An environment variable names no setting.
    #[error(
        "the environment variable {0} is not a setting of Tollgate; see `tollgate serve --help`"
    )]
    UnknownVariable(String),
}

/// The message of an error of the sources, without the names of Rust types and without the value.
fn plain_config_error(error: &ConfigError) -> String {
    match error {
        ConfigError::Type { origin, expected, key, .. } => {
            // Every number among the settings is unsigned.
            let expected = if *expected == "an integer" { "u64" } else { expected };
            let key = key.as_deref().unwrap_or_default();
            let origin = origin.as_deref().map_or_else(String::new, |it| format!(" in {it}"));
            format!("setting `{key}`{origin}: expected {}", Expected(expected))
        }
        ConfigError::At { error, key: Some(key), .. } => {
            format!("setting `{key}`: {}", plain_config_error(error))
        }
        ConfigError::Message(message) => plain_message(message),
        other => other.to_string(),
    }
}

impl Settings {
    /// Reads all sources and validates the result.
    ///
    /// # Errors
    /// If a source cannot be read, names an unknown setting, or has a value that is not valid.
    pub fn load(sources: &SettingsSources) -> Result<Self, SettingsError> {
        Self::try_from(sources.merge()?)
    }
}

impl TryFrom<RawSettings> for Settings {
    type Error = SettingsError;

    fn try_from(raw: RawSettings) -> Result<Self, SettingsError> {
        let invalid = |key, why: String| SettingsError::Value { key, why };
        let address = |key, text: &str| {
            let why = format!("`{text}` is not ADDRESS:PORT, such as 127.0.0.1:8080");
            text.parse().map_err(|_| invalid(key, why))
        };
        let check_deadline = parse_duration("check_deadline", &raw.check_deadline)?;
        if !(Duration::from_millis(1)..=Duration::from_secs(10)).contains(&check_deadline) {
            return Err(invalid("check_deadline", "must be between 1ms and 10s".into()));
        }
        numbers::check(&raw)?;
        check_data_dir(&raw)?;
        let workers = match raw.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            some => some,
        };
        let (tls, admin_tls) = tls::listener_files(&raw)?;
        let listen = address("listen", &raw.listen)?;
        let listen_grpc = address("listen_grpc", &raw.listen_grpc)?;
        let settings = Self {
            webhook: webhook::from_raw(&raw)?,
            record: record::from_raw(&raw)?,
            tls,
            admin_tls,
            key_encryption_keys: EncryptionKeys::new(&raw.key_encryption_key)
                .map_err(|why| invalid("key_encryption_key", why.into()))?,
            listen,
            listen_admin: address("listen_admin", &raw.listen_admin)?,
            listen_grpc,
            listen_ops: match &*raw.listen_ops {
                "" => None,
                given => Some(address("listen_ops", given)?),
            },
            envoy_on_store_failure: parse_choice(
                "envoy_on_store_failure",
                &raw.envoy_on_store_failure,
            )?,
            admin: access::admin_credentials(&raw)?,
            envoy_config: optional_path(raw.envoy_config),
            store: StoreAddress::new(raw.store),
            redis_ca: optional_path(raw.redis_ca),
            start_without_store: raw.start_without_store,
            data_dir: optional_path(raw.data_dir),
            catalog: optional_path(raw.catalog),
            check_deadline,
            check_token: access::check_tokens(&raw.check_token, &[listen, listen_grpc])?,
            trusted_peers: TrustedPeers::parse(&raw.trusted_peers)
                .map_err(|why| invalid("trusted_peers", why))?,
            forwarded_headers: parse_choice("forwarded_headers", &raw.forwarded_headers)?,
            min_nodes: raw.min_nodes,
            drain_delay: parse_duration("drain_delay", &raw.drain_delay)?,
            denial_memo: raw.denial_memo,
            log_format: parse_choice("log_format", &raw.log_format)?,
            workers,
            max_connections: raw.max_connections,
            max_memory_rows: raw.max_memory_rows,
            top_keys: raw.top_keys,
            log_refusals: raw.log_refusals,
        };
        access::check_admin_exposure(&settings, raw.admin_allow_plaintext)?;
        Ok(settings)
    }
}

fn check_data_dir(raw: &RawSettings) -> Result<(), SettingsError> {
    if raw.data_dir.is_empty() || raw.store == "memory" {
        return Ok(());
    }
    let why = "it is for `store = memory`; with Redis, Redis keeps the admin API's resources";
    Err(SettingsError::Value { key: "data_dir", why: why.into() })
}

fn parse_duration(key: &'static str, text: &str) -> Result<Duration, SettingsError> {
    duration::parse(text)
        .map_err(|why| SettingsError::Value { key, why: format!("`{text}` {why}") })
}

/// Reads a setting that is one of a few words; the error lists them.
fn parse_choice<T: DeserializeOwned>(key: &'static str, text: &str) -> Result<T, SettingsError> {
    T::deserialize(text.into_deserializer()).map_err(|error: serde::de::value::Error| {
        SettingsError::Value { key, why: plain_message(error) }
    })
}

fn optional_path(text: String) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text per event.
    #[default]
    Text,
    /// A JSON object per event.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(vars: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let environment = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::load(&SettingsSources { environment, ..SettingsSources::default() })
    }

    #[test]
    fn the_embedded_defaults_are_valid() {
        let settings = load(&[]).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
        assert!(settings.store.is_memory() && settings.check_token.is_none());
        assert_eq!(settings.check_deadline, Duration::from_millis(50));
        assert!(settings.trusted_peers.contains("::ffff:127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_flag_overrides_the_environment_which_overrides_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tollgate.toml");
        std::fs::write(&file, "min_nodes = 3\ncheck_deadline = '20ms'\nlisten = '127.0.0.1:1'\n")
            .unwrap();
        let settings = Settings::load(&SettingsSources {
            file: Some(file),
            environment: vec![
                ("TOLLGATE_MIN_NODES".into(), "4".into()),
                ("TOLLGATE_LISTEN".into(), "127.0.0.1:2".into()),
            ],
            flags: Flags { listen: Some("127.0.0.1:3".into()), ..Flags::default() },
        })
        .unwrap();
        assert_eq!(settings.listen.port(), 3);
        assert_eq!(settings.min_nodes, 4);
        assert_eq!(settings.check_deadline, Duration::from_millis(20));
    }

    #[test]
    #[rustfmt::skip]
    fn an_error_names_the_setting_and_what_to_write() {
        let signed = format!("sha256:{}", "+f".repeat(32));
        let cases = [
            (("TOLLGATE_LISTEN", "8080"),             "listen",         "127.0.0.1:8080"),
            (("TOLLGATE_CHECK_DEADLINE", "fast"),     "check_deadline", "50ms"),
            (("TOLLGATE_CHECK_DEADLINE", "0ms"),      "check_deadline", "between"),
            (("TOLLGATE_TRUSTED_PEERS", "10.0.0/8"),  "trusted_peers",  "10.0.0.0/8"),
            (("TOLLGATE_MIN_NODES", "-1"),            "min_nodes",      "expected a whole number, 0 or more"),
            (("TOLLGATE_DENIAL_MEMO", "perhaps"),     "denial_memo",    "expected true or false"),
            (("TOLLGATE_LOG_FORMAT", "xml"),          "log_format",     "expected one of text, json"),
            (("TOLLGATE_FORWARDED_HEADERS", "x"),     "forwarded_headers", "expected one of x-forwarded, x-original"),
            (("TOLLGATE_ENVOY_ON_STORE_FAILURE", ""), "envoy_on_store_failure", "expected one of open, local, closed"),
            (("TOLLGATE_KEY_ENCRYPTION_KEY", "c2hvcnQ="), "key_encryption_key", "tollgate keygen"),
            (("TOLLGATE_CHECK_TOKEN", "one,sha256:12"), "check_token", "sha256sum"),
            (("TOLLGATE_CHECK_TOKEN", ","),           "check_token",    "has no secret in it"),
            (("TOLLGATE_CHECK_TOKEN", " "),           "check_token",    "has no secret in it"),
            (("TOLLGATE_ADMIN_READ_TOKEN", "short"),  "admin_read_token", "openssl rand"),
            (("TOLLGATE_ADMIN_TOKEN", " , "),         "admin_token",    "has no secret in it"),
            (("TOLLGATE_ADMIN_READ_TOKEN", ","),      "admin_read_token", "has no secret in it"),
            (("TOLLGATE_KEY_ENCRYPTION_KEY", ","),    "key_encryption_key", "has no secret in it"),
            (("TOLLGATE_ADMIN_TOKEN", &*signed),      "admin_token",    "sha256sum"),
            (("TOLLGATE_LISTN", "127.0.0.1:1"),       "TOLLGATE_LISTN", "not a setting"),
        ];
        for (var, named, hint) in cases {
            let error = load(&[var]).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains(hint), "{var:?}: {error}");
        }
    }

    #[test]
    fn a_short_check_token_is_for_callers_on_this_machine_only() {
        let token = ("TOLLGATE_CHECK_TOKEN", "sesame");
        assert!(load(&[token]).is_ok());
        for listener in ["TOLLGATE_LISTEN", "TOLLGATE_LISTEN_GRPC"] {
            let open = (listener, "0.0.0.0:8080");
            let error = load(&[open, token]).unwrap_err().to_string();
            assert!(error.contains("check_token") && error.contains("openssl rand"), "{error}");
            assert!(load(&[open, ("TOLLGATE_CHECK_TOKEN", "a-token-for-tests")]).is_ok());
        }
    }

    #[test]
    fn service_variables_of_kubernetes_are_ignored() {
        let vars = [
            ("TOLLGATE_SERVICE_HOST", "10.0.0.1"),
            ("TOLLGATE_SERVICE_PORT_HTTP", "8080"),
            ("TOLLGATE_PORT", "tcp://10.0.0.1:8080"),
            ("TOLLGATE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ];
        assert!(load(&vars).is_ok());
    }

    #[test]
    fn an_admin_api_beyond_loopback_needs_tls_or_admin_allow_plaintext() {
        let open = ("TOLLGATE_LISTEN_ADMIN", "0.0.0.0:8082");
        let token = ("TOLLGATE_ADMIN_TOKEN", "a-token-for-tests");
        let error = load(&[open, token]).unwrap_err().to_string();
        assert!(
            error.contains("listen_admin") && error.contains("admin_allow_plaintext"),
            "{error}"
        );
        assert!(load(&[open]).is_ok(), "nothing listens without a credential");
        assert!(load(&[open, token, ("TOLLGATE_ADMIN_ALLOW_PLAINTEXT", "true")]).is_ok());
        let tls = [("TOLLGATE_TLS_CERT", "c.pem"), ("TOLLGATE_TLS_KEY", "k.pem")];
        assert!(load(&[open, token, tls[0], tls[1]]).is_ok());
        assert!(load(&[("TOLLGATE_LISTEN_ADMIN", "[::1]:8082"), token]).is_ok());
    }

    #[test]
    fn a_setting_takes_several_tokens_in_the_clear_or_as_digests() {
        let digest = crate::digest::encode_hex(&crate::digest::digest_secret("second"));
        let text = format!("first, sha256:{digest},SHA256:x");
        let token = BearerTokens::new(&text, 1).unwrap().unwrap();
        assert_eq!(
            ["first", "second", "SHA256:x"].map(|sent| token.position(sent.as_bytes())),
            [Some(1), Some(2), Some(3)]
        );
        for sent in ["", "firs", digest.as_str(), "sha256:", &text] {
            assert_eq!(token.position(sent.as_bytes()), None, "{sent}");
        }
        assert!(
            BearerTokens::new("", 1).unwrap().is_none() && BearerTokens::new(" , ", 1).is_err()
        );
    }

    #[test]
    fn debug_output_has_no_secret() {
        let vars = [("TOLLGATE_CHECK_TOKEN", "s3cret"), ("TOLLGATE_STORE", "redis://:s3cret@h/")];
        let settings = load(&vars).unwrap();
        assert!(!format!("{settings:?}").contains("s3cret"));
        assert!(settings.check_token.unwrap().accepts(b"s3cret"));
    }
}
