//! What the options become in the configuration that is stored with the table, for external Traefiks. Reads the files
//! that options name.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use traefik_router::backend::Contents;

use super::config::{
    ERRORS, FIRST, HEADERS, HEALTHY, NO_ROUTE, PAGES, TRANSPORT, header_middleware, lay_over,
    shared_service_config, transport, unavailable,
};
use super::pages::HEALTH;
use super::routes::socket_of;
use crate::settings::ChpOptions;
use crate::url;

const NO_COOKIES: &str = "chp-no-cookies";
const FRONT: &str = "chp-front";
/// What answers 418 in Traefik itself.
const NOOP: &str = "noop@internal";

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
    let Some(scheme) = scheme.filter(|_| url::is_server(authority)) else {
        return Err(
            "--error-target: Traefik asks that server itself; give http://HOST:PORT/PATH or \
             https://HOST:PORT/PATH, without a user name and without a query"
                .into(),
        );
    };
    let path = format!("/{}/", path.trim_matches('/')).replace("//", "/");
    Ok(Some((format!("{scheme}://{authority}"), path)))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
