//! In the place of `traces` in a build without the feature `otel`: nothing is exported.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::StartError;
use crate::telemetry::{Metrics, Tracer};

/// The export of a node's spans: there is none.
pub(super) struct Traces;

impl Traces {
    /// Starts nothing, and warns of a configured endpoint.
    #[expect(clippy::unnecessary_wraps, reason = "as with the feature")]
    pub(super) fn start(_: &Handle, _: &Arc<Metrics>) -> Result<Self, StartError> {
        if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() {
            tracing::warn!("traces are not exported: this program is built without `otel`");
        }
        Ok(Self)
    }

    /// The tracer of all workers: there is none.
    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(super) fn tracer(&self) -> Option<Arc<Tracer>> {
        None
    }

    /// Exports nothing.
    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub(super) async fn stop(self) {}
}
