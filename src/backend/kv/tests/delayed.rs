//! A store whose answers come late, or never.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::{add, with_api};
use crate::backend::kv::{Entry, KvBackend, KvStore, MemoryStore, Transaction};
use crate::backend::{Backend, Setup};
use crate::error::{Error, ErrorKind, Result};
use crate::route::{Change, Table};

/// A store that holds one request back, until the test goes on.
#[derive(Debug, Default)]
struct Delayed {
    store: MemoryStore,
    /// The key of that request; where it waits, and where it goes on.
    hold: Mutex<Option<(&'static str, [Barrier; 2])>>,
    /// The tree about which no question is answered.
    silent: Option<&'static str>,
    /// What was read.
    asked: Mutex<Vec<String>>,
    max_bytes: Option<usize>,
}

/// Stands for the answer to a transaction.
const TRANSACTION: &str = "";

impl Delayed {
    /// Holds back the answer about this key, the answer to a transaction, or the question about this tree.
    fn hold(&self, key: &'static str) -> [Barrier; 2] {
        let barriers = [(); 2].map(|()| Barrier::new(std::sync::Barrier::new(2)));
        *self.hold.lock().unwrap() = Some((key, barriers.clone()));
        barriers
    }

    fn pass(&self, key: &str) {
        self.asked.lock().unwrap().push(key.into());
        let held = self.hold.lock().unwrap().take_if(|(held, _)| *held == key);
        for barrier in held.iter().flat_map(|(_, barriers)| barriers) {
            barrier.wait();
        }
    }
}

type Barrier = Arc<std::sync::Barrier>;

impl KvStore for Delayed {
    fn provider(&self) -> &str {
        "memory"
    }
    fn static_config(&self, root: &str) -> Result<Value> {
        self.store.static_config(root)
    }
    fn check(&self, prefixes: &[&str]) -> Result<()> {
        self.store.check(prefixes)
    }
    fn get(&self, key: &str) -> Result<Option<Entry>> {
        let found = self.store.get(key);
        self.pass(key);
        found
    }
    fn read_tree(&self, prefix: &str) -> Result<BTreeMap<String, Entry>> {
        self.pass(prefix);
        match self.silent == Some(prefix) {
            true => Err(Error::new(ErrorKind::Unavailable, "no answer")),
            false => self.store.read_tree(prefix),
        }
    }
    fn transact(&self, transaction: &Transaction) -> Result<Option<u64>> {
        let made = self.store.transact(transaction);
        self.pass(TRANSACTION);
        made
    }
    fn max_bytes(&self) -> usize {
        self.max_bytes.unwrap_or(usize::MAX)
    }
}

/// The reader's answer is from before the commit: it is no sign of a restored store, and does not
/// replace what the commit has made.
#[test]
fn commit_overrides_concurrent_read() {
    let age = Duration::from_secs(3600);
    let backend = KvBackend::new(Delayed::default()).max_age(age);
    backend.commit(&mut |_, _| Ok(vec![add(1)])).unwrap();
    backend.seen().heard = None;
    let [asked, go_on] = backend.store().hold("jupyterhub/traefik-router/header");
    std::thread::scope(|scope| {
        let early = scope.spawn(|| backend.read());
        asked.wait();
        backend.commit(&mut |_, _| Ok(vec![add(2)])).unwrap();
        assert_eq!(backend.read().unwrap().len(), 2, "from memory");
        go_on.wait();
        assert_eq!(early.join().unwrap().unwrap().len(), 1);
    });
    assert_eq!(backend.read().unwrap().len(), 2);
    backend.seen().heard = None;
    assert_eq!(backend.read().unwrap().len(), 2);
    backend.commit(&mut |_, _| Ok(vec![add(3)])).unwrap();
    assert_eq!(backend.read().unwrap().len(), 3);
}

/// Of two programs that set up the API at the same time, the later one finds the router of the first
/// in a table that it has read without.
#[test]
fn refusal_holds_for_one_table() {
    let backend = KvBackend::new(Delayed::default());
    let setup = Setup {
        serves: true,
        ..with_api("secret")
    };
    let open = |backend: &dyn Backend| backend.open(&setup, &mut |_, _| Ok(Vec::new()));
    let [asked, go_on] = backend.store().hold("traefik/http/routers/");
    std::thread::scope(|scope| {
        let later = scope.spawn(|| open(&backend));
        asked.wait();
        let first = open(&KvBackend::new(backend.store().store.clone()));
        go_on.wait();
        later.join().unwrap().unwrap();
        first.unwrap();
    });
}

/// Or else an etcd that hangs would be waited for twice.
#[test]
fn silent_store_is_asked_once() {
    let tree = "traefik/http/routers/";
    let backend = KvBackend::new(Delayed {
        silent: Some(tree),
        ..Delayed::default()
    });
    let error = backend
        .open(&with_api("secret"), &mut |_, _| Ok(Vec::new()))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(backend.store().asked.lock().unwrap().last().unwrap(), tree);
}

/// A writer that knows the table as it was before would otherwise commit on half of it.
#[test]
fn revert_in_parts_is_undisturbed() {
    let backend = KvBackend::new(Delayed {
        max_bytes: Some(8000),
        ..Delayed::default()
    });
    let other = KvBackend::new(backend.store().store.clone());
    let many: Vec<_> = (0..50).map(add).collect();
    other.commit(&mut |_, _| Ok(many.clone())).unwrap();
    let before = backend.store().store.dump();
    let setup = Setup {
        serves: true,
        ..Setup::new("web")
    };
    let gone = |table: &Table| {
        let specs = table.iter().map(|route| route.spec.clone());
        specs.map(Change::Delete).collect()
    };
    backend
        .open(&setup, &mut |table, _| Ok(gone(table)))
        .unwrap();
    assert_eq!(other.read().unwrap().len(), 0);
    let [made, go_on] = backend.store().hold(TRANSACTION);
    std::thread::scope(|scope| {
        let revert = scope.spawn(|| backend.revert());
        made.wait();
        assert_ne!(backend.store().store.dump(), before, "a part is missing");
        let theirs = scope.spawn(|| other.commit(&mut |_, _| Ok(vec![add(50)])));
        std::thread::sleep(Duration::from_millis(100));
        go_on.wait();
        assert!(revert.join().unwrap().unwrap());
        theirs.join().unwrap().unwrap();
    });
    assert_eq!(other.read().unwrap().len(), 51);
}
