//! The only translator between the catalog's form of a declaration and AWS' form of it.
//!
//! The catalog's form (`catalog::raw`) is what files have and what a catalog is composed of; AWS'
//! form (`control::model`) is what the admin API and the registry have. Both are types, in both
//! directions, so that the admin API, the view of the file's resources and the commands `apply`,
//! `diff` and `export` cannot differ. Neither form is validated here: a catalog does that.
//!
//! AWS' form cannot express all of the catalog's. A translation into it gives the nearest, and
//! reports a [`Loss`] for each place that is not exact. A view ignores losses; `apply` refuses
//! them.

mod limits;
mod methods;
mod apis;
mod plans;
mod keys;
pub mod openapi;
#[cfg(test)]
mod round_trip;

pub use apis::{document_to_catalog, stage_from_catalog, stage_to_catalog};
pub use keys::{
    file_key, key_from_catalog, key_to_api_key, key_to_catalog, overrides_from_catalog,
    overrides_to_catalog, overrides_to_limits, policies_of_key,
};
pub use plans::{plan_from_catalog, plan_to_catalog};

/// A place in a catalog that AWS' form cannot express exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The place, as errors of a catalog name it.
    pub at: String,
    /// The reason, and a way out if there is one.
    pub why: &'static str,
}

/// The losses of a translation, in the catalog's order.
pub type Losses = Vec<Loss>;

fn lose(losses: &mut Losses, at: String, why: &'static str) {
    losses.push(Loss { at, why });
}
