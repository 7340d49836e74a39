//! The key directory: finds the API key of a check request in the catalog file, in a cache, or in
//! the registry.
//!
//! There may be a million keys, so a node caches those that it has seen, and in a negative cache a
//! bounded number of values that are no key. A change of the registry invalidates both. Requests
//! with unknown values that are not cached may query the registry only at a limited rate: a flood
//! of guessed keys must not take Redis down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use crate::catalog::{ApiKey, Catalog, is_valid_name};
use crate::control::model::{DigestEntry, EntryPath, KeyRecord};
use crate::control::translate::key_to_api_key;
use crate::digest::{SecretDigest, decode_hex, digest_secret, encode_hex};
use crate::store::{Registry, StoreError};
use crate::time::Micros;

/// The most cached keys.
const MAX_CACHED_KEYS: usize = 100_000;
/// The most entries of the negative cache.
const MAX_CACHED_MISSES: usize = 20_000;
/// The most registry queries that find no key between two polls of the registry, and the most
/// queries at a time: 200 every 200 ms.
const MAX_REGISTRY_MISSES: usize = 200;

/// The client of a check request.
#[derive(Clone, Copy)]
pub enum ClientKey<'a> {
    /// The API key's value.
    Secret(&'a str),
    /// The API key's id, from a caller that has authenticated the request.
    Id(&'a str),
}

/// Finds API keys.
pub struct KeyDirectory {
    registry: Registry,
    /// The cache of key ids, by the digests of values.
    ids_by_digest: Cache<SecretDigest, DigestOwner>,
    keys_by_id: Cache<Arc<str>, Arc<ApiKey>>,
    unknown_digests: Cache<SecretDigest, ()>,
    /// The negative cache of ids.
    unknown_ids: Cache<Arc<str>, ()>,
    /// Queries that may still be sent. A query that finds a key returns its permit.
    registry_permits: Semaphore,
    /// Queries that found no key since the last poll.
    recent_misses: AtomicUsize,
    /// The registry's revision that the caches are up to date with.
    revision: AtomicU64,
}

/// The owner of a value's digest.
#[derive(Clone)]
struct DigestOwner {
    id: Arc<str>,
    /// The end of the overlap if a rotation has replaced the value.
    until: Option<Micros>,
}

impl DigestOwner {
    fn parse(entry: &str) -> Self {
        let DigestEntry { id, until } = DigestEntry::parse(entry);
        Self { id: id.into(), until: until.map(Micros::from_secs) }
    }

    fn has_expired(&self, now: impl Fn() -> Micros) -> bool {
        self.until.is_some_and(|until| until <= now())
    }
}

/// The result of a lookup without a query to the registry.
pub enum Lookup {
    /// The key.
    Hit(Arc<ApiKey>),
    /// The key does not exist.
    Miss,
    /// The caches have no entry: the registry has to be queried.
    AskRegistry(RegistryQuery),
}

/// A query for a key.
pub enum RegistryQuery {
    /// The key whose value has this digest.
    Digest(SecretDigest),
    /// The key with this id.
    Id(Arc<str>),
}

impl KeyDirectory {
    /// A directory with empty caches.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            ids_by_digest: Cache::new(MAX_CACHED_KEYS),
            keys_by_id: Cache::new(MAX_CACHED_KEYS),
            unknown_digests: Cache::new(MAX_CACHED_MISSES),
            unknown_ids: Cache::new(MAX_CACHED_MISSES),
            registry_permits: Semaphore::new(MAX_REGISTRY_MISSES),
            recent_misses: AtomicUsize::new(0),
            revision: AtomicU64::new(0),
        }
    }

    /// Looks a client up in the catalog file, then in the caches. `now` is called only for a value
    /// that a rotation has replaced.
    #[must_use]
    pub fn lookup(
        &self,
        catalog: &Catalog,
        client: ClientKey<'_>,
        now: impl Fn() -> Micros,
    ) -> Lookup {
        match client {
            ClientKey::Secret(secret) => {
                let digest = digest_secret(secret);
                if let Some(key) = catalog.key_by_digest(&digest) {
                    return Lookup::Hit(Arc::clone(key));
                }
                if let Some(owner) = self.ids_by_digest.get(&digest) {
                    if owner.has_expired(now) {
                        return Lookup::Miss;
                    }
                    if let Some(key) = self.keys_by_id.get(&owner.id) {
                        return Lookup::Hit(key);
                    }
                }
                match self.unknown_digests.get(&digest) {
                    Some(()) => Lookup::Miss,
                    None => Lookup::AskRegistry(RegistryQuery::Digest(digest)),
                }
            }
            ClientKey::Id(id) => {
                match catalog.key_by_id(id).cloned().or_else(|| self.keys_by_id.get(id)) {
                    Some(key) => Lookup::Hit(key),
                    None if !is_valid_name(id) || self.unknown_ids.get(id).is_some() => {
                        Lookup::Miss
                    }
                    None => Lookup::AskRegistry(RegistryQuery::Id(id.into())),
                }
            }
        }
    }

    /// Queries the registry, and caches the result.
    ///
    /// # Errors
    /// If the registry is unreachable, or too many queries have found no key: then the client is
    /// unknown.
    pub async fn query_registry(
        &self,
        query: RegistryQuery,
        now: impl Fn() -> Micros,
    ) -> Result<Option<Arc<ApiKey>>, StoreError> {
        // A flood is rejected at once, but queries for existing keys may wait for a permit.
        if self.recent_misses.load(Ordering::Relaxed) >= MAX_REGISTRY_MISSES {
            return Err(StoreError::Overloaded);
        }
        let permit = self.registry_permits.acquire().await.map_err(|_| StoreError::Overloaded)?;
        let revision = self.revision.load(Ordering::SeqCst);
        let (digest, owner) = match query {
            RegistryQuery::Id(id) => (None, Some(DigestOwner { id, until: None })),
            RegistryQuery::Digest(digest) => {
                let entry = {
                    let hex = encode_hex(&digest);
                    self.registry.get(&EntryPath::Digest(&hex).to_string()).await?
                };
                (Some(digest), entry.as_deref().map(DigestOwner::parse))
            }
        };
        let record = match &owner {
            None => None,
            Some(owner) => self.registry.get(&EntryPath::Key(&owner.id).to_string()).await?,
        };
        let key = record.map(|text| key_to_api_key(&KeyRecord::parse(&text)?)).transpose();
        let key = key.map_err(|error| StoreError::BadRow(error.to_string()))?.map(Arc::new);
        if key.is_none() {
            permit.forget();
            self.recent_misses.fetch_add(1, Ordering::Relaxed);
        }
        let has_expired = owner.as_ref().is_some_and(|owner| owner.has_expired(now));
        self.cache_result(revision, digest, owner, key.as_ref());
        Ok(key.filter(|_| !has_expired))
    }

    /// Caches the result of a query that was sent at `revision`.
    fn cache_result(
        &self,
        revision: u64,
        digest: Option<SecretDigest>,
        owner: Option<DigestOwner>,
        key: Option<&Arc<ApiKey>>,
    ) {
        if let Some(key) = key {
            self.keys_by_id.insert(Arc::clone(&key.id), Arc::clone(key));
        }
        match (key, digest, &owner) {
            (Some(_), Some(digest), Some(owner)) => {
                self.ids_by_digest.insert(digest, owner.clone());
            }
            (None, Some(digest), _) => self.unknown_digests.insert(digest, ()),
            (None, None, Some(owner)) => self.unknown_ids.insert(Arc::clone(&owner.id), ()),
            _ => {}
        }
        // A change since then may have invalidated the entries before they were inserted.
        if self.revision.load(Ordering::SeqCst) != revision {
            if let Some(digest) = digest {
                self.invalidate_digest(&digest);
            }
            if let Some(owner) = owner {
                self.invalidate_id(&owner.id);
            }
        }
    }

    /// Returns the permits of the queries that found no key.
    pub(super) fn refill_registry_permits(&self) {
        self.registry_permits.add_permits(self.recent_misses.swap(0, Ordering::Relaxed));
    }

    /// Sets the revision of results that are cached from now on.
    pub(super) fn advance_to(&self, revision: u64) {
        self.revision.store(revision, Ordering::SeqCst);
    }

    /// Invalidates the cached results of one entry of the registry.
    pub(super) fn invalidate(&self, path: &str) {
        match EntryPath::parse(path) {
            Some(EntryPath::Key(id)) => self.invalidate_id(id),
            Some(EntryPath::Digest(hex)) => {
                if let Some(digest) = decode_hex(hex) {
                    self.invalidate_digest(&digest);
                }
            }
            Some(EntryPath::Document | EntryPath::PlanKey { .. }) | None => {}
        }
    }

    fn invalidate_id(&self, id: &str) {
        self.keys_by_id.remove(id);
        self.unknown_ids.remove(id);
    }

    fn invalidate_digest(&self, digest: &SecretDigest) {
        self.ids_by_digest.remove(digest);
        self.unknown_digests.remove(digest);
    }

    /// Clears all caches.
    pub(super) fn invalidate_all(&self) {
        self.ids_by_digest.clear();
        self.keys_by_id.clear();
        self.unknown_digests.clear();
        self.unknown_ids.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EmbeddedRegistry;

    #[tokio::test]
    async fn queries_that_find_no_key_are_limited_between_two_polls() {
        let directory =
            KeyDirectory::new(Registry::Embedded(Arc::new(EmbeddedRegistry::in_memory())));
        let mut guess = 0_u32;
        for _ in 0..3 {
            for _ in 0..MAX_REGISTRY_MISSES {
                guess += 1;
                let query = RegistryQuery::Digest(digest_secret(&guess.to_string()));
                assert!(matches!(
                    directory.query_registry(query, || Micros::new(0)).await,
                    Ok(None)
                ));
            }
            let query = RegistryQuery::Digest(digest_secret("one more"));
            let refused = directory.query_registry(query, || Micros::new(0)).await;
            assert!(matches!(refused, Err(StoreError::Overloaded)));
            directory.refill_registry_permits();
        }
    }

    #[test]
    fn a_result_from_before_a_change_is_not_cached_after_it() {
        let directory =
            KeyDirectory::new(Registry::Embedded(Arc::new(EmbeddedRegistry::in_memory())));
        let catalog = Catalog::example();
        let key = Arc::new(ApiKey::new("k"));
        let lookup =
            |secret| directory.lookup(&catalog, ClientKey::Secret(secret), || Micros::new(9));
        let owner = |until| Some(DigestOwner { id: "k".into(), until });
        directory.advance_to(7);
        directory.cache_result(7, Some(digest_secret("new")), owner(None), Some(&key));
        assert!(matches!(lookup("new"), Lookup::Hit(_)));
        directory.cache_result(
            7,
            Some(digest_secret("late")),
            owner(Some(Micros::new(10))),
            Some(&key),
        );
        assert!(matches!(lookup("late"), Lookup::Hit(_)));
        directory.cache_result(
            7,
            Some(digest_secret("over")),
            owner(Some(Micros::new(9))),
            Some(&key),
        );
        assert!(matches!(lookup("over"), Lookup::Miss));
        directory.cache_result(7, Some(digest_secret("guess")), None, None);
        assert!(matches!(lookup("guess"), Lookup::Miss));
        directory.invalidate_all();
        directory.advance_to(8);
        directory.cache_result(7, Some(digest_secret("old")), owner(None), Some(&key));
        assert!(matches!(lookup("old"), Lookup::AskRegistry(_)));
        directory.cache_result(7, Some(digest_secret("guess")), None, None);
        assert!(matches!(lookup("guess"), Lookup::AskRegistry(_)));
        let by_id = || directory.lookup(&catalog, ClientKey::Id("late"), || Micros::new(9));
        directory.cache_result(7, None, Some(DigestOwner { id: "late".into(), until: None }), None);
        assert!(matches!(by_id(), Lookup::AskRegistry(_)), "it may have been created since");
        directory.cache_result(8, None, Some(DigestOwner { id: "late".into(), until: None }), None);
        assert!(matches!(by_id(), Lookup::Miss));
        let no_id = directory.lookup(&catalog, ClientKey::Id("a secret?"), || Micros::new(9));
        assert!(matches!(no_id, Lookup::Miss), "an invalid id is not queried");
        directory.invalidate(&EntryPath::Key("late").to_string());
        assert!(matches!(by_id(), Lookup::AskRegistry(_)));
    }
}
