//! What a developer of `traefik-router` runs, as `cargo xtask COMMAND`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod compare;
mod demo;
mod deny;
mod fuzz;
mod jupyterhub;
mod soak;
mod suite;
mod tools;

use std::process::{Command, ExitCode};

use clap::{Args, Parser, Subcommand};
use kit::terminal::exit_code;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// What a developer of traefik-router runs
#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    after_help = "A program named by TRAEFIK_BIN, ETCD_BIN, CHP_BIN or WRK_BIN is used as it is, or else one \
                  on PATH, or else the one in target/tools. Colours are off with NO_COLOR and outside a \
                  terminal."
)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    Demo(demo::Options),
    /// Get what the tests need, run them all, check every feature
    Test(suite::Options),
    Fuzz(fuzz::Options),
    Deny(deny::Options),
    /// Measure Traefik alone, the crate and jupyterhub-traefik-proxy side by side
    Compare(ProgramOptions),
    /// Run JupyterHub's own tests with traefik-router for its proxy and with configurable-http-proxy
    Jupyterhub(ProgramOptions),
    /// Change routes for half an hour among faults, while requests go through other routes
    Soak(ProgramOptions),
    Tools(tools::Options),
}

/// The options of a program that xtask runs. The program reads them, `--help` too.
#[derive(Args)]
#[command(
    disable_help_flag = true,
    after_help = "The program has more to say: add --help to the command."
)]
struct ProgramOptions {
    #[arg(
        value_name = "OPTIONS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<String>,
}

impl ProgramOptions {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|one| one == option)
    }

    /// Whether the program is only to print its help: it needs no other programs then.
    fn asks_for_help(&self) -> bool {
        self.has("--help") || self.has("-h")
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Subcommands::Demo(options) => demo::run(&options),
        Subcommands::Test(options) => suite::run(&options),
        Subcommands::Fuzz(options) => fuzz::run(&options),
        Subcommands::Deny(options) => deny::run(&options),
        Subcommands::Compare(options) => compare::run(&options),
        Subcommands::Jupyterhub(options) => jupyterhub::run(&options),
        Subcommands::Soak(options) => soak::run(&options),
        Subcommands::Tools(options) => tools::run(&options),
    };
    exit_code(done)
}

/// `cargo run` with these options, in the workspace.
fn cargo_run(options: &[&str]) -> Command {
    let mut cargo = kit::tools::cargo();
    cargo
        .args(["run", "--quiet", "--manifest-path"])
        .arg(kit::tools::workspace().join("Cargo.toml"))
        .args(options);
    cargo
}

/// Runs a program, which prints its own errors.
fn succeeds(command: &mut Command, what: &str) -> Result {
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(format!("{what} failed ({status})").into()),
    }
}
