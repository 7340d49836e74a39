//! Parses the arguments and calls the library: the service, or one of the operator's commands.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tollgate::app;
use tollgate::commands;
use tollgate::settings::{Flags, Settings, SettingsSources};
use tollgate::telemetry::init_logs;

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
    Validate(commands::validate::ValidateArgs),
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
    Import(commands::import::ImportArgs),
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
    Replay(commands::replay::ReplayArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))) {
        Command::Serve(serve) => run_serve(*serve).map(|()| true),
        Command::Validate(args) => {
            commands::validate::run(&args).map(|()| true).map_err(Into::into)
        }
        Command::Check(args) => block_on(commands::check::check(&args)),
        Command::Ready { url, tls_options } => block_on(commands::check::ready(&url, &tls_options)),
        Command::Import(args) => commands::import::run(&args).map_err(Into::into),
        Command::Keys(keys) => block_on(commands::keys::run(&keys)),
        Command::Plans(plans) => block_on(commands::plans::run(&plans)),
        Command::Diff(diff) => block_on(commands::apply::diff(&diff)),
        Command::Apply(apply) => block_on(commands::apply::apply(&apply)),
        Command::Export(export) => block_on(commands::export::run(&export)),
        Command::Usage(usage) => block_on(commands::usage::run(&usage)),
        Command::Replay(args) => commands::replay::run(&args).map(|()| true).map_err(Into::into),
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

fn block_on<T, E: Into<CliError>>(
    command: impl Future<Output = Result<T, E>>,
) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(command).map_err(Into::into)
}
