//! The library, in a process of its own, so that its CPU and memory are nobody else's.

use std::collections::BTreeSet;
use std::fs;
use std::hint::black_box;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kit::process::resident_kilobytes;
use serde_json::{Value, json};
use traefik_router::{
    Applied, Backend, Change, Etcd, FileBackend, KvBackend, MemoryBackend, ProcessStatus, Route,
    Router,
};

use crate::{Result, cpu, server, stats};

pub(super) const PASSWORD: &str = "compare-password";
const THREADS: usize = 64;

/// The route of this number; `target` is another number.
pub(super) fn route(n: usize, target: usize) -> Result<Route> {
    let (spec, url) = (format!("/user/n{n}/"), url(target));
    Ok(Route::new(spec, url)?.data(json!({"user": format!("n{n}")})))
}

fn url(n: usize) -> String {
    format!("http://10.{}.{}.{}:8888", n >> 16, n >> 8 & 255, n & 255)
}

/// The target of the changed route.
pub(super) fn other(n: usize) -> usize {
    n + 500_000
}

/// TOML whose changes may be lost with the power: as durable as the floor's.
pub(super) const UNFLUSHED: &str = "toml-unflushed";

/// A table in memory, which is pushed to Traefik.
pub(super) const PUSH: &str = "push";

/// How long a reload may take: 100,000 routes take tens of seconds.
pub(super) const LONGEST_RELOAD: Duration = Duration::from_secs(120);

/// The file of a backend that is one.
pub(super) fn rules(backend: &str, folder: &Path) -> PathBuf {
    let ending = if backend == UNFLUSHED {
        "toml"
    } else {
        backend
    };
    folder.join(format!("rules.{ending}"))
}

/// `server` is the URL of the store, if it is a server.
pub(super) fn store(
    backend: &str,
    folder: &Path,
    server: Option<&str>,
) -> Result<Box<dyn Backend>> {
    Ok(match (server, backend) {
        (Some(url), _) => server::backend(backend, url)?,
        (None, PUSH) => Box::new(MemoryBackend::new()),
        (None, _) => {
            let file = FileBackend::new(rules(backend, folder));
            Box::new(file.durable(backend != UNFLUSHED))
        }
    })
}

/// What the library is to run with.
#[derive(clap::Args)]
pub(crate) struct Setup {
    backend: String,
    folder: PathBuf,
    port: u16,
    api_port: u16,
    routes: usize,
    traefik: PathBuf,
    server: Option<String>,
}

/// Answers the commands that come by the standard input.
pub(crate) fn run(setup: &Setup) {
    if let Err(error) = serve(setup) {
        println!("{}", json!({"error": error.to_string()}));
    }
}

fn serve(setup: &Setup) -> Result {
    let store = store(&setup.backend, &setup.folder, setup.server.as_deref())?;
    let router = Router::builder(store)
        .public_url(format!("http://127.0.0.1:{}", setup.port))
        .traefik_api_url(format!("http://127.0.0.1:{}", setup.api_port))
        .traefik_api_password(PASSWORD)
        .static_config_file(setup.folder.join("traefik.toml"))
        .traefik_bin(&setup.traefik)
        .check_route_timeout(LONGEST_RELOAD)
        .start()?;
    let traefik = match router.process() {
        Some(ProcessStatus::Running { pid, .. } | ProcessStatus::NotServing { pid, .. }) => pid,
        _ => return Err("Traefik does not run".into()),
    };
    let side = Side {
        router,
        etcd: setup.server.clone().filter(|_| setup.backend == "etcd"),
        routes: setup.routes,
    };
    println!("{}", json!({"traefik": traefik, "ms": side.reset()?}));
    for line in std::io::stdin().lock().lines() {
        let answer = side.run(&line?);
        let answer = answer.unwrap_or_else(|error| json!({"error": error.to_string()}));
        println!("{answer}");
    }
    Ok(())
}

struct Side {
    router: Router,
    /// Its URL, if that is the store.
    etcd: Option<String>,
    routes: usize,
}

impl Side {
    /// Returns the milliseconds that it took.
    fn reset(&self) -> Result<f64> {
        let routes = (0..self.routes)
            .map(|n| route(n, n))
            .collect::<Result<Vec<_>>>()?;
        let start = Instant::now();
        self.router.reconcile(routes)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    fn run(&self, command: &str) -> Result<Value> {
        let (name, count) = command.split_once(' ').unwrap_or((command, "0"));
        let (n, count): (usize, usize) = (self.routes, count.parse()?);
        let spec = format!("/user/n{n}/");
        let data = || json!({"user": format!("n{n}")});
        match name {
            "add" => timed(|| Ok(self.router.add_route(&spec, url(n), data())?)),
            "change" => timed(|| Ok(self.router.add_route(&spec, url(other(n)), data())?)),
            "delete" => timed(|| Ok(self.router.delete_route(&spec)?)),
            "bulk" => {
                let changes = (n + 1..=n + count)
                    .map(|n| Ok(Change::from(route(n, n)?)))
                    .collect::<Result<Vec<_>>>()?;
                timed(|| Ok(self.router.apply(changes)?))
            }
            "concurrent" => self.concurrent(count),
            "reset" => Ok(json!({"ms": self.reset()?})),
            "reads" => self.reads(),
            "usage" => usage(),
            _ => Err(format!("no such command: {command}").into()),
        }
    }

    /// Many threads, each adding routes one by one.
    fn concurrent(&self, count: usize) -> Result<Value> {
        let next = AtomicUsize::new(0);
        let add = || -> Result<Vec<(f64, u64)>, String> {
            let mut calls = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return Ok(calls);
                }
                let n = self.routes + 1 + n;
                let start = Instant::now();
                let done = self
                    .router
                    .add_route(format!("/user/n{n}/"), url(n), json!({}))
                    .map_err(|error| error.to_string())?;
                calls.push((start.elapsed().as_secs_f64() * 1e3, done.generation));
            }
        };
        let start = Instant::now();
        let calls = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(add)).collect();
            let calls = threads.into_iter().map(|thread| match thread.join() {
                Ok(calls) => calls,
                Err(_) => Err("a thread has panicked".into()),
            });
            calls.collect::<Result<Vec<_>, String>>()
        })?
        .concat();
        let ms = start.elapsed().as_secs_f64() * 1e3;
        let generations: BTreeSet<u64> = calls.iter().map(|(_, generation)| *generation).collect();
        let mut times: Vec<f64> = calls.into_iter().map(|(ms, _)| ms).collect();
        Ok(json!({
            "ms": ms,
            "p99_ms": stats::quantile(&mut times, 0.99),
            "max_ms": stats::quantile(&mut times, 1.0),
            "generations": generations.len(),
        }))
    }

    /// Reads from memory. Those from etcd may be a minute old, and beside them are those that ask it.
    fn reads(&self) -> Result<Value> {
        let answer = self.reads_of(&self.router)?;
        let Some(etcd) = &self.etcd else {
            return Ok(answer);
        };
        let backend = KvBackend::new(Etcd::new([etcd])?).max_age(Duration::from_secs(60));
        let mut aged = self.reads_of(&Router::builder(backend).offline()?)?;
        aged["uncached"] = answer;
        Ok(aged)
    }

    fn reads_of(&self, router: &Router) -> Result<Value> {
        let half = self.routes / 2;
        let (spec, path) = (format!("/user/n{half}/"), format!("/user/n{half}/lab?a=b"));
        let get = median(1_000, || router.get_route(&spec).is_ok_and(|r| r.is_some()))?;
        let resolve = median(1_000, || {
            let found = router.resolve("hub.example.org", &path);
            found.is_ok_and(|route| route.is_some())
        })?;
        let get_all = median(50, || {
            let all = router.get_all_routes();
            all.is_ok_and(|all| {
                all.iter().filter(|route| route.data.is_object()).count() >= self.routes
            })
        })?;
        Ok(json!({"get": get, "resolve": resolve, "get_all": get_all}))
    }
}

/// Milliseconds, of many.
fn median(samples: usize, job: impl Fn() -> bool) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..samples {
        let start = Instant::now();
        if !black_box(job()) {
            return Err("a route that is there was not read".into());
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(stats::quantile(&mut times, 0.5))
}

fn timed(job: impl FnOnce() -> Result<Applied>) -> Result<Value> {
    let (cpu, start) = (thread_cpu()?, Instant::now());
    let applied = job()?;
    let ms = start.elapsed().as_secs_f64() * 1e3;
    if applied.added.len() + applied.changed.len() + applied.deleted.len() == 0 {
        return Err("nothing was changed".into());
    }
    Ok(json!({
        "ms": ms,
        "stored_ms": applied.stored_after.as_secs_f64() * 1e3,
        "cpu_ms": thread_cpu()? - cpu,
    }))
}

/// The CPU that this thread has used, in milliseconds.
fn thread_cpu() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let spent = text.split(' ').next().unwrap_or_default();
    Ok(spent.parse::<f64>()? / 1e6)
}

/// CPU of the whole process, dead threads included, and its memory.
fn usage() -> Result<Value> {
    let resident = resident_kilobytes(std::process::id())?;
    Ok(json!({
        "cpu_ms": cpu::of_process("self")?,
        "rss_mb": resident as f64 * 1024.0 / 1e6,
    }))
}
