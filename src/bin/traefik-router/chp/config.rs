//! What the options become in Traefik's static and dynamic configuration. Does no I/O.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use traefik_router::backend::Contents;

use super::pages::HEALTH;
use super::routes::socket_of;
use crate::needs;
use crate::settings::ChpOptions;
use crate::url;

/// The names of what is ours in Traefik beside the routes.
pub(super) const TRANSPORT: &str = "chp-targets";
pub(super) const PAGES: &str = "chp-pages";
const ERRORS: &str = "chp-errors";
const HEADERS: &str = "chp-headers";
const METRICS: &str = "chp-metrics";
pub(super) const HEALTHY: &str = "chp-health";
const NO_ROUTE: &str = "chp-no-route";
const NO_COOKIES: &str = "chp-no-cookies";
const FRONT: &str = "chp-front";
/// What answers 418 in Traefik itself.
const NOOP: &str = "noop@internal";
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

/// What all external Traefiks know.
#[derive(Clone, Copy)]
pub(super) struct Known {
    /// That a middleware may set another status (`statusRewrites`).
    pub(super) rewrites: bool,
    /// That error pages are asked for without a request's cookies and tokens (`errorRequestHeaders`).
    pub(super) withholding: bool,
    /// That a value is empty: a key-value store may have none of these.
    pub(super) empty_values: bool,
}

/// The configuration for external Traefiks: it is stored with the table, and needs no process beside Traefik.
pub(super) struct Attached {
    pub(super) dynamic_config: Value,
    pub(super) service_config: Value,
    /// The middleware that requests for all routes go through; an empty name is none.
    pub(super) middleware: String,
    /// The name of the transport that services have.
    transport: String,
}

impl Attached {
    /// # Errors
    /// Says which option is wrong.
    pub(super) fn new(
        options: &ChpOptions,
        known: Known,
        host: Option<&str>,
    ) -> Result<Self, String> {
        let transport = transport(options, read)?;
        let mut service_config = json!({"passHostHeader": !options.change_origin});
        let mut http = json!({});
        if let Some(transport) = &transport {
            service_config["serversTransport"] = TRANSPORT.into();
            http["serversTransports"] = json!({TRANSPORT: transport});
        }
        if known.rewrites {
            http["routers"][HEALTHY] = json!({
                "rule": format!("Path(\"{HEALTH}\")"),
                "priority": FIRST,
                "service": NOOP,
                "middlewares": [HEALTHY],
            });
            http["middlewares"][HEALTHY] = json!({"errors": {
                "status": ["418"],
                "statusRewrites": {"418-418": 200},
                "service": NOOP,
                "query": "/",
            }});
        }
        let mut front = Vec::new();
        let target = options.error_target.as_deref().map(split_target);
        let target = target.transpose()?.flatten();
        if let Some((server, path)) = target.filter(|_| known.withholding) {
            let errors = |status: &[&str], rewrites: Value| {
                json!({"errors": {
                    "status": status,
                    "statusRewrites": rewrites,
                    "service": PAGES,
                    "query": format!("{path}{{status}}?url={{url}}"),
                    // JupyterHub gives out no cookies to a background request.
                    "errorRequestHeaders": ["Accept", "Accept-Language", "Sec-Fetch-Mode"],
                }})
            };
            let mut service = json!({"servers": [{"url": server}], "passHostHeader": false});
            if transport.is_some() {
                service["serversTransport"] = TRANSPORT.into();
            }
            http["services"][PAGES] = json!({"loadBalancer": service});
            http["middlewares"][ERRORS] = errors(&["502", "504"], unavailable());
            http["middlewares"][NO_ROUTE] = errors(&["418"], json!({"418-418": 404}));
            http["routers"][NO_ROUTE] = json!({
                "rule": "PathPrefix(\"/\")",
                "priority": 1,
                "service": NOOP,
                "middlewares": [NO_COOKIES, NO_ROUTE],
            });
            // Traefik would pass on those of the page. An empty value removes the header; a blank leaves a header
            // without a cookie.
            let cookies = if known.empty_values { "" } else { " " };
            http["middlewares"][NO_COOKIES] =
                json!({"headers": {"customResponseHeaders": {"Set-Cookie": cookies}}});
            front.push(ERRORS);
        }
        if let Some(headers) = header_middleware(options) {
            http["middlewares"][HEADERS] = headers;
            front.push(HEADERS);
        }
        let middleware = match *front {
            [] => "",
            [one] => one,
            _ => {
                http["middlewares"][FRONT] = json!({"chain": {"middlewares": front}});
                FRONT
            }
        };
        let mut dynamic_config = match http == json!({}) {
            true => http,
            false => json!({"http": http}),
        };
        let mut names = json!([middleware, TRANSPORT]);
        if let Some(host) = host {
            for config in [&mut dynamic_config, &mut service_config, &mut names] {
                confine(config, host);
            }
        }
        if let Some(extra) = &options.extra_dynamic_config {
            lay_over(&mut dynamic_config, extra);
        }
        Ok(Self {
            dynamic_config,
            service_config,
            middleware: names[0].as_str().unwrap_or_default().into(),
            transport: names[1].as_str().unwrap_or_default().into(),
        })
    }

    /// Whether what another program serves with what is `stored` stays as it is. Where nothing of the
    /// kind is stored, ours may be added.
    ///
    /// # Errors
    /// Says what differs.
    pub(super) fn check_shared(
        &self,
        options: &ChpOptions,
        stored: &Contents,
    ) -> Result<(), String> {
        shared_service_config(options, &stored.service, &self.transport)?;
        let service = |config: &Value| {
            let passes_host = config["passHostHeader"] != false;
            (passes_host, config["serversTransport"].clone())
        };
        let mut ours = self.dynamic_config.clone();
        without_nulls(&mut ours);
        let mut differing = Vec::new();
        differences(&stored.extra, &ours, "", &mut differing);
        if stored.middleware != self.middleware {
            differing.push("the middleware of all routers".into());
        }
        if stored.middleware.is_empty() && stored.extra == json!({}) {
            differing.clear();
        }
        if service(&stored.service) != service(&self.service_config) {
            differing.push("what the services have".into());
        }
        if differing.is_empty() {
            return Ok(());
        }
        Err(format!(
            "another program serves the routes in the store with other configuration beside them, which \
             would be replaced ({}). It is stored with the routes, so give all programs the same \
             --error-target, --custom-header, --extra-dynamic-config, --change-origin, --insecure, \
             --proxy-timeout and --client-ssl-ca, or end the others first",
            differing.join(", ")
        ))
    }
}

/// Has what is ours serve one host alone, by names of its own: the store may have another table with it for another
/// host.
fn confine(config: &mut Value, host: &str) {
    match config {
        Value::Object(map) => {
            for (name, mut value) in std::mem::take(map) {
                confine(&mut value, host);
                if let ("rule", Value::String(rule)) = (&*name, &mut value) {
                    let host = host.trim_matches(['[', ']']);
                    *rule = format!("Host(\"{host}\") && {rule}");
                }
                map.insert(confined(&name, host), value);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| confine(value, host)),
        Value::String(text) => *text = confined(text, host),
        _ => {}
    }
}

/// The name of one of our entries for one host; other texts stay.
pub(super) fn confined(name: &str, host: &str) -> String {
    const OURS: &str = "chp-";
    match name.starts_with(OURS) {
        // A name may have no dots or colons in it.
        true => format!(
            "{name}-{}",
            host.replace('-', "--").replace(['.', ':', '[', ']'], "-")
        ),
        false => name.into(),
    }
}

/// Adds the entries of two dynamic configurations that differ, each by its place, such as
/// `http.middlewares.NAME`. Not the default certificate, which is not part of what is compared.
fn differences(one: &Value, other: &Value, place: &str, found: &mut Vec<String>) {
    let is_entry = place.split('.').count() > 2;
    let (one_map, other_map) = (one.as_object(), other.as_object());
    if is_entry || one_map.is_none() && other_map.is_none() {
        if one != other && place != "tls.stores.default" {
            found.push(place.into());
        }
        return;
    }
    let maps = [one_map, other_map].into_iter().flatten();
    let names: BTreeSet<_> = maps.flat_map(|map| map.keys()).collect();
    for name in names {
        let place = format!("{place}.{name}");
        let place = place.trim_start_matches('.');
        differences(&one[&**name], &other[&**name], place, found);
    }
}

/// Takes away what is null, as the library does.
fn without_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.values_mut().for_each(without_nulls);
        map.retain(|_, value| !value.is_null());
    }
}

/// The server and the path, with a slash at its end, of the server of error pages; `None` for a Unix
/// socket, which no external Traefik reaches.
fn split_target(target: &str) -> Result<Option<(String, String)>, String> {
    if socket_of(target).is_some() {
        return Ok(None);
    }
    let (scheme, authority, path) = url::split(target);
    let scheme = scheme.filter(|scheme| ["http", "https"].contains(scheme));
    let scheme = scheme.filter(|_| !authority.contains('@') && !path.contains(['?', '#']));
    let Some(scheme) = scheme.filter(|_| !authority.is_empty()) else {
        return Err(
            "--error-target: Traefik asks that server itself; give http://HOST:PORT/PATH or \
             https://HOST:PORT/PATH, without a user name and without a query"
                .into(),
        );
    };
    let path = format!("/{}/", path.trim_matches('/')).replace("//", "/");
    Ok(Some((format!("{scheme}://{authority}"), path)))
}

/// Has requests that a target does not answer fail with 503. On etcd Traefik takes a key that is a number
/// for an index.
fn unavailable() -> Value {
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
fn transport(
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
fn lay_over(base: &mut Value, extra: &Value) {
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
fn header_middleware(options: &ChpOptions) -> Option<Value> {
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

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
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
