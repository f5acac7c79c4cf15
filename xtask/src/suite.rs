//! `cargo xtask test`: all tests, every feature, and the bound on dependencies.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use kit::terminal::{bold, eprintln, green, human, println, red};
use kit::tools::{cargo, workspace};

use crate::{Result, tools};

const MAX_CRATES: usize = 52;
/// How many random cases a property is tried with, and how many in a quick run and a second time.
const CASES: u32 = 256;
const FEW_CASES: u32 = 64;
/// How many tests run at a time, as libtest has it.
const THREADS: &str = "RUST_TEST_THREADS";
/// The variable that says how many random cases a property is tried with.
const PROPTEST_CASES: &str = "PROPTEST_CASES";
/// The tests that answer within two minutes, where all is built. Those of the shell need Traefik and etcd.
const QUICK: [(&str, &[&str]); 2] = [
    (
        "unit tests, shell",
        &[
            "--lib",
            "--bins",
            "--test",
            "architecture",
            "--test",
            "links",
            "--test",
            "shell",
            "--",
            // It waits for 35 s.
            "--skip",
            "client_reading_nothing_is_disconnected",
        ],
    ),
    (
        "against Traefik and a file",
        &[
            "--test",
            "it",
            "--",
            "conformance::memory",
            "conformance::toml",
            "data::toml",
            "errors::toml",
            "hostile::toml",
            "life::toml",
            "nesting::toml",
            "protocols::toml",
            "routing::toml",
        ],
    ),
];

#[derive(Args)]
pub(crate) struct Options {
    /// Run only what answers within two minutes, where all is built
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(options: &Options) -> Result {
    let traefik = tools::traefik()?;
    tools::show("traefik", &traefik);
    let suite = Suite {
        traefik: traefik.path,
    };
    let mut summary = Summary::default();
    show_if_there("etcd-3.5", tools::etcd_3_5());
    if options.quick {
        for (name, tests) in QUICK {
            summary.record(name, || {
                suite.test(&[&["--all-features"], tests].concat(), Some(FEW_CASES))
            });
        }
        return summary.tell();
    }
    show_if_there("etcd-3.4", tools::etcd_3_4());
    show_if_there("traefik-3.5", tools::traefik_3_5());
    show_if_there("redis", tools::redis());
    show_if_there("pebble", tools::pebble());
    summary.record("tests, all features", || {
        suite.test(&["--workspace", "--all-features"], Some(CASES))
    });
    // The tests against Traefik and etcd run once.
    summary.record("unit tests, default features", || {
        suite.test(&["--lib"], Some(FEW_CASES))
    });
    summary.record("doc tests, default features", || {
        suite.test(&["--doc"], None)
    });
    for (features, targets) in [
        ("", &["--lib"][..]),
        ("yaml", &["--lib"]),
        ("idn", &["--lib"]),
        ("bcrypt", &["--lib"]),
        ("cli", &["--lib", "--bins"]),
    ] {
        let name = if features.is_empty() {
            "none"
        } else {
            features
        };
        summary.record(&format!("builds with features: {name}"), || {
            suite.check(features, targets)
        });
    }
    summary.record("crates in a default build", || suite.crates());
    summary.tell()
}

/// Without a tool the tests that need it fail, and the others are worth running.
fn show_if_there(name: &str, tool: Result<tools::Tool>) {
    match tool {
        Ok(tool) => tools::show(name, &tool),
        Err(error) => eprintln!("{} {error}", red("warning:")),
    }
}

/// What each part of the run has come to, and how long it took.
#[derive(Default)]
struct Summary(Vec<(String, Result<String>, Duration)>);

impl Summary {
    fn record(&mut self, name: &str, job: impl FnOnce() -> Result<String>) {
        println!("\n{}", bold(name));
        let start = Instant::now();
        let outcome = job();
        if let Err(error) = &outcome {
            eprintln!("{} {error}", red("error:"));
        }
        self.0.push((name.into(), outcome, start.elapsed()));
    }

    fn tell(&self) -> Result {
        println!("\n{}", bold("Summary"));
        for (name, outcome, time) in &self.0 {
            let outcome = match outcome {
                Ok(text) => green(text),
                Err(_) => red("FAILED"),
            };
            println!("  {name:<32} {:>8}  {outcome}", human(*time));
        }
        match self
            .0
            .iter()
            .filter(|(_, outcome, _)| outcome.is_err())
            .count()
        {
            0 => Ok(()),
            failed => Err(format!("{failed} of {} failed; see above", self.0.len()).into()),
        }
    }
}

struct Suite {
    traefik: PathBuf,
}

impl Suite {
    fn cargo(&self, command: &str) -> Command {
        let mut cargo = cargo();
        cargo
            .arg(command)
            .current_dir(workspace())
            .stdin(Stdio::null())
            .env("TRAEFIK_BIN", &self.traefik);
        if std::env::var_os(THREADS).is_none() {
            // Most tests wait for Traefik most of the time.
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            cargo.env(THREADS, (2 * cores).to_string());
        }
        cargo
    }

    /// Runs tests, each property with so many random cases unless the user has said how many; says how
    /// many tests there were.
    fn test(&self, options: &[&str], cases: Option<u32>) -> Result<String> {
        let mut cargo = self.cargo("test");
        if let (Some(cases), None) = (cases, std::env::var_os(PROPTEST_CASES)) {
            cargo.env(PROPTEST_CASES, cases.to_string());
        }
        cargo
            .arg("--no-fail-fast")
            .args(options)
            .stdout(Stdio::piped());
        let mut child = cargo.spawn()?;
        let (mut passed, mut ignored) = (0, 0);
        for line in BufReader::new(child.stdout.take().ok_or("no output")?).lines() {
            let line = line?;
            println!("{line}");
            if line.starts_with("test result:") {
                passed += number_before(" passed", &line);
                ignored += number_before(" ignored", &line);
            }
        }
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("cargo test {}: {status}", options.join(" ")).into());
        }
        if passed == 0 {
            return Err(format!("cargo test {}: there is no such test", options.join(" ")).into());
        }
        match ignored {
            0 => Ok(format!("{passed} passed")),
            _ => Ok(format!("{passed} passed, {ignored} ignored")),
        }
    }

    fn check(&self, features: &str, targets: &[&str]) -> Result<String> {
        let mut cargo = self.cargo("check");
        let status = cargo
            .args(targets)
            .args(["--no-default-features", "--features", features])
            .status()?;
        if status.success() {
            Ok("ok".into())
        } else {
            Err(format!("cargo check: {status}").into())
        }
    }

    fn crates(&self) -> Result<String> {
        let mut cargo = self.cargo("tree");
        let output = cargo
            .args(["--edges", "normal", "--prefix", "none"])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("cargo tree: {}", output.status).into());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let name_and_version = |line: &str| -> Vec<String> {
            line.split_whitespace().take(2).map(String::from).collect()
        };
        let crates: BTreeSet<_> = text.lines().map(name_and_version).collect();
        let found = format!("{} of at most {MAX_CRATES}", crates.len());
        println!("{found}");
        // The library blocks: only the program has a runtime, for its HTTP server.
        let is_runtime = |name: &&String| ["tokio", "hyper"].contains(&name.as_str());
        if let Some(runtime) = crates.iter().filter_map(|one| one.first()).find(is_runtime) {
            return Err(format!("{runtime} is in a default build").into());
        }
        if crates.len() > MAX_CRATES {
            Err(found.into())
        } else {
            Ok(found)
        }
    }
}

fn number_before(word: &str, line: &str) -> usize {
    let before = line.split(word).next().unwrap_or_default();
    let number = before.rsplit(' ').next().unwrap_or_default();
    number.parse().unwrap_or(0)
}
