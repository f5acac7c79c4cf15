//! `cargo xtask tools`: gets the programs that other commands run. Versions and checksums are pinned in
//! `xtask/tools/`; etcd 3.4 and wrk come from Debian's signed packages.

mod fetch;
mod hub;
mod programs;

use std::path::{Path, PathBuf};
use std::process::Command;

use kit::terminal::dim;
use kit::tools::Program;

use self::fetch::output_of;
pub(crate) use self::hub::{configurable_http_proxy, jupyterhub, peer};
pub(crate) use self::programs::{cargo_deny, etcd_3_4, etcd_3_5, traefik, traefik_3_5, wrk};
use crate::Result;

/// Put Traefik into target/tools, unless there is one already
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Get Traefik 3.5, etcd 3.4 and 3.5 too, which the tests need
    #[arg(long)]
    all: bool,
    /// Get jupyterhub-traefik-proxy too, which benchmarks compare with
    #[arg(long)]
    peer: bool,
    /// Get cargo-deny too, built from crates.io
    #[arg(long)]
    deny: bool,
    /// Get JupyterHub with its tests, and configurable-http-proxy too
    #[arg(long)]
    hub: bool,
    /// Get configurable-http-proxy and wrk too, for compare --serving
    #[arg(long)]
    serving: bool,
}

pub(crate) fn run(options: &Options) -> Result {
    show("traefik", &traefik()?);
    if options.all {
        show("traefik", &traefik_3_5()?);
        show("etcd", &etcd_3_4()?);
        show("etcd", &etcd_3_5()?);
    }
    if options.deny {
        show("cargo-deny", &cargo_deny()?);
    }
    if options.peer {
        show("peer", &peer()?);
    }
    if options.hub {
        show("jupyterhub", &jupyterhub()?);
    }
    if options.hub || options.serving {
        show("chp", &configurable_http_proxy()?);
    }
    if options.serving {
        show("wrk", &wrk()?);
    }
    Ok(())
}

/// A program that is there, and how it came to be used.
pub(crate) struct Tool {
    pub(crate) path: PathBuf,
    version: String,
    origin: &'static str,
}

pub(crate) fn show(name: &str, tool: &Tool) {
    let (path, version) = (tool.path.display(), &tool.version);
    println!("{name:<10} {version:<9} {path} {}", dim(tool.origin));
}

impl Tool {
    /// A program that the user has: named by its variable, or on PATH.
    fn of_user(program: &Program, version_of: Version) -> Result<Option<Self>> {
        let (path, origin) = match (program.named(), program.on_path()) {
            (Some(path), _) => (path, "(named by the environment)"),
            (None, Some(path)) => (path, "(on PATH)"),
            (None, None) => return Ok(None),
        };
        let Some(version) = version_of(&path) else {
            let (path, name, variable) = (path.display(), program.name, program.variable);
            let advice = format!("set {variable} to one that does");
            return Err(format!("{path} {origin} does not run as {name}: {advice}").into());
        };
        Ok(Some(Self {
            path,
            version,
            origin,
        }))
    }

    /// A program in `target/tools`. `get` puts it there, unless its version begins with `pinned`.
    fn pinned(
        path: PathBuf,
        version_of: Version,
        pinned: &str,
        get: impl FnOnce(&Path) -> Result,
    ) -> Result<Self> {
        let is_pinned = |version: &String| version.starts_with(pinned);
        if version_of(&path).filter(is_pinned).is_none() {
            get(&path)?;
        }
        let version = version_of(&path);
        Ok(Self {
            version: version.ok_or_else(|| format!("{} does not run", path.display()))?,
            path,
            origin: "",
        })
    }
}

/// What a program says its version is; `None` if it does not run.
type Version = fn(&Path) -> Option<String>;

/// The rest of the line that begins with `label`, of what the command prints.
fn version(command: &mut Command, label: &str) -> Option<String> {
    let said = output_of(command)?;
    let line = said.lines().find_map(|line| line.strip_prefix(label))?;
    Some(line.trim().into())
}
