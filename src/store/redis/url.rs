//! Redis' address as operators write it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates};

/// Where Redis is and as whom to speak to it. It holds a password, so it does not print itself.
#[derive(Clone)]
pub struct RedisUrl(ConnectionInfo);

/// An address that cannot be used, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(String);

impl InvalidUrl {
    pub(super) fn new(why: &dyn fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl FromStr for RedisUrl {
    type Err = InvalidUrl;

    /// Reads `redis://[user[:password]@]host[:port][/db]`, or the same with `rediss`.
    fn from_str(written: &str) -> Result<Self, InvalidUrl> {
        let scheme = written.split_once("://").map(|(scheme, _)| scheme);
        match scheme {
            Some("redis" | "rediss") => {}
            Some("redis+sentinel" | "redis+cluster") => {
                return Err(InvalidUrl("Sentinel and Cluster are not served yet; name one primary with redis:// or rediss://".into()));
            }
            _ => {
                return Err(InvalidUrl(
                    "write memory, redis://host:6379 or rediss://user:password@host:6379/0".into(),
                ));
            }
        }
        // The client's own message may repeat the address, and with it the password.
        let info = written.into_connection_info().map_err(|_| {
            InvalidUrl(
                "this is no address of a Redis; write redis://user:password@host:6379/0".into(),
            )
        })?;
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(5))
            .with_interval(Duration::from_secs(2));
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive)
            .set_user_timeout(Duration::from_secs(2));
        Ok(Self(info.set_tcp_settings(tcp)))
    }
}

impl RedisUrl {
    /// A client, which connects to nothing yet.
    pub(super) fn client(&self, ca_file: Option<&Path>) -> Result<Client, InvalidUrl> {
        let is_tls = matches!(self.0.addr(), redis::ConnectionAddr::TcpTls { .. });
        if !is_tls {
            return Client::open(self.0.clone()).map_err(|error| InvalidUrl::new(&error));
        }
        // Whoever installed a provider before us has chosen another one on purpose.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let root_cert = ca_file.map(std::fs::read).transpose().map_err(|error| {
            InvalidUrl(format!("cannot read the certificates of --redis-ca: {error}"))
        })?;
        let certificates = TlsCertificates { client_tls: None, root_cert };
        Client::build_with_tls(self.0.clone(), certificates)
            .map_err(|error| InvalidUrl::new(&error))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_is_answered_with_a_right_one_and_without_its_password() {
        for written in [
            "localhost",
            "http://h",
            "redis://",
            "redis://u:s3cret@:x/",
            "redis+cluster://u:s3cret@h",
        ] {
            let error = written.parse::<RedisUrl>().unwrap_err().to_string();
            assert!(error.contains("redis://") && !error.contains("s3cret"), "{written}: {error}");
        }
    }

    #[test]
    fn the_password_is_never_printed() {
        let url: RedisUrl = "redis://user:s3cret@127.0.0.1:6379/0".parse().unwrap();
        assert!(!format!("{url:?}").contains("s3cret"));
    }
}
