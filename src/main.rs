//! Arguments, and nothing else: the service is the library.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tollgate::app;
use tollgate::commands::{self, import};
use tollgate::settings::{Flags, Settings, SettingsSources};
use tollgate::telemetry::init_logs;
use tollgate::{control, engine};

/// A distributed rate limiter: exact shared limits for API keys on usage plans.
///
/// Without a subcommand it serves, with everything at its default: limits in memory, a built-in
/// example catalog, on 127.0.0.1:8080.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Args)]
struct ServeArgs {
    /// TOML file with settings, weaker than the environment and the flags
    #[arg(long, value_name = "FILE", env = "TOLLGATE_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand)]
enum Command {
    /// Serves checks until SIGTERM; SIGHUP reloads the catalog
    Serve(Box<ServeArgs>),
    /// Checks a catalog file, or limits for Envoy, and says what is wrong with them
    Validate {
        /// The catalog
        #[arg(value_name = "FILE", required_unless_present = "envoy_config")]
        file: Option<PathBuf>,
        /// envoyproxy/ratelimit's YAML: a file, or a folder of *.yaml
        #[arg(long, value_name = "FILE|FOLDER")]
        envoy_config: Option<PathBuf>,
        /// The --store it is meant for: not all that one primary judges can a Cluster
        #[arg(
            long,
            value_name = "STORE",
            default_value = "memory",
            env = "TOLLGATE_STORE",
            hide_env_values = true
        )]
        store: String,
    },
    /// Asks a running service for one check; exits with 0 where allowed, 1 where not
    Check(Box<commands::check::CheckArgs>),
    /// Asks a running service whether it is ready; exits with 0 where it is, 1 where not
    Ready {
        /// The service to ask
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
        url: String,
        #[command(flatten)]
        tls_options: commands::TlsOptions,
    },
    /// Imports limits that another service was configured with
    Import(import::ImportArgs),
    /// API keys of a running service: list, show, create, enable, disable, delete
    Keys(commands::keys::KeysArgs),
    /// Usage plans of a running service: list, show
    Plans(commands::plans::PlansArgs),
    /// Compares a catalog file with what a running service declares; exits with 1 where they differ
    Diff(commands::apply::DiffArgs),
    /// Makes a running service declare what a catalog file does
    Apply(commands::apply::ApplyArgs),
    /// Writes what a running service's admin API declares as a catalog file
    Export(commands::export::ExportArgs),
    /// What keys of a running service have used by day, and corrections of it
    Usage(commands::usage::UsageArgs),
    /// Judges decisions written with --record again, by the reference; of all nodes together
    Replay {
        /// The records
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))) {
        Command::Serve(serve) => run_serve(*serve).map(|()| true),
        Command::Validate { file, envoy_config, store } => {
            let catalog = file.as_deref().map_or(Ok(()), |file| validate(file, &store));
            let envoy = || envoy_config.as_deref().map_or(Ok(()), validate_envoy);
            catalog.and_then(|()| envoy()).map(|()| true)
        }
        Command::Check(args) => block_on(commands::check::check(&args)),
        Command::Ready { url, tls_options } => block_on(commands::check::ready(&url, &tls_options)),
        Command::Import(args) => import::run(&args).map_err(Into::into),
        Command::Keys(keys) => block_on(commands::keys::run(&keys)),
        Command::Plans(plans) => block_on(commands::plans::run(&plans)),
        Command::Diff(diff) => block_on(commands::apply::diff(&diff)),
        Command::Apply(apply) => block_on(commands::apply::apply(&apply)),
        Command::Export(export) => block_on(commands::export::run(&export)),
        Command::Usage(usage) => block_on(commands::usage::run(&usage)),
        Command::Replay { files } => replay(&files).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _nobody_reads = writeln!(std::io::stderr(), "tollgate: {error}");
            ExitCode::from(2)
        }
    }
}

type CliError = Box<dyn std::error::Error>;

fn run_serve(serve: ServeArgs) -> Result<(), CliError> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let settings =
        Settings::load(&SettingsSources { file: serve.config, environment, flags: serve.flags })?;
    init_logs(settings.log_format);
    Ok(app::serve(settings)?)
}

fn validate(file: &std::path::Path, store: &str) -> Result<(), CliError> {
    let layout = app::counter_layout(store, false)?;
    let catalog = control::read_catalog(file, layout)?;
    let mut out = std::io::stdout();
    for warning in catalog.warnings() {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(
        out,
        "{}: valid, revision {}: {}",
        file.display(),
        catalog.revision(),
        catalog.summary()
    )?;
    Ok(())
}

fn validate_envoy(path: &std::path::Path) -> Result<(), CliError> {
    let domains = control::read_domains(path)?;
    let mut out = std::io::stdout();
    for warning in domains.warnings() {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(out, "{}: valid: {}", path.display(), domains.summary())?;
    Ok(())
}

fn replay(files: &[PathBuf]) -> Result<(), CliError> {
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))
    };
    let lines = files.iter().map(read).collect::<Result<String, _>>()?;
    let decisions = engine::replay(&lines)?;
    writeln!(std::io::stdout(), "{decisions} decisions, all as the reference has them")?;
    Ok(())
}

fn block_on<T, E: Into<CliError>>(
    command: impl Future<Output = Result<T, E>>,
) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(command).map_err(Into::into)
}
