//! The middleware that carries the generation, and the routers that show it to requests.

use serde_json::{Value, json};

use super::routers::Entrance;

/// Where an entrypoint answers 200 once a table that is pushed is loaded.
const READY_PATH: &str = "/.traefik-router/ready";
/// The middleware of the router there.
pub(crate) const READY: &str = "traefik-router-ready";

pub(crate) const GENERATION_HEADER: &str = "X-Traefik-Router-Generation";

/// Above all routes.
const GENERATION_PRIORITY: u64 = 1_000_000_000;

/// The middleware that carries the generation. Traefik's API shows it.
pub(crate) fn marker(generation: u64) -> Value {
    json!({"headers": {"customResponseHeaders": {GENERATION_HEADER: generation.to_string()}}})
}

/// The router through which requests learn the generation that an entrypoint serves. Traefik
/// answers by itself, with status 418 and the header.
pub(crate) fn generation_router(marker: &str, entrance: Entrance<'_>) -> Value {
    let mut router = json!({
        "rule": format!("Path(\"{}\")", generation_path(marker)),
        "priority": GENERATION_PRIORITY,
        "entryPoints": [entrance.entrypoint],
        "service": "noop@internal",
        "middlewares": [marker],
    });
    if entrance.tls {
        router["tls"] = json!({});
    }
    router
}

/// The same for a table that is pushed: the answer has status 200, also at [`READY_PATH`]. The second value
/// is the middleware that makes it so, which needs Traefik 3.4; an older one ignores it and answers 418.
pub(crate) fn ready_router(marker: &str, entrance: Entrance<'_>) -> (Value, Value) {
    let mut router = generation_router(marker, entrance);
    router["rule"] = json!(format!(
        "Path(\"{}\") || Path(\"{READY_PATH}\")",
        generation_path(marker)
    ));
    router["middlewares"] = json!([marker, READY]);
    let errors = json!({
        "status": ["418"],
        "statusRewrites": {"418-418": 200},
        "service": "noop@internal",
        "query": "/",
    });
    (router, json!({"errors": errors}))
}

/// Where an entrypoint tells its generation. A marker's name is like no other.
pub(crate) fn generation_path(marker: &str) -> String {
    format!("/.traefik-router/{marker}")
}

/// The generation in what Traefik's API says of the marker.
pub(crate) fn generation(middleware: &Value) -> Option<u64> {
    middleware["headers"]["customResponseHeaders"][GENERATION_HEADER]
        .as_str()?
        .parse()
        .ok()
}
