//! What the options become in Traefik's static and dynamic configuration. Does no I/O.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::pages::HEALTH;
use crate::needs;
use crate::settings::ChpOptions;

/// The names of what is ours in Traefik beside the routes.
pub(super) const TRANSPORT: &str = "chp-targets";
pub(super) const PAGES: &str = "chp-pages";
pub(super) const ERRORS: &str = "chp-errors";
pub(super) const HEADERS: &str = "chp-headers";
const METRICS: &str = "chp-metrics";
pub(super) const HEALTHY: &str = "chp-health";
pub(super) const NO_ROUTE: &str = "chp-no-route";
/// Above every route.
pub(super) const FIRST: i64 = i64::MAX - 1000;

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
}

impl Config {
    /// # Errors
    /// Says which option is wrong.
    pub(super) fn new(options: &ChpOptions, place: &Place<'_>) -> Result<Self, String> {
        let scheme = if options.is_https() { "https" } else { "http" };
        let stored = place.entrypoint.filter(|name| !name.is_empty());
        let name = stored.unwrap_or(scheme);
        let (host, port) = place.listen;
        let host = bracketed(host);
        let mut static_config = needs::static_config(name);
        complete(&mut static_config["entryPoints"][name], options);
        if let Some(from) = options.redirect_port {
            if !options.is_https() {
                let needed = "--ssl-key and --ssl-cert, or `entryPoints.https.http.tls` in \
                              --extra-static-config";
                return Err(format!("--redirect-port needs HTTPS: give {needed}"));
            }
            let to = options.redirect_to.unwrap_or(port);
            let http = static_config["entryPoints"][name]["http"].clone();
            static_config["entryPoints"]["redirect"] = json!({
                "address": format!("{host}:{from}"),
                "http": {
                    "redirections": {"entryPoint": {
                        "to": format!(":{to}"), "scheme": "https", "permanent": true,
                    }},
                    "sanitizePath": http["sanitizePath"],
                    "encodedCharacters": http["encodedCharacters"],
                },
            });
        }
        let mut dynamic_config = pages(name, place);
        dynamic_config["http"]["routers"][METRICS] = json!({
            "rule": format!("Path(\"{}\")", metrics_path(place.secret)),
            "entryPoints": [place.api_entrypoint],
            "service": "prometheus@internal",
        });
        if let Some(headers) = header_middleware(options) {
            dynamic_config["http"]["middlewares"][HEADERS] = headers;
        }
        // Services that another program has stored may name it.
        let transport = transport(options, absolute)?;
        let default = json!({"insecureSkipVerify": false});
        dynamic_config["http"]["serversTransports"] =
            json!({TRANSPORT: transport.as_ref().unwrap_or(&default)});
        let mut service_config = json!({"passHostHeader": !options.change_origin});
        if transport.is_some() {
            service_config["serversTransport"] = started_transport().into();
        }
        if options.ssl_request_cert {
            dynamic_config["tls"]["options"]["default"] = json!({"clientAuth": {
                "caFiles": [options.ssl_ca.as_deref().map(absolute).transpose()?],
                "clientAuthType": "RequireAndVerifyClientCert",
            }});
        }
        if let Some(extra) = &options.extra_static_config {
            let extra = for_entrypoint(extra, name);
            check_spelling(&static_config, &extra)?;
            check_addresses(&static_config, &extra, place.api_entrypoint)?;
            lay_over(&mut static_config, &extra);
        }
        if let Some(extra) = &options.extra_dynamic_config {
            lay_over(&mut dynamic_config, extra);
        }
        let store = dynamic_config.pointer_mut("/tls/stores/default");
        let generated = |store: &&mut Value| store["defaultGeneratedCert"].is_object();
        if let Some(store) = store
            .filter(|_| options.ssl_key.is_none())
            .filter(generated)
        {
            // Traefik would prefer the one that we make up.
            store["defaultCertificate"] = Value::Null;
        }
        Ok(Self {
            public_url: format!("{scheme}://{host}:{port}"),
            static_config,
            dynamic_config,
            service_config,
        })
    }
}

/// Has requests that a target does not answer fail with 503. On etcd Traefik takes a key that is a number
/// for an index.
pub(super) fn unavailable() -> Value {
    json!({"502-502": 503, "504-504": 503})
}

/// The name of the transport that services of a Traefik which we start have.
pub(super) fn started_transport() -> String {
    named(TRANSPORT)
}

/// The full name of an entry of ours. Traefik reads our entries from a file, whatever the store.
fn named(ours: &str) -> String {
    format!("{ours}@file")
}

/// What services have beside their servers, where another program serves them with what is `stored`:
/// that stays. Ours would have this `transport`. The error names the option that would change it.
pub(super) fn shared_service_config(
    options: &ChpOptions,
    stored: &Value,
    transport: &str,
) -> Result<(), String> {
    let refuse = |option: &str| {
        Err(format!(
            "{option}: another program serves the routes in the store without it; what the services \
             have is stored with the routes, so give all programs the same options"
        ))
    };
    if options.change_origin && stored["passHostHeader"] != false {
        return refuse("--change-origin");
    }
    let has_one = self::transport(options, absolute)?.is_some();
    if has_one && stored["serversTransport"] != transport {
        return refuse("--insecure, --proxy-timeout and --client-ssl-…");
    }
    Ok(())
}

/// The path of Traefik's metrics, which nobody can guess.
pub(super) fn metrics_path(secret: &str) -> String {
    format!("/{secret}/metrics")
}

/// Adds what the options say of the entrypoint for requests.
fn complete(entrypoint: &mut Value, options: &ChpOptions) {
    let mut middlewares = vec![named(ERRORS)];
    if options.headers().next().is_some() {
        middlewares.push(named(HEADERS));
    }
    entrypoint["http"]["middlewares"] = middlewares.into();
    if let Some(millis) = options.keep_alive_timeout {
        entrypoint["transport"]["respondingTimeouts"]["idleTimeout"] = format!("{millis}ms").into();
    }
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
            HEALTHY: router(format!("Path(\"{HEALTH}\")"), FIRST),
            NO_ROUTE: router("PathPrefix(\"/\")".into(), 1),
        },
        "services": {PAGES: {"loadBalancer": {"servers": [{"url": url}]}}},
        "middlewares": {ERRORS: {"errors": {
            "status": ["502", "504"],
            "statusRewrites": unavailable(),
            "service": PAGES,
            "query": format!("/{}/{{status}}?url={{url}}", place.secret),
        }}},
    }})
}

/// How Traefik talks to targets, where that is not its default. It finds files as `of_file` says.
pub(super) fn transport(
    options: &ChpOptions,
    of_file: fn(&Path) -> Result<String, String>,
) -> Result<Option<Value>, String> {
    let mut transport = json!({});
    if options.insecure {
        transport["insecureSkipVerify"] = true.into();
    }
    if let Some(millis) = options.proxy_timeout {
        transport["forwardingTimeouts"]["responseHeaderTimeout"] = format!("{millis}ms").into();
    }
    if let Some(ca) = &options.client_ssl_ca {
        transport["rootCAs"] = json!([of_file(ca)?]);
    }
    if let (Some(cert), Some(key)) = (&options.client_ssl_cert, &options.client_ssl_key) {
        transport["certificates"] = json!([{"certFile": of_file(cert)?, "keyFile": of_file(key)?}]);
    }
    Ok((transport != json!({})).then_some(transport))
}

/// Merges `extra` over `base`. A null stays, for the library to take away what it has there itself.
pub(super) fn lay_over(base: &mut Value, extra: &Value) {
    match (base, extra) {
        (Value::Object(base), Value::Object(extra)) => {
            for (key, value) in extra {
                lay_over(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, extra) => *base = extra.clone(),
    }
}

/// What is set for the entrypoint `https` belongs to the one that users reach, which may have another name.
fn for_entrypoint(extra: &Value, name: &str) -> Value {
    let mut extra = extra.clone();
    let entrypoints = extra.get_mut("entryPoints").and_then(Value::as_object_mut);
    if let Some(entrypoints) = entrypoints.filter(|_| name != "https") {
        let is_users = |https: &Value| https["address"].is_null();
        if let Some(https) = entrypoints
            .get("https")
            .filter(|https| is_users(https))
            .cloned()
        {
            entrypoints.remove("https");
            lay_over(entrypoints.entry(name).or_insert(Value::Null), &https);
        }
    }
    extra
}

/// Traefik would take a key in other case for ours, and one of the two would be lost.
fn check_spelling(ours: &Value, extra: &Value) -> Result<(), String> {
    let (Value::Object(ours), Value::Object(extra)) = (ours, extra) else {
        return Ok(());
    };
    for (key, value) in extra {
        match ours.get(key) {
            Some(ours) => check_spelling(ours, value)?,
            None => {
                if let Some(known) = ours.keys().find(|known| known.eq_ignore_ascii_case(key)) {
                    return Err(format!(
                        "--extra-static-config: write {known:?} for {key:?}"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Traefik listens at a random port, on all addresses, for an entrypoint without an address.
fn check_addresses(ours: &Value, extra: &Value, api_entrypoint: &str) -> Result<(), String> {
    let entrypoints = extra["entryPoints"].as_object().into_iter().flatten();
    for (name, entrypoint) in entrypoints {
        let is_known = name == api_entrypoint || ours["entryPoints"].get(name).is_some();
        if !is_known && entrypoint["address"].is_null() {
            return Err(format!(
                "--extra-static-config: the entrypoint {name:?} needs an address"
            ));
        }
    }
    Ok(())
}

/// The middleware that adds headers to requests, if there is any to add.
pub(super) fn header_middleware(options: &ChpOptions) -> Option<Value> {
    let headers = options.headers();
    let headers: serde_json::Map<_, _> = headers
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    (!headers.is_empty()).then(|| json!({"headers": {"customRequestHeaders": headers}}))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_means_the_users_entrypoint() {
        let tls = json!({"http": {"tls": {"certResolver": "acme"}}});
        let extra = json!({"entryPoints": {"https": tls}});
        assert_eq!(
            for_entrypoint(&extra, "web"),
            json!({"entryPoints": {"web": tls}})
        );
        assert_eq!(for_entrypoint(&extra, "https"), extra);
        let own = json!({"entryPoints": {"https": {"address": ":8443"}}});
        assert_eq!(for_entrypoint(&own, "web"), own);
    }
}
