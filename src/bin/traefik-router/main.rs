//! The program: a replacement of configurable-http-proxy, and commands for routes.

#[cfg(not(unix))]
compile_error!(
    "the program `traefik-router` needs Unix; the library does not, so leave out the feature `cli`"
);

mod chp;
mod failure;
mod needs;
mod settings;
mod shell;
mod store;
mod wording;

// Files of the library that the program compiles too, since they are not in the library's interface.
#[path = "../../client_tls.rs"]
mod client_tls;
#[path = "../../random.rs"]
mod random;
#[path = "../../sync.rs"]
mod sync;
#[path = "../../url.rs"]
mod url;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::settings::ChpOptions;

/// The name of the program that `chp` replaces.
const CHP: &str = "configurable-http-proxy";

/// Change a running Traefik's routes, and know when they are served.
#[derive(Parser)]
#[command(version, propagate_version = true, after_help = shell::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run as JupyterHub's proxy, in place of configurable-http-proxy.
    Chp(Box<ChpOptions>),
    #[command(flatten)]
    Shell(shell::Command),
}

fn main() -> ExitCode {
    let (program, arguments) = called(std::env::args_os());
    let parsed = settings::parse(&program, &arguments);
    let command = |(matches, settings)| Ok((Cli::from_arg_matches(&matches)?.command, settings));
    match parsed.and_then(command) {
        Ok((Command::Chp(options), settings)) => chp::run(*options, settings),
        Ok((Command::Shell(command), settings)) => shell::run(command, settings, program),
        Err(error) => error.exit(),
    }
}

fn program() -> clap::Command {
    settings::shared_by(Cli::command())
}

/// The program and its command line. One that is called `configurable-http-proxy` is `chp`.
fn called(given: impl Iterator<Item = OsString>) -> (clap::Command, Vec<OsString>) {
    let (mut program, mut arguments) = (program(), given.collect::<Vec<_>>());
    let name = arguments
        .first()
        .and_then(|name| Path::new(name).file_stem());
    if name.is_some_and(|name| name == CHP) {
        arguments.insert(1, "chp".into());
        program =
            program.mut_subcommand("chp", |chp| chp.override_usage(format!("{CHP} [OPTIONS]")));
    }
    (program, arguments)
}
