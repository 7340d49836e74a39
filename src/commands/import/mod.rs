//! `tollgate import`: limits that another service was configured with.
//!
//! What is carried over means the same; what cannot be is named, on standard error and in the file
//! that is written. Nothing is guessed, and no running service is asked.

mod cel;
mod envoy;
#[cfg(test)]
mod equivalence;
mod limitador;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use cel::{parse_condition, parse_variable};
use limitador::TranslatedNamespace;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Whose limits to import.
#[derive(Clone, clap::Args)]
pub struct ImportArgs {
    #[command(subcommand)]
    source: ImportSource,
}

#[derive(Clone, clap::Subcommand)]
enum ImportSource {
    /// Limitador's limits file, into envoyproxy/ratelimit's YAML, which --envoy-config reads
    ///
    /// A namespace becomes a domain. Conditions of the form descriptors[0].KEY == 'TEXT' and
    /// variables of the form descriptors[0].KEY become entries of a descriptor; limits that need
    /// more are left out and named. Exits with 0 where all limits were carried over, with 1 where
    /// some were not, with 2 where the file cannot be read.
    ///
    /// Limitador picks what it needs out of one descriptor. Here a rule meets a descriptor that has
    /// its entries, all and in their order: the output begins with the descriptors that Envoy has
    /// to send, each as one item of the route's `rate_limits`.
    Limitador(LimitadorArgs),
}

#[derive(Clone, clap::Args)]
struct LimitadorArgs {
    /// The limits, as limitador-server takes them
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to write; a folder gets a file for each namespace. Standard output unless said
    #[arg(long, value_name = "FILE|FOLDER")]
    output: Option<PathBuf>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {path}: {why}", path = .0.display(), why = .1)]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is something else.
    #[error("{path} is no list of limits: {why}", path = .0.display(), why = .1)]
    NotALimitList(PathBuf, String),
    /// A file can hold one domain.
    #[error(
        "the limits have {0} namespaces, and a file can hold one domain: give --output a folder that exists"
    )]
    SeveralDomains(usize),
    /// The output cannot be written.
    #[error("cannot write {path}: {why}", path = .0.display(), why = .1)]
    Write(PathBuf, #[source] std::io::Error),
}

/// What file names may have of a namespace as it is.
const FILE_NAME_ESCAPES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// Imports, names on standard error what was not carried over, and says whether everything was.
///
/// # Errors
/// Where the limits cannot be read, or the result cannot be written; then nothing is said to be
/// imported.
pub fn run(args: &ImportArgs) -> Result<bool, ImportError> {
    let ImportSource::Limitador(LimitadorArgs { file, output }) = &args.source;
    let text = std::fs::read_to_string(file).map_err(|why| ImportError::Read(file.clone(), why))?;
    let namespaces = limitador::parse_limits(&text)
        .map_err(|why| ImportError::NotALimitList(file.clone(), why))?;
    let folder = output.as_deref().filter(|output| output.is_dir());
    if namespaces.len() > 1 && folder.is_none() {
        return Err(ImportError::SeveralDomains(namespaces.len()));
    }
    for namespace in &namespaces {
        let yaml = render_yaml(namespace, file);
        let path = match folder {
            Some(folder) => {
                let name =
                    utf8_percent_encode(&namespace.domain.name, FILE_NAME_ESCAPES).to_string();
                // With a dot in front it would be hidden from whoever reads the folder.
                let name = name.strip_prefix('.').map_or(name.clone(), |it| format!("%2E{it}"));
                Some(folder.join(format!("{name}.yaml")))
            }
            None => output.clone(),
        };
        write_output(path, &yaml)?;
    }
    let skipped = || namespaces.iter().flat_map(|namespace| &namespace.skipped);
    for limit in skipped() {
        let _nobody_reads = writeln!(std::io::stderr(), "{}: {limit}", file.display());
    }
    Ok(skipped().next().is_none())
}

/// Writes into a file, or else to standard output.
fn write_output(path: Option<PathBuf>, yaml: &str) -> Result<(), ImportError> {
    let result = match &path {
        Some(path) => std::fs::write(path, yaml),
        None => std::io::stdout().write_all(yaml.as_bytes()),
    };
    result.map_err(|why| ImportError::Write(path.unwrap_or("standard output".into()), why))
}

/// The YAML of one domain, under what has to be known about it.
fn render_yaml(
    TranslatedNamespace { domain, skipped }: &TranslatedNamespace,
    file: &Path,
) -> String {
    let mut header = format!(
        "Made by `tollgate import limitador {}`: {} of {} limits carried over.\n\n",
        file.display().to_string().escape_debug(),
        domain.len(),
        domain.len() + skipped.len()
    );
    let descriptors = domain.descriptors();
    if !descriptors.is_empty() {
        header += "For each request Envoy has to send these descriptors, each as one item of rate_limits, with\nits entries in this order; one whose entries are not all there is not sent:\n";
        for descriptor in descriptors {
            let _infallible = writeln!(header, "  - {descriptor}");
        }
        header += "An entry with = is a generic_key action, with that descriptor_key and descriptor_value.\n";
        header += "Windows begin by the clock, where Limitador's begin with the first request.\n";
    }
    if !skipped.is_empty() {
        header += "\nNOT CARRIED OVER:\n";
    }
    for limit in skipped {
        let _infallible = writeln!(header, "  {limit}");
    }
    let commented = header.lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n");
    let mut yaml: String = commented.collect();
    let _infallible = write!(yaml, "\n{domain}");
    yaml
}
