//! Every backend does what the trait promises.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use traefik_router::backend::{FileBackend, KvBackend, MemoryBackend, MemoryStore, conformance};

#[test]
fn memory() {
    let store = MemoryBackend::new();
    conformance::check(&|| Box::new(store.clone()));
}

fn file(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    conformance::check(&|| Box::new(FileBackend::new(&path)));
    let left: Vec<_> = dir.path().read_dir().unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn toml() {
    file("rules.toml");
}

#[cfg(feature = "yaml")]
#[test]
fn yaml() {
    file("rules.yaml");
}

#[test]
fn key_value() {
    let store = MemoryStore::new();
    conformance::check(&|| Box::new(KvBackend::new(store.clone())));
    assert!(store.dump().is_empty(), "left behind: {:?}", store.dump());
}
