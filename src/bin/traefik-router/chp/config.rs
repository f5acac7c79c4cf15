//! What the options become in Traefik's static and dynamic configuration. Does no I/O.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::pages::HEALTH;
use crate::settings::ChpOptions;

/// The names of what is ours in Traefik beside the routes.
const TRANSPORT: &str = "chp-targets";
const PAGES: &str = "chp-pages";
const ERRORS: &str = "chp-errors";
const HEADERS: &str = "chp-headers";
const METRICS: &str = "chp-metrics";
/// Above every route.
const FIRST: i64 = i64::MAX - 1000;

/// The configuration for a Traefik that stands in for configurable-http-proxy.
pub(super) struct Config {
    pub(super) public_url: String,
    pub(super) static_config: Value,
    pub(super) dynamic_config: Value,
    pub(super) service_config: Value,
}

/// What only the running program knows.
pub(super) struct Place<'a> {
    /// Where Traefik listens: a host, perhaps the empty one, and a port.
    pub(super) listen: (&'a str, u16),
    /// Where our pages are, and the secret to ask for them with.
    pub(super) pages: SocketAddr,
    pub(super) secret: &'a str,
    /// The entrypoint that the table is served on, where it is named or stored already.
    pub(super) entrypoint: Option<&'a str>,
    /// The entrypoint of Traefik's API, on which only we ask for its metrics.
    pub(super) api_entrypoint: &'a str,
    /// What the user adds to the static and to the dynamic configuration.
    pub(super) extra_static_config: Option<&'a Value>,
    pub(super) extra_dynamic_config: Option<&'a Value>,
}

impl Config {
    /// # Errors
    /// Says which option is wrong.
    pub(super) fn new(options: &ChpOptions, place: &Place<'_>) -> Result<Self, String> {
        let headers = custom_headers(&options.custom_header)?;
        let scheme = |tls| if tls { "https" } else { "http" };
        let given = place.entrypoint.filter(|name| !name.is_empty());
        let name = given.unwrap_or(scheme(options.is_https()));
        let tls = |config: &Value| !config["entryPoints"][name]["http"]["tls"].is_null();
        let scheme = scheme(options.is_https() || place.extra_static_config.is_some_and(tls));
        let (host, port) = place.listen;
        let host = bracketed(host);
        let mut static_config = json!({
            "entryPoints": {name: entrypoint(options)},
            "metrics": {"prometheus": {
                "manualRouting": true,
                "addEntryPointsLabels": false,
                "addServicesLabels": false,
                "addRoutersLabels": true,
                // Nobody looks at them, and each bucket is a line for each router.
                "buckets": [60.0],
            }},
        });
        if let Some(from) = options.redirect_port {
            let to = options.redirect_to.unwrap_or(port);
            static_config["entryPoints"]["redirect"] = json!({
                "address": format!("{host}:{from}"),
                "http": {
                    "redirections": {"entryPoint": {
                        "to": format!(":{to}"), "scheme": "https", "permanent": true,
                    }},
                    "sanitizePath": false,
                    "encodedCharacters": encoded_characters(),
                },
            });
        }
        let mut dynamic_config = pages(name, place);
        dynamic_config["http"]["routers"][METRICS] = json!({
            "rule": format!("Path(\"{}\")", metrics_path(place.secret)),
            "entryPoints": [place.api_entrypoint],
            "service": "prometheus@internal",
        });
        if !headers.is_empty() {
            let headers: serde_json::Map<_, _> = headers
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect();
            dynamic_config["http"]["middlewares"][HEADERS] =
                json!({"headers": {"customRequestHeaders": headers}});
        }
        // Services that another program has stored may name it.
        let transport = transport(options)?;
        let default = json!({"insecureSkipVerify": false});
        dynamic_config["http"]["serversTransports"] =
            json!({TRANSPORT: transport.as_ref().unwrap_or(&default)});
        let mut service_config = json!({"passHostHeader": !options.change_origin});
        if transport.is_some() {
            service_config["serversTransport"] = named(TRANSPORT).into();
        }
        if options.ssl_request_cert {
            dynamic_config["tls"]["options"]["default"] = json!({"clientAuth": {
                "caFiles": [options.ssl_ca.as_deref().map(absolute).transpose()?],
                "clientAuthType": "RequireAndVerifyClientCert",
            }});
        }
        if let Some(extra) = place.extra_static_config {
            lay_over(&mut static_config, extra);
        }
        if let Some(extra) = place.extra_dynamic_config {
            lay_over(&mut dynamic_config, extra);
            let store = &mut dynamic_config;
            let store = store
                .pointer_mut("/tls/stores/default")
                .filter(|_| !options.is_https());
            if let Some(store) = store.filter(|store| store["defaultGeneratedCert"].is_object()) {
                // Traefik would prefer the one that we make up.
                store["defaultCertificate"] = Value::Null;
            }
        }
        Ok(Self {
            public_url: format!("{scheme}://{host}:{port}"),
            static_config,
            dynamic_config,
            service_config,
        })
    }
}

/// Maps are merged, and anything else in `extra` wins. A null stays: the library then takes away what is there.
fn lay_over(base: &mut Value, extra: &Value) {
    match (base, extra) {
        (Value::Object(base), Value::Object(extra)) => {
            for (key, value) in extra {
                lay_over(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, extra) => base.clone_from(extra),
    }
}

/// The full name of an entry of ours. Traefik reads our entries from a file, whatever the store.
fn named(ours: &str) -> String {
    format!("{ours}@file")
}

/// What services have beside their servers, where another program serves them with what is `stored`:
/// that stays. The error names the option that would change it.
pub(super) fn shared_service_config(options: &ChpOptions, stored: &Value) -> Result<(), String> {
    let refuse = |option: &str| {
        Err(format!(
            "{option}: another program serves the routes in the store without it; what the services \
             have is stored with the routes, so give all programs the same options"
        ))
    };
    if options.change_origin && stored["passHostHeader"] != false {
        return refuse("--change-origin");
    }
    if transport(options)?.is_some() && stored["serversTransport"] != named(TRANSPORT) {
        return refuse("--insecure, --proxy-timeout and --client-ssl-…");
    }
    Ok(())
}

/// The path of Traefik's metrics, which nobody can guess.
pub(super) fn metrics_path(secret: &str) -> String {
    format!("/{secret}/metrics")
}

/// Names may hold any of these.
fn encoded_characters() -> Value {
    json!({
        "allowEncodedSlash": true,
        "allowEncodedBackSlash": true,
        "allowEncodedSemicolon": true,
        "allowEncodedPercent": true,
        "allowEncodedQuestionMark": true,
        "allowEncodedHash": true,
    })
}

fn entrypoint(options: &ChpOptions) -> Value {
    let mut middlewares = vec![named(ERRORS)];
    if !options.custom_header.is_empty() {
        middlewares.push(named(HEADERS));
    }
    let mut entrypoint = json!({
        "forwardedHeaders": {"insecure": true},
        "http": {
            "sanitizePath": false,
            "middlewares": middlewares,
            "encodedCharacters": encoded_characters(),
            // Traefik would make two parameters of one.
            "encodeQuerySemicolons": true,
        },
    });
    if let Some(millis) = options.keep_alive_timeout {
        entrypoint["transport"]["respondingTimeouts"]["idleTimeout"] = format!("{millis}ms").into();
    }
    entrypoint
}

/// The routers that lead to our own pages: the health check before all routes, the page for what no
/// route is for behind them, and the middleware for what a target fails to answer.
fn pages(entrypoint: &str, place: &Place<'_>) -> Value {
    let router = |rule: String, priority: i64| {
        json!({
            "rule": rule,
            "priority": priority,
            "entryPoints": [entrypoint],
            "service": PAGES,
        })
    };
    let url = format!("http://{}", place.pages);
    json!({"http": {
        "routers": {
            "chp-health": router(format!("Path(\"{HEALTH}\")"), FIRST),
            "chp-no-route": router("PathPrefix(\"/\")".into(), 1),
        },
        "services": {PAGES: {"loadBalancer": {"servers": [{"url": url}]}}},
        "middlewares": {ERRORS: {"errors": {
            "status": ["502", "504"],
            // On etcd Traefik takes a key that is a number for an index.
            "statusRewrites": {"502-502": 503, "504-504": 503},
            "service": PAGES,
            "query": format!("/{}/{{status}}?url={{url}}", place.secret),
        }}},
    }})
}

/// How Traefik talks to targets, where that is not its default.
fn transport(options: &ChpOptions) -> Result<Option<Value>, String> {
    let mut transport = json!({});
    if options.insecure {
        transport["insecureSkipVerify"] = true.into();
    }
    if let Some(millis) = options.proxy_timeout {
        transport["forwardingTimeouts"]["responseHeaderTimeout"] = format!("{millis}ms").into();
    }
    if let Some(ca) = &options.client_ssl_ca {
        transport["rootCAs"] = json!([absolute(ca)?]);
    }
    if let (Some(cert), Some(key)) = (&options.client_ssl_cert, &options.client_ssl_key) {
        transport["certificates"] =
            json!([{"certFile": absolute(cert)?, "keyFile": absolute(key)?}]);
    }
    Ok((transport != json!({})).then_some(transport))
}

/// `NAME:VALUE`, as pairs.
fn custom_headers(given: &[String]) -> Result<Vec<(String, String)>, String> {
    let pair = |header: &String| match header.trim().split_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name.trim().into(), value.trim().into())),
        _ => Err("--custom-header: give NAME:VALUE".into()),
    };
    given.iter().map(pair).collect()
}

/// A host as it is written before a port.
fn bracketed(host: &str) -> String {
    match host {
        "*" => String::new(),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.into(),
    }
}

fn absolute(path: &Path) -> Result<String, String> {
    let found =
        std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = found.into_os_string().into_string();
    text.map_err(|path| format!("{}: its name is not UTF-8", path.display()))
}
