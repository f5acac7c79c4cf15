//! What a developer of `traefik-router` runs, as `cargo xtask COMMAND`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod deny;
mod dist;
mod fuzz;
mod pictures;
mod python;
mod suite;
mod tools;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use kit::terminal::exit_code;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// What a developer of traefik-router runs
#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    after_help = "A program named by TRAEFIK_BIN, TRAEFIK_3_5_BIN, ETCD_BIN, REDIS_BIN, CHP_BIN or WRK_BIN is used as it \
                  is, or else one on PATH, or else the one in target/tools. Colours are off with NO_COLOR and \
                  outside a terminal."
)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Show what the crate does: a real Traefik, real requests
    Demo {
        /// Show what two Traefiks with their routes in etcd do instead
        #[arg(long)]
        etcd: bool,
    },
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
    Python(python::Options),
    Dist(dist::Options),
    /// Draw what the program prints on a terminal: docs/demo.svg, apply.svg and doctor.svg
    Pictures,
    Tools(tools::Options),
}

#[derive(Args)]
#[command(disable_help_flag = true)]
struct ProgramOptions {
    /// The program's own options; add --help to the command to list them
    #[arg(
        value_name = "OPTIONS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<String>,
}

fn main() -> ExitCode {
    exit_code(match Arguments::parse().command {
        Subcommands::Demo { etcd } => {
            let demo = ["--package", "demo"];
            let option = etcd.then(|| "--etcd".into());
            run(&demo, option.as_slice())
        }
        Subcommands::Test(options) => suite::run(&options),
        Subcommands::Fuzz(options) => fuzz::run(&options),
        Subcommands::Deny(options) => deny::run(&options),
        // Figures of a debug build say nothing.
        Subcommands::Compare(program) => {
            run(&["--release", "--package", "compare"], &program.options)
        }
        Subcommands::Jupyterhub(program) => {
            run(&["--package", "jupyterhub-suite"], &program.options)
        }
        Subcommands::Soak(program) => run(&["--package", "soak"], &program.options),
        Subcommands::Dist(options) => dist::run(&options),
        Subcommands::Pictures => pictures::run(),
        Subcommands::Python(options) => python::run(&options),
        Subcommands::Tools(options) => tools::run(&options),
    })
}

/// Runs a program of the workspace, which gets the tools that it needs and prints its own errors.
fn run(program: &[&str], options: &[String]) -> Result {
    let status = kit::tools::cargo()
        .args(["run", "--manifest-path"])
        .arg(kit::tools::workspace().join("Cargo.toml"))
        .args(program)
        .arg("--")
        .args(options)
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("cargo run {}: {status}", program.join(" ")).into()),
    }
}
