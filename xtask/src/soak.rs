//! `cargo xtask soak`: routes change without a pause, faults come at random, and a client sends
//! requests through routes that nobody touches. None of its requests may fail.

mod faults;
mod usage;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use traefik_router::{Backend, Change, Etcd, FileBackend, KvBackend, ProcessStatus, Router};

use self::faults::Faults;
pub(crate) use self::faults::write_until_killed;
use self::usage::Usage;
use crate::demo::etcd::Server;
use crate::demo::{Folder, Proxy, backend, ensure};
use crate::{Result, tools};
use kit::terminal::{bold, green};

/// What `xtask` is called with to be a writer that is going to be killed.
pub(crate) const WRITER: &str = "soak-writer";

const CLIENTS: usize = 2;
/// More would leave the system no port for outgoing connections, which stay taken for a minute.
const PAUSE: Duration = Duration::from_millis(10);
const REPORTS: u32 = 20;

struct Options {
    time: Duration,
    routes: usize,
    etcd: bool,
    seed: u64,
}

impl Options {
    fn read(options: &[&str]) -> Result<Self> {
        let mut read = Self {
            time: Duration::from_secs(30 * 60),
            routes: 1_000,
            etcd: false,
            seed: u64::from(std::process::id()),
        };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let value = options.next().ok_or(format!("{option} needs a value"))?;
            match *option {
                "--minutes" => read.time = Duration::from_secs_f64(60.0 * value.parse::<f64>()?),
                "--routes" => read.routes = value.parse()?,
                "--seed" => read.seed = value.parse()?,
                "--backend" => read.etcd = *value == "etcd",
                other => return Err(format!("there is no option {other}").into()),
            }
        }
        Ok(read)
    }
}

/// Where the routes are.
struct Store {
    rules: PathBuf,
    etcd: Option<Mutex<Server>>,
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
        let mut first = self.first_failure.lock().unwrap_or_else(|e| e.into_inner());
        first.get_or_insert(what);
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

pub(crate) fn run(options: &[&str]) -> Result {
    let options = Options::read(options)?;
    let traefik = tools::traefik()?;
    tools::show("traefik", &traefik);
    println!("seed       {} (--seed)", options.seed);
    let folder = Folder::new()?;
    let etcd = match options.etcd {
        true => {
            let etcd = tools::etcd_3_5()?;
            tools::show("etcd", &etcd);
            Some(Server::start(etcd.path.as_ref(), &folder)?)
        }
        false => None,
    };
    let store = Store {
        rules: folder.0.join("rules.toml"),
        url: etcd.as_ref().map(Server::url).unwrap_or_default(),
        etcd: etcd.map(Mutex::new),
    };
    let targets = [backend("apple")?, backend("pear")?];
    let (public, api) = (Proxy::new()?, Proxy::new()?);
    let router = Router::builder(store.backend()?)
        .traefik_bin(&traefik.path)
        .static_config_file(folder.0.join("traefik.toml"))
        .public_url(&public.url)
        .traefik_api_url(&api.url)
        .check_route_timeout(Duration::from_secs(60))
        .start()?;
    let Some(ProcessStatus::Running { pid: process, .. }) = router.status().process else {
        return Err("Traefik does not run".into());
    };
    let stays = (0..options.routes).map(|n| Change::set(format!("/stays/{n}/"), &targets[0]));
    router.apply(stays.collect::<Result<Vec<_>, _>>()?)?;

    let (tally, faults) = (Tally::default(), Faults::new(&store, &folder, options.seed));
    let usage = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (tally, public) = (&tally, &public);
            scope.spawn(move || ask(public, options.routes, client, tally));
        }
        scope.spawn(|| churn(&router, &public, &targets, &faults, &tally));
        scope.spawn(|| faults.come(&targets[1], &tally));
        let usage = watch(&options, process, &tally);
        tally.over.store(true, Ordering::Relaxed);
        usage
    })?;
    println!("\n{}\n{faults}", bold("Faults"));
    let served = router.get_all_routes()?;
    let stay = served
        .iter()
        .filter(|route| route.spec.as_str().starts_with("/stays/"));
    ensure(stay.count() == options.routes, "a route was lost")?;
    router.stop()?;
    judge(&tally, &usage)
}

/// Sends requests through routes that nobody touches.
fn ask(public: &Proxy, routes: usize, client: usize, tally: &Tally) {
    let mut n = client;
    while tally.goes_on() {
        n = (n + 7) % routes;
        let path = format!("/stays/{n}/x");
        match public.get(&path) {
            Ok(name) if name == "apple" => {}
            Ok(other) => tally.fail(format!("GET {path}: {other}")),
            Err(error) => tally.fail(format!("GET {path}: {error}")),
        }
        tally.requests.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
}

/// Adds, replaces and deletes routes, and looks whether they are served.
fn churn(
    router: &Router,
    public: &Proxy,
    targets: &[String; 2],
    faults: &Faults<'_>,
    tally: &Tally,
) {
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
                match public.get(&path) {
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

/// Looks at what we and Traefik use, until the time is over.
fn watch(options: &Options, traefik: u32, tally: &Tally) -> Result<Vec<[Usage; 2]>> {
    let start = Instant::now();
    let mut seen = Vec::new();
    println!(
        "\n{}",
        bold("   time   requests  failed  changes  refused   ours            Traefik")
    );
    for report in 1..=REPORTS {
        let end = start + options.time * report / REPORTS;
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
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

fn judge(tally: &Tally, usage: &[[Usage; 2]]) -> Result {
    let first = tally
        .first_failure
        .lock()
        .unwrap_or_else(|e| e.into_inner());
    if let Some(first) = &*first {
        return Err(format!(
            "{} failures, the first: {first}",
            tally.failed.load(Ordering::Relaxed)
        )
        .into());
    }
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
