//! Where Traefik, etcd, Redis and the other programs are: named by a variable, on PATH, or in `target/tools`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Traefik.
pub const TRAEFIK: Program = Program {
    variable: "TRAEFIK_BIN",
    name: "traefik",
    tool: "traefik",
    fetched: "traefik",
};
/// Traefik 3.5, which does not know `parentRefs`.
pub const TRAEFIK_3_5: Program = Program {
    variable: "TRAEFIK_3_5_BIN",
    name: "traefik-3.5",
    tool: "traefik-3.5",
    fetched: "traefik-3.5",
};
/// etcd 3.4, which has an older gateway and forgets tokens sooner; or the etcd that the user has.
pub const ETCD_3_4: Program = Program {
    tool: "etcd-3.4",
    fetched: "etcd-3.4/etcd",
    ..ETCD
};
/// etcd 3.5, or the etcd that the user has.
pub const ETCD: Program = Program {
    variable: "ETCD_BIN",
    name: "etcd",
    tool: "etcd-3.5",
    fetched: "etcd-3.5/etcd",
};
/// Redis.
pub const REDIS: Program = Program {
    variable: "REDIS_BIN",
    name: "redis-server",
    tool: "redis",
    fetched: "redis/redis-server",
};
/// What JupyterHub's routes are served by if nobody chooses another.
pub const CONFIGURABLE_HTTP_PROXY: Program = Program {
    variable: "CHP_BIN",
    name: "configurable-http-proxy",
    tool: "configurable-http-proxy",
    fetched: "configurable-http-proxy/node_modules/.bin/configurable-http-proxy",
};
/// The load generator wrk.
pub const WRK: Program = Program {
    variable: "WRK_BIN",
    name: "wrk",
    tool: "wrk",
    fetched: "wrk/wrk",
};

/// Pebble, a certificate authority for tests of ACME.
pub const PEBBLE: Program = Program {
    variable: "PEBBLE_BIN",
    name: "pebble",
    tool: "pebble",
    fetched: "pebble/pebble",
};
/// The server of names that comes with it.
pub const PEBBLE_NAMES: Program = Program {
    variable: "PEBBLE_CHALLTESTSRV_BIN",
    name: "pebble-challtestsrv",
    fetched: "pebble/pebble-challtestsrv",
    ..PEBBLE
};

/// JupyterHub with its own tests.
pub const JUPYTERHUB: Python = Python { tool: "jupyterhub" };
/// What benchmarks compare with.
pub const PEER: Python = Python {
    tool: "jupyterhub-traefik-proxy",
};

/// A program that tests or benchmarks run.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The environment variable that names it.
    pub variable: &'static str,
    /// Its name on PATH.
    pub name: &'static str,
    /// Its name for `cargo xtask tools`.
    pub tool: &'static str,
    /// Where it is put below `target/tools`.
    fetched: &'static str,
}

impl Program {
    /// Where it is.
    ///
    /// # Panics
    ///
    /// If it is nowhere; the message says how to get it.
    #[track_caller]
    pub fn path(&self) -> PathBuf {
        self.find().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Where it is. `cargo xtask tools` gets it first, unless it is there.
    pub fn get(&self) -> Result<PathBuf, String> {
        get(self.tool)?;
        self.find()
    }

    /// Where it is; the error says how to get it.
    pub fn find(&self) -> Result<PathBuf, String> {
        let found = self.named().or_else(|| self.on_path());
        let found = found.or_else(|| Some(self.fetched()).filter(|file| file.is_file()));
        let (name, tool, variable) = (self.name, self.tool, self.variable);
        found.ok_or_else(|| {
            format!("{name} was not found: run `cargo xtask tools {tool}`, or set {variable}")
        })
    }

    /// What its variable says.
    pub fn named(&self) -> Option<PathBuf> {
        std::env::var_os(self.variable)
            .filter(|path| !path.is_empty())
            .map(|path| std::path::absolute(&path).unwrap_or(path.into()))
    }

    /// The first file of its name on PATH.
    pub fn on_path(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut files = std::env::split_paths(&path).map(|folder| folder.join(self.name));
        files.find(|file| file.is_file())
    }

    /// Where `cargo xtask tools` puts it.
    pub fn fetched(&self) -> PathBuf {
        folder().join(self.fetched)
    }
}

/// A package of Python in a virtual environment below `target/tools`.
#[derive(Debug, Clone, Copy)]
pub struct Python {
    /// Its name for `cargo xtask tools`, and its folder below `target/tools`.
    pub tool: &'static str,
}

impl Python {
    /// The Python that imports it. `cargo xtask tools` gets it first, unless it is there.
    pub fn get(&self) -> Result<PathBuf, String> {
        get(self.tool)?;
        self.find()
    }

    /// The Python that imports it; the error says how to get it.
    pub fn find(&self) -> Result<PathBuf, String> {
        let (tool, python) = (self.tool, self.python());
        match python.is_file() {
            true => Ok(python),
            false => Err(format!(
                "{tool} was not found: run `cargo xtask tools {tool}`"
            )),
        }
    }

    /// Where `cargo xtask tools` puts its Python.
    pub fn python(&self) -> PathBuf {
        self.folder().join("bin/python")
    }

    /// The virtual environment.
    pub fn folder(&self) -> PathBuf {
        folder().join(self.tool)
    }
}

/// Runs `cargo xtask tools` for this tool. It prints which version is used.
fn get(tool: &str) -> Result<(), String> {
    let status = cargo()
        .args(["run", "--quiet", "--package", "xtask", "--manifest-path"])
        .arg(workspace().join("Cargo.toml"))
        .args(["--", "tools", tool])
        .status()
        .map_err(|error| format!("can't run cargo: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("cargo xtask tools {tool}: {status}")),
    }
}

/// Both series of etcd that are supported; the user's own alone, if there is one.
pub fn etcds() -> Vec<PathBuf> {
    let mut both = vec![ETCD_3_4.path(), ETCD.path()];
    both.dedup();
    both
}

/// The workspace's `target/tools`, wherever cargo builds to.
pub fn folder() -> PathBuf {
    workspace().join("target/tools")
}

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    tests.and_then(Path::parent).unwrap_or(Path::new("."))
}

/// The cargo that runs this program.
pub fn cargo() -> std::process::Command {
    let cargo = std::env::var_os("CARGO");
    let mut command = std::process::Command::new(cargo.as_deref().unwrap_or(OsStr::new("cargo")));
    // What cargo says of the package that it runs would have it build ring and all above it anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}
