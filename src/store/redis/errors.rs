//! Errors of the Redis client library as errors of the store.
//!
//! The redirects of a Cluster are not among them: they are `redirect::Redirect`.

use redis::{ErrorKind, RedisError};

use super::StoreError;

/// The store error for an error of the client library.
pub(super) fn classify(error: &RedisError) -> StoreError {
    /// Error codes of a server that replies but does not write. Before Redis 7 some of them stand
    /// within the text of an ERR.
    const REFUSAL_CODES: [&str; 11] = [
        "OOM",
        "BUSY",
        "READONLY",
        "MISCONF",
        "LOADING",
        "MASTERDOWN",
        "NOREPLICAS",
        "CLUSTERDOWN",
        "MOVED",
        "NOPERM",
        "NOAUTH",
    ];
    if error.is_timeout() {
        return StoreError::Timeout;
    }
    if error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal() {
        return StoreError::Unreachable(error.to_string());
    }
    let text = error.to_string();
    let code = error.code().unwrap_or_default();
    if REFUSAL_CODES.iter().any(|word| code == *word || text.contains(word))
        || error.kind() == ErrorKind::AuthenticationFailed
    {
        return StoreError::Refused(text);
    }
    StoreError::Script(text)
}

/// The error for a Cluster's server that the operator configured as a single server.
pub(super) fn wrong_scheme_error() -> StoreError {
    StoreError::Refused("it is a server of a Redis Cluster; write --store redis+cluster://…".into())
}
