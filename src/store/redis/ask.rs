//! One command apart from the hot path, to whichever server has its keys.

use std::time::Duration;

use redis::{Cmd, FromRedisValue};
use tokio::time::Instant;

use super::cluster::{Redirect, slot};
use super::server::Server;
use super::{Error, Redis, Servers, connection::meaning};

/// The longest that a slot on its way is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

impl Redis {
    /// One command, whose keys all have the hash tag of `key`.
    ///
    /// Sent again only where a Cluster says that it has not run.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        key: &str,
        command: &Cmd,
    ) -> Result<T, Error> {
        let topology = match &self.servers {
            Servers::Cluster(topology) => topology,
            Servers::One(server) => {
                return ask_at(server, command, false).await?.map_err(|_| wrong_scheme());
            }
        };
        let (slot, deadline) = (slot::of_key(key), Instant::now() + PATIENCE);
        let mut elsewhere = None;
        loop {
            let is_asking = elsewhere.is_some();
            let server = elsewhere.take().map_or_else(|| topology.holder(slot), Ok)?;
            match ask_at(&server, command, is_asking).await? {
                Ok(answer) => return Ok(answer),
                Err(redirect) => elsewhere = topology.obey(redirect, slot, deadline).await?,
            }
        }
    }
}

/// That a server which was named as the only one is a Cluster's.
pub(super) fn wrong_scheme() -> Error {
    Error::Refused("it is a server of a Redis Cluster; write --store redis+cluster://…".into())
}

/// One command on a connection of a server's pool; one that failed does not go back.
pub(super) async fn ask_at<T: FromRedisValue>(
    server: &Server,
    command: &Cmd,
    is_asking: bool,
) -> Result<Result<T, Redirect>, Error> {
    let connection = server.pool.get().await;
    let mut connection = connection.map_err(|error| Error::Unreachable(error.to_string()))?;
    let answer = if is_asking {
        let mut both = redis::pipe();
        both.cmd("ASKING").ignore().add_command(command.clone());
        both.query_async(&mut connection).await.map(|(answer,)| answer)
    } else {
        command.query_async(&mut connection).await
    };
    let error = match answer {
        Ok(answer) => return Ok(Ok(answer)),
        Err(error) => error,
    };
    if let Some(redirect) = Redirect::of(&error, server) {
        return Ok(Err(redirect));
    }
    drop(deadpool_redis::Connection::take(connection));
    Err(meaning(&error))
}
