//! The adapter over stores that are small, slow to agree, or lose answers.

mod delayed;
mod faults;
mod keys;
mod partial;
mod seen;
mod serving;
mod setup;
mod size;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::backend::kv::{Entry, KvBackend, KvStore, MemoryStore, Transaction};
use crate::backend::{Backend as _, Setup};
use crate::config::dynamic::{ApiAccess, fast_hash};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::route::{Change, Route};

/// A store in memory that fails as it is told to.
#[derive(Debug, Default)]
struct Faulty {
    store: MemoryStore,
    max_bytes: Option<usize>,
    /// Which transaction fails, counted from 1, and how.
    fault: Option<(usize, Fault)>,
    transactions: AtomicUsize,
    /// How many bytes the last one had, and the largest.
    bytes: AtomicUsize,
    largest: AtomicUsize,
    /// How many keys the last one deleted.
    deleted: AtomicUsize,
    /// What there was after each of them.
    states: Option<Mutex<Vec<State>>>,
}

/// What the names of the generation's middleware and router begin with.
const MARKER: &str = "traefik-router-generation";

/// The keys of a store with their values.
type State = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Refused,
    LostAnswer,
    LostRequest,
    /// A request is lost, and no later transaction reaches the store.
    LostRequestThenDown,
    /// A transaction is made, and nothing reaches the store after that.
    ThenDown,
    /// Another writer commits first, once.
    Overtaken,
    /// The answer is lost, and another writer adds a route to `http://shared` before we ask.
    LostAnswerThenOther,
}

impl Faulty {
    fn reach(&self) -> Result<()> {
        let made = self.transactions.load(Ordering::Relaxed);
        match self.fault {
            Some((at, Fault::ThenDown)) if at <= made => Err(down()),
            _ => Ok(()),
        }
    }
}

fn down() -> Error {
    Error::new(ErrorKind::Unavailable, "down")
}

impl KvStore for Faulty {
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
        self.reach()?;
        self.store.get(key)
    }
    fn read_tree(&self, prefix: &str) -> Result<BTreeMap<String, Entry>> {
        self.reach()?;
        self.store.read_tree(prefix)
    }
    fn transact(&self, transaction: &Transaction) -> Result<Option<u64>> {
        self.reach()?;
        let number = self.transactions.fetch_add(1, Ordering::Relaxed) + 1;
        self.bytes.store(transaction.bytes(), Ordering::Relaxed);
        self.largest
            .fetch_max(transaction.bytes(), Ordering::Relaxed);
        let deleted = transaction.delete.len();
        self.deleted.store(deleted, Ordering::Relaxed);
        let lost = Error::new(ErrorKind::Unavailable, "lost").with_stored(Stored::Unknown);
        match self.fault {
            Some((at, Fault::LostRequestThenDown)) if at < number => Err(down()),
            Some((at, fault)) if at == number => match fault {
                Fault::Refused => Err(Error::new(ErrorKind::Store, "refused")),
                Fault::LostRequest | Fault::LostRequestThenDown => Err(lost),
                Fault::ThenDown => self.store.transact(transaction),
                Fault::LostAnswer => self.store.transact(transaction).and(Err(lost)),
                Fault::LostAnswerThenOther => {
                    self.store.transact(transaction)?;
                    let theirs = Change::set("/theirs/", "http://shared").unwrap();
                    KvBackend::new(self.store.clone())
                        .commit(&mut |_, _| Ok(vec![theirs.clone()]))?;
                    Err(lost)
                }
                Fault::Overtaken => {
                    let other = KvBackend::new(self.store.clone());
                    other.commit(&mut |_, _| Ok(vec![add(999)]))?;
                    self.store.transact(transaction)
                }
            },
            _ => {
                let done = self.store.transact(transaction);
                if let Some(states) = &self.states {
                    states.lock().unwrap().push(self.store.dump());
                }
                done
            }
        }
    }
    fn max_bytes(&self) -> usize {
        self.max_bytes.unwrap_or(usize::MAX)
    }
}

fn add(n: usize) -> Change {
    Route::new(format!("/r{n}/"), format!("http://t{n}"))
        .unwrap()
        .data(json!({"n": n}))
        .into()
}

fn faulty(max_bytes: Option<usize>, fault: Option<(usize, Fault)>) -> KvBackend<Faulty> {
    KvBackend::new(Faulty {
        max_bytes,
        fault,
        ..Faulty::default()
    })
}

fn specs(backend: &KvBackend<Faulty>) -> Vec<String> {
    KvBackend::new(backend.store().store.clone())
        .read()
        .unwrap()
        .iter()
        .map(|route| route.spec.to_string())
        .collect()
}

/// A setup with a router for Traefik's API.
fn with_api(password: &str) -> Setup {
    let api = ApiAccess {
        entrypoint: "auth_api".into(),
        username: "jupyterhub".into(),
        password: password.into(),
        given: true,
        password_hash: fast_hash(password),
        metrics: false,
    };
    Setup {
        api: Some(api),
        ..Setup::new("http")
    }
}
