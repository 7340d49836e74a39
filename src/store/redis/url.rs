//! The Redis URL that an operator configures, parsed and validated.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion,
    TlsCertificates,
};
use tokio::runtime::Handle;

use crate::tls::ClientTls;

/// The address of Redis and the credentials to use. It holds a password, so `Debug` prints only the
/// address.
#[derive(Clone)]
pub struct RedisUrl {
    /// The connection settings: the address of the first server, and the rest for all servers.
    first: ConnectionInfo,
    /// The servers of a Cluster to connect to first. Empty if the URL names a single server.
    seeds: Vec<(String, u16)>,
}

/// The reason why a Redis URL cannot be used, with an example of a valid one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(String);

impl InvalidUrl {
    pub(super) fn new(why: &dyn fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// The suffix of the schemes of a Cluster.
const CLUSTER_SUFFIX: &str = "+cluster";

impl FromStr for RedisUrl {
    type Err = InvalidUrl;

    /// Parses `redis://[user[:password]@]host[:port][/db]`, or `redis+cluster://` with several
    /// `host[:port]`, or the same with `rediss`.
    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        match scheme {
            "redis" | "rediss" => Ok(Self { first: parse_connection_info(text)?, seeds: Vec::new() }),
            "redis+cluster" | "rediss+cluster" => {
                Self::parse_cluster(scheme.trim_end_matches(CLUSTER_SUFFIX), rest)
            }
            "redis+sentinel" => Err(InvalidUrl(
                "Sentinel is not supported yet; name one primary with redis:// or rediss://".into(),
            )),
            _ => Err(InvalidUrl(
                "write memory, redis://host:6379, rediss://user:password@host:6379/0 or redis+cluster://host:6379,host:6379".into(),
            )),
        }
    }
}

fn parse_connection_info(text: &str) -> Result<ConnectionInfo, InvalidUrl> {
    // The client library's own message may repeat the URL and its password.
    let info = text.into_connection_info().map_err(|_| {
        InvalidUrl("not a Redis URL; write redis://user:password@host:6379/0".into())
    })?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2));
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(Duration::from_secs(2));
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp))
}

impl RedisUrl {
    fn parse_cluster(scheme: &str, rest: &str) -> Result<Self, InvalidUrl> {
        let invalid = |_| {
            let write = "redis+cluster://user:password@host:6379,host:6379";
            InvalidUrl(format!("not a URL of a Redis Cluster; write {write}"))
        };
        let (user, hosts) = rest.split_at(rest.rfind('@').map_or(0, |index| index + 1));
        let hosts = hosts.trim_end_matches('/').split(',');
        let infos = hosts.map(|host| {
            parse_connection_info(&format!("{scheme}://{user}{host}")).map_err(invalid)
        });
        let infos = infos.collect::<Result<Vec<_>, _>>()?;
        if infos.iter().any(|info| info.redis_settings().db() != 0) {
            return Err(InvalidUrl(
                "a Redis Cluster has only database 0; remove the number from the URL".into(),
            ));
        }
        let seeds = infos.iter().filter_map(|info| host_and_port(info.addr())).collect();
        infos
            .into_iter()
            .next()
            .map(|first| Self { first, seeds })
            .ok_or_else(|| invalid(InvalidUrl(String::new())))
    }

    /// True if the URL is that of a Cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        !self.seeds.is_empty()
    }

    /// The host and port of each server in the URL.
    pub(super) fn servers(&self) -> Vec<(String, u16)> {
        if self.is_cluster() {
            self.seeds.clone()
        } else {
            host_and_port(self.first.addr()).into_iter().collect()
        }
    }

    /// The connector for all servers. With TLS it trusts the certificate authorities in `ca_file`.
    /// Pooled connections are read and written on `runtime`.
    pub(super) fn connector(
        &self,
        ca_file: Option<&Path>,
        runtime: Handle,
    ) -> Result<Connector, InvalidUrl> {
        let is_tls = matches!(self.first.addr(), ConnectionAddr::TcpTls { .. });
        let certificates = is_tls.then(|| {
            // A provider that is already installed was chosen on purpose and stays.
            let _already_installed = rustls::crypto::ring::default_provider().install_default();
            let root_cert = ca_file.map(std::fs::read).transpose().map_err(|error| {
                InvalidUrl(format!("cannot read the certificates of --redis-ca: {error}"))
            })?;
            Ok(TlsCertificates { client_tls: None, root_cert })
        });
        let certificates = certificates.transpose()?;
        let tls = is_tls.then(|| ClientTls::new(ca_file, None)).transpose();
        let tls = tls.map_err(|error| InvalidUrl::new(&error))?.map(Arc::new);
        Ok(Connector { info: self.first.clone(), certificates, tls, runtime })
    }
}

/// The host and port of a server that is addressed by TCP.
pub(super) fn host_and_port(address: &ConnectionAddr) -> Option<(String, u16)> {
    match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Some((host.clone(), *port))
        }
        _ => None,
    }
}

/// Makes clients for servers that share credentials and TLS settings.
pub(super) struct Connector {
    info: ConnectionInfo,
    certificates: Option<TlsCertificates>,
    /// The same for the connections of the hot path.
    pub(super) tls: Option<Arc<ClientTls>>,
    /// The runtime of the pooled connections.
    pub(super) runtime: Handle,
}

impl Connector {
    /// A client for one server. Connects to nothing yet.
    pub(super) fn client(&self, host: &str, port: u16) -> Result<Client, InvalidUrl> {
        let (info, host) = (self.info.clone(), host.to_owned());
        let client = match &self.certificates {
            None => Client::open(info.set_addr(ConnectionAddr::Tcp(host, port))),
            Some(certificates) => {
                let address =
                    ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
                Client::build_with_tls(info.set_addr(address), certificates.clone())
            }
        };
        client.map_err(|error| InvalidUrl::new(&error))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first.addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_an_invalid_url_shows_a_valid_one_and_no_password() {
        for text in [
            "localhost",
            "http://h",
            "redis://",
            "redis://u:s3cret@:x/",
            "redis+sentinel://u:s3cret@h",
        ] {
            let error = text.parse::<RedisUrl>().unwrap_err().to_string();
            assert!(error.contains("redis://") && !error.contains("s3cret"), "{text}: {error}");
        }
        for text in [
            "redis+cluster://",
            "redis+cluster://u:s3cret@",
            "redis+cluster://u:s3cret@h,",
            "redis+cluster://u:s3cret@h:x,i",
            "redis+cluster://u:s3cret@h/2",
        ] {
            let error = text.parse::<RedisUrl>().unwrap_err().to_string();
            assert!(
                error.contains("Redis Cluster") && !error.contains("s3cret"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn the_url_of_a_cluster_has_one_user_and_several_servers() {
        let url: RedisUrl = "rediss+cluster://u:p%40,w@a:7000,b".parse().unwrap();
        assert!(url.is_cluster());
        assert_eq!(url.servers(), [("a".to_owned(), 7000), ("b".to_owned(), 6379)]);
        assert_eq!(url.first.redis_settings().password(), Some("p@,w"));
        let one: RedisUrl = "redis://a:7000".parse().unwrap();
        assert!(!one.is_cluster());
        assert_eq!(one.servers(), [("a".to_owned(), 7000)]);
    }

    #[test]
    fn the_password_is_never_printed() {
        let url: RedisUrl = "redis://user:s3cret@127.0.0.1:6379/0".parse().unwrap();
        assert!(!format!("{url:?}").contains("s3cret"));
    }
}
