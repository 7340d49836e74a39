//! Settings as written: four sources merged, with names and types checked and nothing else.

use std::path::PathBuf;

use config::{Config, File, FileFormat, Value, ValueKind};
use serde::Deserialize;

use super::SettingsError;

const DEFAULTS: &str = include_str!("default.toml");
const ENV_PREFIX: &str = "TOLLGATE_";

/// The merged settings. Not `Debug`: they hold passwords and tokens in the clear.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub(super) struct RawSettings {
    pub(super) listen: String,
    pub(super) listen_admin: String,
    pub(super) listen_grpc: String,
    pub(super) listen_ops: String,
    pub(super) envoy_config: String,
    pub(super) envoy_on_store_failure: String,
    pub(super) admin_token: String,
    pub(super) admin_read_token: String,
    pub(super) admin_allow_plaintext: bool,
    pub(super) admin_access_key_id: String,
    pub(super) admin_secret_access_key: String,
    pub(super) key_encryption_key: String,
    pub(super) tls_cert: String,
    pub(super) tls_key: String,
    pub(super) tls_client_ca: String,
    pub(super) admin_tls_cert: String,
    pub(super) admin_tls_key: String,
    pub(super) admin_tls_client_ca: String,
    pub(super) store: String,
    pub(super) redis_ca: String,
    pub(super) start_without_store: bool,
    pub(super) data_dir: String,
    pub(super) catalog: String,
    pub(super) check_deadline: String,
    pub(super) check_token: String,
    pub(super) trusted_peers: String,
    pub(super) forwarded_headers: String,
    pub(super) min_nodes: u64,
    pub(super) drain_delay: String,
    pub(super) denial_memo: bool,
    pub(super) log_format: String,
    pub(super) record: String,
    pub(super) record_max_bytes: u64,
    pub(super) record_kept_files: usize,
    pub(super) record_requests: bool,
    pub(super) workers: usize,
    pub(super) max_connections: usize,
    pub(super) max_memory_rows: usize,
    pub(super) top_keys: usize,
    pub(super) log_refusals: u32,
    pub(super) webhook_url: String,
    pub(super) webhook_secret: String,
    pub(super) webhook_thresholds: String,
    pub(super) webhook_retry_after: String,
    pub(super) webhook_ca: String,
    pub(super) webhook_allow_plaintext: bool,
}

/// Settings given on the command line. Every one of them overrides the other sources.
#[derive(Clone, Default, clap::Args)]
#[command(
    next_help_heading = "Settings (each also TOLLGATE_… in the environment and a key of --config)"
)]
pub struct Flags {
    /// Address and port to serve HTTP on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Address and port of the admin API; served only if it has a credential
    /// [default: 127.0.0.1:8082]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen_admin: Option<String>,
    /// Address and port of Envoy's rate limit service (gRPC); served only with --envoy-config
    /// [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen_grpc: Option<String>,
    /// Address and port of a further listener for /healthz, /readyz and /metrics only, over plain
    /// HTTP
    /// [default: none]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen_ops: Option<String>,
    /// Rate limits for Envoy, in envoyproxy/ratelimit's YAML: a file, or a folder of *.yaml
    /// [default: none]
    #[arg(long, value_name = "FILE|FOLDER")]
    pub envoy_config: Option<String>,
    /// Response to Envoy while the store is unreachable: closed (an error, and Envoy decides), open
    /// (admit) or local (admit this node's share) [default: closed]
    #[arg(long, value_name = "closed|open|local")]
    pub envoy_on_store_failure: Option<String>,
    /// PEM file with the certificate chain of the HTTP listener [default: none, plain HTTP]
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// PEM file with the certificate's private key
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// PEM file with the authorities of client certificates; only clients with one may connect
    /// [default: none]
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<String>,
    /// Allow the admin API on a reachable address without TLS, if something else encrypts
    /// [default: false]
    #[arg(long, value_name = "true|false")]
    pub admin_allow_plaintext: Option<String>,
    /// PEM file with the certificate chain of the admin API [default: that of --tls-cert]
    #[arg(long, value_name = "FILE")]
    pub admin_tls_cert: Option<String>,
    /// PEM file with the private key of the admin API's certificate [default: that of --tls-key]
    #[arg(long, value_name = "FILE")]
    pub admin_tls_key: Option<String>,
    /// PEM file with the authorities of the admin API's client certificates [default: that of
    /// --tls-client-ca]
    #[arg(long, value_name = "FILE")]
    pub admin_tls_client_ca: Option<String>,
    /// Store of the counters: memory, redis://…, redis+cluster://…, or with TLS rediss://…,
    /// rediss+cluster://… [default: memory]
    #[arg(long, value_name = "STORE")]
    pub store: Option<String>,
    /// PEM file with the authorities to trust for rediss:// [default: the public ones]
    #[arg(long, value_name = "FILE")]
    pub redis_ca: Option<String>,
    /// Be ready before Redis could be used for the first time: until then the failure policies
    /// decide [default: false]
    #[arg(long, value_name = "true|false")]
    pub start_without_store: Option<String>,
    /// Folder that persists the admin API's resources and the counters of the memory store
    /// [default: none]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<String>,
    /// YAML file with APIs, plans, keys and policies [default: a built-in example, key demo-key]
    #[arg(long, value_name = "FILE")]
    pub catalog: Option<String>,
    /// Deadline of a check, from the request being read to the response [default: 50ms]
    #[arg(long, value_name = "TIME")]
    pub check_deadline: Option<String>,
    /// Bearer token that check requests must send; better set in the environment [default: none]
    #[arg(long, value_name = "TOKEN")]
    pub check_token: Option<String>,
    /// Networks whose key ids and forwarded headers are trusted [default: loopback]
    #[arg(long, value_name = "CIDR,…")]
    pub trusted_peers: Option<String>,
    /// Headers that carry the original request on /authz [default: x-forwarded]
    #[arg(long, value_name = "x-forwarded|x-original")]
    pub forwarded_headers: Option<String>,
    /// Least number of nodes among which limits are divided while the store is unreachable
    /// [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub min_nodes: Option<u64>,
    /// Time to go on serving after SIGTERM, with /readyz failing [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub drain_delay: Option<String>,
    /// Cache refusals of Redis until their Retry-After [default: true]
    #[arg(long, value_name = "true|false")]
    pub denial_memo: Option<String>,
    /// Format of log lines [default: text]
    #[arg(long, value_name = "text|json")]
    pub log_format: Option<String>,
    /// File to append every decision to, for `tollgate replay` and `tollgate what-if`
    /// [default: none]
    #[arg(long, value_name = "FILE")]
    pub record: Option<String>,
    /// Size in bytes at which the record is rotated, to FILE.1 and so on; 0 never rotates it
    /// [default: 0]
    #[arg(long, value_name = "NUMBER")]
    pub record_max_bytes: Option<u64>,
    /// Rotated files that are kept [default: 4]
    #[arg(long, value_name = "NUMBER")]
    pub record_kept_files: Option<u64>,
    /// Record the request of each check: ids, methods, paths and keys of policies, which `tollgate
    /// what-if` needs [default: true]
    #[arg(long, value_name = "true|false")]
    pub record_requests: Option<String>,
    /// Number of worker threads [default: one per core]
    #[arg(long, value_name = "NUMBER")]
    pub workers: Option<u64>,
    /// Most connections that a listener has open; a further one closes the idlest [default: 16384]
    #[arg(long, value_name = "NUMBER")]
    pub max_connections: Option<u64>,
    /// Most counters in this node's memory, 75 bytes each; from then on the failure policy decides
    /// about new keys of policies [default: 4000000]
    #[arg(long, value_name = "NUMBER")]
    pub max_memory_rows: Option<u64>,
    /// Keys of each limit of which the node counts refusals and use, for `tollgate top`; 0 counts
    /// none [default: 50]
    #[arg(long, value_name = "NUMBER")]
    pub top_keys: Option<u64>,
    /// Refused checks that the node logs in a second, at most: a sample, with key, limit and
    /// request id; 0 logs none [default: 0]
    #[arg(long, value_name = "NUMBER")]
    pub log_refusals: Option<u64>,
    /// URL to post an event to when a key reaches a threshold of a quota; needs a secret in the
    /// environment [default: none]
    #[arg(long, value_name = "URL")]
    pub webhook_url: Option<String>,
    /// Thresholds in percent of a quota, rising [default: 80, 90, 100]
    #[arg(long, value_name = "PERCENT,…")]
    pub webhook_thresholds: Option<String>,
    /// Backoff before the first retry of a webhook; later ones wait longer [default: 5s]
    #[arg(long, value_name = "TIME")]
    pub webhook_retry_after: Option<String>,
    /// PEM file with the authorities to trust for an https:// receiver [default: the public ones]
    #[arg(long, value_name = "FILE")]
    pub webhook_ca: Option<String>,
    /// Allow webhooks to leave this machine without TLS [default: false]
    #[arg(long, value_name = "true|false")]
    pub webhook_allow_plaintext: Option<String>,
}

impl Flags {
    fn given_values(&self) -> impl Iterator<Item = (&'static str, ValueKind)> {
        let texts = [
            ("listen", &self.listen),
            ("listen_admin", &self.listen_admin),
            ("listen_grpc", &self.listen_grpc),
            ("listen_ops", &self.listen_ops),
            ("envoy_config", &self.envoy_config),
            ("envoy_on_store_failure", &self.envoy_on_store_failure),
            ("tls_cert", &self.tls_cert),
            ("tls_key", &self.tls_key),
            ("tls_client_ca", &self.tls_client_ca),
            ("admin_allow_plaintext", &self.admin_allow_plaintext),
            ("admin_tls_cert", &self.admin_tls_cert),
            ("admin_tls_key", &self.admin_tls_key),
            ("admin_tls_client_ca", &self.admin_tls_client_ca),
            ("store", &self.store),
            ("redis_ca", &self.redis_ca),
            ("start_without_store", &self.start_without_store),
            ("data_dir", &self.data_dir),
            ("catalog", &self.catalog),
            ("check_deadline", &self.check_deadline),
            ("check_token", &self.check_token),
            ("trusted_peers", &self.trusted_peers),
            ("forwarded_headers", &self.forwarded_headers),
            ("drain_delay", &self.drain_delay),
            ("denial_memo", &self.denial_memo),
            ("log_format", &self.log_format),
            ("record", &self.record),
            ("record_requests", &self.record_requests),
            ("webhook_url", &self.webhook_url),
            ("webhook_thresholds", &self.webhook_thresholds),
            ("webhook_retry_after", &self.webhook_retry_after),
            ("webhook_ca", &self.webhook_ca),
            ("webhook_allow_plaintext", &self.webhook_allow_plaintext),
        ];
        let numbers = [
            ("min_nodes", self.min_nodes),
            ("workers", self.workers),
            ("max_connections", self.max_connections),
            ("max_memory_rows", self.max_memory_rows),
            ("top_keys", self.top_keys),
            ("log_refusals", self.log_refusals),
            ("record_max_bytes", self.record_max_bytes),
            ("record_kept_files", self.record_kept_files),
        ];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key, text.clone()?.into())));
        texts.chain(numbers.into_iter().filter_map(|(key, number)| Some((key, number?.into()))))
    }
}

/// The sources of settings; each overrides those before it, and all override the defaults.
#[derive(Clone, Default)]
pub struct SettingsSources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// All environment variables; those without the prefix `TOLLGATE_` are ignored.
    pub environment: Vec<(String, String)>,
    /// The command line.
    pub flags: Flags,
}

impl SettingsSources {
    pub(super) fn merge(&self) -> Result<RawSettings, SettingsError> {
        let mut config = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(file) = &self.file {
            config = config.add_source(File::from(file.as_path()).format(FileFormat::Toml));
        }
        let known = Config::builder()
            .add_source(File::from_str(DEFAULTS, FileFormat::Toml))
            .build()?
            .cache
            .into_table()?;
        for (variable, text) in &self.environment {
            let Some(name) = variable.strip_prefix(ENV_PREFIX) else { continue };
            let key = name.to_ascii_lowercase();
            if known.contains_key(&key) {
                let value = Value::new(Some(variable), ValueKind::from(text.as_str()));
                config = config.set_override(key, value)?;
            } else if !(matches!(name, "CONFIG" | "API_KEY") || is_service_link(name)) {
                return Err(SettingsError::UnknownVariable(variable.clone()));
            }
        }
        for (key, value) in self.flags.given_values() {
            let flag = format!("--{}", key.replace('_', "-"));
            config = config.set_override(key, Value::new(Some(&flag), value))?;
        }
        Ok(config.build()?.try_deserialize()?)
    }
}

/// Returns true for the variables in which Kubernetes describes a Service named `tollgate` to every
/// pod.
fn is_service_link(name: &str) -> bool {
    name == "PORT" || name.starts_with("PORT_") || name.starts_with("SERVICE_")
}
