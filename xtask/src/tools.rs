//! `cargo xtask tools`: gets the programs that other commands run. Versions and checksums are pinned in
//! `xtask/tools/`; etcd 3.4, Redis, wrk and Pebble come from Debian's signed packages.

pub(crate) mod fetch;
mod hub;
mod programs;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::builder::PossibleValuesParser;
use kit::terminal::{dim, println};
use kit::tools::{
    CONFIGURABLE_HTTP_PROXY, ETCD, ETCD_3_4, JUPYTERHUB, PEBBLE, PEER, Program, REDIS, TRAEFIK,
    TRAEFIK_3_5, WRK,
};

use self::fetch::output_of;
pub(crate) use self::hub::jupyterhub;
use self::hub::{configurable_http_proxy, peer};
use self::programs::wrk;
pub(crate) use self::programs::{
    cargo_deny, etcd_3_4, etcd_3_5, maturin, pebble, redis, traefik, traefik_3_5, zig,
};
use crate::Result;

type Get = fn() -> Result<Tool>;

const TOOLS: [(&str, Get); 13] = [
    (TRAEFIK.tool, traefik),
    (TRAEFIK_3_5.tool, traefik_3_5),
    (ETCD_3_4.tool, etcd_3_4),
    (ETCD.tool, etcd_3_5),
    (REDIS.tool, redis),
    (CONFIGURABLE_HTTP_PROXY.tool, configurable_http_proxy),
    (WRK.tool, wrk),
    (PEBBLE.tool, pebble),
    (JUPYTERHUB.tool, jupyterhub),
    (PEER.tool, peer),
    ("cargo-deny", cargo_deny),
    ("maturin", maturin),
    ("zig", zig),
];

/// Put programs into target/tools, unless they are there
#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(
        value_name = "NAME",
        required = true,
        value_parser = PossibleValuesParser::new(TOOLS.map(|(name, _)| name))
    )]
    names: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result {
    for (name, get) in TOOLS {
        if options.names.iter().any(|wanted| wanted == name) {
            show(name, &get()?);
        }
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
    println!("{name:<11} {version:<9} {path} {}", dim(tool.origin));
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
