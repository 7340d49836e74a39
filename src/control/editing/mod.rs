//! Editing the registry: each kind of resource has an editor of its own, all work in one session.
//!
//! HTTP is not known here. Resources of the catalog file are shown beside those of the registry,
//! and never changed.

mod conflict_retry;
mod document_queue;
mod seal;
mod session;
mod document_commit;
mod audit_log;
mod file_resources;
mod apis;
mod key_names;
mod keys;
mod plan_keys;
mod plans;
mod key_rotation;
mod key_import;
mod editor;
mod usage_ledger;
mod policy_ledger;

pub use apis::ApiEditor;
pub use audit_log::AuditLog;
pub use editor::{Editor, EditorFactory};
pub use key_import::{ImportResult, KeyImporter};
pub use key_names::NamePosition;
pub use key_rotation::{KeyRotator, RotateKey};
pub use keys::KeyEditor;
pub use plan_keys::PlanKeyEditor;
pub use plans::PlanEditor;
pub use policy_ledger::{PolicyLedger, PolicyUsage};
pub use seal::Seal;
pub use usage_ledger::{ReportedDay, UsageLedger, UsageQuery};
