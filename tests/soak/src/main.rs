//! Routes change without a pause, faults come at random, and a client sends requests through routes
//! that nobody touches. None of its requests may fail.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod faults;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use kit::client::name_at;
use kit::etcd::Cluster;
use kit::terminal::{bold, exit_code, green, println};
use kit::tools::{ETCD, TRAEFIK};
use kit::{Folder, Server, ensure, ports};
use traefik_router::{Backend, Change, Etcd, FileBackend, KvBackend, ProcessStatus, Router};

use self::faults::{Faults, write_until_killed};
use self::usage::Usage;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const CLIENTS: usize = 2;
/// More would leave the system no port for outgoing connections, which stay taken for a minute.
const PAUSE: Duration = Duration::from_millis(10);
const REPORTS: u32 = 20;

#[derive(Parser)]
#[command(bin_name = "cargo xtask soak", args_conflicts_with_subcommands = true)]
/// Change routes among faults, while requests go through routes that nobody touches
///
/// No request may fail, and memory and open files stay as they are.
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    writer: Option<Writer>,
}

#[derive(Args)]
struct Options {
    /// How long it takes
    #[arg(long, value_name = "NUMBER", default_value = "30")]
    minutes: f64,
    /// How many routes nobody touches
    #[arg(long, value_name = "NUMBER", default_value = "1000")]
    routes: usize,
    /// Where the routes are
    #[arg(long, value_name = "NAME", default_value = "toml", value_parser = ["toml", "etcd"])]
    backend: String,
    /// Repeat the faults of an earlier run, which has printed its seed; defaults to another one each time
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
enum Writer {
    /// Change the table until killed: this program starts itself with it
    #[command(hide = true)]
    Writer { place: String, target: String },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.writer {
        Some(Writer::Writer { place, target }) => write_until_killed(&place, &target),
        None => run(&arguments.options),
    };
    exit_code(done)
}

/// Where the routes are.
struct Store {
    rules: PathBuf,
    etcd: Option<Mutex<Cluster>>,
    url: String,
}

impl Store {
    fn backend(&self) -> Result<Box<dyn Backend>> {
        Ok(match &self.etcd {
            None => Box::new(FileBackend::new(&self.rules)),
            Some(_) => Box::new(KvBackend::new(Etcd::new([&self.url])?)),
        })
    }
}

/// Counts, and the first thing that went wrong.
#[derive(Default)]
struct Tally {
    requests: AtomicU64,
    changes: AtomicU64,
    /// Changes that failed while the store was away.
    refused: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
    over: AtomicBool,
}

impl Tally {
    fn fail(&self, what: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        locked(&self.first_failure).get_or_insert(what);
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn judge(&self) -> Result {
        match &*locked(&self.first_failure) {
            None => Ok(()),
            Some(first) => {
                let failed = self.failed.load(Ordering::Relaxed);
                Err(format!("{failed} failures, the first: {first}").into())
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(options: &Options) -> Result {
    let traefik = TRAEFIK.get()?;
    let needs_etcd = options.backend == "etcd";
    let etcd = needs_etcd.then(|| ETCD.get()).transpose()?;
    let seed = options.seed.unwrap_or(u64::from(std::process::id()));
    println!("seed       {seed} (--seed)");
    let folder = Folder::new()?;
    let home = folder.sub("soak")?;
    let etcd = etcd.map(|program| Cluster::durable(&program, &home));
    let store = Store {
        rules: home.join("rules.toml"),
        url: etcd.as_ref().map_or("", Cluster::url).into(),
        etcd: etcd.map(Mutex::new),
    };
    let servers = ["apple", "pear"].map(Server::named);
    let targets = servers.each_ref().map(Server::url);
    let (public, api) = (ports::free(), ports::free());
    let router = Router::builder(store.backend()?)
        .traefik_bin(traefik)
        .static_config_file(home.join("traefik.toml"))
        .public_url(format!("http://127.0.0.1:{public}"))
        .traefik_api_url(format!("http://127.0.0.1:{api}"))
        .check_route_timeout(Duration::from_secs(60))
        .start()?;
    let Some(ProcessStatus::Running { pid: process, .. }) = router.status().process else {
        return Err("Traefik does not run".into());
    };
    let stays = (0..options.routes).map(|n| Change::set(format!("/stays/{n}/"), &targets[0]));
    router.apply(stays.collect::<Result<Vec<_>, _>>()?)?;

    let (tally, faults) = (Tally::default(), Faults::new(&store, &home, seed));
    let usage = std::thread::scope(|scope| {
        let mut threads = vec![
            scope.spawn(|| churn(&router, public, &targets, &faults, &tally)),
            scope.spawn(|| faults.come(&targets[1], &tally)),
        ];
        for client in 0..CLIENTS {
            let tally = &tally;
            threads.push(scope.spawn(move || ask(public, options.routes, client, tally)));
        }
        let usage = watch(options.minutes, process, &tally, &threads);
        tally.over.store(true, Ordering::Relaxed);
        for thread in threads {
            if thread.join().is_err() {
                tally.fail("a thread panicked; its message is above".into());
            }
        }
        usage
    });
    println!("\n{}\n{faults}", bold("Faults"));
    tally.judge()?;
    let usage = usage?;
    let served = router.get_all_routes()?;
    let stay = served
        .iter()
        .filter(|route| route.spec.as_str().starts_with("/stays/"));
    ensure(stay.count() == options.routes, "a route was lost")?;
    router.stop()?;
    judge(&usage)
}

/// Sends requests through routes that nobody touches.
fn ask(public: u16, routes: usize, client: usize, tally: &Tally) {
    let mut n = client;
    while tally.goes_on() {
        n = (n + 7) % routes;
        let path = format!("/stays/{n}/x");
        match name_at(public, &path) {
            Ok(name) if name == "apple" => {}
            Ok(other) => tally.fail(format!("GET {path}: {other}")),
            Err(error) => tally.fail(format!("GET {path}: {error}")),
        }
        tally.requests.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
}

/// Adds, replaces and deletes routes, and looks whether they are served.
fn churn(router: &Router, public: u16, targets: &[String; 2], faults: &Faults<'_>, tally: &Tally) {
    for n in 0.. {
        if !tally.goes_on() {
            return;
        }
        // Who edits by hand sees to it that nobody else writes meanwhile. A file that is whole stays
        // so as long as we have this.
        let _hand = faults.hand();
        let was_broken = faults.is_broken();
        let path = format!("/churn/{}/", n / 3 % 100);
        let (done, expected) = match n % 3 {
            0 => (router.add_route(&path, &targets[0], n), "apple"),
            1 => (router.add_route(&path, &targets[1], n), "pear"),
            _ => (router.delete_route(&path), "404"),
        };
        match done {
            Ok(_) => {
                tally.changes.fetch_add(1, Ordering::Relaxed);
                match name_at(public, &path) {
                    Ok(landed) if landed == expected => {}
                    Ok(landed) => tally.fail(format!("{path}: {landed}, not {expected}")),
                    Err(error) => tally.fail(format!("{path}: {error}")),
                }
            }
            Err(error) if faults.explain(&error, was_broken) => {
                tally.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => tally.fail(format!("{path}: {error}")),
        }
    }
}

/// Reports what this process and Traefik use, until the time is over or one of the threads has ended.
fn watch(
    minutes: f64,
    traefik: u32,
    tally: &Tally,
    threads: &[ScopedJoinHandle<'_, ()>],
) -> Result<Vec<[Usage; 2]>> {
    let (start, time) = (Instant::now(), Duration::from_secs_f64(60.0 * minutes));
    let mut seen = Vec::new();
    println!(
        "\n{}",
        bold("   time   requests  failed  changes  refused   ours            Traefik")
    );
    for report in 1..=REPORTS {
        let end = start + time * report / REPORTS;
        while Instant::now() < end {
            if threads.iter().any(ScopedJoinHandle::is_finished) {
                return Ok(seen);
            }
            let left = end.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
        let now = [Usage::of(std::process::id())?, Usage::of(traefik)?];
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        println!(
            "  {:>4.0} s  {:>8}  {:>6}  {:>7}  {:>7}   {}   {}",
            start.elapsed().as_secs_f64(),
            count(&tally.requests),
            count(&tally.failed),
            count(&tally.changes),
            count(&tally.refused),
            now[0],
            now[1],
        );
        seen.push(now);
    }
    Ok(seen)
}

fn judge(usage: &[[Usage; 2]]) -> Result {
    // The first fifth is for warming up.
    let warm = &usage[usage.len() / 5..];
    if let (Some([early, _]), Some([late, _])) = (warm.first(), warm.last()) {
        let grown = format!("{early}, then {late}");
        ensure(
            late.files <= early.files + 8,
            &format!("files stay open: {grown}"),
        )?;
        ensure(
            late.kilobytes <= early.kilobytes * 5 / 4 + 8_192,
            &format!("memory grows: {grown}"),
        )?;
    }
    println!(
        "{}",
        green("no request failed; memory and open files stay as they are")
    );
    Ok(())
}
