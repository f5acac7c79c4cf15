//! Writes the generation again now and then, for Traefiks that would lose touch otherwise.

use std::sync::Arc;
use std::time::Duration;

use super::keys::Keys;
use super::store::{KvStore, Transaction};
use super::table_keys::TableKeys;
use crate::error::Result;
use crate::threads::Repeated;

/// Beats until this is dropped.
///
/// # Errors
/// [`Internal`](crate::ErrorKind::Internal) if there can be no thread.
pub(super) fn start(store: Arc<impl KvStore>, keys: Keys, interval: Duration) -> Result<Repeated> {
    Repeated::start("heartbeat", interval, move || {
        if let Err(error) = beat(&*store, &keys) {
            log::warn!("no heartbeat for Traefik: {error}");
        }
    })
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
