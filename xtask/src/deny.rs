//! `cargo xtask deny`: whether what is built in is as `deny.toml` says.

use std::process::{Command, Stdio};

use crate::{Result, tools};

pub(crate) fn run(options: &[&str]) -> Result {
    let mut checks = vec!["licenses", "sources", "bans"];
    match options {
        [] => {}
        ["--advisories"] => checks.push("advisories"),
        _ => return Err("what is that? See cargo xtask --help".into()),
    }
    let program = tools::cargo_deny()?;
    let status = Command::new(&program.path)
        .args(["--workspace", "check", "--hide-inclusion-graph"])
        .args(checks)
        .current_dir(tools::workspace())
        .stdin(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo deny: {status}").into())
    }
}
