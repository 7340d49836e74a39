//! `tollgate import`: translates the rate limits of another service's configuration.
//!
//! A translated limit counts the same requests in the same counters. Limits that cannot be
//! translated exactly are listed on standard error and in the output. No request is sent to a
//! running service.

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

/// Arguments of `tollgate import`.
#[derive(Clone, clap::Args)]
pub struct ImportArgs {
    #[command(subcommand)]
    source: ImportSource,
}

#[derive(Clone, clap::Subcommand)]
enum ImportSource {
    /// Limitador's limits file, to envoyproxy/ratelimit's YAML, which --envoy-config reads
    ///
    /// A namespace becomes a domain. Conditions of the form descriptors[0].KEY == 'TEXT' and
    /// variables of the form descriptors[0].KEY become entries of a descriptor. Limits with other
    /// conditions are left out and listed. Exits with 0 if all limits were imported, with 1 if some
    /// were not, and with 2 if the file cannot be read.
    ///
    /// Limitador takes the entries that a limit needs from one descriptor. In Envoy's configuration
    /// a rule matches a descriptor that has exactly its entries, in their order: the output begins
    /// with the descriptors that Envoy has to send, each as one item of the route's `rate_limits`.
    Limitador(LimitadorArgs),
}

#[derive(Clone, clap::Args)]
struct LimitadorArgs {
    /// Limits file of limitador-server
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File to write, or a folder for one file per namespace [default: standard output]
    #[arg(long, value_name = "FILE|FOLDER")]
    output: Option<PathBuf>,
}

/// The reason why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {path}: {why}", path = .0.display(), why = .1)]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is not a list of limits.
    #[error("{path} is not a list of limits: {why}", path = .0.display(), why = .1)]
    NotALimitList(PathBuf, String),
    /// There are several domains, and a file can hold one.
    #[error(
        "the limits have {0} namespaces, and a file can hold one domain: give --output a folder that exists"
    )]
    SeveralDomains(usize),
    /// The output cannot be written.
    #[error("cannot write {path}: {why}", path = .0.display(), why = .1)]
    Write(PathBuf, #[source] std::io::Error),
}

/// Characters of a namespace that are escaped in a file name: all but letters, digits, `.`, `-`,
/// `_`.
const FILE_NAME_ESCAPES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// Imports limits, and lists those that were skipped on standard error. Returns true if none were.
///
/// # Errors
/// If the limits cannot be read, or the output cannot be written.
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
                // Hidden files are not read from a folder of --envoy-config.
                let name = name.strip_prefix('.').map_or(name.clone(), |it| format!("%2E{it}"));
                Some(folder.join(format!("{name}.yaml")))
            }
            None => output.clone(),
        };
        write_output(path, &yaml)?;
    }
    let skipped = || namespaces.iter().flat_map(|namespace| &namespace.skipped);
    for limit in skipped() {
        let _reader_closed = writeln!(std::io::stderr(), "{}: {limit}", file.display());
    }
    Ok(skipped().next().is_none())
}

/// Writes to a file, or to standard output if there is none.
fn write_output(path: Option<PathBuf>, yaml: &str) -> Result<(), ImportError> {
    let result = match &path {
        Some(path) => std::fs::write(path, yaml),
        None => std::io::stdout().write_all(yaml.as_bytes()),
    };
    result.map_err(|why| ImportError::Write(path.unwrap_or("standard output".into()), why))
}

/// The YAML of one domain, below comments with the descriptors to send and the limits skipped.
fn render_yaml(
    TranslatedNamespace { domain, skipped }: &TranslatedNamespace,
    file: &Path,
) -> String {
    let mut header = format!(
        "Made by `tollgate import limitador {}`: {} of {} limits imported.\n\n",
        file.display().to_string().escape_debug(),
        domain.len(),
        domain.len() + skipped.len()
    );
    let descriptors = domain.descriptors();
    if !descriptors.is_empty() {
        header += "Envoy has to send these descriptors with each request, each as one item of rate_limits, with its\nentries in this order. A descriptor of which an entry is missing is not sent:\n";
        for descriptor in descriptors {
            let _infallible = writeln!(header, "  - {descriptor}");
        }
        header += "An entry with = is a generic_key action with that descriptor_key and descriptor_value.\n";
        header += "Windows are aligned to the clock; Limitador's begin with the first request.\n";
    }
    if !skipped.is_empty() {
        header += "\nNOT IMPORTED:\n";
    }
    for limit in skipped {
        let _infallible = writeln!(header, "  {limit}");
    }
    let commented = header.lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n");
    let mut yaml: String = commented.collect();
    let _infallible = write!(yaml, "\n{domain}");
    yaml
}
