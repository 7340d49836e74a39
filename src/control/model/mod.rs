//! The declared resources in the members of AWS API Gateway, and the entries that hold them.
//!
//! A resource is read, patched and checked here. Nothing here reads or writes the registry.

mod error;
mod ids;
mod patch;
mod limit_settings;
mod overrides;
mod entry_path;
mod digest_entry;
mod audit_entry;
mod key_record;
mod create_key;
mod stage;
mod rest_api;
mod deployed_methods;
mod usage_plan;
mod document;

pub(super) use audit_entry::AuditEntry;
pub use audit_entry::ChangeOrigin;
pub use create_key::CreateKey;
pub(super) use deployed_methods::DeployedMethod;
pub(super) use digest_entry::DigestEntry;
pub use document::Document;
pub(super) use entry_path::EntryPath;
pub use error::ControlError;
pub(super) use ids::random_alphanumeric;
pub(super) use key_record::new_key_value;
pub use key_record::{KeyAttributes, KeyRecord};
pub(super) use limit_settings::{QuotaPeriod, QuotaSettings, ThrottleSettings};
pub use overrides::OverridesSpec;
pub(super) use overrides::{PlanOverrideSpec, QuotaSize};
pub use patch::{Patch, PatchOperation, escape_pointer};
pub(super) use patch::{PatchOp, unescape_pointer};
pub use rest_api::{ApiSpec, Deployment, Resource, RestApi};
pub use stage::{Stage, StageLimits, StageSpec};
pub(super) use usage_plan::ApiStage;
pub use usage_plan::{PlanSpec, UsagePlan};
