//! Redirects: replies of a Redis Cluster to a command that it has not run.
//!
//! Because the command has not run it may be sent again, unlike a call without a reply. The server
//! to send it to is chosen in `topology`.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// The reason why a server of a Cluster has not run a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// Another server holds the slot from now on.
    Moved(String, u16),
    /// The slot is being moved, and the key is already on this other server.
    Ask(String, u16),
    /// The slot is being moved, and only some of the command's keys have been.
    TryAgain,
    /// No server holds the slot.
    ClusterDown,
}

impl Redirect {
    /// The redirect in an error reply of the server at `asked_host`, if it is one.
    pub(super) fn from_error(error: &RedisError, asked_host: &str) -> Option<Self> {
        let ErrorKind::Server(kind) = error.kind() else { return None };
        let to = || {
            let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
            // A server that does not know its own host leaves it out.
            let host = if host.is_empty() { asked_host } else { host };
            Some((host.to_owned(), port.parse().ok()?))
        };
        match kind {
            ServerErrorKind::Moved => to().map(|(host, port)| Self::Moved(host, port)),
            ServerErrorKind::Ask => to().map(|(host, port)| Self::Ask(host, port)),
            ServerErrorKind::TryAgain => Some(Self::TryAgain),
            ServerErrorKind::ClusterDown => Some(Self::ClusterDown),
            _ => None,
        }
    }
}
