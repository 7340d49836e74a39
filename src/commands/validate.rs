//! `tollgate validate`: reads a catalog file or rate limits for Envoy, and reports every error in
//! it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::CommandError;
use crate::app;
use crate::control;

/// Arguments of `tollgate validate`.
#[derive(Clone, clap::Args)]
pub struct ValidateArgs {
    /// Catalog file
    #[arg(value_name = "FILE", required_unless_present = "envoy_config")]
    file: Option<PathBuf>,
    /// Rate limits for Envoy, in envoyproxy/ratelimit's YAML: a file, or a folder of *.yaml
    #[arg(long, value_name = "FILE|FOLDER")]
    envoy_config: Option<PathBuf>,
    /// Store that the catalog is for: a Redis Cluster cannot keep every catalog
    #[arg(
        long,
        value_name = "STORE",
        default_value = "memory",
        env = "TOLLGATE_STORE",
        hide_env_values = true
    )]
    store: String,
}

/// Validates the given files, and prints warnings and a summary of each.
///
/// # Errors
/// If a file cannot be read or is not valid, or if the store's address is not valid.
pub fn run(args: &ValidateArgs) -> Result<(), CommandError> {
    if let Some(file) = &args.file {
        let placement = app::counter_placement(&args.store, false)?;
        let catalog = control::read_catalog(file, placement)?;
        let summary = format!("revision {}: {}", catalog.revision(), catalog.summary());
        print_result(file, catalog.warnings(), &format!("valid, {summary}"))?;
    }
    if let Some(path) = &args.envoy_config {
        let domains = control::read_domains(path)?;
        print_result(path, domains.warnings(), &format!("valid: {}", domains.summary()))?;
    }
    Ok(())
}

fn print_result(path: &Path, warnings: &[String], result: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for warning in warnings {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(out, "{}: {result}", path.display())
}
