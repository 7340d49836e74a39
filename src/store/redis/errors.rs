//! What Redis' errors mean for those who asked. That a Cluster has not run a command is no error, and is
//! for `redirect::Redirect`.

use redis::{ErrorKind, RedisError};

use super::StoreError;

/// What a client's error means for the checks that it befell.
pub(super) fn classify(error: &RedisError) -> StoreError {
    /// Words of a server that is there but does not write. Before Redis 7 some are wrapped in an ERR.
    const REFUSAL_CODES: [&str; 10] = [
        "OOM",
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

/// That a server which was named as the only one is a Cluster's.
pub(super) fn wrong_scheme_error() -> StoreError {
    StoreError::Refused("it is a server of a Redis Cluster; write --store redis+cluster://…".into())
}
