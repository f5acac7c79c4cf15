//! What Traefik reads: the dynamic configuration (routers, services, middlewares, certificates)
//! and the static one (entrypoints, providers, API). Trees of JSON values; nothing here does I/O.

pub(crate) mod certificate;
pub(crate) mod defaults;
pub(crate) mod dynamic;
pub(crate) mod static_config;
pub(crate) mod text;

use std::time::Duration;

use serde_json::{Value, json};

/// No wait is longer than this; much longer ones can't be added to the time.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Puts `extra` over `base`: maps are merged, a null removes the key, and anything else
/// in `extra` wins.
pub(crate) fn merge(base: &mut Value, extra: &Value) {
    let Value::Object(extra) = extra else {
        *base = extra.clone();
        return;
    };
    if !base.is_object() {
        *base = json!({});
    }
    for (key, value) in extra {
        if let Some(base) = base.as_object_mut() {
            if value.is_null() {
                base.remove(key);
            } else {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_goes_into_maps() {
        let mut base = json!({"a": {"b": 1, "c": [1]}, "d": 2});
        merge(
            &mut base,
            &json!({"a": {"c": [2], "x": {"y": null, "z": 1}}, "d": null, "e": {}}),
        );
        assert_eq!(
            base,
            json!({"a": {"b": 1, "c": [2], "x": {"z": 1}}, "e": {}})
        );
    }
}
