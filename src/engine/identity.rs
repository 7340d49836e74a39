//! The client of a request: looking up its API key.
//!
//! The cache and the registry are `control`'s.

use std::sync::Arc;

use tokio::time::Instant;

use super::Engine;
use crate::catalog::{ApiKey, CheckError};
use crate::control::{ClientKey, Lookup, RegistryQuery};
use crate::store::StoreError;

impl Engine {
    /// True if a catalog is loaded.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.parts.live.is_ready()
    }

    /// `NotReady` instead of `refusal` until a catalog is loaded: before, nothing is known about
    /// the client.
    pub(super) fn refusal_or_unready(&self, refusal: CheckError) -> CheckError {
        if self.is_ready() { refusal } else { CheckError::NotReady }
    }

    /// The API key of a request. If it cannot be looked up, the check is an error and not admitted.
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
            // Boxed, so that the futures of checks whose keys are cached stay small.
            Lookup::AskRegistry(query) => Box::pin(self.look_up_key(query, started)).await?,
        };
        let unknown = || CheckError::Forbidden { detail: "the API key is unknown".into() };
        key.map(Some).ok_or_else(|| self.refusal_or_unready(unknown()))
    }

    /// True if two values are known to be of API keys with different ids. The registry is not
    /// asked: what stands beside an API key is mostly no key.
    #[must_use]
    pub fn are_different_keys(&self, one: &str, other: &str) -> bool {
        let catalog = self.parts.live.catalog();
        let known = |secret| {
            let now = || self.parts.store.now();
            match self.parts.directory.lookup(&catalog, ClientKey::Secret(secret), now) {
                Lookup::Hit(key) => Some(key),
                Lookup::Miss | Lookup::AskRegistry(_) => None,
            }
        };
        known(one).zip(known(other)).is_some_and(|(one, other)| one.id != other.id)
    }

    async fn look_up_key(
        &self,
        query: RegistryQuery,
        started: Instant,
    ) -> Result<Option<Arc<ApiKey>>, CheckError> {
        let lookup = self.parts.directory.query_registry(query, || self.parts.store.now());
        let lookup = tokio::time::timeout_at(started + self.parts.deadline, lookup).await;
        lookup.unwrap_or(Err(StoreError::Timeout)).map_err(|error| {
            tracing::debug!(kind = error.kind(), %error, "an API key cannot be looked up");
            CheckError::LookupUnavailable
        })
    }
}
