//! Says that a Router serves a table, for as long as it does.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::KvStore;
use crate::error::Result;

/// How long others think so after the program has ended without a word.
pub(super) const TTL: Duration = Duration::from_secs(5);

/// Keeps a key alive, in a thread of its own, until this is dropped.
pub(super) struct Presence {
    store: Arc<dyn KvStore>,
    key: String,
    /// Ends the thread when it is dropped.
    _stop: Option<Sender<()>>,
}

impl Presence {
    pub(super) fn announce(store: Arc<dyn KvStore>, key: String) -> Result<Self> {
        let mut presence = Self {
            store,
            key,
            _stop: None,
        };
        if presence.store.announce(&presence.key, TTL)? {
            let (stop, stopped) = channel();
            let (store, key) = (Arc::clone(&presence.store), presence.key.clone());
            std::thread::spawn(move || {
                while stopped.recv_timeout(TTL / 3) == Err(RecvTimeoutError::Timeout) {
                    if let Err(error) = store.announce(&key, TTL) {
                        log::debug!("others may think that nobody serves the table: {error}");
                    }
                }
            });
            presence._stop = Some(stop);
        }
        Ok(presence)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Err(error) = self.store.withdraw(&self.key) {
            log::debug!("others think for {TTL:?} that the table is served: {error}");
        }
    }
}
