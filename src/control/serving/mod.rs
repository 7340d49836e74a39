//! Serving: the catalog in use, the directory of API keys, and how both follow the registry.
//!
//! Nothing here changes the registry.

mod places;
mod live_catalog;
mod live_domains;
mod key_directory;
mod limit_sources;
mod registry_sync;

pub use key_directory::{ClientKey, KeyDirectory, Lookup, RegistryQuery};
pub use limit_sources::{LimitPlace, LimitSource, LimitSources, method_pattern};
pub use live_catalog::{ConfigFileError, LiveCatalog, read_catalog};
pub use live_domains::{LiveDomains, read_domains};
pub use registry_sync::RegistrySync;
