//! The editors of one request.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::apis::ApiEditor;
use super::audit_log::AuditLog;
use super::document_queue::DocumentQueue;
use super::key_import::KeyImporter;
use super::key_names::IndexBuild;
use super::key_rotation::KeyRotator;
use super::keys::KeyEditor;
use super::plan_keys::PlanKeyEditor;
use super::plans::PlanEditor;
use super::seal::Seal;
use super::session::EditSession;
use crate::control::model::ChangeOrigin;
use crate::control::serving::{LiveCatalog, RegistrySync};
use crate::store::Registry;

/// Makes an editor for each request.
#[derive(Clone)]
pub struct EditorFactory {
    registry: Registry,
    live: Arc<LiveCatalog>,
    sync: Arc<RegistrySync>,
    seal: Arc<Seal>,
    document_queue: Arc<DocumentQueue>,
    index_build: Arc<IndexBuild>,
}

impl EditorFactory {
    /// A node's only factory: it edits the registry by the catalog `live`, refreshes the node by
    /// `sync`, and encrypts the values of keys by `seal`.
    #[must_use]
    pub fn new(
        registry: Registry,
        live: Arc<LiveCatalog>,
        sync: Arc<RegistrySync>,
        seal: Arc<Seal>,
    ) -> Self {
        let document_queue = Arc::new(DocumentQueue::new());
        Self { registry, live, sync, seal, document_queue, index_build: Arc::default() }
    }

    /// An editor for one request.
    #[must_use]
    pub fn editor(&self, origin: ChangeOrigin) -> Editor {
        let Self { registry, live, sync, seal, document_queue, index_build } = self.clone();
        let session =
            EditSession { registry, live, sync, seal, document_queue, index_build, origin };
        Editor { session }
    }
}

/// The editors of one request. The audit log names this request with each of their changes.
pub struct Editor {
    session: EditSession,
}

impl Editor {
    pub(super) fn session(&self) -> &EditSession {
        &self.session
    }

    /// APIs with their resources, deployments and stages.
    #[must_use]
    pub fn apis(&self) -> ApiEditor<'_> {
        ApiEditor::new(&self.session)
    }

    /// Usage plans.
    #[must_use]
    pub fn plans(&self) -> PlanEditor<'_> {
        PlanEditor::new(&self.session)
    }

    /// The keys on a plan.
    #[must_use]
    pub fn plan_keys(&self) -> PlanKeyEditor<'_> {
        PlanKeyEditor::new(&self.session)
    }

    /// API keys.
    #[must_use]
    pub fn keys(&self) -> KeyEditor<'_> {
        KeyEditor::new(&self.session)
    }

    /// New values for API keys.
    #[must_use]
    pub fn key_rotator(&self) -> KeyRotator<'_> {
        KeyRotator::new(&self.session)
    }

    /// API keys from a CSV file.
    #[must_use]
    pub fn key_importer(&self) -> KeyImporter<'_> {
        KeyImporter::new(&self.session)
    }

    /// The catalog's policies by their names, as the admin API shows them.
    #[must_use]
    pub fn policies(&self) -> BTreeMap<String, Value> {
        self.session.files().policies()
    }

    /// The audit log.
    #[must_use]
    pub fn audit_log(&self) -> AuditLog<'_> {
        AuditLog::new(&self.session)
    }
}
