//! One command apart from the hot path, to whichever server has its keys.

use std::time::Duration;

use redis::{Cmd, FromRedisValue};
use tokio::time::Instant;

use super::topology::slot;
use super::{Redis, StoreError};

/// The longest that a slot on its way is waited for.
const REDIRECT_TIMEOUT: Duration = Duration::from_millis(500);

impl Redis {
    /// One command, whose keys all have the hash tag of `key`.
    ///
    /// Sent again only where a Cluster says that it has not run.
    pub(super) async fn run_command<T: FromRedisValue>(
        &self,
        key: &str,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let topology = &self.topology;
        let (slot, deadline) = (slot::of_key(key), Instant::now() + REDIRECT_TIMEOUT);
        let mut redirected_to = None;
        loop {
            let is_asking = redirected_to.is_some();
            let server = redirected_to.take().map_or_else(|| topology.primary_of(slot), Ok)?;
            match server.run_command(command, is_asking).await? {
                Ok(answer) => return Ok(answer),
                Err(redirect) => {
                    redirected_to = topology.follow_redirect(redirect, slot, deadline).await?;
                }
            }
        }
    }
}
