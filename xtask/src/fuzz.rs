//! `cargo xtask fuzz`: every fuzz target for a while, as many at a time as there are cores. The flags
//! below make a stable compiler count what is reached, for libFuzzer, which is built with the targets;
//! nothing else has to be installed but a C++ compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use kit::terminal::{bold, green, println, red};
use kit::tools::{cargo, workspace};

use crate::Result;

const TARGETS: [&str; 6] = [
    "rule",
    "data",
    "rules_file",
    "etcd",
    "traefik",
    "chp_request",
];
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Try to break what takes text or answers from others
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long each target runs, in seconds
    #[arg(long, value_name = "NUMBER", default_value = "60")]
    seconds: u64,
    /// Run one target only
    #[arg(long, value_name = "TARGET", value_parser = TARGETS)]
    only: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result {
    let only = options.only.as_deref();
    let targets = TARGETS.into_iter();
    let targets = targets.filter(|target| only.is_none_or(|only| only == *target));
    let programs = build()?;
    println!("{}", bold("fuzzing"));
    let waiting = Mutex::new(targets);
    let next = || waiting.lock().ok()?.next();
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(target) = next() {
                    let outcome = fuzz(&programs, target, options.seconds);
                    tell(target, &outcome);
                    if let (Err(_), Ok(mut failed)) = (outcome, failed.lock()) {
                        failed.push(target);
                    }
                }
            });
        }
    });
    match &*failed.into_inner()? {
        [] => Ok(()),
        failed => Err(format!("failed: {}", failed.join(", ")).into()),
    }
}

fn tell(target: &str, outcome: &Result<String>) {
    match outcome {
        Ok(text) => println!("  {target:<12} {}", green(text)),
        Err(error) => println!("  {target:<12} {}\n{error}", red("FAILED")),
    }
}

/// Builds all targets; says where they are.
fn build() -> Result<PathBuf> {
    println!("{}", bold("building the fuzz targets"));
    let home = workspace();
    let folder = home.join("target/fuzz");
    let host = host()?;
    // With --target, the flags are not used for build scripts.
    let status = cargo()
        .args(["build", "--locked", "--release", "--bins"])
        .args(["--target", &host])
        .arg("--manifest-path")
        .arg(home.join("fuzz/Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", COVERAGE)
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("cargo build: {status}").into());
    }
    Ok(folder.join(host).join("release"))
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc -vV names no host")?.into())
}

/// Runs one target. What it finds out on the way is kept in `target/fuzz`, for the next time.
fn fuzz(programs: &Path, target: &str, seconds: u64) -> Result<String> {
    let home = workspace();
    let grown = home.join("target/fuzz/corpus").join(target);
    let found = home.join("target/fuzz/found").join(target);
    for folder in [&grown, &found] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let output = Command::new(programs.join(target))
        .arg(&grown)
        .arg(home.join("fuzz/corpus").join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args(["-max_len=4096", "-timeout=20", "-rss_limit_mb=4096"])
        .arg("-print_final_stats=1")
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let from = said.find("panicked at").unwrap_or_default();
        let lines: Vec<_> = said[from..].lines().take(40).collect();
        return Err(lines.join("\n").into());
    }
    let number = |label: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(label));
        line.unwrap_or_default().trim().to_string()
    };
    let slowest: u64 = number("stat::slowest_unit_time_sec:").parse().unwrap_or(0);
    Ok(format!(
        "{} inputs, {} new ones kept, none longer than {} s",
        number("stat::number_of_executed_units:"),
        number("stat::new_units_added:"),
        slowest + 1
    ))
}
