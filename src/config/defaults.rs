//! What Traefik does where it reads a file or keys, and not with what is pushed: it fills defaults in, and takes
//! a number for seconds.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Where a dynamic configuration has a map, `*` being any name or element, and what Traefik 3.7.15 takes for
/// what is not in it. Its API shows these for a file.
const DEFAULTS: [(&str, &str); 24] = [
    (
        "http/middlewares/*/circuitBreaker",
        r#"{"checkPeriod": "100ms", "fallbackDuration": "10s", "recoveryDuration": "10s", "responseCode": 503}"#,
    ),
    (
        "http/middlewares/*/compress",
        r#"{"encodings": ["gzip", "br", "zstd"]}"#,
    ),
    ("http/middlewares/*/forwardAuth", r#"{"maxBodySize": -1}"#),
    (
        "http/middlewares/*/rateLimit",
        r#"{"burst": 1, "period": "1s"}"#,
    ),
    (
        "http/middlewares/*/rateLimit/redis",
        r#"{"endpoints": ["localhost:6379"], "dialTimeout": "5s", "readTimeout": "3s", "writeTimeout": "3s"}"#,
    ),
    (
        "http/middlewares/*/retry",
        r#"{"maxRequestBodyBytes": 2097152}"#,
    ),
    (
        "http/services/*/loadBalancer",
        r#"{"passHostHeader": true, "strategy": "wrr", "responseForwarding": {}}"#,
    ),
    (
        "http/services/*/loadBalancer/healthCheck",
        r#"{"followRedirects": true, "interval": "30s", "mode": "http", "timeout": "5s"}"#,
    ),
    (
        "http/services/*/loadBalancer/passiveHealthCheck",
        r#"{"failureWindow": "10s", "maxFailedAttempts": 1}"#,
    ),
    (
        "http/services/*/loadBalancer/responseForwarding",
        r#"{"flushInterval": "100ms"}"#,
    ),
    (
        "http/services/*/loadBalancer/sticky/cookie",
        r#"{"path": "/"}"#,
    ),
    ("http/services/*/weighted/services/*", r#"{"weight": 1}"#),
    ("http/services/*/weighted/sticky/cookie", r#"{"path": "/"}"#),
    (
        "http/services/*/highestRandomWeight/services/*",
        r#"{"weight": 1}"#,
    ),
    (
        "http/services/*/mirroring",
        r#"{"maxBodySize": -1, "mirrorBody": true}"#,
    ),
    (
        "http/services/*/failover/errors",
        r#"{"maxRequestBodyBytes": -1}"#,
    ),
    (
        "http/serversTransports/*/forwardingTimeouts",
        r#"{"dialTimeout": "30s", "idleConnTimeout": "90s", "pingTimeout": "15s"}"#,
    ),
    (
        "http/routers/*/observability",
        r#"{"traceVerbosity": "minimal"}"#,
    ),
    (
        "tcp/services/*/loadBalancer/healthCheck",
        r#"{"interval": "30s", "timeout": "5s"}"#,
    ),
    (
        "tcp/services/*/loadBalancer/proxyProtocol",
        r#"{"version": 2}"#,
    ),
    ("tcp/services/*/weighted/services/*", r#"{"weight": 1}"#),
    (
        "tcp/serversTransports/*",
        r#"{"dialKeepAlive": "15s", "dialTimeout": "30s", "terminationDelay": "100ms"}"#,
    ),
    ("udp/services/*/weighted/services/*", r#"{"weight": 1}"#),
    (
        "tls/options/*",
        r#"{"alpnProtocols": ["h2", "http/1.1", "acme-tls/1"]}"#,
    ),
];

/// Where a dynamic configuration has times, and their keys. In a file a number is seconds, in what is pushed
/// nanoseconds.
const TIMES: [(&str, &[&str]); 10] = [
    (
        "http/middlewares/*/circuitBreaker",
        &["checkPeriod", "fallbackDuration", "recoveryDuration"],
    ),
    ("http/middlewares/*/rateLimit", &["period"]),
    (
        "http/middlewares/*/rateLimit/redis",
        &["dialTimeout", "readTimeout", "writeTimeout"],
    ),
    ("http/middlewares/*/retry", &["initialInterval", "timeout"]),
    (
        "http/services/*/loadBalancer/healthCheck",
        &["interval", "timeout", "unhealthyInterval"],
    ),
    (
        "http/services/*/loadBalancer/passiveHealthCheck",
        &["failureWindow"],
    ),
    (
        "http/services/*/loadBalancer/responseForwarding",
        &["flushInterval"],
    ),
    (
        "http/serversTransports/*/forwardingTimeouts",
        &[
            "dialTimeout",
            "idleConnTimeout",
            "pingTimeout",
            "readIdleTimeout",
            "responseHeaderTimeout",
        ],
    ),
    (
        "tcp/services/*/loadBalancer/healthCheck",
        &["interval", "timeout", "unhealthyInterval"],
    ),
    (
        "tcp/serversTransports/*",
        &["dialKeepAlive", "dialTimeout", "terminationDelay"],
    ),
];

/// Makes a dynamic configuration mean when it is pushed what it means in a file.
pub(crate) fn spell_out(config: &mut Value) {
    for (path, keys) in TIMES {
        at(config, path, &|map| {
            for key in keys {
                if let Some(time) = find(map, key) {
                    set_unit(time);
                }
            }
        });
    }
    for (path, defaults) in DEFAULTS {
        if let Ok(defaults) = serde_json::from_str::<Map<_, _>>(defaults) {
            at(config, path, &|map| {
                for (name, default) in &defaults {
                    if find(map, name).is_none() {
                        map.insert(name.clone(), default.clone());
                    }
                }
            });
        }
    }
}

/// The same for a service's `loadBalancer`.
pub(crate) fn spell_out_service(load_balancer: &mut Value) {
    let mut config = json!({"http": {"services": {"": {"loadBalancer": load_balancer.take()}}}});
    spell_out(&mut config);
    *load_balancer = config["http"]["services"][""]["loadBalancer"].take();
}

/// The same for settings of a router.
pub(crate) fn spell_out_router(settings: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut config = json!({"http": {"routers": {"": settings}}});
    spell_out(&mut config);
    match config["http"]["routers"][""].take() {
        Value::Object(settings) => settings.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

fn set_unit(time: &mut Value) {
    let seconds = match &*time {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse::<i64>().ok(),
        _ => None,
    };
    if let Some(seconds) = seconds {
        *time = format!("{seconds}s").into();
    }
}

/// Runs `job` on each map at the path.
fn at(value: &mut Value, path: &str, job: &impl Fn(&mut Map<String, Value>)) {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    match (first, value) {
        ("", Value::Object(map)) => job(map),
        ("*", Value::Object(map)) => map.values_mut().for_each(|one| at(one, rest, job)),
        ("*", Value::Array(list)) => list.iter_mut().for_each(|one| at(one, rest, job)),
        (name, Value::Object(map)) => {
            if let Some(one) = find(map, name) {
                at(one, rest, job);
            }
        }
        _ => {}
    }
}

/// The value of a key, which Traefik finds in upper and lower case alike.
fn find<'m>(map: &'m mut Map<String, Value>, key: &str) -> Option<&'m mut Value> {
    let mut entries = map.iter_mut();
    entries.find_map(|(name, value)| name.eq_ignore_ascii_case(key).then_some(value))
}
