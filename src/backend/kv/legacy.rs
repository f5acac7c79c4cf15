//! The routes that jupyterhub-traefik-proxy 2 keeps in a key-value store.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::flatten::unflatten;
use super::keys::Keys;
use super::{KvStore, Transaction};
use crate::error::{Error, ErrorKind, Result};
use crate::route::Route;

/// Each route with the transaction that removes it in its old form. All of its `data` is text:
/// that is how it was stored.
pub(super) fn read(keys: &Keys, store: &impl KvStore) -> Result<Vec<(Route, Transaction)>> {
    let tree = store.read_tree(&keys.legacy_tree())?;
    let pairs: BTreeMap<&str, &str> = tree
        .iter()
        .map(|(key, entry)| (&**key, &*entry.value))
        .collect();
    let stored = unflatten(keys.legacy_tree().trim_end_matches('/'), pairs);
    let stored = stored.as_object().cloned().unwrap_or_default();
    stored
        .iter()
        .map(|(alias, stored)| adopt(keys, alias, stored))
        .collect()
}

fn adopt(keys: &Keys, alias: &str, stored: &Value) -> Result<(Route, Transaction)> {
    let text = |key: &str| stored[key].as_str().unwrap_or_default();
    // An empty map leaves no key.
    let data = stored.get("data").cloned().unwrap_or(json!({}));
    let route = Route::new(text("routespec"), text("target")).map_err(|error| {
        Error::new(
            ErrorKind::Corrupt,
            format!("key {}{alias}: {error}", keys.legacy_tree()),
        )
    })?;
    let route = route.data(data);
    let mut transaction = Transaction::new();
    let trees = [
        format!("{}{alias}/", keys.legacy_tree()),
        format!("{}/", keys.http("routers", alias)),
        format!("{}/", keys.http("services", text("service"))),
    ];
    transaction.delete_trees.extend(trees);
    Ok((route, transaction))
}
