//! What route churn costs: our own share, without a Traefik, and with one.
//!
//! `cargo bench` runs all; `cargo bench -- toml/add` some. With Traefik the time is that of a
//! change until it is served.

#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde_json::json;
use traefik_router::{Change, FileBackend, MemoryBackend, Route, Router};

const SIZES: [usize; 4] = [0, 100, 1_000, 10_000];

fn route(n: usize, target: usize) -> Route {
    let target = format!(
        "http://10.{}.{}.{}:8888",
        target >> 16,
        target >> 8 & 255,
        target & 255
    );
    Route::new(
        format!("/user/n{n}/"),
        target,
        json!({"user": format!("n{n}")}),
    )
    .unwrap()
}

/// A Router over `size` routes that are stored already.
fn filled(router: Router, size: usize) -> Router {
    router.reconcile((0..size).map(|n| route(n, n))).unwrap();
    router
}

fn file(dir: &tempfile::TempDir, kind: &str) -> FileBackend {
    FileBackend::new(dir.path().join(format!("rules.{kind}")))
}

fn offline(kind: &str, dir: &tempfile::TempDir) -> Router {
    match kind {
        "memory" => Router::builder(MemoryBackend::new()).offline(),
        _ => Router::builder(file(dir, kind)).offline(),
    }
    .unwrap()
}

fn kinds() -> impl Iterator<Item = &'static str> {
    let yaml = cfg!(feature = "yaml").then_some("yaml");
    ["memory", "toml"].into_iter().chain(yaml)
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

fn store(criterion: &mut Criterion) {
    for kind in kinds() {
        for size in SIZES {
            let dir = tempfile::tempdir().unwrap();
            let router = filled(offline(kind, &dir), size);
            changes(criterion, kind, size, &router);
        }
    }
}

fn reads(criterion: &mut Criterion) {
    for kind in kinds() {
        for size in SIZES {
            let dir = tempfile::tempdir().unwrap();
            let router = filled(offline(kind, &dir), size);
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

/// Traefik from `TRAEFIK_BIN`, from where `cargo xtask tools` puts it, or from PATH.
fn traefik() -> PathBuf {
    let tool = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/traefik"));
    match std::env::var_os("TRAEFIK_BIN") {
        Some(program) => program.into(),
        None if tool.is_file() => tool,
        None => "traefik".into(),
    }
}

fn served(criterion: &mut Criterion) {
    for kind in kinds().skip(1) {
        for size in SIZES {
            let dir = tempfile::tempdir().unwrap();
            let router = Router::builder(file(&dir, kind))
                .public_url("http://127.0.0.1:20080")
                .traefik_api_url("http://127.0.0.1:20099")
                .static_config_file(dir.path().join("traefik.toml"))
                .traefik_bin(traefik())
                .start()
                .unwrap();
            let router = filled(router, size);
            changes(criterion, &format!("{kind} with Traefik"), size, &router);
        }
    }
}

criterion_group!(benches, store, reads, served);
criterion_main!(benches);
