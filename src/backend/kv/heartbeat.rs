//! Writes the generation again now and then, for Traefiks that would lose touch otherwise.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::keys::Keys;
use super::store::{KvStore, Transaction};
use super::table_keys::TableKeys;
use crate::error::Result;

/// Beats, in a thread of its own, until it is dropped.
#[derive(Debug)]
pub(super) struct Heartbeat {
    _stop: Sender<()>,
}

impl Heartbeat {
    pub(super) fn start(store: Arc<impl KvStore>, keys: Keys, interval: Duration) -> Self {
        let (stop, stopped) = channel();
        std::thread::spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = beat(&*store, &keys) {
                    log::warn!("no heartbeat for Traefik: {error}");
                }
            }
        });
        Self { _stop: stop }
    }
}

/// Writes the marker as it is, unless another writer commits meanwhile, which serves as well.
fn beat(store: &impl KvStore, keys: &Keys) -> Result<()> {
    let header = keys.header();
    if let Some(entry) = store.get(&header)? {
        let mut transaction = Transaction::new();
        transaction.set = TableKeys::marker_of(keys, &entry.value)?;
        transaction.expect = Some((header, Some(entry)));
        store.transact(&transaction)?;
    }
    Ok(())
}
