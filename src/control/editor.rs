//! Reads and changes what the API declares: APIs and plans here, keys in `keys`.
//!
//! A change is made to what is there now and committed only if that still is; where somebody was
//! faster it is made again to what they made. So of two changes at the same time neither is lost.

use std::sync::Arc;

use super::audit::{ChangeOrigin, audit_note};
use super::keys::{plan_key_id, plan_key_path};
use super::seal::Seal;
use super::{ControlError, Document, LiveCatalog, RegistrySync, document};
use crate::store::{CommitError, EntryChange, Registry};

/// How often a change is made again before it is refused.
pub(super) const MAX_COMMIT_ATTEMPTS: usize = 8;

/// What editors work with.
#[derive(Clone)]
pub struct EditorFactory {
    /// Where it is declared.
    pub registry: Registry,
    /// What this node serves by.
    pub live: Arc<LiveCatalog>,
    /// What keeps this node as new as the registry.
    pub sync: Arc<RegistrySync>,
    /// What keeps the values of keys.
    pub seal: Arc<Seal>,
}

impl EditorFactory {
    /// An editor for one request.
    #[must_use]
    pub fn editor(&self, origin: ChangeOrigin) -> Editor {
        let Self { registry, live, sync, seal } = self.clone();
        Editor { registry, live, sync, seal, origin }
    }
}

/// Reads and changes what the API declares, for one request: each change is noted as that request's.
pub struct Editor {
    pub(super) registry: Registry,
    pub(super) live: Arc<LiveCatalog>,
    pub(super) sync: Arc<RegistrySync>,
    pub(super) seal: Arc<Seal>,
    pub(super) origin: ChangeOrigin,
}

impl Editor {
    /// APIs and plans as they are now.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub async fn document(&self) -> Result<Document, ControlError> {
        Document::parse(self.registry.get(document::ENTRY_PATH).await?.as_deref())
    }

    /// Changes APIs and plans; what makes no catalog is refused.
    async fn edit_document<T>(
        &self,
        change: impl Fn(&mut Document) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let was = self.registry.get(document::ENTRY_PATH).await?;
            let mut document = Document::parse(was.as_deref())?;
            let made = change(&mut document)?;
            self.live.validate(&document)?;
            let becomes = serde_json::to_string(&document)
                .map_err(|error| ControlError::BadRequest(error.to_string()))?;
            let path = document::ENTRY_PATH.to_owned();
            if self.commit(&[EntryChange { path, was, becomes: Some(becomes) }]).await? {
                return Ok(made);
            }
        }
        Err(too_many_conflicts())
    }

    /// Changes or makes an API, or what is under it.
    ///
    /// # Errors
    /// As [`Editor::edit_plan`].
    pub async fn edit_api<T>(
        &self,
        id: &str,
        change: impl Fn(&mut Document) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        if self.read_file_owned(|owned| owned.apis.contains_key(id)) {
            return Err(ControlError::owned_by_file("API", id));
        }
        self.edit_document(change).await
    }

    /// Changes or makes a plan.
    ///
    /// # Errors
    /// Where it is the catalog file's; those of `change`; where the result is no catalog; where the
    /// registry is lost.
    pub async fn edit_plan<T>(
        &self,
        id: &str,
        change: impl Fn(&mut Document) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        if self.read_file_owned(|owned| owned.plans.contains_key(id)) {
            return Err(ControlError::owned_by_file("usage plan", id));
        }
        self.edit_document(change).await
    }

    /// Removes a plan, and takes its keys off it.
    ///
    /// # Errors
    /// Where there is none, it is the catalog file's, or the registry is lost.
    pub async fn delete_plan(&self, plan: &str) -> Result<(), ControlError> {
        let removed = self.edit_plan(plan, |document| {
            document
                .usage_plans
                .remove(plan)
                .map(drop)
                .ok_or_else(|| ControlError::not_found("Usage Plan"))
        });
        // Who was interrupted among its keys asks once more: another plan of this id must not find them.
        let mut done = match removed.await {
            Err(error @ ControlError::NotFound(_)) => Err(error),
            removed => Ok(removed?),
        };
        let mut after = None;
        loop {
            let links = self.registry.page(&plan_key_path(plan, ""), after.as_deref(), 100).await?;
            let Some((last, _)) = links.last() else { return done };
            (after, done) = (Some(last.clone()), Ok(()));
            for (path, _) in &links {
                match self.remove_key_from_plan(plan, plan_key_id(path)).await {
                    // Others may take keys off it at the same time.
                    Ok(()) | Err(ControlError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Whether it was committed. This node then serves by it already, unless the registry was lost
    /// in between.
    pub(super) async fn commit(&self, changes: &[EntryChange]) -> Result<bool, ControlError> {
        let committed = self.commit_without_refresh(changes).await?;
        if committed {
            self.refresh_after_commit().await;
        }
        Ok(committed)
    }

    /// Whether it was committed; this node serves by it once it has looked.
    pub(super) async fn commit_without_refresh(
        &self,
        changes: &[EntryChange],
    ) -> Result<bool, ControlError> {
        match self.registry.commit(changes, &audit_note(&self.origin, changes)).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict) => Ok(false),
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }

    /// Takes what was committed into use here, unless the registry is lost now.
    pub(super) async fn refresh_after_commit(&self) {
        if let Err(error) = self.sync.refresh().await {
            tracing::debug!(%error, "a change is not in use yet");
        }
    }
}

pub(super) fn too_many_conflicts() -> ControlError {
    ControlError::Conflict(
        "too many others change the same thing at the same time; try again".into(),
    )
}
