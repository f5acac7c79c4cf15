//! `cargo xtask deny`: whether what is built in is as `deny.toml` says.

use std::path::Path;
use std::process::{Command, Stdio};

use kit::terminal::{green, println, red};
use kit::tools::workspace;

use crate::{Result, tools};

/// Check the licences, sources and known vulnerabilities of what is built in
///
/// The list of known vulnerabilities comes from github.com. Without it they are not checked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fail without the list of known vulnerabilities
    #[arg(long)]
    advisories: bool,
}

pub(crate) fn run(options: &Options) -> Result {
    let program = tools::cargo_deny()?.path;
    check(&program, &["licenses", "sources", "bans"])?;
    println!("{}", green("licences, sources and bans: checked"));
    match fetch_advisories(&program) {
        Ok(()) => {
            check(&program, &["advisories"])?;
            println!("{}", green("known vulnerabilities: checked"));
        }
        Err(why) if options.advisories => return Err(why),
        Err(why) => println!("{}: {why}", red("known vulnerabilities: NOT checked")),
    }
    Ok(())
}

fn check(program: &Path, what: &[&str]) -> Result {
    let mut command = deny(program);
    command.args(["--workspace", "check", "--hide-inclusion-graph"]);
    let status = command.args(what).status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("cargo deny check {}: {status}", what.join(" ")).into()),
    }
}

/// Gets the list of known vulnerabilities.
fn fetch_advisories(program: &Path) -> Result {
    let output = deny(program)
        .args(["fetch", "db"])
        // Nobody is there to type a password, and a connection that stands still is none.
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_HTTP_LOW_SPEED_LIMIT", "1000")
        .env("GIT_HTTP_LOW_SPEED_TIME", "30")
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    let why = last.map_or_else(|| output.status.to_string(), str::to_string);
    Err(format!("the list of them can't be had: {why}").into())
}

fn deny(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace()).stdin(Stdio::null());
    command
}
