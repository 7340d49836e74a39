//! Edits which keys are on which plans.
//!
//! The plans of a key stand in its own entry; the entry of each link serves to list the keys of a
//! plan. Both are committed together.

use super::conflict_retry::ConflictRetry;
use super::file_resources::merge_keys;
use super::keys::KeyEditor;
use super::session::{EditSession, creation, removal, replacement};
use crate::catalog::MAX_KEY_PLANS;
use crate::control::model::{ControlError, EntryPath, KeyRecord};

/// Links listed per read of the registry while a plan is deleted.
const LINKS_PER_READ: usize = 100;

/// Adds keys to plans and removes them.
pub struct PlanKeyEditor<'e> {
    session: &'e EditSession,
}

impl<'e> PlanKeyEditor<'e> {
    pub(super) fn new(session: &'e EditSession) -> Self {
        Self { session }
    }

    /// Up to `limit` keys of a plan after the one with the id `after`, by their ids.
    ///
    /// # Errors
    /// If there is no such plan, or the registry is unreachable.
    pub async fn list(
        &self,
        plan: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<KeyRecord>, ControlError> {
        self.session.sync.refresh().await?;
        if !self.session.live.catalog().has_plan(plan) {
            return Err(ControlError::no_usage_plan());
        }
        let ids = self.registry_ids(plan, after, limit).await?;
        let paths: Vec<String> = ids.iter().map(|id| EntryPath::Key(id).into()).collect();
        // A key that was deleted since the links were read is absent.
        let texts = self.session.registry.get_all(&paths).await?;
        let page = texts.iter().flatten().map(|text| KeyRecord::parse(text));
        let page = page.collect::<Result<_, _>>()?;
        let from_file = self.session.files().keys(after, limit, |key| key.is_on(plan));
        Ok(merge_keys(from_file, page, limit))
    }

    /// The ids of up to `limit` keys that the registry has on a plan after the id `after`.
    pub(super) async fn registry_ids(
        &self,
        plan: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ControlError> {
        let after = after.map(|key| EntryPath::PlanKey { plan, key }.to_string());
        let prefix = EntryPath::keys_on_plan(plan);
        let links = self.session.registry.page(&prefix, after.as_deref(), limit).await?;
        Ok(links.iter().filter_map(|(path, _)| Some(path.strip_prefix(&prefix)?.into())).collect())
    }

    /// Adds a key to a plan.
    ///
    /// # Errors
    /// If either does not exist, or the key is on the plan already or on another plan of one of its
    /// stages.
    pub async fn add(&self, plan: &str, key: &str) -> Result<KeyRecord, ControlError> {
        let mut retry = ConflictRetry::start();
        loop {
            self.session.sync.refresh().await?;
            let (was, mut record) = self.keys().load(key).await?;
            if record.is_on(plan) {
                return Err(ControlError::Conflict(format!(
                    "{key} already exists in the usage plan"
                )));
            }
            self.ensure_can_join(plan, &record)?;
            record.plans.push(plan.into());
            let changes = [
                replacement(EntryPath::Key(key), was, record.to_entry()?),
                creation(EntryPath::PlanKey { plan, key }, String::new()),
            ];
            if self.session.commit(&changes).await? {
                return Ok(record);
            }
            retry.pause().await?;
        }
    }

    /// Removes a key from a plan.
    ///
    /// # Errors
    /// If the key is not on the plan, or the registry is unreachable.
    pub async fn remove(&self, plan: &str, key: &str) -> Result<(), ControlError> {
        let mut retry = ConflictRetry::start();
        loop {
            let (was, mut record) = self.keys().load(key).await?;
            if !record.is_on(plan) {
                return Err(ControlError::not_found("Usage Plan Key"));
            }
            record.plans.retain(|other| other != plan);
            let changes = [
                replacement(EntryPath::Key(key), was, record.to_entry()?),
                removal(EntryPath::PlanKey { plan, key }, String::new()),
            ];
            if self.session.commit(&changes).await? {
                return Ok(());
            }
            retry.pause().await?;
        }
    }

    /// Removes all keys from a plan; true if there were any.
    pub(super) async fn remove_all(&self, plan: &str) -> Result<bool, ControlError> {
        let mut after: Option<String> = None;
        loop {
            let ids = self.registry_ids(plan, after.as_deref(), LINKS_PER_READ).await?;
            let Some(last) = ids.last() else { return Ok(after.is_some()) };
            after = Some(last.clone());
            for key in &ids {
                match self.remove(plan, key).await {
                    // Another request may remove keys at the same time.
                    Ok(()) | Err(ControlError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Checks that the plan exists, in the registry or in the catalog file, and that the key is on
    /// no other plan of one of its stages.
    pub(super) fn ensure_can_join(
        &self,
        plan: &str,
        record: &KeyRecord,
    ) -> Result<(), ControlError> {
        let catalog = self.session.live.catalog();
        if !catalog.has_plan(plan) {
            return Err(ControlError::no_usage_plan());
        }
        if record.plans.len() >= MAX_KEY_PLANS {
            return Err(ControlError::BadRequest(format!(
                "{} is on {} usage plans, and a key is on at most {MAX_KEY_PLANS}",
                record.id,
                record.plans.len()
            )));
        }
        match record.plans.iter().find(|other| catalog.plans_conflict(plan, other)) {
            None => Ok(()),
            Some(other) => Err(ControlError::Conflict(format!(
                "{} cannot be added: the usage plan {other} serves the same stage",
                record.id
            ))),
        }
    }

    fn keys(&self) -> KeyEditor<'e> {
        KeyEditor::new(self.session)
    }
}
