//! Traefik's defaults, spelt out. It fills them in where it reads a file or keys, and not in what is pushed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

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
        r#"{"dialTimeout": "5s", "readTimeout": "3s", "writeTimeout": "3s"}"#,
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

/// Adds what Traefik would take for what a dynamic configuration leaves out.
pub(crate) fn spell_out(config: &mut Value) {
    for (path, defaults) in DEFAULTS {
        if let Ok(defaults) = serde_json::from_str(defaults) {
            fill(config, path, &defaults);
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

fn fill(value: &mut Value, path: &str, defaults: &Value) {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    match (first, value) {
        ("", Value::Object(map)) => {
            for (name, default) in defaults.as_object().into_iter().flatten() {
                map.entry(name).or_insert_with(|| default.clone());
            }
        }
        ("*", Value::Object(map)) => map.values_mut().for_each(|one| fill(one, rest, defaults)),
        ("*", Value::Array(list)) => list.iter_mut().for_each(|one| fill(one, rest, defaults)),
        (name, Value::Object(map)) => {
            if let Some(one) = map.get_mut(name) {
                fill(one, rest, defaults);
            }
        }
        _ => {}
    }
}
