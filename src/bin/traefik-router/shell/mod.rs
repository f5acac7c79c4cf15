//! `traefik-router routes | status | doctor | …`: for people and scripts.

mod apply;
mod change;
mod completions;
mod config;
mod confined;
mod display;
mod doctor;
mod logger;
mod output;
mod routes;
mod setup;
mod status;
mod syntax;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Command as Program, Subcommand};

use self::config::ConfigCommand;
use self::output::{Output, be_quiet, complain};
use self::routes::RoutesCommand;
use self::setup::SetupOptions;
use crate::failure::Failure;
use crate::settings::{Resolved, Settings};
use crate::wording::for_shell;

/// What stands below the program's own help.
pub(crate) const HELP: &str = "\
Examples:
  traefik-router routes add /user/zoe/ http://127.0.0.1:9001 --backend toml:rules.toml
  traefik-router routes list --json
  traefik-router doctor

Options follow the command: traefik-router routes list --backend …. They may also be in a TOML file:
--config FILE, else $TRAEFIK_ROUTER_CONFIG, else traefik-router.toml in the current folder.
Its keys are the options without the two dashes in front.

Passwords come from files, or from TRAEFIK_API_PASSWORD, ETCD_PASSWORD and REDIS_PASSWORD.

Exit codes (chp, completions and man have only 0, 1 and 2):
  0  done
  1  failed, or a problem was found
  2  bad usage or bad input: nothing was changed
  3  there is no such route
  4  stored, or possibly stored, but not confirmed as served";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show and change routes.
    #[command(subcommand)]
    Routes(RoutesCommand),
    /// Store a router for the API of external Traefiks, behind a password, if they have none.
    #[command(after_help = setup::HELP)]
    Setup(SetupOptions),
    /// Show which Traefiks answer, and whether they serve what is stored.
    #[command(after_help = status::HELP)]
    Status,
    /// Check the set-up for problems, and say what to do.
    #[command(after_help = doctor::HELP)]
    Doctor {
        /// Also check what `chp` needs of a Traefik that it attaches to.
        #[arg(long, requires = "api_url")]
        chp: bool,
    },
    /// Print a configuration for Traefik.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell.
    #[command(after_help = "Example:\n  source <(traefik-router completions bash)")]
    Completions {
        /// The shell.
        shell: completions::Shell,
    },
    /// Write the manual pages into a folder.
    #[command(after_help = "Example:\n  traefik-router man ~/.local/share/man/man1")]
    Man {
        /// An existing folder.
        folder: PathBuf,
    },
}

/// Runs a command of `program`.
pub(crate) fn run(command: Command, settings: Settings, program: Program) -> ExitCode {
    if settings.quiet == Some(true) {
        be_quiet();
    }
    if settings.verbose == Some(true) {
        logger::start();
    }
    match execute(command, settings, program) {
        Ok(code) => code,
        Err(failure) => {
            if let Some(message) = &failure.message {
                complain(&for_shell(message));
            }
            ExitCode::from(failure.code)
        }
    }
}

/// The program with the help of all options, also of those that are left out of `-h`.
fn with_all_help(program: Program) -> Program {
    let program = program.mut_args(|arg| arg.hide_short_help(false));
    program.mut_subcommands(with_all_help)
}

fn execute(command: Command, all: Settings, program: Program) -> Result<ExitCode, Failure> {
    // `chp` pushes where no store is named.
    let pushes = match &command {
        Command::Doctor { chp } => *chp,
        Command::Config(ConfigCommand::Static { chp, .. } | ConfigCommand::Dynamic { chp, .. }) => {
            *chp
        }
        _ => false,
    };
    let resolve = || -> Result<Resolved, Failure> {
        let resolved = all.resolve(pushes).map_err(Failure::usage)?;
        log::info!("routes are kept in {}", resolved.store);
        for url in &resolved.settings.api_url {
            log::info!("Traefik's API is at {url}");
        }
        Ok(resolved)
    };
    let asks_store = matches!(command, Command::Routes(_) | Command::Status);
    let check = |resolved: Resolved| match resolved.store.is_pushed() && asks_store {
        true => Err(Failure::usage(
            "--backend push: only the program that pushes a table has it; ask that program",
        )),
        false => Ok(resolved),
    };
    let resolve = || check(resolve()?);
    match command {
        Command::Routes(command) => routes::run(command, &resolve()?),
        Command::Setup(options) => setup::run(&options, &resolve()?),
        Command::Status => status::run(&resolve()?),
        Command::Doctor { chp } => doctor::run(&resolve()?, chp),
        Command::Config(command) => config::run(command, &resolve()?),
        Command::Completions { shell } => {
            Output::plain().text(&completions::script(shell, program))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { folder } => {
            clap_mangen::generate_to(with_all_help(program), &folder).map_err(|error| {
                let folder = folder.display();
                Failure::failed(format!(
                    "can't write the manual pages into {folder}: {error}"
                ))
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
