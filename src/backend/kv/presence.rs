//! Says that a Router serves a table, for as long as it does.

use std::sync::Arc;
use std::time::Duration;

use super::{KvStore, Transaction};
use crate::error::Result;
use crate::threads::Repeated;

/// How long the store keeps the key that says so after the program has ended without a word.
pub(super) const TTL: Duration = Duration::from_secs(5);
/// For how long the key may be gone before the program is thought to have ended: it comes back within
/// that time after an outage of the store.
pub(super) const SILENCE: Duration = Duration::from_secs(3);

/// Keeps a key alive, in a thread of its own, until this is dropped. Another key says that the first one
/// is to be looked for.
pub(super) struct Presence {
    store: Arc<dyn KvStore>,
    alive: String,
    known: String,
    /// Whether the store has such keys.
    announced: bool,
    again: Option<Repeated>,
}

impl Presence {
    pub(super) fn announce(store: Arc<dyn KvStore>, alive: String, known: String) -> Result<Self> {
        let mut presence = Self {
            store,
            alive,
            known,
            announced: false,
            again: None,
        };
        presence.announced = presence.store.announce(&presence.alive, TTL)?;
        if presence.announced {
            let mut transaction = Transaction::new();
            transaction
                .set
                .insert(presence.known.clone(), String::new());
            presence.store.transact(&transaction)?;
            let (store, alive) = (Arc::clone(&presence.store), presence.alive.clone());
            let announce = move || {
                if let Err(error) = store.announce(&alive, TTL) {
                    log::debug!("others may think that nobody serves the table: {error}");
                }
            };
            presence.again = Some(Repeated::start("presence", TTL / 5, announce)?);
        }
        Ok(presence)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if !self.announced {
            return;
        }
        let mut transaction = Transaction::new();
        transaction.delete.insert(self.known.clone());
        let ended = self.store.transact(&transaction).map(drop);
        // An announcement that is under way would set the key again.
        drop(self.again.take());
        for ended in [ended, self.store.withdraw(&self.alive)] {
            if let Err(error) = ended {
                log::debug!("others think for a while that the table is served: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::Value;

    use super::*;
    use crate::backend::kv::{Entry, MemoryStore};

    /// A store whose second announcement takes long.
    #[derive(Debug, Default)]
    struct Slow {
        store: MemoryStore,
        announcements: AtomicUsize,
    }

    const LONG: Duration = Duration::from_millis(300);

    impl KvStore for Slow {
        fn provider(&self) -> &str {
            self.store.provider()
        }
        fn static_config(&self, root: &str) -> Result<Value> {
            self.store.static_config(root)
        }
        fn check(&self, prefixes: &[&str]) -> Result<()> {
            self.store.check(prefixes)
        }
        fn get(&self, key: &str) -> Result<Option<Entry>> {
            self.store.get(key)
        }
        fn read_tree(&self, prefix: &str) -> Result<BTreeMap<String, Entry>> {
            self.store.read_tree(prefix)
        }
        fn transact(&self, transaction: &Transaction) -> Result<Option<u64>> {
            self.store.transact(transaction)
        }
        fn announce(&self, key: &str, ttl: Duration) -> Result<bool> {
            if self.announcements.fetch_add(1, Ordering::Relaxed) == 1 {
                std::thread::sleep(LONG);
            }
            self.store.announce(key, ttl)
        }
        fn withdraw(&self, key: &str) -> Result<()> {
            self.store.withdraw(key)
        }
    }

    #[test]
    fn late_announcement_leaves_no_key() {
        let store = Arc::new(Slow::default());
        let other = Arc::<Slow>::clone(&store);
        let presence = Presence::announce(other, "alive".into(), "known".into()).unwrap();
        while store.announcements.load(Ordering::Relaxed) < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(presence);
        std::thread::sleep(2 * LONG);
        assert!(store.store.dump().is_empty(), "{:?}", store.store.dump());
    }
}
