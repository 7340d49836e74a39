//! Reads and changes what the API declares: APIs and plans here, keys in `keys`.
//!
//! A change is made to what is there now and committed only if that still is; where somebody was
//! faster it is made again to what they made. So of two changes at the same time neither is lost.

use std::sync::Arc;

use super::audit::{Origin, note};
use super::keys::{link_path, linked_key};
use super::seal::Seal;
use super::{Document, Error, Live, Sync, document};
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
    async fn edit<T>(
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

    /// Changes or makes an API, or what is under it.
    ///
    /// # Errors
    /// As [`Editor::edit_plan`].
    pub async fn edit_api<T>(
        &self,
        id: &str,
        change: impl Fn(&mut Document) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.told(|filed| filed.apis.contains_key(id)) {
            return Err(Error::filed("API", id));
        }
        self.edit(change).await
    }

    /// Changes or makes a plan.
    ///
    /// # Errors
    /// Where it is the catalog file's; those of `change`; where the result is no catalog; where the
    /// registry is lost.
    pub async fn edit_plan<T>(
        &self,
        id: &str,
        change: impl Fn(&mut Document) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.told(|filed| filed.plans.contains_key(id)) {
            return Err(Error::filed("usage plan", id));
        }
        self.edit(change).await
    }

    /// Removes a plan, and takes its keys off it.
    ///
    /// # Errors
    /// Where there is none, it is the catalog file's, or the registry is lost.
    pub async fn delete_plan(&self, plan: &str) -> Result<(), Error> {
        let removed = self.edit_plan(plan, |document| {
            document.usage_plans.remove(plan).map(drop).ok_or_else(|| Error::no("Usage Plan"))
        });
        // Who was interrupted among its keys asks once more: another plan of this id must not find them.
        let mut done = match removed.await {
            Err(error @ Error::NotFound(_)) => Err(error),
            removed => Ok(removed?),
        };
        let mut after = None;
        loop {
            let links = self.registry.page(&link_path(plan, ""), after.as_deref(), 100).await?;
            let Some((last, _)) = links.last() else { return done };
            (after, done) = (Some(last.clone()), Ok(()));
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
