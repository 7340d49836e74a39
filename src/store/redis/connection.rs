//! One connection to Redis: how it is made, tried, and what its errors mean.

use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError};
use tokio::time::timeout;

use super::ask::wrong_scheme;
use super::cluster::Redirect;
use super::{Error, Redis, Reply, Servers, call::Call, script, server::Server};
use crate::limit::{Charge, Limit, Rate, Rule, Subject, Throttle, Unit};
use crate::time::Micros;

/// Settings of every connection. Answers are waited for by deadline, so they have no timeout here.
pub(super) fn config(connecting: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(connecting)).set_response_timeout(None)
}

impl Redis {
    /// A new connection that has just done a check's work.
    pub(super) async fn establish(
        &self,
        server: &Server,
        patience: Duration,
    ) -> Result<MultiplexedConnection, Error> {
        let config = config(patience);
        let connect = server.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = timeout(patience, connect)
            .await
            .map_err(|_| Error::Timeout)?
            .map_err(|error| meaning(&error))?;
        self.probe(server, &mut connection, patience).await?;
        Ok(connection)
    }

    /// A check's work on a connection: finds the script, reads and writes.
    ///
    /// A PING would not do: a full, loading or demoted server answers it. Only where a Cluster's
    /// server holds next to nothing is it all that can be asked.
    pub(super) async fn probe(
        &self,
        server: &Server,
        connection: &mut MultiplexedConnection,
        patience: Duration,
    ) -> Result<(), Error> {
        let subject = match &self.servers {
            Servers::One(_) => Some(Subject::policy("", "probe")),
            Servers::Cluster(topology) => topology.subject_at(server),
        };
        let Some(subject) = subject else {
            let ping = redis::cmd("PING");
            let answer = timeout(patience, connection.send_packed_command(&ping)).await;
            let answer = answer.map_err(|_| Error::Timeout)?;
            return answer.map(drop).map_err(|error| meaning(&error));
        };
        let mut probe = Call::default();
        probe.add(&[probe_charge(subject)], Micros::ZERO);
        let reply = timeout(patience, script::CHECK.run(&probe, connection)).await;
        match reply.map_err(|_| Error::Timeout)?.map_err(|error| meaning(&error))? {
            Ok(reply) => self.clock.observe(Reply::new(reply)?.now),
            Err(error) => match (Redirect::of(&error, server), &self.servers) {
                (Some(_), Servers::One(_)) => return Err(wrong_scheme()),
                (Some(Redirect::Nobody) | None, _) => return Err(meaning(&error)),
                // Who knows that the slot has just gone elsewhere is alive.
                (Some(_), Servers::Cluster(_)) => {}
            },
        }
        Ok(())
    }
}

/// A charge that always fits, so that it is always written.
fn probe_charge(subject: Subject) -> Charge {
    let rate = Rate::new(1_000_000, Micros::new(1));
    let throttle = rate.and_then(|rate| Throttle::new(rate, 1_000_000_000).ok());
    let rule = Rule::Throttle(throttle.unwrap_or_else(|| unreachable!("a constant")));
    let limit = Limit::new("probe", Unit::requests(), rule, false);
    Charge { subject, limit: limit.into(), cost: 1 }
}

/// What a client's error means for the checks that it befell.
pub(super) fn meaning(error: &RedisError) -> Error {
    /// Words of a server that is there but does not write. Before Redis 7 some are wrapped in an ERR.
    const REFUSALS: [&str; 10] = [
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
