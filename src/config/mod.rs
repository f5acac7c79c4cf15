//! What Traefik reads: the dynamic configuration (routers, services, middlewares, certificates)
//! and the static one (entrypoints, providers, API). Trees of JSON values; nothing here does I/O.

pub(crate) mod dynamic;
pub(crate) mod static_config;
pub(crate) mod text;

use serde_json::Value;

/// Puts `extra` over `base`: maps are merged, anything else in `extra` wins.
pub(crate) fn merge(base: &mut Value, extra: &Value) {
    match (base, extra) {
        (Value::Object(base), Value::Object(extra)) => {
            for (key, value) in extra {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, extra) => *base = extra.clone(),
    }
}
