//! Reads and changes API keys, and which plans they are on.
//!
//! A key is an entry, its digest another that leads to it, and each plan that it is on a third: all
//! of a change are committed together.

use super::api_key::{KeyRecord, WantedKey};
use super::editor::{Editor, TRIES, too_busy};
use super::rotate::holder;
use super::{Error, Overrides};
use std::sync::Arc;

use crate::catalog::{ApiKey, KeyDigest, digest_key, encode_hex};
use crate::store::Change;

/// The entry of a key.
pub(super) fn key_path(id: &str) -> String {
    format!("key/{id}")
}

/// The entry that leads from a secret's digest, in hexadecimal digits, to the key.
pub(super) fn digest_path(hex: &str) -> String {
    format!("digest/{hex}")
}

/// The entry that says that a key is on a plan.
pub(super) fn link_path(plan: &str, key: &str) -> String {
    format!("plan-key/{plan}/{key}")
}

/// The key in such an entry's path: no id has a slash.
pub(super) fn linked_key(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

impl Editor {
    /// The key with this id.
    ///
    /// # Errors
    /// Where there is none, or the registry cannot be read.
    pub async fn key(&self, id: &str) -> Result<KeyRecord, Error> {
        match self.filed_key(id) {
            Some(filed) => Ok(filed),
            None => Ok(self.read_key(id).await?.1),
        }
    }

    /// Up to `limit` keys after the one with the id `after`, by their ids.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub async fn keys(&self, after: Option<&str>, limit: usize) -> Result<Vec<KeyRecord>, Error> {
        let path = after.map(key_path);
        let page = self.registry.page(&key_path(""), path.as_deref(), limit).await?;
        let page = page.iter().map(|(_, text)| KeyRecord::read(text)).collect::<Result<_, _>>()?;
        Ok(self.with_filed(page, limit, |key| after.is_none_or(|after| *key.id > *after)))
    }

    /// Keys of the file and of the API as checks need them; nothing where there is no such key.
    pub(super) async fn clients(&self, ids: &[String]) -> Result<Vec<Option<Arc<ApiKey>>>, Error> {
        let catalog = self.live.catalog().clone();
        let paths: Vec<String> = ids.iter().map(|id| key_path(id)).collect();
        let texts = self.registry.get_all(&paths).await?;
        let client = |(id, text): (&String, Option<String>)| match catalog.key_by_id(id) {
            Some(filed) => Ok(Some(Arc::clone(filed))),
            None => text.map(|text| Ok(Arc::new(KeyRecord::read(&text)?.in_use()?))).transpose(),
        };
        ids.iter().zip(texts).map(client).collect()
    }

    /// The value of a key, where it is kept and this service has the key to it.
    #[must_use]
    pub fn value_of(&self, record: &KeyRecord) -> Option<String> {
        let sealed = record.sealed.as_deref().filter(|_| self.seal.is_in_use())?;
        let value = self.seal.open(&record.id, sealed);
        if value.is_none() {
            let why =
                "no key of key_encryption_key opens its value, or the entry was tampered with";
            tracing::error!(key = record.id, why, "an API key is shown without its value");
        }
        value
    }

    /// The id of the key whose value has this digest.
    pub(super) async fn id_of(&self, digest: KeyDigest) -> Result<Option<String>, Error> {
        Ok(self.ids_of(std::iter::once(digest)).await?.into_iter().flatten().next())
    }

    /// The ids of the keys whose values have these digests.
    pub(super) async fn ids_of(
        &self,
        digests: impl Iterator<Item = KeyDigest>,
    ) -> Result<Vec<Option<String>>, Error> {
        let paths: Vec<String> = digests.map(|digest| digest_path(&encode_hex(&digest))).collect();
        let entries = self.registry.get_all(&paths).await?.into_iter();
        Ok(entries.map(|entry| entry.map(|entry| holder(&entry).0.to_owned())).collect())
    }

    /// Makes a key, and tells its value this once.
    ///
    /// # Errors
    /// Where it cannot be as wanted, or its id or value is taken.
    pub async fn create_key(&self, wanted: WantedKey) -> Result<(KeyRecord, String), Error> {
        let (made, changes) = self.new_key(wanted, Vec::new())?;
        self.fits(&made.0, &Overrides::default()).await?;
        if self.commit(&changes).await? { Ok(made) } else { Err(taken()) }
    }

    /// A key that is on these plans, which it may be, its value, and what makes it.
    pub(super) fn new_key(
        &self,
        wanted: WantedKey,
        plans: Vec<String>,
    ) -> Result<((KeyRecord, String), Vec<Change>), Error> {
        let (mut record, value) = KeyRecord::new(wanted)?;
        record.plans = plans;
        record.sealed = self.seal.seal(&record.id, &value);
        let file = self.live.catalog();
        if file.key_by_digest(&digest_key(&value)).is_some() || file.key_by_id(&record.id).is_some()
        {
            return Err(taken());
        }
        let by_digest = digest_path(&record.sha256);
        let fresh = |path, becomes| Change { path, was: None, becomes: Some(becomes) };
        let mut changes =
            vec![fresh(key_path(&record.id), text(&record)?), fresh(by_digest, record.id.clone())];
        let links = record.plans.iter().map(|plan| link_path(plan, &record.id));
        changes.extend(links.map(|link| fresh(link, String::new())));
        Ok(((record, value), changes))
    }

    /// Changes a key.
    ///
    /// # Errors
    /// Where there is none, an operation cannot be made, or the registry is lost.
    pub async fn edit_key(
        &self,
        id: &str,
        change: impl Fn(&mut KeyRecord) -> Result<(), Error>,
    ) -> Result<KeyRecord, Error> {
        for _ in 0..TRIES {
            let (was, mut record) = self.read_key(id).await?;
            let overrides = record.overrides().clone();
            change(&mut record)?;
            self.fits(&record, &overrides).await?;
            let becomes = Some(text(&record)?);
            if self.commit(&[Change { path: key_path(id), was: Some(was), becomes }]).await? {
                return Ok(record);
            }
        }
        Err(too_busy())
    }

    /// Removes a key: it is unknown everywhere from then on.
    ///
    /// # Errors
    /// Where there is none, or the registry is lost.
    pub async fn delete_key(&self, id: &str) -> Result<(), Error> {
        for _ in 0..TRIES {
            let (was, record) = self.read_key(id).await?;
            let mut changes =
                vec![gone(key_path(id), was), gone(digest_path(&record.sha256), id.to_owned())];
            changes
                .extend(record.retiring.map(|old| gone(digest_path(&old.sha256), old.entry(id))));
            changes
                .extend(record.plans.iter().map(|plan| gone(link_path(plan, id), String::new())));
            if self.commit(&changes).await? {
                return Ok(());
            }
        }
        Err(too_busy())
    }

    /// Puts a key on a plan.
    ///
    /// # Errors
    /// Where either is not there, the key is on it already, or on another plan of a stage of it.
    pub async fn link(&self, plan: &str, key: &str) -> Result<KeyRecord, Error> {
        for _ in 0..TRIES {
            self.sync.look().await?;
            let (was, mut record) = self.read_key(key).await?;
            if record.is_on(plan) {
                return Err(Error::Conflict(format!("{key} already exists in the usage plan")));
            }
            self.may_join(plan, &record)?;
            record.plans.push(plan.into());
            let changes = [
                Change { path: key_path(key), was: Some(was), becomes: Some(text(&record)?) },
                Change { path: link_path(plan, key), was: None, becomes: Some(String::new()) },
            ];
            if self.commit(&changes).await? {
                return Ok(record);
            }
        }
        Err(too_busy())
    }

    /// Takes a key off a plan.
    ///
    /// # Errors
    /// Where it is not on it, or the registry is lost.
    pub async fn unlink(&self, plan: &str, key: &str) -> Result<(), Error> {
        for _ in 0..TRIES {
            let (was, mut record) = self.read_key(key).await?;
            if !record.is_on(plan) {
                return Err(Error::no("Usage Plan Key"));
            }
            record.plans.retain(|other| other != plan);
            let changes = [
                Change { path: key_path(key), was: Some(was), becomes: Some(text(&record)?) },
                gone(link_path(plan, key), String::new()),
            ];
            if self.commit(&changes).await? {
                return Ok(());
            }
        }
        Err(too_busy())
    }

    /// Up to `limit` keys of a plan after the one with the id `after`, by their ids.
    ///
    /// # Errors
    /// Where there is no such plan, or the registry is lost.
    pub async fn keys_of(
        &self,
        plan: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<KeyRecord>, Error> {
        self.sync.look().await?;
        if !self.live.catalog().has_plan(plan) {
            return Err(Error::no("Usage Plan"));
        }
        let prefix = link_path(plan, "");
        let path = after.map(|key| link_path(plan, key));
        let links = self.registry.page(&prefix, path.as_deref(), limit).await?;
        let paths: Vec<String> = links.iter().map(|(path, _)| key_path(linked_key(path))).collect();
        // What was removed while this was read is not there.
        let texts = self.registry.get_all(&paths).await?;
        let page = texts.iter().flatten().map(|text| KeyRecord::read(text));
        let page = page.collect::<Result<_, _>>()?;
        Ok(self.with_filed(page, limit, |key| {
            key.plans.iter().any(|on| **on == *plan) && after.is_none_or(|after| *key.id > *after)
        }))
    }

    /// That the registry has no such key; the file may.
    fn no_key(&self, id: &str) -> Error {
        match self.live.catalog().key_by_id(id) {
            None => Error::no("API Key"),
            Some(_) => Error::filed("API key", id),
        }
    }

    /// That there is this plan, of the API or of the file, and that the key is on no other of one of
    /// its stages.
    pub(super) fn may_join(&self, plan: &str, record: &KeyRecord) -> Result<(), Error> {
        let catalog = self.live.catalog();
        if !catalog.has_plan(plan) {
            return Err(Error::no("Usage Plan"));
        }
        match record.plans.iter().find(|other| catalog.plans_conflict(plan, other)) {
            None => Ok(()),
            Some(other) => Err(Error::Conflict(format!(
                "{} cannot be added: the usage plan {other} serves the same stage",
                record.id
            ))),
        }
    }

    pub(super) async fn read_key(&self, id: &str) -> Result<(String, KeyRecord), Error> {
        let text = self.registry.get(&key_path(id)).await?;
        let text = text.ok_or_else(|| self.no_key(id))?;
        let record = KeyRecord::read(&text)?;
        Ok((text, record))
    }
}

pub(super) fn taken() -> Error {
    Error::Conflict("API Key already exists".into())
}

pub(super) fn gone(path: String, was: String) -> Change {
    Change { path, was: Some(was), becomes: None }
}

pub(super) fn text(record: &KeyRecord) -> Result<String, Error> {
    serde_json::to_string(record).map_err(|error| Error::BadRequest(error.to_string()))
}
