//! Reads and changes API keys, and which plans they are on.
//!
//! A key is an entry, its digest another that leads to it, and each plan that it is on a third: all
//! of a change are committed together.

use super::editor::{Editor, MAX_COMMIT_ATTEMPTS, too_many_conflicts};
use super::key_record::{CreateKey, KeyRecord};
use super::key_rotation::parse_digest_entry;
use super::{ControlError, OverridesSpec};
use std::sync::Arc;

use crate::catalog::ApiKey;
use crate::digest::{KeyDigest, digest_key, encode_hex};
use crate::store::EntryChange;

/// The entry of a key.
pub(super) fn key_path(id: &str) -> String {
    format!("key/{id}")
}

/// The entry that leads from a secret's digest, in hexadecimal digits, to the key.
pub(super) fn digest_path(hex: &str) -> String {
    format!("digest/{hex}")
}

/// The entry that says that a key is on a plan.
pub(super) fn plan_key_path(plan: &str, key: &str) -> String {
    format!("plan-key/{plan}/{key}")
}

/// The key in such an entry's path: no id has a slash.
pub(super) fn plan_key_id(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

impl Editor {
    /// The key with this id.
    ///
    /// # Errors
    /// Where there is none, or the registry cannot be read.
    pub async fn get_key(&self, id: &str) -> Result<KeyRecord, ControlError> {
        match self.file_key(id) {
            Some(from_file) => Ok(from_file),
            None => Ok(self.load_key(id).await?.1),
        }
    }

    /// Up to `limit` keys after the one with the id `after`, by their ids.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub async fn list_keys(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<KeyRecord>, ControlError> {
        let path = after.map(key_path);
        let page = self.registry.page(&key_path(""), path.as_deref(), limit).await?;
        let page = page.iter().map(|(_, text)| KeyRecord::parse(text)).collect::<Result<_, _>>()?;
        Ok(self.merge_file_keys(page, limit, |key| after.is_none_or(|after| *key.id > *after)))
    }

    /// Keys of the file and of the API as checks need them; nothing where there is no such key.
    pub(super) async fn load_api_keys(
        &self,
        ids: &[String],
    ) -> Result<Vec<Option<Arc<ApiKey>>>, ControlError> {
        let catalog = self.live.catalog().clone();
        let paths: Vec<String> = ids.iter().map(|id| key_path(id)).collect();
        let texts = self.registry.get_all(&paths).await?;
        let load = |(id, text): (&String, Option<String>)| match catalog.key_by_id(id) {
            Some(from_file) => Ok(Some(Arc::clone(from_file))),
            None => {
                text.map(|text| Ok(Arc::new(KeyRecord::parse(&text)?.to_api_key()?))).transpose()
            }
        };
        ids.iter().zip(texts).map(load).collect()
    }

    /// The value of a key, where it is kept and this service has the key to it.
    #[must_use]
    pub fn reveal_value(&self, record: &KeyRecord) -> Option<String> {
        let sealed = record.sealed.as_deref().filter(|_| self.seal.has_keys())?;
        let value = self.seal.open(&record.id, sealed);
        if value.is_none() {
            let why =
                "no key of key_encryption_key opens its value, or the entry was tampered with";
            tracing::error!(key = record.id, why, "an API key is shown without its value");
        }
        value
    }

    /// The id of the key whose value has this digest.
    pub(super) async fn key_id_by_digest(
        &self,
        digest: KeyDigest,
    ) -> Result<Option<String>, ControlError> {
        Ok(self.key_ids_by_digest(std::iter::once(digest)).await?.into_iter().flatten().next())
    }

    /// The ids of the keys whose values have these digests.
    pub(super) async fn key_ids_by_digest(
        &self,
        digests: impl Iterator<Item = KeyDigest>,
    ) -> Result<Vec<Option<String>>, ControlError> {
        let paths: Vec<String> = digests.map(|digest| digest_path(&encode_hex(&digest))).collect();
        let entries = self.registry.get_all(&paths).await?.into_iter();
        Ok(entries
            .map(|entry| entry.map(|entry| parse_digest_entry(&entry).0.to_owned()))
            .collect())
    }

    /// Makes a key, and tells its value this once.
    ///
    /// # Errors
    /// Where it cannot be as wanted, or its id or value is taken.
    pub async fn create_key(
        &self,
        request: CreateKey,
    ) -> Result<(KeyRecord, String), ControlError> {
        let (made, changes) = self.prepare_key(request, Vec::new())?;
        self.validate_overrides(&made.0, &OverridesSpec::default()).await?;
        if self.commit(&changes).await? { Ok(made) } else { Err(already_exists()) }
    }

    /// A key that is on these plans, which it may be, its value, and what makes it.
    pub(super) fn prepare_key(
        &self,
        request: CreateKey,
        plans: Vec<String>,
    ) -> Result<((KeyRecord, String), Vec<EntryChange>), ControlError> {
        let (mut record, value) = KeyRecord::new(request)?;
        record.plans = plans;
        record.sealed = self.seal.seal(&record.id, &value);
        let catalog = self.live.catalog();
        if catalog.key_by_digest(&digest_key(&value)).is_some()
            || catalog.key_by_id(&record.id).is_some()
        {
            return Err(already_exists());
        }
        let by_digest = digest_path(&record.sha256);
        let fresh = |path, becomes| EntryChange { path, was: None, becomes: Some(becomes) };
        let mut changes = vec![
            fresh(key_path(&record.id), serialize_record(&record)?),
            fresh(by_digest, record.id.clone()),
        ];
        let links = record.plans.iter().map(|plan| plan_key_path(plan, &record.id));
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
        change: impl Fn(&mut KeyRecord) -> Result<(), ControlError>,
    ) -> Result<KeyRecord, ControlError> {
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let (was, mut record) = self.load_key(id).await?;
            let overrides = record.overrides().clone();
            change(&mut record)?;
            self.validate_overrides(&record, &overrides).await?;
            let becomes = Some(serialize_record(&record)?);
            if self.commit(&[EntryChange { path: key_path(id), was: Some(was), becomes }]).await? {
                return Ok(record);
            }
        }
        Err(too_many_conflicts())
    }

    /// Removes a key: it is unknown everywhere from then on.
    ///
    /// # Errors
    /// Where there is none, or the registry is lost.
    pub async fn delete_key(&self, id: &str) -> Result<(), ControlError> {
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let (was, record) = self.load_key(id).await?;
            let mut changes = vec![
                removal(key_path(id), was),
                removal(digest_path(&record.sha256), id.to_owned()),
            ];
            changes.extend(
                record
                    .retiring
                    .map(|old| removal(digest_path(&old.sha256), old.to_digest_entry(id))),
            );
            changes.extend(
                record.plans.iter().map(|plan| removal(plan_key_path(plan, id), String::new())),
            );
            if self.commit(&changes).await? {
                return Ok(());
            }
        }
        Err(too_many_conflicts())
    }

    /// Puts a key on a plan.
    ///
    /// # Errors
    /// Where either is not there, the key is on it already, or on another plan of a stage of it.
    pub async fn add_key_to_plan(&self, plan: &str, key: &str) -> Result<KeyRecord, ControlError> {
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            self.sync.refresh().await?;
            let (was, mut record) = self.load_key(key).await?;
            if record.is_on(plan) {
                return Err(ControlError::Conflict(format!(
                    "{key} already exists in the usage plan"
                )));
            }
            self.ensure_can_join(plan, &record)?;
            record.plans.push(plan.into());
            let changes = [
                EntryChange {
                    path: key_path(key),
                    was: Some(was),
                    becomes: Some(serialize_record(&record)?),
                },
                EntryChange {
                    path: plan_key_path(plan, key),
                    was: None,
                    becomes: Some(String::new()),
                },
            ];
            if self.commit(&changes).await? {
                return Ok(record);
            }
        }
        Err(too_many_conflicts())
    }

    /// Takes a key off a plan.
    ///
    /// # Errors
    /// Where it is not on it, or the registry is lost.
    pub async fn remove_key_from_plan(&self, plan: &str, key: &str) -> Result<(), ControlError> {
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let (was, mut record) = self.load_key(key).await?;
            if !record.is_on(plan) {
                return Err(ControlError::not_found("Usage Plan Key"));
            }
            record.plans.retain(|other| other != plan);
            let changes = [
                EntryChange {
                    path: key_path(key),
                    was: Some(was),
                    becomes: Some(serialize_record(&record)?),
                },
                removal(plan_key_path(plan, key), String::new()),
            ];
            if self.commit(&changes).await? {
                return Ok(());
            }
        }
        Err(too_many_conflicts())
    }

    /// Up to `limit` keys of a plan after the one with the id `after`, by their ids.
    ///
    /// # Errors
    /// Where there is no such plan, or the registry is lost.
    pub async fn list_plan_keys(
        &self,
        plan: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<KeyRecord>, ControlError> {
        self.sync.refresh().await?;
        if !self.live.catalog().has_plan(plan) {
            return Err(ControlError::not_found("Usage Plan"));
        }
        let prefix = plan_key_path(plan, "");
        let path = after.map(|key| plan_key_path(plan, key));
        let links = self.registry.page(&prefix, path.as_deref(), limit).await?;
        let paths: Vec<String> =
            links.iter().map(|(path, _)| key_path(plan_key_id(path))).collect();
        // What was removed while this was read is not there.
        let texts = self.registry.get_all(&paths).await?;
        let page = texts.iter().flatten().map(|text| KeyRecord::parse(text));
        let page = page.collect::<Result<_, _>>()?;
        Ok(self.merge_file_keys(page, limit, |key| {
            key.plans.iter().any(|on| **on == *plan) && after.is_none_or(|after| *key.id > *after)
        }))
    }

    /// That the registry has no such key; the file may.
    fn key_not_found(&self, id: &str) -> ControlError {
        match self.live.catalog().key_by_id(id) {
            None => ControlError::not_found("API Key"),
            Some(_) => ControlError::owned_by_file("API key", id),
        }
    }

    /// That there is this plan, of the API or of the file, and that the key is on no other of one of
    /// its stages.
    pub(super) fn ensure_can_join(
        &self,
        plan: &str,
        record: &KeyRecord,
    ) -> Result<(), ControlError> {
        let catalog = self.live.catalog();
        if !catalog.has_plan(plan) {
            return Err(ControlError::not_found("Usage Plan"));
        }
        match record.plans.iter().find(|other| catalog.plans_conflict(plan, other)) {
            None => Ok(()),
            Some(other) => Err(ControlError::Conflict(format!(
                "{} cannot be added: the usage plan {other} serves the same stage",
                record.id
            ))),
        }
    }

    pub(super) async fn load_key(&self, id: &str) -> Result<(String, KeyRecord), ControlError> {
        let text = self.registry.get(&key_path(id)).await?;
        let text = text.ok_or_else(|| self.key_not_found(id))?;
        let record = KeyRecord::parse(&text)?;
        Ok((text, record))
    }
}

pub(super) fn already_exists() -> ControlError {
    ControlError::Conflict("API Key already exists".into())
}

pub(super) fn removal(path: String, was: String) -> EntryChange {
    EntryChange { path, was: Some(was), becomes: None }
}

pub(super) fn serialize_record(record: &KeyRecord) -> Result<String, ControlError> {
    serde_json::to_string(record).map_err(|error| ControlError::BadRequest(error.to_string()))
}
