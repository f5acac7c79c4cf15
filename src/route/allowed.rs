//! The settings of services and routers that a route may have, as Traefik documents them.
//!
//! Traefik rejects a whole file or tree for a key that it does not know or a value of another kind, and ignores
//! both in what is pushed. So there is a list.

mod values;

use serde_json::{Map, Value};

use self::values::{is_cookie_domain, is_cookie_path, is_duration, is_path, is_text, is_token};
pub(crate) use self::values::{is_item, is_list_index, is_zero_duration};

/// A version of Traefik, major and minor.
pub(crate) type Version = (u32, u32);

/// A key that a route may set.
#[derive(Debug)]
pub(super) struct Key {
    name: &'static str,
    kind: Kind,
    /// The first Traefik that knows it.
    since: Version,
}

#[derive(Debug)]
enum Kind {
    Flag,
    /// A whole number within these bounds.
    Number(i64, i64),
    Text,
    /// A text that passes this check, and what such a text is called.
    Fit(fn(&str) -> bool, &'static str),
    /// One of these words. Traefik takes others and does as if nothing were set.
    Word(&'static [&'static str]),
    /// As Go writes it: `1m30s`.
    Duration,
    /// A list of texts.
    Texts,
    /// A map with at least one of these keys. Traefik rejects an empty one.
    Map(&'static [Key]),
    /// The same, or an empty one, which stands for defaults.
    MapOrDefaults(&'static [Key]),
    /// A list of maps with these keys.
    Maps(&'static [Key]),
    /// A map of header names and their values.
    Headers,
}

use Kind::{Duration, Fit, Flag, Headers, MapOrDefaults, Maps, Number, Text, Texts, Word};

const fn key(name: &'static str, kind: Kind) -> Key {
    since((3, 0), name, kind)
}

const fn since(since: Version, name: &'static str, kind: Kind) -> Key {
    Key { name, kind, since }
}

/// What a route may set of its service's `loadBalancer`. Its servers are the route's own.
pub(super) static SERVICE: [Key; 7] = [
    key("healthCheck", Kind::Map(&HEALTH_CHECK)),
    key("passHostHeader", Flag),
    since((3, 6), "passiveHealthCheck", Kind::Map(&PASSIVE)),
    key("responseForwarding", Kind::Map(&FORWARDING)),
    key("serversTransport", Text),
    key("sticky", Kind::Map(&STICKY)),
    since(
        (3, 4),
        "strategy",
        Word(&["wrr", "p2c", "hrw", "leasttime"]),
    ),
];

/// What a route may set of its router. Names, rule, priority, entrypoints and middlewares are set elsewhere.
pub(super) static ROUTER: [Key; 2] = [
    since((3, 3), "observability", Kind::Map(&OBSERVABILITY)),
    key("tls", MapOrDefaults(&TLS)),
];

static HEALTH_CHECK: [Key; 12] = [
    key("followRedirects", Flag),
    key("headers", Headers),
    key("hostname", Text),
    key("interval", Duration),
    key("method", Fit(is_token, "method of HTTP")),
    key("mode", Word(&["http", "grpc"])),
    key("path", Fit(is_path, "path on the server")),
    key("port", Number(0, 65535)),
    key("scheme", Word(&["http", "https", "h2c"])),
    key("status", Number(100, 599)),
    key("timeout", Duration),
    since((3, 4), "unhealthyInterval", Duration),
];
static PASSIVE: [Key; 2] = [
    key("failureWindow", Duration),
    key("maxFailedAttempts", Number(0, i64::MAX)),
];
static FORWARDING: [Key; 1] = [key("flushInterval", Duration)];
static STICKY: [Key; 1] = [key("cookie", MapOrDefaults(&COOKIE))];
static COOKIE: [Key; 7] = [
    since(
        (3, 4),
        "domain",
        Fit(is_cookie_domain, "domain of a cookie"),
    ),
    key("httpOnly", Flag),
    key("maxAge", Number(0, i64::MAX)),
    key("name", Text),
    since((3, 3), "path", Fit(is_cookie_path, "path of a cookie")),
    key("sameSite", Word(&["none", "lax", "strict"])),
    key("secure", Flag),
];
static OBSERVABILITY: [Key; 4] = [
    key("accessLogs", Flag),
    key("metrics", Flag),
    since((3, 5), "traceVerbosity", Word(&["minimal", "detailed"])),
    key("tracing", Flag),
];
static TLS: [Key; 3] = [
    key("certResolver", Text),
    key("domains", Maps(&DOMAIN)),
    key("options", Text),
];
static DOMAIN: [Key; 2] = [key("main", Text), key("sans", Texts)];

/// A value of one of these keys, with maps in the order of their keys. The error names what is wrong.
pub(super) fn accept(keys: &[Key], name: &str, value: Value) -> Result<Value, String> {
    let Some(key) = keys.iter().find(|key| key.name == name) else {
        let known: Vec<_> = keys.iter().map(|key| key.name).collect();
        return Err(format!(
            "{name:?} is no setting that a route may have; these are: {}",
            known.join(", ")
        ));
    };
    key.kind
        .accept(value)
        .map_err(|why| format!("{name}: {why}"))
}

/// The latest key that is set of these, as a path, and the first Traefik that knows it.
pub(super) fn latest<'v>(
    keys: &'static [Key],
    set: impl Iterator<Item = (&'v String, &'v Value)>,
) -> Option<(Version, String)> {
    let of_key = |(name, value): (&String, &'v Value)| {
        let key = keys.iter().find(|key| key.name == name)?;
        let inner = match (&key.kind, value) {
            (Kind::Map(keys) | MapOrDefaults(keys), Value::Object(map)) => latest(keys, map.iter()),
            _ => None,
        };
        let this = (key.since, name.clone());
        Some(match inner {
            Some((since, inner)) if since > key.since => (since, format!("{name}.{inner}")),
            _ => this,
        })
    };
    set.filter_map(of_key).max_by_key(|(since, _)| *since)
}

impl Kind {
    fn accept(&self, value: Value) -> Result<Value, String> {
        match (self, value) {
            (Flag, flag @ Value::Bool(_)) => Ok(flag),
            (Flag, other) => Err(format!("{other} is neither true nor false")),
            (Number(least, most), value) => match value.as_i64() {
                Some(number) if (*least..=*most).contains(&number) => Ok(value),
                Some(number) if number > *most => Err(format!("{number} is more than {most}")),
                Some(number) => Err(format!("{number} is less than {least}")),
                None => Err(format!("{value} is no whole number")),
            },
            (Text, Value::String(text)) => checked(text, is_text).map(Value::String),
            (Word(words), Value::String(text)) => {
                let word = text.to_ascii_lowercase();
                match words.contains(&&*word) {
                    true => Ok(word.into()),
                    false => Err(format!("{text:?} is none of {}", words.join(", "))),
                }
            }
            (Fit(is_fit, _), Value::String(text)) if is_fit(&text) => Ok(text.into()),
            (Fit(_, what), Value::String(text)) => Err(format!("{text:?} is no {what}")),
            (Text | Word(_) | Fit(..), other) => Err(format!("{other} is no text")),
            (Duration, Value::String(text)) if is_duration(&text) => Ok(text.into()),
            (Duration, other) => Err(format!("{other} is no duration such as \"10s\"")),
            // In keys an empty list is nothing.
            (Texts | Maps(_), Value::Array(items)) if items.is_empty() => {
                Err("Traefik takes no empty list here".into())
            }
            (Texts, Value::Array(items)) => items.into_iter().map(item).collect(),
            (Texts, other) => Err(format!("{other} is no list")),
            (Kind::Map(_), Value::Object(map)) if map.is_empty() => {
                Err("Traefik takes no empty map here".into())
            }
            (Kind::Map(keys) | MapOrDefaults(keys), value) => entries(keys, value),
            (Maps(keys), Value::Array(items)) => {
                let item = |item: Value| match item {
                    Value::Object(map) if map.is_empty() => Err("an empty map in a list".into()),
                    item => entries(keys, item),
                };
                items.into_iter().map(item).collect()
            }
            (Maps(_), other) => Err(format!("{other} is no list")),
            (Headers, Value::Object(map)) if !map.is_empty() => headers(map),
            (Headers, _) => Err("it must be a map of header names and values".into()),
        }
    }
}

fn entries(keys: &[Key], value: Value) -> Result<Value, String> {
    let Value::Object(map) = value else {
        return Err(format!("{value} is no map"));
    };
    let entry = |(name, value): (String, Value)| Ok((name.clone(), accept(keys, &name, value)?));
    in_order(map).map(entry).collect()
}

fn headers(map: Map<String, Value>) -> Result<Value, String> {
    let is_name = |name: &str| is_token(name) && !is_list_index(name);
    let entry = |(name, value): (String, Value)| match value {
        Value::String(text) if is_name(&name) => {
            Ok((name, checked(text, is_text).map(Value::String)?))
        }
        value if is_name(&name) => Err(format!("{name}: {value} is no text")),
        _ => Err(format!("{name:?} is no header's name")),
    };
    in_order(map).map(entry).collect()
}

/// Another crate of the same program may have serde_json keep maps in the order in which they were written.
fn in_order(map: Map<String, Value>) -> impl Iterator<Item = (String, Value)> {
    let mut entries: Vec<_> = map.into_iter().collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries.into_iter()
}

fn item(value: Value) -> Result<Value, String> {
    match value {
        Value::String(text) => checked(text, is_item).map(Value::String),
        other => Err(format!("{other} is no text")),
    }
}

fn checked(text: String, is_fit: impl Fn(&str) -> bool) -> Result<String, String> {
    match is_fit(&text) {
        true => Ok(text),
        false => Err(format!(
            "{text:?} is empty, or has a character that Traefik would not take"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_keys_are_refused_by_name() {
        for (keys, name, value, why) in [
            (
                &SERVICE[..],
                "servers",
                json!([]),
                "\"servers\" is no setting",
            ),
            (
                &SERVICE,
                "sticky",
                json!({"cookie": {"nam": "x"}}),
                "sticky: cookie: \"nam\" is no",
            ),
            (&SERVICE, "sticky", json!({}), "empty map"),
            (
                &SERVICE,
                "healthCheck",
                json!({"interval": 10}),
                "interval: 10 is no duration",
            ),
            (
                &SERVICE,
                "healthCheck",
                json!({"interval": "10"}),
                "no duration",
            ),
            (
                &SERVICE,
                "healthCheck",
                json!({"headers": {"a/b": "x"}}),
                "no header's name",
            ),
            (
                &SERVICE,
                "healthCheck",
                json!({"headers": {"123": "x"}}),
                "no header's name",
            ),
            (
                &SERVICE,
                "healthCheck",
                json!({"port": "80"}),
                "no whole number",
            ),
            (
                &SERVICE,
                "passHostHeader",
                json!("yes"),
                "neither true nor false",
            ),
            (&SERVICE, "serversTransport", json!(""), "is empty"),
            (
                &SERVICE,
                "strategy",
                json!("random"),
                "\"random\" is none of wrr, p2c",
            ),
            (
                &SERVICE,
                "healthCheck",
                json!({"port": -1}),
                "port: -1 is less than 0",
            ),
            (
                &SERVICE,
                "healthCheck",
                json!({"port": 70000}),
                "port: 70000 is more than 65535",
            ),
            (
                &SERVICE,
                "healthCheck",
                json!({"status": 1000}),
                "status: 1000 is more than 599",
            ),
            (
                &SERVICE,
                "healthCheck",
                json!({"mode": "tcp"}),
                "mode: \"tcp\" is none of http, grpc",
            ),
            (
                &SERVICE,
                "healthCheck",
                json!({"scheme": "ftp"}),
                "scheme: \"ftp\" is none of",
            ),
            (
                &SERVICE,
                "healthCheck",
                json!({"method": "GET X"}),
                "is no method of HTTP",
            ),
            (
                &SERVICE,
                "healthCheck",
                json!({"path": "http://h/"}),
                "is no path on the server",
            ),
            (
                &SERVICE,
                "passiveHealthCheck",
                json!({"maxFailedAttempts": -1}),
                "less than 0",
            ),
            (
                &SERVICE,
                "sticky",
                json!({"cookie": {"sameSite": "no"}}),
                "none of none, lax, strict",
            ),
            (
                &SERVICE,
                "sticky",
                json!({"cookie": {"maxAge": -1}}),
                "maxAge: -1 is less than 0",
            ),
            (
                &SERVICE,
                "sticky",
                json!({"cookie": {"domain": "a b"}}),
                "no domain of a cookie",
            ),
            (
                &SERVICE,
                "sticky",
                json!({"cookie": {"path": "x"}}),
                "no path of a cookie",
            ),
            (
                &ROUTER,
                "observability",
                json!({"traceVerbosity": "x"}),
                "none of minimal, detailed",
            ),
            (&SERVICE, "strategy", json!(null), "null is no text"),
            (
                &ROUTER,
                "rule",
                json!("Path(`/`)"),
                "these are: observability, tls",
            ),
            (
                &ROUTER,
                "tls",
                json!({"domains": [{"sans": ["a,b"]}]}),
                "would not take",
            ),
            (&ROUTER, "tls", json!(true), "true is no map"),
            (&ROUTER, "tls", json!({"domains": []}), "empty list"),
        ] {
            let error = accept(keys, name, value).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn words_are_written_small() {
        let cookie = json!({"cookie": {"sameSite": "Lax"}});
        let accepted = accept(&SERVICE, "sticky", cookie);
        assert_eq!(accepted, Ok(json!({"cookie": {"sameSite": "lax"}})));
    }

    #[test]
    fn latest_key_decides() {
        let set =
            json!({"passHostHeader": true, "sticky": {"cookie": {"domain": "x", "name": "y"}}});
        let latest = latest(&SERVICE, set.as_object().unwrap().iter());
        assert_eq!(latest, Some(((3, 4), "sticky.cookie.domain".into())));
    }
}
