//! A report of each node for the others: bytes beside its heartbeat, which expire.
//!
//! Their meaning is the engine's.

use std::time::Duration;

use super::nodes::NODES_KEY;
use super::{Redis, StoreError};

impl Redis {
    fn report_key(node_id: &str) -> String {
        format!("{NODES_KEY}:top:{node_id}")
    }

    /// Replaces the report of this node, which expires after `ttl`.
    ///
    /// # Errors
    /// If Redis cannot be reached, or refuses.
    pub async fn publish_report(&self, report: &[u8], ttl: Duration) -> Result<(), StoreError> {
        let mut command = redis::cmd("SET");
        let key = Self::report_key(&self.node_id);
        command.arg(key).arg(report).arg("EX").arg(ttl.as_secs().max(1));
        self.run_command(NODES_KEY, &command).await
    }

    /// The reports of all other nodes that have sent a heartbeat lately.
    ///
    /// # Errors
    /// If Redis cannot be reached, or refuses.
    pub async fn reports_of_others(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(NODES_KEY).arg("-inf").arg("+inf");
        let mut nodes: Vec<String> = self.run_command(NODES_KEY, &command).await?;
        nodes.retain(|node| *node != self.node_id);
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("MGET");
        for node in &nodes {
            command.arg(Self::report_key(node));
        }
        let reports: Vec<Option<Vec<u8>>> = self.run_command(NODES_KEY, &command).await?;
        Ok(reports.into_iter().flatten().collect())
    }
}
