//! What a key-value store has to do for a table to be kept in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;
use crate::http::Tls;

/// What each operation of a transaction takes beside its key and its value, in bytes.
pub(super) const PER_OPERATION: usize = 24;

/// A key-value store that Traefik watches, such as etcd: a few actions on keys, which are paths
/// with `/` between their parts.
///
/// A store that runs the [conformance suite](crate::backend::conformance) under a
/// [`KvBackend`](super::KvBackend) does what is asked here.
pub trait KvStore: fmt::Debug + Send + Sync + 'static {
    /// What Traefik calls the provider that reads this store.
    fn provider(&self) -> &str;

    /// The static configuration that makes Traefik read the keys below `root`, as Traefik
    /// documents it.
    ///
    /// # Errors
    /// If Traefik has no setting that can name this store.
    fn static_config(&self, root: &str) -> Result<Value>;

    /// Checks that the store answers, and that its user may read all keys that begin with these prefixes.
    /// If Traefik can't reach a store when Traefik starts, it never tries again.
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, prefixes: &[&str]) -> Result<()>;

    /// What else may be wrong with the store. Defaults to nothing.
    fn diagnose(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// Whether Traefik reads all keys as they were at one moment. If not, it can miss a key that is added
    /// while it reads, and yet show the generation of that commit. Then each router of a change is checked with its
    /// service, and routers are not nested. Defaults to `true`.
    fn is_read_at_once(&self) -> bool {
        true
    }

    /// Whether Traefik reads keys with an empty value. If not, a configuration with one is refused. Defaults to
    /// `true`.
    fn has_empty_values(&self) -> bool {
        true
    }

    /// The value of a key, if it is there.
    ///
    /// # Errors
    /// If the store can't be read.
    fn get(&self, key: &str) -> Result<Option<Entry>>;

    /// All keys that begin with `prefix`, as they were at one moment.
    ///
    /// # Errors
    /// If the store can't be read.
    fn read_tree(&self, prefix: &str) -> Result<BTreeMap<String, Entry>>;

    /// Makes all changes of a transaction or none, in one step for every reader. Returns the
    /// version of the keys that were set, or `None`, with nothing changed, if a key was not as
    /// expected.
    ///
    /// # Errors
    /// [`Error::stored`](crate::Error::stored) says whether the changes were made; it may be
    /// [`Unknown`](crate::Stored::Unknown) if the answer was lost.
    fn transact(&self, transaction: &Transaction) -> Result<Option<u64>>;

    /// How large a transaction may be, as [`Transaction::bytes`] counts. Defaults to 1 MiB.
    fn max_bytes(&self) -> usize {
        1 << 20
    }

    /// Whether the store is one that was restored to what it was before this version. Its user may read
    /// `key`. Defaults to `false`.
    ///
    /// # Errors
    /// If the store can't be asked.
    fn is_behind(&self, key: &str, version: u64) -> Result<bool> {
        let _ = (key, version);
        Ok(false)
    }

    /// How often the generation has to be written again, unchanged, so that Traefik does not lose
    /// touch with the store. Defaults to never.
    ///
    /// # Errors
    /// If the store can't be asked.
    fn heartbeat(&self) -> Result<Option<Duration>> {
        Ok(None)
    }

    /// Sets a key that the store removes after `ttl`, unless this is called again before. Others
    /// learn by it that a table is served. `false` means that the store has no such keys. Defaults to
    /// `false`.
    ///
    /// # Errors
    /// If the store can't be written.
    fn announce(&self, key: &str, ttl: Duration) -> Result<bool> {
        let _ = (key, ttl);
        Ok(false)
    }

    /// Removes such a key at once. Defaults to nothing.
    ///
    /// # Errors
    /// If the store can't be written.
    fn withdraw(&self, key: &str) -> Result<()> {
        let _ = key;
        Ok(())
    }

    /// Called before a write to a store that was restored to a state before `version`. Makes sure that
    /// a Traefik which watches from `version` on sees the write. For this it may write and delete the key `scratch`.
    /// Defaults to nothing.
    ///
    /// # Errors
    /// If the store can't be written.
    fn catch_up(&self, scratch: &str, version: u64) -> Result<()> {
        let _ = (scratch, version);
        Ok(())
    }

    /// Waits until `key` has another version than this one, at most for `timeout`; may return
    /// early. Defaults to a short sleep.
    ///
    /// # Errors
    /// If the store can't be read.
    fn wait(&self, key: &str, version: u64, timeout: Duration) -> Result<()> {
        let _ = (key, version);
        std::thread::sleep(timeout.min(Duration::from_millis(50)));
        Ok(())
    }
}

/// How a provider of Traefik does TLS towards its store.
pub(super) fn provider_tls(tls: &Tls) -> Value {
    // Traefik exits if this table is empty.
    let mut config = json!({"insecureSkipVerify": tls.skips_validation()});
    let text = |pem: &[u8]| String::from_utf8_lossy(pem).into_owned();
    if let Some(ca) = tls.ca() {
        config["ca"] = json!(text(ca));
    }
    if let Some((cert, key)) = tls.client() {
        config["cert"] = json!(text(cert));
        config["key"] = json!(text(key));
    }
    config
}

/// A value and when it was written. `Debug` does not show the value: it may be a password's hash, a
/// private key, or a route's data.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The value.
    pub value: String,
    /// Grows with each change of the key, also if it was deleted in between, and is never 0.
    pub version: u64,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Entry {
    /// An entry.
    pub fn new(value: impl Into<String>, version: u64) -> Self {
        Self {
            value: value.into(),
            version,
        }
    }
}

/// A key and its entry, of a store whose keys and values may be any bytes.
pub(super) fn text_entry(
    store: &str,
    key: Vec<u8>,
    value: Vec<u8>,
    version: u64,
) -> Result<(String, Entry)> {
    let at = String::from_utf8_lossy(&key).into_owned();
    match (String::from_utf8(key), String::from_utf8(value)) {
        (Ok(key), Ok(value)) => Ok((key, Entry::new(value, version))),
        (key, _) => {
            let what = if key.is_err() { "name" } else { "value" };
            let message =
                format!("the {what} of {store}'s key {at:?} is not UTF-8: delete that key");
            Err(Error::new(ErrorKind::Corrupt, message))
        }
    }
}

/// Changes to make together. `Debug` does not show values, as with [`Entry`].
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Transaction {
    /// A key that must be as it is here, by its version and its value, or not be there.
    pub expect: Option<(String, Option<Entry>)>,
    /// Keys to set.
    pub set: BTreeMap<String, String>,
    /// Keys to delete, none of which is set as well.
    pub delete: BTreeSet<String>,
    /// Prefixes whose keys to delete, none of which is set as well.
    pub delete_trees: BTreeSet<String>,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("expect", &self.expect)
            .field("set", &self.set.keys())
            .field("delete", &self.delete)
            .field("delete_trees", &self.delete_trees)
            .finish()
    }
}

impl Transaction {
    /// A transaction that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many operations it is made of.
    pub(super) fn operations(&self) -> usize {
        self.set.len() + self.delete.len() + self.delete_trees.len()
    }

    /// The sum of the lengths of its keys and values, with 24 bytes on top for each operation.
    pub fn bytes(&self) -> usize {
        let set: usize = self
            .set
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        let deleted: usize = self
            .delete
            .iter()
            .chain(&self.delete_trees)
            .map(String::len)
            .sum();
        set + deleted + PER_OPERATION * self.operations()
    }

    /// Does what `next` does after what this does.
    pub(super) fn then(&mut self, next: Self) {
        for key in next.set.keys() {
            self.delete.remove(key);
        }
        for key in &next.delete {
            self.set.remove(key);
        }
        self.set.extend(next.set);
        self.delete.extend(next.delete);
        self.delete_trees.extend(next.delete_trees);
    }

    /// Deletes the `old` keys that are not among the `new` ones, and sets these. `all` says whether to set
    /// those as well that are as they were.
    pub(super) fn replace(
        &mut self,
        old: BTreeMap<String, String>,
        mut new: BTreeMap<String, String>,
        all: bool,
    ) {
        for (key, value) in old {
            match new.get(&key) {
                Some(same) if !all && *same == value => drop(new.remove(&key)),
                Some(_) => {}
                None => drop(self.delete.insert(key)),
            }
        }
        self.set.extend(new);
    }
}
