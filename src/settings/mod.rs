//! Settings: what an operator writes, and what the service may rely on.
//!
//! Embedded defaults, then a file, then the environment, then flags. The crossing from raw to
//! valid happens once, here. What the store's address means is the store's business.

mod access;
mod peers;
mod duration;
mod raw;
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
pub use secret::{AccessKey, AdminCredentials, BearerTokens, EncryptionKeys, StoreAddress};
use serde::de::{DeserializeOwned, IntoDeserializer as _};
pub use tls::TlsFiles;
pub use webhook::{Webhook, WebhookSecrets, WebhookUrl};

use crate::failure_policy::OnStoreFailure;
use crate::syntax::{Expected, plain_message};

/// Everything that an operator can choose, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Where the admin API is served.
    pub listen_admin: SocketAddr,
    /// Where Envoy's rate limit service is served.
    pub listen_grpc: SocketAddr,
    /// Its limits: a file or a folder of envoyproxy/ratelimit's YAML; not served where absent.
    pub envoy_config: Option<PathBuf>,
    /// What Envoy is told where the store is lost.
    pub envoy_on_store_failure: OnStoreFailure,
    /// Who may use the admin API.
    pub admin: AdminCredentials,
    /// What API keys' values are kept under.
    pub key_encryption_keys: EncryptionKeys,
    /// What encrypts checks; plain connections where absent.
    pub tls: Option<TlsFiles>,
    /// What encrypts the admin API.
    pub admin_tls: Option<TlsFiles>,
    /// Where limits are counted.
    pub store: StoreAddress,
    /// Certificates that a `rediss://` server may be signed by; the public ones where absent.
    pub redis_ca: Option<PathBuf>,
    /// What keeps the admin API's resources where limits are counted in memory.
    pub data_dir: Option<PathBuf>,
    /// The catalog file; the built-in example where absent.
    pub catalog: Option<PathBuf>,
    /// From a check fully read to its answer.
    pub check_deadline: Duration,
    /// What callers must send.
    pub check_token: Option<BearerTokens>,
    /// Whose word is taken.
    pub trusted_peers: TrustedPeers,
    /// Which headers carry the original request on `/authz`.
    pub forwarded_headers: ForwardedHeaders,
    /// How many nodes share the store at least.
    pub min_nodes: u64,
    /// From SIGTERM to closing the listener.
    pub drain_delay: Duration,
    /// Whether refusals are remembered until their Retry-After.
    pub denial_memo: bool,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Where every decision is appended.
    pub record: Option<PathBuf>,
    /// Threads that serve.
    pub workers: usize,
    /// Connections open at the same time.
    pub max_connections: usize,
    /// Who is told of usage, if anybody.
    pub webhook: Option<Webhook>,
}

/// A setting that cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value that says nothing usable.
    #[error("setting `{key}`: {why}")]
    Value {
        /// The setting's name.
        key: &'static str,
        /// What is wrong and what to write instead.
        why: String,
    },
    /// The file cannot be read, or a source holds a value of another type.
    #[error("{message}", message = plain_config_error(.0))]
    Sources(#[from] config::ConfigError),
    /// An environment variable that means nothing.
    #[error("the environment variable {0} is no setting of Tollgate; see `tollgate serve --help`")]
    UnknownVariable(String),
}

/// An error of the sources without the names of Rust types, and without the value.
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
    /// Reads all sources, the strongest last.
    ///
    /// # Errors
    /// Where a source cannot be read, names an unknown setting, or holds a value of no use.
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
            return Err(invalid("check_deadline", "must lie between 1ms and 10s".into()));
        }
        if !(1..=10_000_000).contains(&raw.max_connections) {
            return Err(invalid("max_connections", "must lie between 1 and 10000000".into()));
        }
        if raw.min_nodes == 0 {
            return Err(invalid("min_nodes", "must be at least 1".into()));
        }
        let workers = match raw.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            some => some,
        };
        if !raw.data_dir.is_empty() && raw.store != "memory" {
            let why = "it is for the store in memory; with Redis, Redis keeps what is declared";
            return Err(invalid("data_dir", why.into()));
        }
        let (tls, admin_tls) = tls::listener_files(&raw)?;
        let settings = Self {
            webhook: webhook::from_raw(&raw)?,
            tls,
            admin_tls,
            key_encryption_keys: EncryptionKeys::new(&raw.key_encryption_key)
                .map_err(|why| invalid("key_encryption_key", why.into()))?,
            listen: address("listen", &raw.listen)?,
            listen_admin: address("listen_admin", &raw.listen_admin)?,
            listen_grpc: address("listen_grpc", &raw.listen_grpc)?,
            envoy_on_store_failure: parse_choice(
                "envoy_on_store_failure",
                &raw.envoy_on_store_failure,
            )?,
            admin: access::admin_credentials(&raw)?,
            envoy_config: optional_path(raw.envoy_config),
            store: StoreAddress::new(raw.store),
            redis_ca: optional_path(raw.redis_ca),
            data_dir: optional_path(raw.data_dir),
            catalog: optional_path(raw.catalog),
            check_deadline,
            check_token: access::parse_tokens("check_token", &raw.check_token)?,
            trusted_peers: TrustedPeers::parse(&raw.trusted_peers)
                .map_err(|why| invalid("trusted_peers", why))?,
            forwarded_headers: parse_choice("forwarded_headers", &raw.forwarded_headers)?,
            min_nodes: raw.min_nodes,
            drain_delay: parse_duration("drain_delay", &raw.drain_delay)?,
            denial_memo: raw.denial_memo,
            log_format: parse_choice("log_format", &raw.log_format)?,
            record: optional_path(raw.record),
            workers,
            max_connections: raw.max_connections,
        };
        access::check_admin_exposure(&settings, raw.admin_allow_plaintext)?;
        Ok(settings)
    }
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

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text per event.
    #[default]
    Text,
    /// One JSON object per event.
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
    fn a_flag_beats_the_environment_which_beats_the_file() {
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
    fn a_bad_setting_is_named_with_what_to_write() {
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
            (("TOLLGATE_KEY_ENCRYPTION_KEY", "c2hvcnQ="), "key_encryption_key", "openssl"),
            (("TOLLGATE_CHECK_TOKEN", "one,sha256:12"), "check_token", "sha256sum"),
            (("TOLLGATE_ADMIN_TOKEN", &*signed),      "admin_token",    "sha256sum"),
            (("TOLLGATE_LISTN", "127.0.0.1:1"),       "TOLLGATE_LISTN", "no setting"),
        ];
        for (var, named, hint) in cases {
            let error = load(&[var]).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains(hint), "{var:?}: {error}");
        }
    }

    #[test]
    fn what_kubernetes_puts_into_the_environment_is_no_setting() {
        let vars = [
            ("TOLLGATE_SERVICE_HOST", "10.0.0.1"),
            ("TOLLGATE_SERVICE_PORT_HTTP", "8080"),
            ("TOLLGATE_PORT", "tcp://10.0.0.1:8080"),
            ("TOLLGATE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ];
        assert!(load(&vars).is_ok());
    }

    #[test]
    fn an_admin_api_that_others_can_reach_is_encrypted_or_meant_not_to_be() {
        let open = ("TOLLGATE_LISTEN_ADMIN", "0.0.0.0:8082");
        let token = ("TOLLGATE_ADMIN_TOKEN", "t");
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
    fn tokens_are_several_in_the_clear_or_as_digests() {
        let digest = crate::digest::encode_hex(&crate::digest::digest_key("second"));
        let text = format!("first, sha256:{digest},SHA256:x");
        let token = BearerTokens::new(&text).unwrap().unwrap();
        assert_eq!(
            ["first", "second", "SHA256:x"].map(|sent| token.position(sent.as_bytes())),
            [Some(1), Some(2), Some(3)]
        );
        for sent in ["", "firs", digest.as_str(), "sha256:", &text] {
            assert_eq!(token.position(sent.as_bytes()), None, "{sent}");
        }
        assert!(BearerTokens::new(" , ").unwrap().is_none());
    }

    #[test]
    fn secrets_do_not_print_themselves() {
        let vars = [("TOLLGATE_CHECK_TOKEN", "s3cret"), ("TOLLGATE_STORE", "redis://:s3cret@h/")];
        let settings = load(&vars).unwrap();
        assert!(!format!("{settings:?}").contains("s3cret"));
        assert!(settings.check_token.unwrap().accepts(b"s3cret"));
    }
}
