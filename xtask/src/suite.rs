//! `cargo xtask test`: all tests, every feature, and the bound on dependencies.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kit::terminal::{bold, green, human, red};
use kit::tools::{cargo, workspace};

use crate::{Result, tools};

const MAX_CRATES: usize = 52;
/// The tests that kill a program at each step of a commit.
const KILLS: &str = "faults::kill::at_every_step";

pub(crate) fn run() -> Result {
    let traefik = tools::traefik()?;
    tools::show("traefik", &traefik);
    for (name, tool) in [
        ("traefik", tools::traefik_3_5()),
        ("etcd", tools::etcd_3_4()),
        ("etcd", tools::etcd_3_5()),
    ] {
        match tool {
            Ok(tool) => tools::show(name, &tool),
            // Whatever needs it will fail, and the rest is worth running.
            Err(error) => eprintln!("{} {error}", red("warning:")),
        }
    }
    let suite = Suite {
        traefik: traefik.path.into(),
    };
    let mut summary = Vec::new();
    let mut record = |name: &str, job: &dyn Fn() -> Result<String>| {
        println!("\n{}", bold(name));
        let start = Instant::now();
        let outcome = job();
        if let Err(error) = &outcome {
            eprintln!("{} {error}", red("error:"));
        }
        summary.push((name.to_string(), outcome, start.elapsed()));
    };
    // They build a program first. Among the other tests the build would slow those that measure time.
    record("kills at each step of a commit", &|| {
        suite.test(&["--all-features", "--test", "it", KILLS])
    });
    record("tests, all features", &|| {
        suite.test(&["--workspace", "--all-features", "--", "--skip", KILLS])
    });
    record("tests, default features", &|| suite.test(&[]));
    for features in ["", "tls", "yaml", "idn", "bcrypt", "cli"] {
        let name = if features.is_empty() {
            "none"
        } else {
            features
        };
        record(&format!("builds with features: {name}"), &|| {
            suite.check(features)
        });
    }
    record("crates in a default build", &|| suite.crates());
    tell(&summary)
}

fn tell(summary: &[(String, Result<String>, Duration)]) -> Result {
    println!("\n{}", bold("Summary"));
    for (name, outcome, time) in summary {
        let outcome = match outcome {
            Ok(text) => green(text),
            Err(_) => red("FAILED"),
        };
        println!("  {name:<32} {:>8}  {outcome}", human(*time));
    }
    match summary
        .iter()
        .filter(|(_, outcome, _)| outcome.is_err())
        .count()
    {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} failed; see above", summary.len()).into()),
    }
}

struct Suite {
    traefik: OsString,
}

impl Suite {
    fn cargo(&self, command: &str) -> Command {
        let mut cargo = cargo();
        cargo
            .arg(command)
            .current_dir(workspace())
            .stdin(Stdio::null())
            .env("TRAEFIK_BIN", &self.traefik);
        cargo
    }

    /// Runs tests; says how many there were.
    fn test(&self, options: &[&str]) -> Result<String> {
        let mut cargo = self.cargo("test");
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

    fn check(&self, features: &str) -> Result<String> {
        let mut cargo = self.cargo("check");
        let status = cargo
            .args([
                "--all-targets",
                "--no-default-features",
                "--features",
                features,
            ])
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
