//! What route churn costs: our own share, without a Traefik, and with one.
//!
//! `cargo bench` runs all; `cargo bench -- toml/add` some. With Traefik the time is that of a
//! change until it is served. Traefik and etcd come from `cargo xtask tools traefik etcd-3.5`.

#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kit::etcd::Cluster;
use kit::ports;
use kit::tools::{ETCD, TRAEFIK};
use serde_json::json;
use tempfile::TempDir;
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

/// A folder, a table in memory, and an etcd where one is needed.
struct Place {
    folder: TempDir,
    memory: MemoryBackend,
    etcd: Option<Cluster>,
}

impl Place {
    fn new(kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // What is stored is flushed to the disk, as it is in the files.
        let options = ["--unsafe-no-fsync=false", "--log-level=error"];
        let etcd = || Cluster::with(&ETCD.path(), 1, &options, None);
        let etcd = (kind == "etcd").then(etcd);
        Self {
            folder,
            memory: MemoryBackend::new(),
            etcd,
        }
    }

    fn backend(&self, kind: &str) -> Box<dyn Backend> {
        if let Some(etcd) = &self.etcd {
            return Box::new(KvBackend::new(Etcd::new(etcd.urls()).unwrap()));
        }
        match kind {
            "memory" => Box::new(self.memory.clone()),
            _ => Box::new(FileBackend::new(
                self.folder.path().join(format!("rules.{kind}")),
            )),
        }
    }

    fn offline(&self, kind: &str) -> Router {
        Router::builder(self.backend(kind)).offline().unwrap()
    }

    fn started(&self, kind: &str) -> Router {
        let [web, api] = [(); 2].map(|()| format!("http://127.0.0.1:{}", ports::free()));
        Router::builder(self.backend(kind))
            .public_url(web)
            .traefik_api_url(api)
            .static_config_file(self.folder.path().join("traefik.toml"))
            .traefik_bin(TRAEFIK.path())
            .check_route_timeout(Duration::from_secs(120))
            .extra_dynamic_config(json!({"http": {"middlewares": {
                "strip": {"stripPrefix": {"prefixes": ["/user"]}},
            }}}))
            .start()
            .unwrap()
    }
}

fn kinds() -> impl Iterator<Item = &'static str> {
    let yaml = cfg!(feature = "yaml").then_some("yaml");
    ["memory", "toml", "etcd"].into_iter().chain(yaml)
}

/// `apply` makes a commit.
fn changes(
    criterion: &mut Criterion,
    name: &str,
    size: usize,
    router: &Router,
    apply: &dyn Fn(Vec<Change>),
) {
    let set = |route: Route| apply(vec![Change::from(route)]);
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(if size >= 10_000 { 10 } else { 30 })
        .measurement_time(Duration::from_secs(3));
    let mut n = size;
    group.bench_function(BenchmarkId::new("add", size), |bench| {
        bench.iter(|| {
            n += 1;
            set(route(n, n));
        });
    });
    router.reconcile((0..size).map(|n| route(n, n))).unwrap();
    set(route(0, 0));
    group.bench_function(BenchmarkId::new("change", size), |bench| {
        bench.iter(|| {
            n += 1;
            set(route(0, n));
        });
    });
    group.bench_function(BenchmarkId::new("add and delete", size), |bench| {
        let more = route(usize::MAX >> 40, 1);
        bench.iter(|| {
            set(more.clone());
            apply(vec![Change::Delete(more.spec.clone())]);
        });
    });
    group.bench_function(BenchmarkId::new("apply 1000", size), |bench| {
        bench.iter(|| {
            n += 1;
            let routes = (0..1_000).map(|i| Change::from(route(size + i, n)));
            apply(routes.collect());
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
            // What is pushed is made when it is asked for.
            let pushed = place.memory.pushed().filter(|_| kind == "memory");
            changes(criterion, kind, size, &router, &|changes| {
                black_box(router.apply(changes).unwrap());
                black_box(pushed.map(|store| store.document().unwrap()));
            });
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
    for kind in kinds() {
        for size in SIZES {
            let place = Place::new(kind);
            let router = filled(place.started(kind), size);
            let name = format!("{kind} with Traefik");
            changes(criterion, &name, size, &router, &|changes| {
                router.apply(changes).unwrap();
            });
            if size <= 1_000 {
                concurrent(criterion, &name, size, &router);
            }
        }
    }
}

/// Routes with a middleware and two servers each, beside as many without.
fn settings(criterion: &mut Criterion) {
    const SIZE: usize = 1_000;
    let more = |n: usize| {
        let other = format!("http://10.200.{}.{}:8888", n >> 8 & 255, n & 255);
        let route = route(n, n).server(other, 1).unwrap();
        route.middleware("strip@file").unwrap()
    };
    for kind in kinds() {
        let mut group = criterion.benchmark_group(format!("{kind} with Traefik"));
        let cases: [(&str, &dyn Fn(usize) -> Route); 2] =
            [("plain", &|n| route(n, n)), ("with settings", &more)];
        for (name, make) in cases {
            let place = Place::new(kind);
            let router = place.started(kind);
            router.reconcile((0..SIZE).map(make)).unwrap();
            let mut n = SIZE;
            group.bench_function(BenchmarkId::new(format!("add {name}"), SIZE), |bench| {
                bench.iter(|| {
                    n += 1;
                    router.apply([Change::from(make(n))]).unwrap();
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, store, reads, served, settings);
criterion_main!(benches);
