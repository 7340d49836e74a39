//! Reads and changes what the API declares: APIs and plans here, keys in `keys`.
//!
//! A change is made to what is there now and committed only if that still is; where somebody was
//! faster it is made again to what they made. So of two changes at the same time neither is lost.

use std::sync::Arc;

use super::audit::{Origin, note};
use super::keys::{link_path, linked_key};
use super::seal::Seal;
use super::{Document, Error, Live, Sync, UsagePlan, document};
use crate::store::{Change, Registry, Uncommitted};

/// How often a change is made again before it is refused.
pub(super) const TRIES: usize = 8;

/// What editors work with.
#[derive(Clone)]
pub struct Editors {
    /// Where it is declared.
    pub registry: Registry,
    /// What this node serves by.
    pub live: Arc<Live>,
    /// What keeps this node as new as the registry.
    pub sync: Arc<Sync>,
    /// What keeps the values of keys.
    pub seal: Arc<Seal>,
}

impl Editors {
    /// An editor for one request.
    #[must_use]
    pub fn editor(&self, origin: Origin) -> Editor {
        let Self { registry, live, sync, seal } = self.clone();
        Editor { registry, live, sync, seal, origin }
    }
}

/// Reads and changes what the API declares, for one request: each change is noted as that request's.
pub struct Editor {
    pub(super) registry: Registry,
    pub(super) live: Arc<Live>,
    pub(super) sync: Arc<Sync>,
    pub(super) seal: Arc<Seal>,
    pub(super) origin: Origin,
}

impl Editor {
    /// APIs and plans as they are now.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub async fn document(&self) -> Result<Document, Error> {
        Document::read(self.registry.get(document::PATH).await?.as_deref())
    }

    /// Changes APIs and plans; what makes no catalog is refused.
    ///
    /// # Errors
    /// Those of `change`; where the result is no catalog; where the registry is lost.
    pub async fn edit<T>(
        &self,
        change: impl Fn(&mut Document) -> Result<T, Error>,
    ) -> Result<T, Error> {
        for _ in 0..TRIES {
            let was = self.registry.get(document::PATH).await?;
            let mut document = Document::read(was.as_deref())?;
            let made = change(&mut document)?;
            self.live.accepts(&document)?;
            let becomes = serde_json::to_string(&document)
                .map_err(|error| Error::BadRequest(error.to_string()))?;
            let path = document::PATH.to_owned();
            if self.commit(&[Change { path, was, becomes: Some(becomes) }]).await? {
                return Ok(made);
            }
        }
        Err(too_busy())
    }

    /// Changes a plan.
    ///
    /// # Errors
    /// As [`Editor::edit`]; and where there is none, or it is the catalog file's.
    pub async fn edit_plan<T>(
        &self,
        id: &str,
        change: impl Fn(&mut UsagePlan) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let edit = self.edit(|document| change(document.plan_mut(id)?));
        edit.await.map_err(|error| self.whose_plan(id, error))
    }

    /// The registry has no such plan; the file may.
    fn whose_plan(&self, id: &str, error: Error) -> Error {
        match error {
            Error::NotFound(_) if self.live.catalog().has_plan(id) => {
                Error::filed("usage plan", id)
            }
            error => error,
        }
    }

    /// Why a new plan makes no catalog, where it is that the file has one with its id.
    #[must_use]
    pub fn taken_plan(&self, id: &str, error: Error) -> Error {
        match error {
            Error::BadRequest(_) if self.live.catalog().has_plan(id) => {
                Error::filed("usage plan", id)
            }
            error => error,
        }
    }

    /// Why a new API makes no catalog, where it is that the file has one with its id.
    #[must_use]
    pub fn taken_api(&self, id: &str, error: Error) -> Error {
        match error {
            Error::BadRequest(_) if self.live.catalog().has_api(id) => Error::filed("API", id),
            error => error,
        }
    }

    /// Removes a plan, and takes its keys off it.
    ///
    /// # Errors
    /// Where there is none, or the registry is lost.
    pub async fn delete_plan(&self, plan: &str) -> Result<(), Error> {
        self.edit(|document| {
            document.usage_plans.remove(plan).map(drop).ok_or_else(|| Error::no("Usage Plan"))
        })
        .await
        .map_err(|error| self.whose_plan(plan, error))?;
        let mut after = None;
        loop {
            let links = self.registry.page(&link_path(plan, ""), after.as_deref(), 100).await?;
            let Some((last, _)) = links.last() else { return Ok(()) };
            after = Some(last.clone());
            for (path, _) in &links {
                match self.unlink(plan, linked_key(path)).await {
                    // Others may take keys off it at the same time.
                    Ok(()) | Err(Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Whether it was committed. This node then serves by it already, unless the registry was lost
    /// in between.
    pub(super) async fn commit(&self, changes: &[Change]) -> Result<bool, Error> {
        let committed = self.commit_one_of_many(changes).await?;
        if committed {
            self.serve_by_it().await;
        }
        Ok(committed)
    }

    /// Whether it was committed; this node serves by it once it has looked.
    pub(super) async fn commit_one_of_many(&self, changes: &[Change]) -> Result<bool, Error> {
        match self.registry.commit(changes, &note(&self.origin, changes)).await {
            Ok(_) => Ok(true),
            Err(Uncommitted::Conflict) => Ok(false),
            Err(Uncommitted::Store(error)) => Err(error.into()),
        }
    }

    /// Takes what was committed into use here, unless the registry is lost now.
    pub(super) async fn serve_by_it(&self) {
        if let Err(error) = self.sync.look().await {
            tracing::debug!(%error, "a change is not in use yet");
        }
    }
}

pub(super) fn too_busy() -> Error {
    Error::Conflict("too many others change the same thing at the same time; try again".into())
}
