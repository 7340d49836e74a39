//! The declared resources in the members of AWS API Gateway, and the entries that hold them.
//!
//! A resource is read, patched and checked here. Nothing here reads or writes the registry.

mod error;
mod ids;
mod patch;
mod member_types;
mod member_patch;
mod limit_settings;
mod overrides;
mod entry_path;
mod digest_entry;
mod audit_entry;
mod key_record;
mod create_key;
mod status_responses;
mod integrations;
mod methods;
mod method_keys;
mod resources;
mod deployments;
mod method_settings;
mod stage_limits;
mod stage;
mod rest_api;
mod deployed_methods;
mod api_stages;
mod usage_plan;
mod account;
mod document;

pub(super) use account::Account;
pub(super) use api_stages::ApiStage;
pub(super) use audit_entry::AuditEntry;
pub use audit_entry::ChangeOrigin;
pub use create_key::CreateKey;
pub(super) use deployed_methods::DeployedMethod;
pub use deployments::Deployment;
pub(super) use digest_entry::DigestEntry;
pub use document::Document;
pub(super) use entry_path::EntryPath;
pub use error::ControlError;
pub(super) use ids::random_alphanumeric;
pub use integrations::Integration;
pub(super) use key_record::new_key_value;
pub use key_record::{KeyAttributes, KeyRecord};
pub(super) use limit_settings::{QuotaPeriod, QuotaSettings, ThrottleSettings};
pub use methods::Method;
pub use overrides::OverridesSpec;
pub(super) use overrides::{PlanOverrideSpec, QuotaSize};
pub use patch::{Patch, PatchOperation, escape_pointer};
pub(super) use patch::{PatchOp, unescape_pointer};
pub use resources::Resource;
pub use rest_api::{ApiSpec, RestApi};
pub use stage::{Stage, StageSpec};
pub use stage_limits::StageLimits;
pub use status_responses::{ResponseOwner, StatusResponse};
pub use usage_plan::{PlanSpec, UsagePlan};
