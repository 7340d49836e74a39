//! Who a client is: API keys by their secrets and ids, from the catalog file, from memory, or from
//! the registry.
//!
//! There may be a million keys, so a node remembers those that it sees, and a bounded number of
//! guesses that were none. What it remembers ends with the revision that changes it. Of guesses that it
//! has not seen it lets only so many through to the registry: a flood of them must not take Redis down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::api_key::KeyRecord;
use super::keys::{digest_path, key_path};
use super::rotate::holder;
use crate::catalog::{
    ApiKey, Catalog, KeyDigest, decode_hex, digest_key, encode_hex, is_valid_name,
};
use crate::store::{Error, Registry};
use crate::time::Micros;

/// How many keys a node remembers.
const KEYS: usize = 100_000;
/// How many wrong guesses a node remembers.
const GUESSES: usize = 20_000;
/// How many wrong guesses may cost the registry a question between two looks at it, and how many
/// questions may be under way: 200 every 200 ms.
const QUESTIONS: usize = 200;

/// By what a check says who asks.
#[derive(Clone, Copy)]
pub enum Client<'a> {
    /// The API key itself.
    Secret(&'a str),
    /// The key's id, from a caller that has authenticated it.
    Id(&'a str),
}

/// Finds API keys.
pub struct Directory {
    registry: Registry,
    /// Ids by the digests of their secrets.
    ids: Cache<KeyDigest, Holder>,
    keys: Cache<Arc<str>, Arc<ApiKey>>,
    guesses: Cache<KeyDigest, ()>,
    /// Ids that no key has.
    strangers: Cache<Arc<str>, ()>,
    /// Questions that may still be asked; a key that there is gives its own back.
    questions: Semaphore,
    /// Questions that were wrong guesses, since the last look.
    wrong: AtomicUsize,
    /// What is remembered is as new as this revision.
    revision: AtomicU64,
}

/// Whose secret a digest is.
#[derive(Clone)]
struct Holder {
    id: Arc<str>,
    /// From when on it is nobody's, where it is on its way out.
    until: Option<Micros>,
}

impl Holder {
    fn read(entry: &str) -> Self {
        let (id, until) = holder(entry);
        Self { id: id.into(), until: until.map(Micros::from_secs) }
    }

    fn has_ended(&self, now: impl Fn() -> Micros) -> bool {
        self.until.is_some_and(|until| until <= now())
    }
}

/// What is known of a client without asking.
pub enum Found {
    /// The key.
    Key(Arc<ApiKey>),
    /// There is no such key.
    Nobody,
    /// Only the registry can tell.
    Ask(Question),
}

/// What the registry is asked for.
pub enum Question {
    /// The key whose secret has this digest.
    Digest(KeyDigest),
    /// The key with this id.
    Id(Arc<str>),
}

impl Directory {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            ids: Cache::new(KEYS),
            keys: Cache::new(KEYS),
            guesses: Cache::new(GUESSES),
            strangers: Cache::new(GUESSES),
            questions: Semaphore::new(QUESTIONS),
            wrong: AtomicUsize::new(0),
            revision: AtomicU64::new(0),
        }
    }

    /// What is known of a client without asking the registry. The file's keys come first; `now` is
    /// looked at where a secret is on its way out.
    #[must_use]
    pub fn find(&self, catalog: &Catalog, client: Client<'_>, now: impl Fn() -> Micros) -> Found {
        match client {
            Client::Secret(secret) => {
                let digest = digest_key(secret);
                if let Some(key) = catalog.key_by_digest(&digest) {
                    return Found::Key(Arc::clone(key));
                }
                if let Some(holder) = self.ids.get(&digest) {
                    if holder.has_ended(now) {
                        return Found::Nobody;
                    }
                    if let Some(key) = self.keys.get(&holder.id) {
                        return Found::Key(key);
                    }
                }
                match self.guesses.get(&digest) {
                    Some(()) => Found::Nobody,
                    None => Found::Ask(Question::Digest(digest)),
                }
            }
            Client::Id(id) => match catalog.key_by_id(id).cloned().or_else(|| self.keys.get(id)) {
                Some(key) => Found::Key(key),
                None if !is_valid_name(id) || self.strangers.get(id).is_some() => Found::Nobody,
                None => Found::Ask(Question::Id(id.into())),
            },
        }
    }

    /// Asks the registry, and remembers what it says.
    ///
    /// # Errors
    /// Where the registry cannot be asked, or too much of it is guessing: then nobody knows who the
    /// client is.
    pub async fn ask(
        &self,
        question: Question,
        now: impl Fn() -> Micros,
    ) -> Result<Option<Arc<ApiKey>>, Error> {
        // In a flood at once; but keys that a node has not met yet may wait for each other.
        if self.wrong.load(Ordering::Relaxed) >= QUESTIONS {
            return Err(Error::Overloaded);
        }
        let permit = self.questions.acquire().await.map_err(|_| Error::Overloaded)?;
        let revision = self.revision.load(Ordering::SeqCst);
        let (digest, holder) = match question {
            Question::Id(id) => (None, Some(Holder { id, until: None })),
            Question::Digest(digest) => {
                let entry = self.registry.get(&digest_path(&encode_hex(&digest))).await?;
                (Some(digest), entry.as_deref().map(Holder::read))
            }
        };
        let record = match &holder {
            None => None,
            Some(holder) => self.registry.get(&key_path(&holder.id)).await?,
        };
        let key = record.map(|text| KeyRecord::read(&text)?.in_use()).transpose();
        let key = key.map_err(|error| Error::BadRow(error.to_string()))?.map(Arc::new);
        if key.is_none() {
            permit.forget();
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
        let has_ended = holder.as_ref().is_some_and(|holder| holder.has_ended(now));
        self.remember(revision, digest, holder, key.as_ref());
        Ok(key.filter(|_| !has_ended))
    }

    /// Remembers what the registry said when this was as new as `revision`.
    fn remember(
        &self,
        revision: u64,
        digest: Option<KeyDigest>,
        holder: Option<Holder>,
        key: Option<&Arc<ApiKey>>,
    ) {
        if let Some(key) = key {
            self.keys.insert(Arc::clone(&key.id), Arc::clone(key));
        }
        match (key, digest, &holder) {
            (Some(_), Some(digest), Some(holder)) => self.ids.insert(digest, holder.clone()),
            (None, Some(digest), _) => self.guesses.insert(digest, ()),
            (None, None, Some(holder)) => self.strangers.insert(Arc::clone(&holder.id), ()),
            _ => {}
        }
        // A change that came since may have passed by what is now remembered.
        if self.revision.load(Ordering::SeqCst) != revision {
            if let Some(digest) = digest {
                self.forget_digest(&digest);
            }
            if let Some(holder) = holder {
                self.forget_id(&holder.id);
            }
        }
    }

    /// As many wrong guesses may be asked again as were.
    pub(super) fn allow_questions(&self) {
        self.questions.add_permits(self.wrong.swap(0, Ordering::Relaxed));
    }

    /// What is remembered from now on is as new as this revision.
    pub(super) fn begin(&self, revision: u64) {
        self.revision.store(revision, Ordering::SeqCst);
    }

    /// Forgets what one entry of the registry said.
    pub(super) fn forget(&self, path: &str) {
        if let Some(id) = path.strip_prefix(&*key_path("")) {
            self.forget_id(id);
        } else if let Some(digest) = path.strip_prefix(&*digest_path("")).and_then(decode_hex) {
            self.forget_digest(&digest);
        }
    }

    fn forget_id(&self, id: &str) {
        self.keys.remove(id);
        self.strangers.remove(id);
    }

    fn forget_digest(&self, digest: &KeyDigest) {
        self.ids.remove(digest);
        self.guesses.remove(digest);
    }

    /// Forgets everything.
    pub(super) fn forget_all(&self) {
        self.ids.clear();
        self.keys.clear();
        self.guesses.clear();
        self.strangers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Embedded;

    #[tokio::test]
    async fn only_so_many_wrong_guesses_are_asked_between_two_looks() {
        let directory = Directory::new(Registry::Embedded(Arc::new(Embedded::in_memory())));
        let mut guess = 0_u32;
        for _ in 0..3 {
            for _ in 0..QUESTIONS {
                guess += 1;
                let question = Question::Digest(digest_key(&guess.to_string()));
                assert!(matches!(directory.ask(question, || Micros::new(0)).await, Ok(None)));
            }
            let question = Question::Digest(digest_key("one more"));
            let refused = directory.ask(question, || Micros::new(0)).await;
            assert!(matches!(refused, Err(Error::Overloaded)));
            directory.allow_questions();
        }
    }

    #[test]
    fn what_was_asked_before_a_change_is_not_remembered_after_it() {
        let directory = Directory::new(Registry::Embedded(Arc::new(Embedded::in_memory())));
        let catalog = Catalog::example();
        let key = Arc::new(ApiKey::new("k"));
        let asked = |secret| directory.find(&catalog, Client::Secret(secret), || Micros::new(9));
        let holder = |until| Some(Holder { id: "k".into(), until });
        directory.begin(7);
        directory.remember(7, Some(digest_key("new")), holder(None), Some(&key));
        assert!(matches!(asked("new"), Found::Key(_)));
        directory.remember(7, Some(digest_key("late")), holder(Some(Micros::new(10))), Some(&key));
        assert!(matches!(asked("late"), Found::Key(_)));
        directory.remember(7, Some(digest_key("over")), holder(Some(Micros::new(9))), Some(&key));
        assert!(matches!(asked("over"), Found::Nobody));
        directory.remember(7, Some(digest_key("guess")), None, None);
        assert!(matches!(asked("guess"), Found::Nobody));
        directory.forget_all();
        directory.begin(8);
        directory.remember(7, Some(digest_key("old")), holder(None), Some(&key));
        assert!(matches!(asked("old"), Found::Ask(_)));
        directory.remember(7, Some(digest_key("guess")), None, None);
        assert!(matches!(asked("guess"), Found::Ask(_)));
        let by_id = || directory.find(&catalog, Client::Id("late"), || Micros::new(9));
        directory.remember(7, None, Some(Holder { id: "late".into(), until: None }), None);
        assert!(matches!(by_id(), Found::Ask(_)), "it may have been made since");
        directory.remember(8, None, Some(Holder { id: "late".into(), until: None }), None);
        assert!(matches!(by_id(), Found::Nobody));
        let no_id = directory.find(&catalog, Client::Id("a secret?"), || Micros::new(9));
        assert!(matches!(no_id, Found::Nobody), "an id that no key can have is not asked for");
        directory.forget(&key_path("late"));
        assert!(matches!(by_id(), Found::Ask(_)));
    }
}
