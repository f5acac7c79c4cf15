//! JupyterHub's own tests, on both proxies at the same time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kit::terminal::{bold, dim, green, println, red};
use kit::{Folder, Process, ports, tools};
use serde_json::Value;

use crate::{Result, Side, write_scripts};

/// How JupyterHub runs in a suite.
#[derive(Clone, Copy)]
enum Kind {
    Plain,
    /// It speaks TLS to its proxy and servers.
    InternalTls,
    /// Each user has a host of their own.
    Subdomains,
}

/// The module whose proxy listens on Unix sockets.
const SOCKETS: &str = "jupyterhub.tests.test_unix_socket";

/// A name, the modules, and how JupyterHub runs.
const SUITES: [(&str, &[&str], Kind); 3] = [
    (
        "http",
        &[
            "jupyterhub.tests.test_proxy",
            "jupyterhub.tests.test_spawner",
            "jupyterhub.tests.test_named_servers",
            SOCKETS,
        ],
        Kind::Plain,
    ),
    ("internal TLS", &["jupyterhub.tests"], Kind::InternalTls),
    (
        "subdomains",
        &["jupyterhub.tests.test_proxy"],
        Kind::Subdomains,
    ),
];

/// Suite and module, then test: what became of it.
type Outcomes = BTreeMap<(String, String), String>;

/// Which tests are run.
#[derive(Clone, Copy)]
pub(super) struct Chosen<'a> {
    /// Those that this pattern matches.
    pub(super) only: Option<&'a str>,
    /// Those that a Traefik of others can pass.
    pub(super) attached: bool,
}

pub(super) fn run(sides: &[Side], chosen: Chosen<'_>, folder: &Folder) -> Result {
    let outcomes = std::thread::scope(|scope| {
        let runs: Vec<_> = sides
            .iter()
            .map(|side| {
                scope.spawn(move || run_side(side, folder, chosen).map_err(|e| e.to_string()))
            })
            .collect();
        let runs = runs.into_iter();
        runs.map(|run| run.join().unwrap_or_else(|_| Err("a panic".into())))
            .collect::<Result<Vec<_>, _>>()
    })?;
    tell(sides, &outcomes);
    match outcomes.as_slice() {
        [ours, real] if chosen.attached => judge(ours, real),
        [ours, real] => judge(ours, real).and_then(|()| compare_answers()),
        _ => Ok(()),
    }
}

/// Our own tests that ask both proxies the same.
fn compare_answers() -> Result {
    let status = tools::cargo()
        .args(["test", "--all-features", "--test", "chp"])
        .args(["--", "--ignored", "equal_configurable_http_proxys"])
        .current_dir(tools::workspace())
        .env("TRAEFIK_BIN", tools::TRAEFIK.find()?)
        .env("CHP_BIN", tools::CONFIGURABLE_HTTP_PROXY.find()?)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the answers of both differ: {status}").into())
    }
}

fn run_side(side: &Side, folder: &Folder, chosen: Chosen<'_>) -> Result<Outcomes> {
    let Chosen { only, attached } = chosen;
    let folder = folder.sub(side.name)?;
    write_scripts(&folder)?;
    let mut outcomes = Outcomes::new();
    // Its tests take ten minutes.
    let is_run = |kind| match kind {
        Kind::Plain => true,
        Kind::InternalTls => !attached,
        Kind::Subdomains => only.is_none(),
    };
    for (suite, modules, kind) in SUITES.into_iter().filter(|(.., kind)| is_run(*kind)) {
        let modules = modules
            .iter()
            .filter(|module| !attached || **module != SOCKETS);
        let file = folder.join(format!("{suite}.json"));
        let mut pytest = side.command(&side.python);
        pytest
            .arg(folder.join("outcomes.py"))
            .arg(&file)
            .arg("-c")
            .arg(folder.join("pytest.ini"))
            .arg("--tb=short");
        match kind {
            Kind::Plain => {}
            Kind::InternalTls => drop(pytest.env("SSL_ENABLED", "1").args(["-m", "ssl"])),
            Kind::Subdomains => {
                let host = format!("http://localhost:{}", ports::free());
                pytest.env("JUPYTERHUB_TEST_SUBDOMAIN_HOST", host);
            }
        }
        if side.has_class {
            let package = tools::workspace().join("packaging/python/src");
            pytest.env("PYTHONPATH", package);
            pytest.env("TESTED_PROXY_CLASS", "traefik_router.TraefikProxy");
        }
        if let Some(pattern) = only {
            pytest.args(["-k", pattern]);
        }
        pytest.arg("--pyargs").args(modules);
        let log = folder.join(format!("{suite}.log"));
        let status = Process::start(&mut pytest, &log).wait();
        // 1: some failed; 5: none was chosen.
        if !matches!(status.code(), Some(0 | 1 | 5)) {
            let log = fs::read_to_string(log)?;
            return Err(format!("{suite} on {}: {status}\n{log}", side.name).into());
        }
        for line in fs::read_to_string(&file)?.lines() {
            let line: Value = serde_json::from_str(line)?;
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_string();
            let module = format!("{suite}: {}", text("module"));
            // A test that fails twice, in itself and in its fixture, is one failure.
            let known = outcomes.entry((module, text("test"))).or_default();
            if known != "failed" {
                *known = text("outcome");
            }
        }
        keep(&log, side, suite)?;
    }
    Ok(outcomes)
}

/// The whole of what pytest said outlives the run.
fn keep(log: &Path, side: &Side, suite: &str) -> Result {
    let target = tools::workspace().join("target/jupyterhub");
    fs::create_dir_all(&target)?;
    let name = format!("{}, {suite}.log", side.name);
    fs::copy(log, target.join(name))?;
    Ok(())
}

fn tell(sides: &[Side], outcomes: &[Outcomes]) {
    let modules = |outcomes: &Outcomes| -> BTreeMap<String, [usize; 3]> {
        let mut modules = BTreeMap::<_, [usize; 3]>::new();
        for ((module, _), outcome) in outcomes {
            let counts = modules.entry(module.clone()).or_default();
            let column = ["passed", "failed", "skipped"];
            if let Some(column) = column.iter().position(|name| name == outcome) {
                counts[column] += 1;
            }
        }
        modules
    };
    for (side, outcomes) in sides.iter().zip(outcomes) {
        println!("\n{:<64} passed failed skipped", bold(side.name));
        for (module, [passed, failed, skipped]) in modules(outcomes) {
            println!("  {module:<54} {passed:>6} {failed:>6} {skipped:>7}");
        }
        for ((module, test), _) in outcomes.iter().filter(|(_, outcome)| *outcome == "failed") {
            println!("  {} {module} {test}", red("failed"));
        }
    }
    println!("{}", dim("what pytest said: target/jupyterhub/"));
}

/// Ours passes what the other one passes.
fn judge(ours: &Outcomes, real: &Outcomes) -> Result {
    let passes = |outcomes: &Outcomes, test| outcomes.get(test).is_some_and(|o| o == "passed");
    let lost: Vec<_> = real
        .keys()
        .filter(|test| passes(real, test) && !passes(ours, test))
        .collect();
    if lost.is_empty() {
        println!("{}", green("ours passes every test that it passes"));
        return Ok(());
    }
    for (module, test) in &lost {
        println!("{} {module} {test}", red("lost"));
    }
    Err(format!(
        "{} tests pass with configurable-http-proxy only",
        lost.len()
    )
    .into())
}
