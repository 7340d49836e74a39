//! One command apart from the hot path, to whichever server has its keys.

use std::time::Duration;

use redis::{Cmd, FromRedisValue};
use tokio::time::Instant;

use super::cluster::slot;
use super::errors::wrong_scheme;
use super::{Error, Redis, Servers};

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
                return server.ask(command, false).await?.map_err(|_| wrong_scheme());
            }
        };
        let (slot, deadline) = (slot::of_key(key), Instant::now() + PATIENCE);
        let mut elsewhere = None;
        loop {
            let is_asking = elsewhere.is_some();
            let server = elsewhere.take().map_or_else(|| topology.holder(slot), Ok)?;
            match server.ask(command, is_asking).await? {
                Ok(answer) => return Ok(answer),
                Err(redirect) => elsewhere = topology.obey(redirect, slot, deadline).await?,
            }
        }
    }
}
