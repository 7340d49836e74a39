//! Who asks, and whether anything is known yet to judge by.

use std::sync::Arc;

use tokio::time::Instant;

use super::Engine;
use crate::catalog::{ApiKey, CheckError};
use crate::control::{ClientKey, Lookup, RegistryQuery};
use crate::store::StoreError;

impl Engine {
    /// Whether it has a catalog to decide by.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.parts.live.is_ready()
    }

    /// Why a check is refused: nobody knows that before there is a catalog.
    pub(super) fn refusal_or_unready(&self, refusal: CheckError) -> CheckError {
        if self.is_ready() { refusal } else { CheckError::NotReady }
    }

    /// Who a client is. A key that cannot be looked up is nobody's to let pass.
    pub(super) async fn identify(
        &self,
        client: Option<ClientKey<'_>>,
        started: Instant,
    ) -> Result<Option<Arc<ApiKey>>, CheckError> {
        let Some(client) = client else { return Ok(None) };
        let now = || self.parts.store.now();
        let found = self.parts.directory.lookup(&self.parts.live.catalog(), client, now);
        let key = match found {
            Lookup::Hit(key) => Some(key),
            Lookup::Miss => None,
            // Apart, so that the futures of checks whose keys are known stay small.
            Lookup::AskRegistry(query) => Box::pin(self.look_up_key(query, started)).await?,
        };
        let unknown = || CheckError::Forbidden { detail: "the API key is unknown".into() };
        key.map(Some).ok_or_else(|| self.refusal_or_unready(unknown()))
    }

    async fn look_up_key(
        &self,
        query: RegistryQuery,
        started: Instant,
    ) -> Result<Option<Arc<ApiKey>>, CheckError> {
        let answer = self.parts.directory.query_registry(query, || self.parts.store.now());
        let answer = tokio::time::timeout_at(started + self.parts.deadline, answer).await;
        answer.unwrap_or(Err(StoreError::Timeout)).map_err(|error| {
            tracing::debug!(kind = error.kind(), %error, "an API key was not looked up");
            CheckError::LookupUnavailable
        })
    }
}
