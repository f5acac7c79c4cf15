//! `traefik-router chp`: takes configurable-http-proxy's place.

use std::process::ExitCode;

use clap::Args;

#[derive(Args)]
pub(crate) struct Options {}

pub(crate) fn run(_options: Options) -> ExitCode {
    ExitCode::FAILURE
}
