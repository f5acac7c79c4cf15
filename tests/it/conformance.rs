//! Every backend does what the trait promises.

use kit::etcd::Cluster;
use kit::tools::etcds;
use traefik_router::backend::{
    Etcd, FileBackend, KvBackend, MemoryBackend, MemoryStore, conformance,
};

use crate::support::Connect as _;

#[test]
fn memory_keeps_its_promises() {
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
fn toml_file_keeps_its_promises() {
    file("rules.toml");
}

#[cfg(feature = "yaml")]
#[test]
fn yaml_file_keeps_its_promises() {
    file("rules.yaml");
}

#[test]
fn key_value_store_keeps_its_promises() {
    let store = MemoryStore::new();
    conformance::check(&|| Box::new(KvBackend::new(store.clone())));
    assert!(store.dump().is_empty(), "left behind: {:?}", store.dump());
}

#[cfg(feature = "redis")]
#[test]
fn redis_keeps_its_promises() {
    let server = kit::redis::Server::start(&["--save", ""]);
    let redis = || traefik_router::Redis::new(server.url()).unwrap();
    conformance::check(&|| Box::new(KvBackend::new(redis())));
    assert_eq!(server.run(&["KEYS", "*"]), "*1\r\n$15\r\nrouter-versions");
}

#[test]
fn etcd_keeps_its_promises() {
    for binary in etcds() {
        let cluster = Cluster::start(&binary);
        let etcd = || Etcd::new(cluster.urls()).unwrap();
        conformance::check(&|| Box::new(KvBackend::new(etcd())));
        // Small transactions, one in another.
        conformance::check(&|| Box::new(KvBackend::new(etcd().max_operations(20))));
        assert_eq!(cluster.client().get_prefix("").unwrap().kvs, []);
    }
}
