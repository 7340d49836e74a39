//! The reports of each node for the others: bytes beside its heartbeat, which expire.
//!
//! Their meaning is the engine's.

use std::time::Duration;

use super::nodes::NODES_KEY;
use super::{Redis, StoreError};

/// The kinds of reports, of which a node has one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// The keys that are refused most and use most.
    Top,
    /// The rates and latencies of checks, and the node's state.
    Activity,
}

impl ReportKind {
    fn key(self, node_id: &str) -> String {
        let kind = match self {
            Self::Top => "top",
            Self::Activity => "activity",
        };
        format!("{NODES_KEY}:{kind}:{node_id}")
    }
}

impl Redis {
    /// Replaces the report of this node, which expires after `ttl`.
    ///
    /// # Errors
    /// If Redis cannot be reached, or refuses.
    pub async fn publish_report(
        &self,
        kind: ReportKind,
        report: &[u8],
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let mut command = redis::cmd("SET");
        let key = kind.key(&self.node_id);
        command.arg(key).arg(report).arg("EX").arg(ttl.as_secs().max(1));
        self.run_command(NODES_KEY, &command).await
    }

    /// The reports of all other nodes that have sent a heartbeat lately.
    ///
    /// # Errors
    /// If Redis cannot be reached, or refuses.
    pub async fn reports_of_others(&self, kind: ReportKind) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(NODES_KEY).arg("-inf").arg("+inf");
        let mut nodes: Vec<String> = self.run_command(NODES_KEY, &command).await?;
        nodes.retain(|node| *node != self.node_id);
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("MGET");
        for node in &nodes {
            command.arg(kind.key(node));
        }
        let reports: Vec<Option<Vec<u8>>> = self.run_command(NODES_KEY, &command).await?;
        Ok(reports.into_iter().flatten().collect())
    }
}
