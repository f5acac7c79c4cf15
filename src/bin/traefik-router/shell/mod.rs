//! `traefik-router routes | status | doctor | …`: for people and scripts.

mod config;
mod doctor;
mod failure;
mod output;
mod resolved;
mod routes;
mod settings;
mod status;

use std::process::ExitCode;

use clap::Subcommand;

use self::config::ConfigCommand;
use self::failure::Failure;
use self::output::{Output, complain};
use self::routes::RoutesCommand;
use self::settings::Common;
use crate::wording::for_shell;

/// What stands below the program's own help.
pub(crate) const HELP: &str = "\
Examples:
  traefik-router routes add /user/zoe/ http://127.0.0.1:9001 --backend toml:rules.toml
  traefik-router routes list --json
  traefik-router doctor

What would be repeated stands in a file: --config FILE, else $TRAEFIK_ROUTER_CONFIG, else
traefik-router.toml in the current folder. Its keys are the options without their dashes.

Passwords come from files, or from TRAEFIK_API_PASSWORD and ETCD_PASSWORD.

Exit codes of routes, status, doctor and config:
  0  done
  1  failed, or something is not as it should be
  2  bad usage or bad input: nothing was changed
  3  there is no such route
  4  stored, or perhaps stored, but not seen to be served";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Look at the routes and change them.
    #[command(subcommand)]
    Routes(RoutesCommand),
    /// Which Traefiks answer, and whether they serve what is stored.
    #[command(after_help = status::HELP)]
    Status(Common),
    /// Check everything that has to be right, and say what to do.
    #[command(after_help = doctor::HELP)]
    Doctor(Common),
    /// The configuration that Traefik is given.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Completions for a shell, to be sourced by it.
    #[command(after_help = "Example:\n  source <(traefik-router completions bash)")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs a command of `program`.
pub(crate) fn run(command: Command, program: fn() -> clap::Command) -> ExitCode {
    match execute(command, program) {
        Ok(code) => code,
        Err(failure) => {
            if let Some(message) = &failure.message {
                complain(&for_shell(message));
            }
            ExitCode::from(failure.code)
        }
    }
}

fn execute(command: Command, program: fn() -> clap::Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Routes(command) => routes::run(command),
        Command::Status(common) => status::run(common),
        Command::Doctor(common) => doctor::run(common),
        Command::Config(command) => config::run(command),
        Command::Completions { shell } => {
            // The generator panics where it can't write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut program(), "traefik-router", &mut script);
            Output::plain().text(&String::from_utf8_lossy(&script))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
