//! What is stored in an etcd or a Redis. In the etcd that all tests share, each of them has prefixes of its own.

use kit::etcd::Cluster;
#[cfg(feature = "redis")]
use traefik_router::backend::{Entry, KvStore, Transaction};
use traefik_router::etcd::{Client, MAX_OPS, Op, Txn};

/// A client for all nodes, without user and without certificates.
pub(crate) trait Connect {
    fn client(&self) -> Client;
}

impl Connect for Cluster {
    fn client(&self) -> Client {
        Client::new(self.urls()).unwrap()
    }
}

pub(crate) fn client(url: &str) -> Client {
    Client::new([url]).unwrap()
}

/// All keys below these prefixes, one a line, each with its value as JSON.
pub(crate) fn text(url: &str, prefixes: &[String]) -> String {
    let trees = prefixes
        .iter()
        .map(|prefix| client(url).get_prefix(prefix).unwrap());
    let line = |pair: traefik_router::etcd::KeyValue| {
        let [key, value] = [pair.key, pair.value].map(|bytes| String::from_utf8(bytes).unwrap());
        format!("{key} {}\n", serde_json::Value::from(value))
    };
    trees.flat_map(|tree| tree.kvs).map(line).collect()
}

/// Makes the keys below these prefixes be what the text says, in one step.
pub(crate) fn write(url: &str, prefixes: &[String], new: &str) {
    let (old, new) = (keys(&text(url, prefixes)), keys(new));
    let gone = old
        .iter()
        .filter(|(key, _)| !new.iter().any(|(n, _)| n == key));
    let set = new.iter().filter(|pair| !old.contains(pair));
    let ops =
        (gone.map(|(key, _)| Op::delete(key))).chain(set.map(|(key, value)| Op::put(key, value)));
    client(url).txn(&Txn::pack(ops, MAX_OPS).unwrap()).unwrap();
}

fn keys(text: &str) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ').unwrap();
        (key.to_string(), serde_json::from_str(value).unwrap())
    };
    text.lines().map(pair).collect()
}

/// [`text`] of another store.
#[cfg(feature = "redis")]
pub(crate) fn text_of(store: &impl KvStore, prefixes: &[String]) -> String {
    let trees = prefixes
        .iter()
        .map(|prefix| store.read_tree(prefix).unwrap());
    let line =
        |(key, entry): (String, Entry)| format!("{key} {}\n", serde_json::Value::from(entry.value));
    trees.flatten().map(line).collect()
}

/// [`write`] to another store.
#[cfg(feature = "redis")]
pub(crate) fn write_to(store: &impl KvStore, prefixes: &[String], new: &str) {
    let (old, new) = (keys(&text_of(store, prefixes)), keys(new));
    let mut transaction = Transaction::new();
    transaction.set.extend(new);
    let gone = old.into_iter().map(|(key, _)| key);
    let gone = gone.filter(|key| !transaction.set.contains_key(key));
    transaction.delete = gone.collect();
    store.transact(&transaction).unwrap();
}

/// Sets a key of another store.
#[cfg(feature = "redis")]
pub(crate) fn put(store: &impl KvStore, key: &str, value: &str) {
    let mut transaction = Transaction::new();
    transaction.set.insert(key.into(), value.into());
    store.transact(&transaction).unwrap();
}
