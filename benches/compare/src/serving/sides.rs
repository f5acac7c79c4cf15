//! The proxies, each with a table of routes of which three can be asked for.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use kit::{Connection, Process, ports};
use serde_json::json;
use traefik_router::{Builder, FileBackend, Nested, ProcessStatus, Route, Router};

use super::load::on_core;
use super::target;
use crate::Result;

pub(super) const FLAT: &str = "flat";
pub(super) const TREE: &str = "tree";
pub(super) const CHP: &str = "chp";
pub(super) const ALL: [&str; 3] = [FLAT, TREE, CHP];

/// Where `/` leads, as it does at every JupyterHub.
const HUB: &str = "http://10.254.0.1:8081";

/// A table of so many routes, and one for `/`. Traefik tries longer paths first, so that their lengths say which
/// route is its first, its middle and its last one.
#[derive(Clone, Copy)]
pub(super) struct Table {
    pub(super) routes: usize,
    /// The port of the server that the routes which are asked for lead to.
    pub(super) target: u16,
}

impl Table {
    pub(super) fn positions(self) -> Vec<(&'static str, usize)> {
        let mut positions = vec![
            ("first", 0),
            ("middle", self.routes / 2),
            ("last", self.routes - 1),
        ];
        positions.dedup_by_key(|(_, n)| *n);
        positions
    }

    pub(super) fn path(self, n: usize) -> String {
        let name = name(n);
        let middle = self.routes / 2;
        match n {
            0 => format!("/user/{name}-abc/"),
            n if n < middle => format!("/user/{name}-ab/"),
            n if n == middle => format!("/user/{name}-a/"),
            n if n + 1 == self.routes => format!("/user/{}/", &name[1..]),
            _ => format!("/user/{name}/"),
        }
    }

    /// Where a route leads; but for those that are asked for, each to a place of its own.
    fn url(self, n: usize) -> String {
        if self.positions().iter().any(|(_, position)| *position == n) {
            format!("http://127.0.0.1:{}", self.target)
        } else {
            format!("http://10.{}.{}.{}:8888", n >> 16, n >> 8 & 255, n & 255)
        }
    }
}

/// Five letters that look like nothing in particular, others for each number.
fn name(n: usize) -> String {
    let mut rest = n * 7_654_321 % 26usize.pow(5);
    let letters = (0..5).map(|_| {
        let letter = b'a' + (rest % 26) as u8;
        rest /= 26;
        char::from(letter)
    });
    letters.collect()
}

/// A Traefik whose routes are ours.
pub(super) struct Traefik {
    pub(super) router: Router,
    port: u16,
}

impl Traefik {
    /// On one core, if one is named.
    pub(super) fn start(
        program: &Path,
        name: &str,
        table: Table,
        folder: &Path,
        core: Option<usize>,
    ) -> Result<Self> {
        let program = match core {
            Some(core) => pinned(program, core, folder)?,
            None => program.to_path_buf(),
        };
        let port = ports::free();
        let builder = Router::builder(FileBackend::new(folder.join("rules.toml")))
            .public_url(format!("http://127.0.0.1:{port}"))
            .traefik_api_url(format!("http://127.0.0.1:{}", ports::free()))
            .static_config_file(folder.join("traefik.toml"))
            .traefik_bin(program);
        let router = layout(builder, name).start()?;
        let routes = (0..table.routes).map(|n| {
            let data = json!({"user": self::name(n)});
            Ok(Route::new(table.path(n), table.url(n))?.data(data))
        });
        let mut routes = routes.collect::<Result<Vec<_>>>()?;
        routes.push(Route::new("/", HUB)?.data(json!({"hub": true})));
        router.reconcile(routes)?;
        Ok(Self { router, port })
    }

    pub(super) fn process(&self) -> Result<u32> {
        match self.router.status().process {
            Some(ProcessStatus::Running { pid: id, .. }) => Ok(id),
            other => Err(format!("Traefik does not run: {other:?}").into()),
        }
    }
}

/// How the router lays its routes out.
fn layout(builder: Builder, name: &str) -> Builder {
    match name {
        FLAT => builder.nested_routers(Nested::Never),
        _ => builder.nested_routers(Nested::Auto),
    }
}

/// A program that becomes Traefik on one core.
fn pinned(traefik: &Path, core: usize, folder: &Path) -> Result<PathBuf> {
    symlink(traefik, folder.join("traefik"))?;
    let script = folder.join("pinned-traefik");
    let text = format!("#!/bin/sh\nexec taskset --cpu-list {core} \"${{0%/*}}/traefik\" \"$@\"\n");
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// configurable-http-proxy, set up as JupyterHub does it.
pub(super) struct Chp {
    program: Process,
    port: u16,
}

impl Chp {
    fn start(program: &Path, table: Table, folder: &Path, core: usize) -> Result<Self> {
        let (port, api) = (ports::free(), ports::free());
        let mut command = on_core(core, program);
        command.args(["--ip=127.0.0.1", "--api-ip=127.0.0.1"]);
        command.args([format!("--port={port}"), format!("--api-port={api}")]);
        let mut program = Process::start(&mut command, &folder.join("chp.log"));
        let mut connection = Connection::new(api, None);
        program.wait_until("configurable-http-proxy answers", || {
            matches!(connection.get("/api/routes"), Ok((200, _)))
        });
        let users = (0..table.routes).map(|n| (table.path(n), table.url(n)));
        for (path, target) in users.chain([("/".into(), HUB.into())]) {
            let path = format!("/api/routes{path}");
            let body = json!({"target": target, "user": path}).to_string();
            let (status, said) = connection.post(&path, body.as_bytes())?;
            if status != 201 {
                let said = String::from_utf8_lossy(said);
                return Err(format!("configurable-http-proxy: {path}: {status} {said}").into());
            }
        }
        Ok(Self { program, port })
    }
}

pub(super) enum Proxy {
    Traefik(Box<Traefik>),
    Chp(Chp),
}

/// A proxy that is ready for requests, alone on its core as long as no other one has any.
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) table: Table,
    proxy: Proxy,
}

impl Side {
    pub(super) fn start(
        name: &'static str,
        program: &Path,
        table: Table,
        folder: &Path,
        core: usize,
    ) -> Result<Self> {
        let proxy = match name {
            CHP => Proxy::Chp(Chp::start(program, table, folder, core)?),
            _ => {
                let traefik = Traefik::start(program, name, table, folder, Some(core))?;
                Proxy::Traefik(Box::new(traefik))
            }
        };
        let side = Self { name, table, proxy };
        side.check()?;
        Ok(side)
    }

    /// The process, and where it listens.
    pub(super) fn place(&self) -> Result<(u32, u16)> {
        Ok(match &self.proxy {
            Proxy::Traefik(traefik) => (traefik.process()?, traefik.port),
            Proxy::Chp(chp) => (chp.program.id(), chp.port),
        })
    }

    /// Every route that is asked for leads to the target.
    fn check(&self) -> Result {
        let mut connection = Connection::new(self.place()?.1, None);
        for (position, n) in self.table.positions() {
            let path = self.table.path(n);
            let (status, body) = connection.get(&path)?;
            if (status, body) != (200, target::BODY.as_bytes()) {
                let (name, body) = (self.name, String::from_utf8_lossy(body));
                return Err(format!("{name}, {position} route, {path}: {status} {body}").into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Table;

    #[test]
    fn order_of_lengths() {
        for routes in [1, 2, 3, 100, 10_000] {
            let table = Table { routes, target: 1 };
            let mut lengths = BTreeMap::<usize, Vec<usize>>::new();
            let mut paths: Vec<String> = (0..routes).map(|n| table.path(n)).collect();
            for (n, path) in paths.iter().enumerate() {
                lengths.entry(path.len()).or_default().push(n);
            }
            for (_, n) in table.positions() {
                assert_eq!(lengths[&table.path(n).len()], [n], "of {routes}");
            }
            assert!(lengths.last_key_value().is_some_and(|(_, n)| *n == [0]));
            paths.sort();
            paths.dedup();
            assert_eq!(paths.len(), routes);
        }
    }
}
