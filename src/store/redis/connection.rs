//! One connection to Redis: how it is made, tried, and what its errors mean.

use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use redis::{Client, ErrorKind, RedisError};
use tokio::time::timeout;

use super::{Error, Reply, call::Call, script};
use crate::limit::{Charge, Limit, Rate, Rule, Subject, Throttle, Unit};
use crate::time::Micros;

/// Settings of every connection. Answers are waited for by deadline, so they have no timeout here.
pub(super) fn config(connecting: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(connecting)).set_response_timeout(None)
}

/// A new connection that has just done a check's work.
pub(super) async fn establish(
    client: &Client,
    patience: Duration,
) -> Result<(MultiplexedConnection, Micros), Error> {
    let config = config(patience);
    let connect = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = timeout(patience, connect)
        .await
        .map_err(|_| Error::Timeout)?
        .map_err(|error| meaning(&error))?;
    let now = probe(&mut connection, patience).await?;
    Ok((connection, now))
}

/// A check's work on a connection: finds the script, reads and writes. Returns Redis' time.
///
/// A PING would not do: a full, loading or demoted server answers it.
pub(super) async fn probe(
    connection: &mut MultiplexedConnection,
    patience: Duration,
) -> Result<Micros, Error> {
    let mut probe = Call::default();
    probe.add(&[probe_charge()], Micros::ZERO);
    let reply = timeout(patience, script::CHECK.run(&probe, connection)).await;
    let reply = reply.map_err(|_| Error::Timeout)?.map_err(|error| meaning(&error))?;
    Ok(Reply::new(reply)?.now)
}

/// A charge that always fits, so that it is always written.
fn probe_charge() -> Charge {
    let rate = Rate::new(1_000_000, Micros::new(1));
    let throttle = rate.and_then(|rate| Throttle::new(rate, 1_000_000_000).ok());
    let rule = Rule::Throttle(throttle.unwrap_or_else(|| unreachable!("a constant")));
    let limit = Limit::new("probe", Unit::requests(), rule, false);
    Charge { subject: Subject::policy("", "probe"), limit: limit.into(), cost: 1 }
}

/// What a client's error means for the checks that it befell.
pub(super) fn meaning(error: &RedisError) -> Error {
    /// Words of a server that is there but does not write. Before Redis 7 some are wrapped in an ERR.
    const REFUSALS: [&str; 9] = [
        "OOM",
        "READONLY",
        "MISCONF",
        "LOADING",
        "MASTERDOWN",
        "NOREPLICAS",
        "CLUSTERDOWN",
        "NOPERM",
        "NOAUTH",
    ];
    if error.is_timeout() {
        return Error::Timeout;
    }
    if error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal() {
        return Error::Unreachable(error.to_string());
    }
    let text = error.to_string();
    let code = error.code().unwrap_or_default();
    if REFUSALS.iter().any(|word| code == *word || text.contains(word))
        || error.kind() == ErrorKind::AuthenticationFailed
    {
        return Error::Refused(text);
    }
    Error::Script(text)
}
