//! The settings of services and routers that a route may have, as Traefik documents them.
//!
//! Traefik rejects a whole file or tree for a key that it does not know or a value of another kind, and ignores
//! both in what is pushed. So there is a list.

use serde_json::{Map, Value};

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
    Number,
    Text,
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

use Kind::{Duration, Flag, Headers, MapOrDefaults, Maps, Number, Text, Texts};

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
    since((3, 4), "strategy", Text),
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
    key("method", Text),
    key("mode", Text),
    key("path", Text),
    key("port", Number),
    key("scheme", Text),
    key("status", Number),
    key("timeout", Duration),
    since((3, 4), "unhealthyInterval", Duration),
];
static PASSIVE: [Key; 2] = [
    key("failureWindow", Duration),
    key("maxFailedAttempts", Number),
];
static FORWARDING: [Key; 1] = [key("flushInterval", Duration)];
static STICKY: [Key; 1] = [key("cookie", MapOrDefaults(&COOKIE))];
static COOKIE: [Key; 7] = [
    since((3, 4), "domain", Text),
    key("httpOnly", Flag),
    key("maxAge", Number),
    key("name", Text),
    since((3, 3), "path", Text),
    key("sameSite", Text),
    key("secure", Flag),
];
static OBSERVABILITY: [Key; 4] = [
    key("accessLogs", Flag),
    key("metrics", Flag),
    since((3, 5), "traceVerbosity", Text),
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
            (Number, number) if number.as_i64().is_some() => Ok(number),
            (Number, other) => Err(format!("{other} is no whole number")),
            (Text, Value::String(text)) => checked(text, is_text).map(Value::String),
            (Text, other) => Err(format!("{other} is no text")),
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
    let is_name = |name: &str| {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        // In a key-value store, Traefik takes a key of digits for the place in a list.
        let is_place = name.bytes().all(|byte| byte.is_ascii_digit());
        !is_place && name.bytes().all(is_token)
    };
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

fn is_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// Whether a text can be an element of a list. Traefik trims these, and splits them at U+2551, in keys also at
/// commas.
pub(super) fn is_item(text: &str) -> bool {
    is_text(text) && text.trim() == text && !text.contains([',', '\u{2551}'])
}

/// Whether this is a duration as Go writes it, neither negative nor longer than Go can count.
fn is_duration(text: &str) -> bool {
    const LONGEST: f64 = 9e9;
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let (mut rest, mut seconds) = (text, 0.0);
    loop {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &rest[..rest.len() - digits.len()];
        let unit_ends = digits.find(|c: char| c.is_ascii_digit() || c == '.');
        let unit = &digits[..unit_ends.unwrap_or(digits.len())];
        let known = UNITS.iter().find(|(name, _)| *name == unit);
        let (Ok(number), Some((_, length))) = (number.parse::<f64>(), known) else {
            return false;
        };
        seconds += number * length;
        rest = &digits[unit.len()..];
        if rest.is_empty() {
            return seconds < LONGEST;
        }
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
    fn durations_are_those_of_go() {
        for (text, expected) in [
            ("10s", true),
            ("1m30s", true),
            ("1.5h", true),
            ("100ms", true),
            ("10", false),
            ("s", false),
            ("10 s", false),
            ("-1s", false),
            ("2562047h", false),
            ("999999999999999999999s", false),
            ("2400000h", true),
            ("1..5s", false),
            ("", false),
        ] {
            assert_eq!(is_duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn latest_key_decides() {
        let set =
            json!({"passHostHeader": true, "sticky": {"cookie": {"domain": "x", "name": "y"}}});
        let latest = latest(&SERVICE, set.as_object().unwrap().iter());
        assert_eq!(latest, Some(((3, 4), "sticky.cookie.domain".into())));
    }
}
