//! Nested configuration as flat keys, in the way Traefik's key-value providers read them, and
//! back. Does no I/O.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::config::text::{Field, list};
use crate::error::{Error, ErrorKind, Result};
use crate::route::is_list_index;

/// Writes `value` as keys below `prefix`, joined by `/`:
///
/// - a map's entries go below its keys, a list's below their numbers, with zeros in front so that
///   Traefik, which sorts keys as text, keeps their order;
/// - booleans and numbers become text;
/// - `null` and an empty list become nothing;
/// - an empty map becomes the text `true`, by which Traefik means "there, with its defaults".
///
/// # Errors
/// [`InvalidConfig`](ErrorKind::InvalidConfig) for what Traefik would read differently: a key that
/// is empty or contains `/`, or an element of a list that contains a comma.
pub(crate) fn flatten(
    prefix: &str,
    value: &Value,
    out: &mut BTreeMap<String, String>,
) -> Result<()> {
    if let Some((at, what)) = problem(value) {
        let message = format!("{prefix}{at} can't be kept in a key-value store: it holds {what}");
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    push(prefix, value, out);
    Ok(())
}

/// What Traefik would read differently, and where that is.
fn problem(value: &Value) -> Option<(String, String)> {
    let within = |(key, value): (&dyn std::fmt::Display, &Value)| {
        problem(value).map(|(at, what)| (format!("/{key}{at}"), what))
    };
    match value {
        Value::Array(items) => {
            let is_split = |item: &Value| item.as_str().is_some_and(|text| text.contains(','));
            if items.iter().any(is_split) {
                let what = "a list's element with a comma, which splits it";
                return Some((String::new(), what.into()));
            }
            let mut items = items.iter().enumerate();
            items.find_map(|(n, item)| within((&n, item)))
        }
        Value::Object(map) => {
            // Traefik takes a key of digits for the place in a list, and then loads nothing.
            let is_odd = |key: &&String| is_list_index(key) || key.contains('/');
            if let Some(key) = map.keys().find(is_odd) {
                return Some((String::new(), format!("the key {key:?}")));
            }
            map.iter().find_map(|(key, value)| within((key, value)))
        }
        _ => None,
    }
}

fn push(prefix: &str, value: &Value, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) => {
            out.insert(prefix.into(), value.to_string());
        }
        Value::String(text) => {
            out.insert(prefix.into(), text.clone());
        }
        Value::Array(items) => {
            let width = items.len().saturating_sub(1).max(1).ilog10() as usize + 1;
            for (n, item) in items.iter().enumerate() {
                push(&format!("{prefix}/{n:0width$}"), item, out);
            }
        }
        Value::Object(map) if map.is_empty() => {
            out.insert(prefix.into(), "true".into());
        }
        Value::Object(map) => {
            for (key, value) in map {
                push(&format!("{prefix}/{key}"), value, out);
            }
        }
    }
}

/// [`flatten`] for a map of these fields. They are a router's, of which none can be read differently.
pub(crate) fn flatten_fields<'a>(
    prefix: &str,
    fields: impl IntoIterator<Item = (&'a str, Field<'a>)>,
    out: &mut BTreeMap<String, String>,
) {
    for (key, field) in fields {
        let key = format!("{prefix}/{key}");
        match field {
            Field::Text(text) => drop(out.insert(key, text.into())),
            Field::Number(number) => drop(out.insert(key, number.to_string())),
            Field::List(text, []) => drop(out.insert(key + "/0", text.into())),
            Field::List(first, others) => push(&key, &list(first, others).into(), out),
            Field::Value(value) => push(&key, value, out),
            Field::Defaults => drop(out.insert(key, "true".into())),
        }
    }
}

/// Reads keys below `prefix` back into nested maps. All leaves are text; a map whose keys are the
/// numbers from 0 on is a list.
pub(crate) fn unflatten<'a>(
    prefix: &str,
    keys: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Value {
    let mut root = Map::new();
    for (key, value) in keys {
        if let Some(path) = key
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix('/'))
        {
            insert(&mut root, path, value);
        }
    }
    with_lists(Value::Object(root))
}

fn insert(map: &mut Map<String, Value>, path: &str, value: &str) {
    let Some((parent, rest)) = path.split_once('/') else {
        map.insert(path.into(), value.into());
        return;
    };
    let entry = map.entry(parent).or_insert(Value::Null);
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    if let Some(inner) = entry.as_object_mut() {
        insert(inner, rest, value);
    }
}

fn with_lists(value: Value) -> Value {
    let Value::Object(map) = value else {
        return value;
    };
    let mut entries: Vec<(String, Value)> = map
        .into_iter()
        .map(|(key, value)| (key, with_lists(value)))
        .collect();
    entries.sort_by_key(|(key, _)| key.parse::<usize>().ok());
    let is_list = !entries.is_empty()
        && entries
            .iter()
            .enumerate()
            .all(|(n, (key, _))| key.parse() == Ok(n));
    if is_list {
        entries.into_iter().map(|(_, value)| value).collect()
    } else {
        entries.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn flat(value: &Value) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        flatten("p", value, &mut out).unwrap();
        out
    }

    #[test]
    fn values_round_trip() {
        let value = json!({
            "a": {"b": 5, "c": true, "d": "x,y", "e": null, "f": {}, "g": []},
            "l": ["x", {"y": 1.5}],
            "m": (0..11).collect::<Vec<_>>(),
        });
        let keys = flat(&value);
        let lines: Vec<_> = keys
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(
            lines[..6],
            [
                "p/a/b=5",
                "p/a/c=true",
                "p/a/d=x,y",
                "p/a/f=true",
                "p/l/0=x",
                "p/l/1/y=1.5"
            ]
        );
        assert_eq!((&*lines[6], &*lines[16]), ("p/m/00=0", "p/m/10=10"));
        let back = unflatten("p", keys.iter().map(|(key, value)| (&**key, &**value)));
        assert_eq!(
            back["a"],
            json!({"b": "5", "c": "true", "d": "x,y", "f": "true"})
        );
        assert_eq!(back["m"][10], "10");
    }

    #[test]
    fn ambiguous_values_are_refused() {
        for value in [
            json!({"a/b": 1}),
            json!({"": 1}),
            json!({"l": ["a,b"]}),
            json!({"m": {"12": "a"}}),
        ] {
            let error = flatten("p", &value, &mut BTreeMap::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        }
    }

    fn nested() -> impl Strategy<Value = Value> {
        let leaf = "[ -+--~]{0,5}".prop_map(Value::from);
        let inner = leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..13).prop_map(Value::from),
                prop::collection::btree_map("[a-zA-Z.@_-]{1,4}", inner, 1..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        prop::collection::btree_map("[a-z]{1,4}", inner, 1..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn any_text_round_trips(value in nested()) {
            let keys = flat(&value);
            let back = unflatten("p", keys.iter().map(|(key, value)| (&**key, &**value)));
            prop_assert_eq!(&back, &value);
            prop_assert_eq!(flat(&back), keys);
        }

        #[test]
        fn any_keys_round_trip(
            keys in prop::collection::btree_map("(p|q)(/[a-z0-9]{1,2}){0,3}", ".*", 0..8)
        ) {
            // Only where no key is another one's parent do the keys say one thing.
            let is_tree = keys.keys().all(|key| !keys.keys().any(|other| other.starts_with(&format!("{key}/"))));
            prop_assume!(is_tree);
            let value = unflatten("p", keys.iter().map(|(key, value)| (&**key, &**value)));
            let Ok(()) = flatten("p", &value, &mut BTreeMap::new()) else { return Ok(()) };
            let below: Vec<_> = keys.iter().filter(|(key, _)| key.starts_with("p/")).map(|(_, v)| v.clone()).collect();
            let mut again: Vec<_> = flat(&value).into_values().collect();
            let mut below = below;
            again.sort();
            below.sort();
            if !below.is_empty() {
                prop_assert_eq!(again, below);
            }
        }
    }
}
