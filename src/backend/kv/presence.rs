//! Says that a Router serves a table, for as long as it does.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::{KvStore, Transaction};
use crate::error::Result;

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
    /// Ends the thread when it is dropped.
    stop: Option<Sender<()>>,
}

impl Presence {
    pub(super) fn announce(store: Arc<dyn KvStore>, alive: String, known: String) -> Result<Self> {
        let mut presence = Self {
            store,
            alive,
            known,
            announced: false,
            stop: None,
        };
        presence.announced = presence.store.announce(&presence.alive, TTL)?;
        if presence.announced {
            let mut transaction = Transaction::new();
            transaction
                .set
                .insert(presence.known.clone(), String::new());
            presence.store.transact(&transaction)?;
            let (stop, stopped) = channel();
            let (store, alive) = (Arc::clone(&presence.store), presence.alive.clone());
            std::thread::spawn(move || {
                while stopped.recv_timeout(TTL / 5) == Err(RecvTimeoutError::Timeout) {
                    if let Err(error) = store.announce(&alive, TTL) {
                        log::debug!("others may think that nobody serves the table: {error}");
                    }
                }
            });
            presence.stop = Some(stop);
        }
        Ok(presence)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        drop(self.stop.take());
        if !self.announced {
            return;
        }
        let mut transaction = Transaction::new();
        transaction.delete.insert(self.known.clone());
        let ended = self.store.transact(&transaction).map(drop);
        for ended in [ended, self.store.withdraw(&self.alive)] {
            if let Err(error) = ended {
                log::debug!("others think for a while that the table is served: {error}");
            }
        }
    }
}
