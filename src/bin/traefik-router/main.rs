//! The single binary: a stand-in for configurable-http-proxy, and a shell for routes.

mod chp;
mod shell;
mod store;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Change a running Traefik's routes, and know when they are served.
#[derive(Parser)]
#[command(version, propagate_version = true, after_help = shell::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Stand in for configurable-http-proxy.
    Chp(chp::Options),
    #[command(flatten)]
    Shell(shell::Command),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Chp(options) => chp::run(options),
        Command::Shell(command) => shell::run(command),
    }
}
