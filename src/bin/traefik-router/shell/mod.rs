//! `traefik-router routes | status | doctor | …`: for people and scripts.

use std::process::ExitCode;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// How every Traefik is.
    Status,
}

pub(crate) fn run(_command: Command) -> ExitCode {
    ExitCode::FAILURE
}
