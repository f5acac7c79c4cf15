//! Programs that serve a table, and what they leave when they end.

use serde_json::json;

use super::add;
use crate::backend::kv::{KvBackend, KvStore as _, MemoryStore, Transaction};
use crate::backend::{Backend as _, Setup};
use crate::config::dynamic::certificate;
use crate::error::ErrorKind;
use crate::route::{Change, Nested, Table};

/// The setup of a program that starts a Traefik, and may want to be the only one.
fn starting(alone: bool) -> Setup {
    Setup {
        serves: true,
        started: true,
        alone,
        ..Setup::new("web")
    }
}

#[test]
fn revert_restores_the_store() {
    let serving = |setup: Setup| Setup {
        serves: true,
        ..setup
    };
    let store = MemoryStore::new();
    let handle = || KvBackend::new(store.clone());
    let nothing = store.dump();
    let backend = handle();
    backend
        .open(&serving(Setup::new("web")), &mut |_, _| Ok(vec![add(1)]))
        .unwrap();
    assert!(backend.revert().unwrap());
    assert_eq!(store.dump(), nothing);

    let offline = handle();
    offline
        .open(&Setup::new("web"), &mut |_, _| Ok(vec![add(1), add(2)]))
        .unwrap();
    let before = store.dump();
    let moved = serving(Setup {
        tls: Some(true),
        nested: Some(Nested::Always),
        extra: Some(certificate("/x")),
        ..Setup::new("other")
    });
    let backend = handle();
    backend
        .open(&moved, &mut |table, _| Ok(deletions(table)))
        .unwrap();
    assert_ne!(store.dump(), before);
    assert!(backend.revert().unwrap());
    assert_eq!(store.dump(), before);

    // Changes that were committed since stay; what was set is removed all the same.
    let backend = handle();
    backend.open(&moved, &mut |_, _| Ok(Vec::new())).unwrap();
    handle().commit(&mut |_, _| Ok(vec![add(3)])).unwrap();
    assert!(backend.revert().unwrap());
    let contents = offline.inspect().unwrap().unwrap();
    assert_eq!((contents.entrypoint.as_str(), contents.tls), ("web", false));
    assert_eq!(contents.routes.len(), 3);
    let keys = store.dump();
    assert!(
        keys.iter()
            .all(|(key, value)| value != "other" && !key.contains("stores"))
    );
}

/// Its key is gone for a moment after an outage of the store.
#[test]
fn lost_presence_key_is_tolerated() {
    let store = MemoryStore::new();
    let handle = || KvBackend::new(store.clone());
    let one = handle();
    one.open(&starting(false), &mut |_, _| Ok(vec![add(1)]))
        .unwrap();
    let mut lost = Transaction::new();
    lost.delete_trees
        .insert("jupyterhub/traefik-router/serving/".into());
    store.transact(&lost).unwrap();
    let refused = handle().open(&starting(true), &mut |table, _| Ok(deletions(table)));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InUse);
    assert_eq!(one.read().unwrap().len(), 1);
}

/// Settings that somebody made by hand outlive a Traefik that was started and had no routes.
#[test]
fn empty_table_keeps_its_setup() {
    let store = MemoryStore::new();
    let handle = || KvBackend::new(store.clone());
    let service = Some(json!({"passHostHeader": false}));
    let setup = Setup {
        service: service.clone(),
        ..Setup::new("web")
    };
    handle().open(&setup, &mut |_, _| Ok(Vec::new())).unwrap();
    let started = handle();
    let start = Setup {
        serves: true,
        started: true,
        default_entrypoint: "http".into(),
        ..Setup::default()
    };
    started.open(&start, &mut |_, _| Ok(Vec::new())).unwrap();
    started.close().unwrap();
    let contents = handle().inspect().unwrap().unwrap();
    assert_eq!(
        (&*contents.entrypoint, Some(contents.service)),
        ("web", service)
    );
}

#[test]
fn served_table_is_not_emptied() {
    let store = MemoryStore::new();
    let handle = || KvBackend::new(store.clone());
    let one = handle();
    one.open(&starting(true), &mut |_, _| Ok(vec![add(1)]))
        .unwrap();
    let two = handle();
    let error = two
        .open(&starting(true), &mut |table, _| Ok(deletions(table)))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    assert_eq!(one.read().unwrap().len(), 1);
    two.open(&starting(false), &mut |_, _| Ok(Vec::new()))
        .unwrap();
    // The table stays for the other one, empty as it may be.
    one.commit(&mut |table, _| Ok(deletions(table))).unwrap();
    one.close().unwrap();
    assert!(store.dump().keys().any(|key| key.ends_with("/header")));
    two.close().unwrap();
    assert!(store.dump().is_empty(), "{:?}", store.dump());
}

fn deletions(table: &Table) -> Vec<Change> {
    let specs = table.iter().map(|route| route.spec.clone());
    specs.map(Change::Delete).collect()
}

/// A Traefik may still show a generation that is later than the clock.
#[test]
fn revert_keeps_generations_growing() {
    let store = MemoryStore::new();
    let handle = || KvBackend::new(store.clone());
    handle()
        .open(&Setup::new("web"), &mut |_, _| Ok(vec![add(1)]))
        .unwrap();
    let last = || handle().last_commit().unwrap().unwrap().generation;
    let header_key = "jupyterhub/traefik-router/header".to_string();
    let header = store.get(&header_key).unwrap().unwrap().value;
    let ahead = (last() + 86_400_000).to_string();
    let mut later = Transaction::new();
    let header = header.replace(&last().to_string(), &ahead);
    later.set.insert(header_key, header);
    store.transact(&later).unwrap();
    let backend = handle();
    let moved = Setup {
        serves: true,
        ..Setup::new("other")
    };
    let made = backend.open(&moved, &mut |_, _| Ok(Vec::new())).unwrap();
    assert!(backend.revert().unwrap());
    let contents = handle().inspect().unwrap().unwrap();
    assert_eq!((&*contents.entrypoint, contents.routes.len()), ("web", 1));
    assert!(last() > made.generation);
}
