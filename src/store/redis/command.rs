//! Single commands off the hot path, sent to the primary of their keys.

use std::time::Duration;

use redis::{Cmd, FromRedisValue};
use tokio::time::Instant;

use super::topology::slot;
use super::{Redis, StoreError};

/// The longest time to follow redirects while a slot is being moved.
const REDIRECT_TIMEOUT: Duration = Duration::from_millis(500);

impl Redis {
    /// Runs one command whose keys all have the hash tag of `key`.
    ///
    /// The command is sent again only after a redirect, which means that it has not run.
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
                Ok(reply) => return Ok(reply),
                Err(redirect) => {
                    redirected_to = topology.follow_redirect(redirect, slot, deadline).await?;
                }
            }
        }
    }
}
