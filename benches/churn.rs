//! What route churn costs: our own share, without a Traefik, and with one.
//!
//! `cargo bench` runs all; `cargo bench -- toml/add` some. With Traefik the time is that of a
//! change until it is served. Traefik and etcd come from `cargo xtask tools --all`.

#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde_json::json;
use tempfile::TempDir;
use traefik_router::etcd::Client;
use traefik_router::{Backend, Change, Etcd, FileBackend, KvBackend, MemoryBackend, Route, Router};

const SIZES: [usize; 4] = [0, 100, 1_000, 10_000];

fn route(n: usize, target: usize) -> Route {
    let target = format!(
        "http://10.{}.{}.{}:8888",
        target >> 16,
        target >> 8 & 255,
        target & 255
    );
    Route::new(format!("/user/n{n}/"), target)
        .unwrap()
        .data(json!({"user": format!("n{n}")}))
}

/// A Router over `size` routes that are stored already.
fn filled(router: Router, size: usize) -> Router {
    router.reconcile((0..size).map(|n| route(n, n))).unwrap();
    router
}

/// A folder, and an etcd in it where one is needed.
struct Place {
    folder: TempDir,
    _etcd: Option<Server>,
}

/// An etcd that ends with its place.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const ETCD: &str = "http://127.0.0.1:20379";

impl Place {
    fn new(kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let etcd = (kind == "etcd").then(|| Server::start(folder.path()));
        Self {
            folder,
            _etcd: etcd,
        }
    }

    fn backend(&self, kind: &str) -> Box<dyn Backend> {
        match kind {
            "memory" => Box::new(MemoryBackend::new()),
            "etcd" => Box::new(KvBackend::new(Etcd::new([ETCD]).unwrap())),
            _ => Box::new(FileBackend::new(
                self.folder.path().join(format!("rules.{kind}")),
            )),
        }
    }

    fn offline(&self, kind: &str) -> Router {
        Router::builder(self.backend(kind)).offline().unwrap()
    }

    fn started(&self, kind: &str) -> Router {
        Router::builder(self.backend(kind))
            .public_url("http://127.0.0.1:20080")
            .traefik_api_url("http://127.0.0.1:20099")
            .static_config_file(self.folder.path().join("traefik.toml"))
            .traefik_bin(tool("TRAEFIK_BIN", "traefik", "traefik"))
            .check_route_timeout(Duration::from_secs(120))
            .start()
            .unwrap()
    }
}

impl Server {
    fn start(folder: &Path) -> Self {
        let child = Command::new(tool("ETCD_BIN", "etcd-3.5/etcd", "etcd"))
            .arg("--data-dir")
            .arg(folder.join("etcd"))
            .args([
                "--listen-client-urls",
                ETCD,
                "--advertise-client-urls",
                ETCD,
            ])
            .args(["--listen-peer-urls", "http://127.0.0.1:20380"])
            .args(["--log-level", "error"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self(child);
        let client = Client::new([ETCD]).unwrap();
        while client.get("ready").is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

/// A program from an environment variable, from where `cargo xtask tools` puts it, or from PATH.
fn tool(variable: &str, place: &str, name: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    match std::env::var_os(variable) {
        Some(program) => program.into(),
        None if tools.join(place).is_file() => tools.join(place),
        None => name.into(),
    }
}

fn kinds() -> impl Iterator<Item = &'static str> {
    let yaml = cfg!(feature = "yaml").then_some("yaml");
    ["memory", "toml", "etcd"].into_iter().chain(yaml)
}

fn changes(criterion: &mut Criterion, name: &str, size: usize, router: &Router) {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(if size >= 10_000 { 10 } else { 30 })
        .measurement_time(Duration::from_secs(3));
    let mut n = size;
    group.bench_function(BenchmarkId::new("add", size), |bench| {
        bench.iter(|| {
            n += 1;
            router.apply([Change::from(route(n, n))]).unwrap()
        });
    });
    router.reconcile((0..size).map(|n| route(n, n))).unwrap();
    router.apply([Change::from(route(0, 0))]).unwrap();
    group.bench_function(BenchmarkId::new("change", size), |bench| {
        bench.iter(|| {
            n += 1;
            router.apply([Change::from(route(0, n))]).unwrap()
        });
    });
    group.bench_function(BenchmarkId::new("add and delete", size), |bench| {
        bench.iter(|| {
            router
                .apply([Change::from(route(usize::MAX >> 40, 1))])
                .unwrap();
            router
                .delete_route(route(usize::MAX >> 40, 1).spec)
                .unwrap()
        });
    });
    group.bench_function(BenchmarkId::new("apply 1000", size), |bench| {
        bench.iter(|| {
            n += 1;
            router
                .apply((0..1_000).map(|i| Change::from(route(size + i, n))))
                .unwrap()
        });
    });
    group.finish();
}

/// 64 threads add 1,000 routes one by one, and a reconcile takes them away.
fn concurrent(criterion: &mut Criterion, name: &str, size: usize, router: &Router) {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    group.bench_function(BenchmarkId::new("64 threads add 1000", size), |bench| {
        bench.iter(|| {
            let next = AtomicUsize::new(size);
            std::thread::scope(|scope| {
                for _ in 0..64 {
                    scope.spawn(|| {
                        loop {
                            let n = next.fetch_add(1, Ordering::Relaxed);
                            if n >= size + 1_000 {
                                break;
                            }
                            router.apply([Change::from(route(n, n))]).unwrap();
                        }
                    });
                }
            });
            router.reconcile((0..size).map(|n| route(n, n))).unwrap()
        });
    });
    group.finish();
}

fn store(criterion: &mut Criterion) {
    for kind in kinds() {
        for size in SIZES {
            let place = Place::new(kind);
            let router = filled(place.offline(kind), size);
            changes(criterion, kind, size, &router);
        }
    }
}

fn reads(criterion: &mut Criterion) {
    for kind in kinds() {
        for size in SIZES {
            let place = Place::new(kind);
            let router = filled(place.offline(kind), size);
            let mut group = criterion.benchmark_group(kind);
            let spec = format!("/user/n{}/", size / 2);
            let path = format!("{spec}lab/tree/x.ipynb?y=z");
            group.bench_function(BenchmarkId::new("get", size), |bench| {
                bench.iter(|| router.get_route(&spec).unwrap());
            });
            group.bench_function(BenchmarkId::new("resolve", size), |bench| {
                bench.iter(|| router.resolve("hub.example.org", &path).unwrap());
            });
            group.bench_function(BenchmarkId::new("get all", size), |bench| {
                bench.iter(|| {
                    router
                        .get_all_routes()
                        .unwrap()
                        .iter()
                        .filter(|route| route.data.is_object())
                        .count()
                });
            });
            group.finish();
        }
    }
}

fn served(criterion: &mut Criterion) {
    for kind in kinds().skip(1) {
        for size in SIZES {
            let place = Place::new(kind);
            let router = filled(place.started(kind), size);
            let name = format!("{kind} with Traefik");
            changes(criterion, &name, size, &router);
            if size <= 1_000 {
                concurrent(criterion, &name, size, &router);
            }
        }
    }
}

criterion_group!(benches, store, reads, served);
criterion_main!(benches);
