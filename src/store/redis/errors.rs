//! Errors of the Redis client library as errors of the store.
//!
//! The redirects of a Cluster are not among them: they are `redirect::Redirect`.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::StoreError;

/// The store error for an error of the client library.
pub(super) fn classify(error: &RedisError) -> StoreError {
    /// Error codes of a server that replies but does not write. Before Redis 7 some of them stand
    /// within the text of an ERR.
    const REFUSAL_CODES: [&str; 9] = [
        "OOM",
        "BUSY",
        "READONLY",
        "MISCONF",
        "LOADING",
        "MASTERDOWN",
        "NOREPLICAS",
        "CLUSTERDOWN",
        "MOVED",
    ];
    // Redis has lost the script, and every deadline had passed when its response said so: there was
    // no retry.
    let is_unknown_script = error.kind() == ErrorKind::Server(ServerErrorKind::NoScript);
    if error.is_timeout() || is_unknown_script {
        return StoreError::Timeout;
    }
    if let Some(advice) = advise(error) {
        return StoreError::Misconfigured(advice);
    }
    if error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal() {
        return StoreError::Unreachable(error.to_string());
    }
    let text = error.to_string();
    let code = error.code().unwrap_or_default();
    if REFUSAL_CODES.iter().any(|word| code == *word || text.contains(word)) {
        return StoreError::Refused(text);
    }
    StoreError::Script(text)
}

/// The remedy of an error that no retry heals; `None` for all others.
fn advise(error: &RedisError) -> Option<String> {
    let (text, code) = (error.to_string(), error.code().unwrap_or_default());
    let is = |word: &str| code.eq_ignore_ascii_case(word) || text.contains(word);
    if error.kind() == ErrorKind::AuthenticationFailed || is("NOAUTH") || is("WRONGPASS") {
        let why =
            "it refuses the user or the password of `store`; write redis://USER:PASSWORD@HOST:PORT";
        return Some(why.into());
    }
    if is("NOPERM") || error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) {
        let why = "give this user the commands and keys that docs/production.md lists";
        return Some(format!("{text}; {why}"));
    }
    if text.contains("DB index is out of range") {
        return Some("it has no database of this number; end the URL with /0".into());
    }
    if text.contains("cluster support disabled") {
        return Some(
            "it is no server of a Redis Cluster; write redis:// and not redis+cluster://".into(),
        );
    }
    if text.contains("invalid peer certificate") {
        return Some(format!(
            "{text}; name the authority of its certificate with --redis-ca, and its host as the certificate does"
        ));
    }
    (error.kind() == ErrorKind::Parse)
        .then(|| "it does not speak Redis' protocol; check the host and the port".into())
}

/// The error for a Cluster's server that the operator configured as a single server.
pub(super) fn wrong_scheme_error() -> StoreError {
    StoreError::Misconfigured(
        "it is a server of a Redis Cluster; write --store redis+cluster://…".into(),
    )
}
