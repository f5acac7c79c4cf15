//! A key-value store in memory: for tests, and to measure what the rest costs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Entry, KvStore, Transaction};
use crate::error::Result;
use crate::sync::unpoisoned;

/// A [`KvStore`] that no Traefik can read. Clones share their keys.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Keys>>);

#[derive(Default)]
struct Keys {
    entries: BTreeMap<String, Entry>,
    version: u64,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// A store without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// All keys and values.
    pub fn dump(&self) -> BTreeMap<String, String> {
        let keys = self.keys();
        keys.entries
            .iter()
            .map(|(key, entry)| (key.clone(), entry.value.clone()))
            .collect()
    }

    /// Makes it what it was at first, its count of versions too.
    #[cfg(test)]
    pub(super) fn restore(&self) {
        *self.keys() = Keys::default();
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        unpoisoned(self.0.lock())
    }
}

impl KvStore for MemoryStore {
    fn provider(&self) -> &str {
        "memory"
    }

    fn static_config(&self, _root: &str) -> Result<Value> {
        Ok(json!({}))
    }

    fn check(&self, _prefixes: &[&str]) -> Result<()> {
        Ok(())
    }

    fn get(&self, key: &str) -> Result<Option<Entry>> {
        Ok(self.keys().entries.get(key).cloned())
    }

    fn read_tree(&self, prefix: &str) -> Result<BTreeMap<String, Entry>> {
        let keys = self.keys();
        let tree = keys.entries.range(prefix.to_string()..);
        Ok(tree
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect())
    }

    fn transact(&self, transaction: &Transaction) -> Result<Option<u64>> {
        let keys = &mut *self.keys();
        if let Some((key, entry)) = &transaction.expect {
            if keys.entries.get(key) != entry.as_ref() {
                return Ok(None);
            }
        }
        keys.version += 1;
        for (key, value) in &transaction.set {
            keys.entries
                .insert(key.clone(), Entry::new(value.clone(), keys.version));
        }
        for prefix in &transaction.delete_trees {
            keys.entries.retain(|key, _| !key.starts_with(prefix));
        }
        for key in &transaction.delete {
            keys.entries.remove(key);
        }
        Ok(Some(keys.version))
    }

    fn announce(&self, key: &str, _ttl: Duration) -> Result<bool> {
        // It goes with this program, whether it is withdrawn or not.
        if self.get(key)?.is_some() {
            return Ok(true);
        }
        let mut transaction = Transaction::new();
        transaction.set.insert(key.into(), String::new());
        self.transact(&transaction)?;
        Ok(true)
    }

    fn withdraw(&self, key: &str) -> Result<()> {
        let mut transaction = Transaction::new();
        transaction.delete.insert(key.into());
        self.transact(&transaction).map(drop)
    }
}
