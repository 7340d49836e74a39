//! Parses the arguments and calls the library: the service, or one of the operator's commands.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tollgate::app;
use tollgate::commands;
use tollgate::settings::{Flags, Settings, SettingsSources};
use tollgate::telemetry::init_logs;

/// A distributed rate limiter: exact shared limits for API keys on usage plans.
///
/// Without a subcommand it serves, with every setting at its default: counters in memory, a
/// built-in example catalog, on 127.0.0.1:8080.
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
    /// TOML file with settings; the environment and the flags override it
    #[arg(long, value_name = "FILE", env = "TOLLGATE_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand)]
enum Command {
    /// Serves check requests until SIGTERM; SIGHUP reloads the catalog and certificates
    Serve(Box<ServeArgs>),
    /// Validates a catalog file, or rate limits for Envoy, and reports every error
    Validate(commands::validate::ValidateArgs),
    /// Sends one check request to a running service; exits with 0 if allowed, 1 if a limit refuses it,
    /// 3 if its key is refused, 4 if the service cannot decide, 2 after an error
    Check(Box<commands::check::CheckArgs>),
    /// Explains what a check would get now: each limit, where it is declared, what is left; charges nothing
    Explain(Box<commands::explain::ExplainArgs>),
    /// Exits with 0 if a running service is ready, 1 if not
    Ready(commands::ready::ReadyArgs),
    /// Imports the rate limits of another service's configuration
    Import(commands::import::ImportArgs),
    /// Manages the API keys of a running service: create, change, rotate, import, delete
    Keys(commands::keys::KeysArgs),
    /// Prints a new key for the encryption of API keys' values, to be set on all nodes
    ///
    /// 32 random bytes in base64, for the variable `TOLLGATE_KEY_ENCRYPTION_KEY`. Every node on one
    /// Redis needs the same key. Keep a copy: without it the values cannot be decrypted.
    Keygen,
    /// Manages the usage plans of a running service
    Plans(Box<commands::plans::PlansArgs>),
    /// Shows the policies of a running service, and resets the counters of one of their keys
    Policies(commands::policies::PoliciesArgs),
    /// Lists the changes that were made by the admin API, newest first
    Audit(commands::audit::AuditArgs),
    /// Compares a catalog file with the resources of a running service; exits with 1 if they differ
    Diff(commands::apply::DiffArgs),
    /// Changes the resources of a running service to those of a catalog file
    Apply(commands::apply::ApplyArgs),
    /// Writes the resources of a running service's admin API as a catalog file
    Export(commands::export::ExportArgs),
    /// Shows and corrects the daily usage of API keys of a running service
    Usage(commands::usage::UsageArgs),
    /// Shows which API keys and keys of policies a running service refuses most, or which use most
    Top(commands::top::TopArgs),
    /// Shows refusals, or all decisions, of running nodes while they are made
    Tail(commands::tail::TailArgs),
    /// Decides checks recorded with --record again by the reference implementation, and compares
    Replay(commands::replay::ReplayArgs),
    /// Judges recorded checks by another catalog, and shows who would be refused; exits with 1 if
    /// anybody would be that was not
    WhatIf(commands::what_if::WhatIfArgs),
    /// Prints the completions of commands and flags for a shell
    Completions(commands::completions::CompletionsArgs),
    /// Writes the man pages of all commands to a folder
    Man(commands::man::ManArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))) {
        Command::Check(args) => {
            return block_on(commands::check::check(&args)).unwrap_or_else(|error| fail(&error));
        }
        Command::Serve(serve) => run_serve(*serve).map(|()| true),
        Command::Validate(args) => {
            commands::validate::run(&args).map(|()| true).map_err(Into::into)
        }
        Command::Explain(args) => block_on(commands::explain::run(&args)),
        Command::Ready(args) => block_on(commands::ready::ready(&args, environment())),
        Command::Import(args) => commands::import::run(&args).map_err(Into::into),
        Command::Keys(keys) => block_on(commands::keys::run(&keys)),
        Command::Keygen => commands::keygen::run().map(|()| true).map_err(Into::into),
        Command::Plans(plans) => block_on(commands::plans::run(&plans)),
        Command::Policies(policies) => block_on(commands::policies::run(&policies)),
        Command::Audit(audit) => block_on(commands::audit::run(&audit)),
        Command::Diff(diff) => block_on(commands::apply::diff(&diff)),
        Command::Apply(apply) => block_on(commands::apply::apply(&apply)),
        Command::Export(export) => block_on(commands::export::run(&export)),
        Command::Usage(usage) => block_on(commands::usage::run(&usage)),
        Command::Top(top) => block_on(commands::top::run(&top)),
        Command::WhatIf(args) => commands::what_if::run(&args).map_err(Into::into),
        Command::Tail(tail) => block_on(commands::tail::run(&tail)),
        Command::Replay(args) => commands::replay::run(&args).map(|()| true).map_err(Into::into),
        Command::Completions(args) => {
            let printed = commands::completions::run(&args, &mut Cli::command());
            printed.map(|()| true).map_err(Into::into)
        }
        Command::Man(args) => {
            commands::man::run(&args, Cli::command()).map(|()| true).map_err(Into::into)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

/// Prints an error. Returns the exit code of every error.
fn fail(error: &CliError) -> ExitCode {
    let _reader_closed = writeln!(std::io::stderr(), "tollgate: {error}");
    ExitCode::from(2)
}

type CliError = Box<dyn std::error::Error>;

/// The environment variables that are valid Unicode.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn run_serve(serve: ServeArgs) -> Result<(), CliError> {
    let sources =
        SettingsSources { file: serve.config, environment: environment(), flags: serve.flags };
    let settings = Settings::load(&sources)?;
    init_logs(settings.log_format);
    Ok(app::serve(settings)?)
}

fn block_on<T, E: Into<CliError>>(
    command: impl Future<Output = Result<T, E>>,
) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(command).map_err(Into::into)
}
