//! One Redis server: where it is, and who is to be told that it is in trouble.
//!
//! Which slots it has is for the topology to know, whether it is lost for each lane's driver.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::{Manager, Pool, Runtime};
use redis::Client;
use tokio::sync::watch;

use super::connection;
use super::url::{Connector, InvalidUrl};

/// The longest that anything apart from the hot path waits for.
const PATIENCE: Duration = Duration::from_millis(500);
/// The most connections of its pool.
pub(super) const POOLED: usize = 8;

/// A server, of which nothing but its address is known.
pub(super) struct Server {
    /// `HOST:PORT`.
    pub(super) address: Arc<str>,
    /// Makes the hot path's connections.
    pub(super) client: Client,
    /// Serves the rest.
    pub(super) pool: Pool,
    /// Changes whenever somebody gives a connection up: the others then try theirs.
    pub(super) trouble: watch::Sender<()>,
}

impl Server {
    /// Connects to nothing yet.
    pub(super) fn new(
        connector: &Connector,
        host: &str,
        port: u16,
    ) -> Result<Arc<Self>, InvalidUrl> {
        let client = connector.client(host, port)?;
        let manager = Manager::new_with_config(
            client.get_connection_info().clone(),
            connection::config(PATIENCE).set_response_timeout(Some(PATIENCE)),
        );
        let pool = manager.map_err(|error| InvalidUrl::new(&error)).and_then(|manager| {
            let pool = Pool::builder(manager).max_size(POOLED).runtime(Runtime::Tokio1);
            pool.wait_timeout(Some(PATIENCE)).build().map_err(|error| InvalidUrl::new(&error))
        })?;
        let address = format!("{host}:{port}").into();
        Ok(Arc::new(Self { address, client, pool, trouble: watch::Sender::new(()) }))
    }

    /// The host in its address.
    pub(super) fn host(&self) -> &str {
        self.address.rsplit_once(':').map_or(&self.address, |(host, _)| host)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}
