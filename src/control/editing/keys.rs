//! Edits API keys.
//!
//! A key's entry, the entries of its values' digests and those of its plans change in one commit.

use std::sync::Arc;

use super::conflict_retry::ConflictRetry;
use super::file_resources::merge_keys;
use super::session::{EditSession, creation, removal, replacement};
use crate::catalog::ApiKey;
use crate::control::model::{
    ControlError, CreateKey, DigestEntry, EntryPath, KeyAttributes, KeyRecord,
};
use crate::control::translate::{key_to_api_key, overrides_to_limits, policies_of_key};
use crate::digest::{SecretDigest, decode_hex, encode_hex};
use crate::store::EntryChange;

/// A new key, with its value unless only the digest was given.
pub(super) type NewKey = (KeyRecord, Option<String>);

/// Reads and changes API keys.
pub struct KeyEditor<'e> {
    pub(super) session: &'e EditSession,
}

impl<'e> KeyEditor<'e> {
    pub(super) fn new(session: &'e EditSession) -> Self {
        Self { session }
    }

    /// The key with this id.
    ///
    /// # Errors
    /// If there is none, or the registry cannot be read.
    pub async fn get(&self, id: &str) -> Result<KeyRecord, ControlError> {
        match self.session.files().key(id) {
            Some(from_file) => Ok(from_file),
            None => Ok(self.load(id).await?.1),
        }
    }

    /// Up to `limit` keys after the one with the id `after`, by their ids.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn list(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<KeyRecord>, ControlError> {
        let path = after.map(|after| EntryPath::Key(after).to_string());
        let page = self.session.registry.page(EntryPath::KEYS, path.as_deref(), limit).await?;
        let page = page.iter().map(|(_, text)| KeyRecord::parse(text)).collect::<Result<_, _>>()?;
        let from_file = self.session.files().keys(after, limit, |_| true);
        Ok(merge_keys(from_file, page, limit))
    }

    /// The keys with these ids as checks use them, of the file and of the registry; `None` for an
    /// id that no key has.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn load_api_keys(
        &self,
        ids: &[String],
    ) -> Result<Vec<Option<Arc<ApiKey>>>, ControlError> {
        let catalog = self.session.live.catalog().clone();
        let paths: Vec<String> = ids.iter().map(|id| EntryPath::Key(id).into()).collect();
        let texts = self.session.registry.get_all(&paths).await?;
        let load = |(id, text): (&String, Option<String>)| match catalog.key_by_id(id) {
            Some(from_file) => Ok(Some(Arc::clone(from_file))),
            None => text
                .map(|text| Ok(Arc::new(key_to_api_key(&KeyRecord::parse(&text)?)?)))
                .transpose(),
        };
        ids.iter().zip(texts).map(load).collect()
    }

    /// The entry of the registry's key with this id, and the key in it.
    pub(super) async fn load(&self, id: &str) -> Result<(String, KeyRecord), ControlError> {
        let text = self.session.registry.get(&EntryPath::Key(id).to_string()).await?;
        let text = text.ok_or_else(|| self.not_in_registry(id))?;
        let record = KeyRecord::parse(&text)?;
        Ok((text, record))
    }

    fn not_in_registry(&self, id: &str) -> ControlError {
        match self.session.live.catalog().key_by_id(id) {
            None => ControlError::not_found("API Key"),
            Some(_) => ControlError::owned_by_file("API key", id),
        }
    }

    /// True if the values of new keys are kept, under encryption.
    #[must_use]
    pub fn keeps_values(&self) -> bool {
        self.session.seal.has_keys()
    }

    /// The value of a key, if it is kept and one of this service's encryption keys decrypts it.
    #[must_use]
    pub fn reveal_value(&self, record: &KeyRecord) -> Option<String> {
        let seal = &self.session.seal;
        let sealed = record.sealed.as_deref().filter(|_| seal.has_keys())?;
        let value = seal.open(&record.id, sealed);
        if value.is_none() {
            let why =
                "no key of key_encryption_key decrypts its value, or the entry was tampered with";
            tracing::error!(key = record.id, why, "an API key is shown without its value");
        }
        value
    }

    /// The id of the registry's key whose value has this digest.
    pub(super) async fn id_by_digest(
        &self,
        digest: SecretDigest,
    ) -> Result<Option<String>, ControlError> {
        Ok(self.ids_by_digest(std::iter::once(digest)).await?.into_iter().flatten().next())
    }

    /// The ids of the registry's keys whose values have these digests.
    pub(super) async fn ids_by_digest(
        &self,
        digests: impl Iterator<Item = SecretDigest>,
    ) -> Result<Vec<Option<String>>, ControlError> {
        let path = |digest| EntryPath::Digest(&encode_hex(&digest)).to_string();
        let paths: Vec<String> = digests.map(path).collect();
        let entries = self.session.registry.get_all(&paths).await?.into_iter();
        let id = |entry: String| DigestEntry::parse(&entry).id.to_owned();
        Ok(entries.map(|entry| entry.map(id)).collect())
    }

    /// Creates a key; its value is returned only here, and not if the request has only its digest.
    ///
    /// # Errors
    /// If the request is invalid, or another key has the id or the value.
    pub async fn create(
        &self,
        request: CreateKey,
    ) -> Result<(KeyRecord, Option<String>), ControlError> {
        let (made, changes) = self.prepare(request, Vec::new())?;
        self.validate_against_catalog(&made.0, &KeyAttributes::default()).await?;
        if self.session.commit(&changes).await? {
            Ok(made)
        } else {
            Err(ControlError::key_exists())
        }
    }

    /// A new key on these plans, which the caller has checked, with its value and the changes that
    /// create it.
    pub(super) fn prepare(
        &self,
        request: CreateKey,
        plans: Vec<String>,
    ) -> Result<(NewKey, Vec<EntryChange>), ControlError> {
        let CreateKey { value, value_sha256, attributes } = request;
        let (mut record, value) = if let Some(sha256) = value_sha256 {
            (KeyRecord::with_digest(sha256, attributes)?, None)
        } else {
            let (record, value) = KeyRecord::new(value, attributes)?;
            (record, Some(value))
        };
        record.plans = plans;
        let kept = value.as_deref();
        record.sealed = kept.and_then(|value| self.session.seal.seal(&record.id, value));
        let catalog = self.session.live.catalog();
        let digest = decode_hex(&record.sha256);
        if digest.is_some_and(|digest| catalog.key_by_digest(&digest).is_some())
            || catalog.key_by_id(&record.id).is_some()
        {
            return Err(ControlError::key_exists());
        }
        let KeyRecord { id, sha256, plans, .. } = &record;
        let owner = DigestEntry { id, until: None };
        let mut changes = vec![
            creation(EntryPath::Key(id), record.to_entry()?),
            creation(EntryPath::Digest(sha256), owner.to_string()),
        ];
        let links = plans.iter().map(|plan| EntryPath::PlanKey { plan, key: id });
        changes.extend(links.map(|link| creation(link, String::new())));
        Ok(((record, value), changes))
    }

    /// Changes a key.
    ///
    /// # Errors
    /// If there is none, `change` fails, or the registry is unreachable.
    pub async fn edit(
        &self,
        id: &str,
        change: impl Fn(&mut KeyRecord) -> Result<(), ControlError>,
    ) -> Result<KeyRecord, ControlError> {
        let mut retry = ConflictRetry::start();
        loop {
            let (was, mut record) = self.load(id).await?;
            let had = record.attributes.clone();
            change(&mut record)?;
            self.validate_against_catalog(&record, &had).await?;
            let change = replacement(EntryPath::Key(id), was, record.to_entry()?);
            if self.session.commit(&[change]).await? {
                return Ok(record);
            }
            retry.pause().await?;
        }
    }

    /// Deletes a key. Every node refuses it from then on.
    ///
    /// # Errors
    /// If there is none, or the registry is unreachable.
    pub async fn delete(&self, id: &str) -> Result<(), ControlError> {
        let mut retry = ConflictRetry::start();
        loop {
            let (was, record) = self.load(id).await?;
            let mut changes = vec![removal(EntryPath::Key(id), was)];
            changes.extend(
                record
                    .digest_entries()
                    .map(|(sha256, entry)| removal(EntryPath::Digest(sha256), entry.to_string())),
            );
            let links = record.plans.iter().map(|plan| EntryPath::PlanKey { plan, key: id });
            changes.extend(links.map(|link| removal(link, String::new())));
            if self.session.commit(&changes).await? {
                return Ok(());
            }
            retry.pause().await?;
        }
    }

    /// Checks that a key's overrides fit its plans, and that its policies exist. Those that are as
    /// in `had` are not checked: the catalog may have changed since.
    async fn validate_against_catalog(
        &self,
        record: &KeyRecord,
        had: &KeyAttributes,
    ) -> Result<(), ControlError> {
        let KeyAttributes { overrides, policies, .. } = &record.attributes;
        let new_plans: Vec<&str> = overrides.plans_that_differ_from(&had.overrides).collect();
        let is_new = |policy: &str| policies.get(policy) != had.policies.get(policy);
        let has_new_policy = policies.keys().any(|policy| is_new(policy));
        if new_plans.is_empty() && !has_new_policy {
            return Ok(());
        }
        self.session.sync.refresh().await?;
        let catalog = self.session.live.catalog();
        let (overrides, policies) =
            (overrides_to_limits(overrides)?, policies_of_key(&record.attributes)?);
        let mismatches = overrides.mismatches(&catalog).into_iter();
        let mismatches = mismatches.filter(|(plan, _)| new_plans.contains(plan));
        let mut faults: Vec<String> = mismatches.flat_map(|(_, faults)| faults).collect();
        let mismatches = policies.mismatches(&catalog).into_iter();
        faults.extend(mismatches.filter(|(policy, _)| is_new(policy)).map(|(_, fault)| fault));
        faults.extend(policies.excess(&catalog, &record.plans).filter(|_| has_new_policy));
        if faults.is_empty() { Ok(()) } else { Err(ControlError::BadRequest(faults.join("; "))) }
    }

    /// The overrides of a key that are ignored because its plans have changed since they were set:
    /// the place of each, and the reason.
    #[must_use]
    pub fn ignored_overrides(&self, record: &KeyRecord) -> Vec<String> {
        // The registry holds valid overrides only; a check logs those that are not.
        let overrides = overrides_to_limits(&record.attributes.overrides).unwrap_or_default();
        let mismatches = overrides.mismatches(&self.session.live.catalog());
        mismatches.into_iter().flat_map(|(_, faults)| faults).collect()
    }

    /// The policies of a key that are ignored because the catalog has lost them since they were
    /// set: the place of each, and the reason.
    #[must_use]
    pub fn ignored_policies(&self, record: &KeyRecord) -> Vec<String> {
        let policies = policies_of_key(&record.attributes).unwrap_or_default();
        policies.mismatches(&self.session.live.catalog()).into_values().collect()
    }
}
