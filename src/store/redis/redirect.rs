//! What a Cluster says to those who ask at the wrong place or time: that nothing has run.
//!
//! So that, unlike a call without an answer, may be sent again.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a server of a Cluster has not run a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// Another server has the slot, from now on.
    Moved(String, u16),
    /// The slot is on its way to another server, and this key is there already.
    Ask(String, u16),
    /// The slot is on its way, and one of the keys is there already.
    TryAgain,
    /// No server has the slot.
    ClusterDown,
}

impl Redirect {
    /// What an error of the server at `asked_host` says, if it is one of these.
    pub(super) fn from_error(error: &RedisError, asked_host: &str) -> Option<Self> {
        let ErrorKind::Server(kind) = error.kind() else { return None };
        let to = || {
            let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
            // A server that does not know its own name leaves it out.
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
