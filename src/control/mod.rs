//! The control plane: the resources that the catalog file and the admin API declare, and the
//! catalog that a node serves by.
//!
//! The registry holds the admin API's resources in the members of AWS API Gateway. Every node
//! combines them with its catalog file. HTTP is not known here, and no request is decided.
//!
//! The rooms, each of which uses those before it: `model` has the resources in AWS' form,
//! `translate` their translation from and to the catalog's form, `serving` the catalog in use and
//! the key directory, `editing` the changes to the registry.

mod model;
pub mod translate;
mod serving;
mod editing;

pub use editing::{
    ApiEditor, AuditLog, Editor, EditorFactory, ImportResult, KeyEditor, KeyImporter, KeyRotator,
    NamePosition, PlanEditor, PlanKeyEditor, PolicyLedger, PolicyUsage, ReportedDay, RotateKey,
    Seal, UsageLedger, UsageQuery,
};
pub use model::{
    ApiDefinition, ApiSpec, ChangeOrigin, ControlError, CreateDeployment, CreateKey, Deployment,
    Document, Integration, KeyAttributes, KeyRecord, Method, OverridesSpec, Patch, PatchOperation,
    PlanSpec, Resource, ResponseOwner, RestApi, Stage, StageLimits, StageSpec, StatusResponse,
    UsagePlan, escape_pointer, id_from_name,
};
pub use serving::{
    ClientKey, ConfigFileError, KeyDirectory, LimitPlace, LimitSource, LimitSources, LiveCatalog,
    LiveDomains, Lookup, RegistryQuery, RegistrySync, method_pattern, read_catalog, read_domains,
};
