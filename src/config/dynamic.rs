//! The dynamic configuration: what a route becomes, and what a [`Router`](crate::Router) needs
//! beside its routes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};

use super::defaults::spell_out_router;
use super::merge;
use super::text::Field;
use crate::error::{Error, ErrorKind, Result};
use crate::route::{
    Group, Nested, Parent, Route, Target, fallback_name, parent_name, prefix_pattern, priority,
    router_name, rule, service_name,
};

/// The router of Traefik's API that we set up, and the middleware that guards it.
pub(crate) const API_ROUTER: &str = "traefik-router-api";
const REST_ROUTER: &str = "traefik-router-rest";
const API_AUTH: &str = "traefik-router-api-auth";
const METRICS_ROUTER: &str = "traefik-router-api-metrics";
/// The same names as jupyterhub-traefik-proxy has them, and this crate had them before 0.1.
const OLD_API_ROUTER: &str = "route_api";
const OLD_API_AUTH: &str = "auth_api";

/// The middlewares that may guard the API.
pub(crate) const API_GUARDS: [&str; 2] = [API_AUTH, OLD_API_AUTH];

/// Where the default certificate is, as a JSON pointer.
const CERTIFICATE: &str = "/tls/stores/default";

/// What a [`Router`](crate::Router) wants of a store beside changes of its routes. What it leaves
/// open stays as it is stored.
#[derive(Clone, PartialEq, Default)]
pub struct Setup {
    /// The entrypoint that all routes of the table are served on.
    pub(crate) entrypoint: Option<String>,
    /// The entrypoint for a table that has none yet.
    pub(crate) default_entrypoint: String,
    /// Whether routers at the entrypoint carry `tls`.
    pub(crate) tls: Option<bool>,
    /// The middleware of the routers at the entrypoint; an empty name is none.
    pub(crate) middleware: Option<String>,
    /// More configuration of every service that a route becomes, as Traefik documents
    /// `loadBalancer`.
    pub(crate) service: Option<Value>,
    /// Whether routers stand below others.
    pub(crate) nested: Option<Nested>,
    /// Whether all Traefiks that were asked know `parentRefs`; `None` where none was asked.
    pub(crate) knows_parents: Option<bool>,
    /// More dynamic configuration that belongs to the table.
    pub(crate) extra: Option<Value>,
    /// The API router for a Traefik of others that has none.
    pub(crate) api: Option<ApiAccess>,
    /// Whether `api` may take the place of one that another Router has stored.
    pub(crate) replace_api: bool,
    /// Whether the API router that a Router has stored goes.
    pub(crate) remove_api: bool,
    /// Whether the table goes when the store is closed, if nobody serves it and it has no routes.
    pub(crate) remove_table: bool,
    /// What a Traefik that we start reads from this store, because it can't read it elsewhere.
    pub(crate) own: Option<Own>,
    /// Whether the Traefik that we start has a given default certificate from elsewhere.
    pub(crate) certificate_elsewhere: bool,
    /// Whether a Traefik serves what is stored for as long as this handle is open.
    pub(crate) serves: bool,
    /// Whether that is a Traefik that we start.
    pub(crate) started: bool,
    /// Whether to refuse a store from which another program serves.
    pub(crate) alone: bool,
}

/// What one Traefik needs beside the table.
#[derive(Clone, PartialEq)]
pub(crate) struct Own {
    pub(crate) api: ApiAccess,
    pub(crate) extra: Value,
    pub(crate) certificate: Certificate,
}

/// A certificate and its private key, in one PEM text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) pem: String,
    /// Whether it stands in for one that nobody gave.
    pub(crate) made_up: bool,
}

/// How Traefik's API is guarded.
#[derive(Clone, PartialEq)]
pub(crate) struct ApiAccess {
    pub(crate) entrypoint: String,
    pub(crate) username: String,
    pub(crate) password: String,
    /// Whether the user chose the password.
    pub(crate) given: bool,
    /// The hash as Traefik's basicAuth takes it.
    pub(crate) password_hash: String,
    /// Whether Traefik's metrics are to be had there, too.
    pub(crate) metrics: bool,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may hold passwords and private keys.
        f.debug_struct("Setup")
            .field("entrypoint", &self.entrypoint)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").finish_non_exhaustive()
    }
}

impl Setup {
    /// A setup that has routes served on this entrypoint, and leaves everything else as it is.
    pub fn new(entrypoint: impl Into<String>) -> Self {
        Self {
            entrypoint: Some(entrypoint.into()),
            ..Self::default()
        }
    }

    /// The same for a Router that starts a Traefik: a table that it begins goes with it, if there are
    /// no routes then.
    pub fn started(mut self) -> Self {
        self.started = true;
        self
    }
}

impl ApiAccess {
    /// The router of the API and the middleware that guards it, for a Traefik that we start. Their names
    /// end in `ending`.
    pub(crate) fn config(&self, ending: &str) -> Value {
        self.config_at(API_PRIORITY, ending)
    }

    /// The router of the REST provider, behind the same guard, beside [`config`](Self::config).
    pub(crate) fn rest_config(&self) -> Value {
        json!({"http": {"routers": {REST_ROUTER: {
            "rule": "Path(\"/api/providers/rest\") && Method(\"PUT\")",
            "priority": API_PRIORITY + 1,
            "entryPoints": [self.entrypoint],
            "service": REST_SERVICE,
            "middlewares": [API_AUTH],
        }}}})
    }

    /// The same for a Traefik of others. Routers that they have on that entrypoint come first.
    pub(crate) fn config_for_others(&self) -> Value {
        self.config_at(1, "")
    }

    fn config_at(&self, priority: u64, ending: &str) -> Value {
        let users = [format!("{}:{}", self.username, self.password_hash)];
        let [router, guard] = [API_ROUTER, API_AUTH].map(|name| format!("{name}{ending}"));
        let mut config = json!({"http": {
            "routers": {&router: {
                "rule": "PathPrefix(\"/api\") || PathPrefix(\"/dashboard\")",
                "priority": priority,
                "entryPoints": [self.entrypoint],
                "service": API_SERVICE,
                "middlewares": [&guard],
            }},
            "middlewares": {&guard: {"basicAuth": {"users": users}}},
        }});
        if self.metrics {
            let routers = &mut config["http"]["routers"];
            routers[format!("{METRICS_ROUTER}{ending}")] = metrics_beside(&routers[&router]);
        }
        config
    }

    /// Whether a Traefik with this configuration lets us in, on the API's entrypoint.
    pub(crate) fn is_let_in_by(&self, config: &Value) -> bool {
        let is_there = !api_routers(config, &self.entrypoint).is_empty();
        is_there
            && guarding_users(config).any(|(name, hash)| {
                name == self.username
                    && (hash == self.password_hash
                        || is_hash_of(hash, &self.password) == Some(true))
            })
    }
}

/// The router of Traefik's metrics, where the API's is.
fn metrics_beside(api: &Value) -> Value {
    let mut router = api.clone();
    router["rule"] = json!("Path(\"/metrics\")");
    router["service"] = json!("prometheus@internal");
    router
}

/// Adds the router of Traefik's metrics to a dynamic configuration in which we have stored the API's.
pub(crate) fn add_metrics(config: &mut Value) {
    let Some(routers) = config.pointer_mut("/http/routers") else {
        return;
    };
    if routers[API_ROUTER].is_object() {
        routers[METRICS_ROUTER] = metrics_beside(&routers[API_ROUTER]);
    }
}

/// Whether a hash is that of a password; `None` for a kind that we do not compute.
pub(crate) fn is_hash_of(hash: &str, password: &str) -> Option<bool> {
    if hash.starts_with("{SHA}") {
        return Some(hash == fast_hash(password));
    }
    #[cfg(feature = "bcrypt")]
    if hash.starts_with("$2") {
        return Some(bcrypt::verify(password, hash).unwrap_or(false));
    }
    None
}

/// The default certificate, in a file that Traefik reads.
pub(crate) fn certificate(file: &str) -> Value {
    json!({"tls": {"stores": {"default": {"defaultCertificate": {
        "certFile": file, "keyFile": file,
    }}}}})
}

/// Whether an entry of `http.routers` or `http.middlewares` is the API's, as we or
/// jupyterhub-traefik-proxy name it.
pub(crate) fn is_api_name(name: &str) -> bool {
    // The guard's name begins with the router's.
    name.starts_with(API_ROUTER) || [OLD_API_ROUTER, OLD_API_AUTH].contains(&name)
}

/// What of a dynamic configuration is the API's router and guard.
pub(crate) fn api_part(config: &Value) -> Value {
    let mut part = json!({});
    for section in ["routers", "middlewares"] {
        for (name, entry) in config["http"][section].as_object().into_iter().flatten() {
            if is_api_name(name) {
                merge(&mut part, &json!({"http": {section: {name: entry}}}));
            }
        }
    }
    part
}

/// The names of the routers in a dynamic configuration that lead to Traefik's API on this
/// entrypoint. One without entrypoints is on all of them.
pub(crate) fn api_routers<'a>(config: &'a Value, entrypoint: &str) -> Vec<&'a str> {
    let routers = config["http"]["routers"].as_object().into_iter().flatten();
    let api = routers.filter(|(_, router)| {
        let on = router["entryPoints"].as_array().filter(|on| !on.is_empty());
        router["service"] == API_SERVICE
            && on.is_none_or(|on| on.iter().any(|name| name == entrypoint))
    });
    api.map(|(name, _)| &**name).collect()
}

/// Whether a dynamic configuration says what the default certificate is.
pub(crate) fn has_default_certificate(config: &Value) -> bool {
    config.pointer(CERTIFICATE).is_some()
}

/// Takes the default certificate out of a dynamic configuration.
pub(crate) fn without_certificate(config: &mut Value) {
    if let Some(stores) = config
        .pointer_mut("/tls/stores")
        .and_then(Value::as_object_mut)
    {
        stores.remove("default");
        without_empty_maps(config);
    }
}

/// Takes the API's router and guard out of a dynamic configuration.
pub(crate) fn without_api(config: &mut Value) {
    for section in ["/http/routers", "/http/middlewares"] {
        let entries = config.pointer_mut(section).and_then(Value::as_object_mut);
        if let Some(entries) = entries {
            entries.retain(|name, _| !is_api_name(name));
        }
    }
    without_empty_maps(config);
}

/// Takes out the sections of a dynamic configuration that hold nothing: Traefik rejects them.
pub(crate) fn without_empty_maps(config: &mut Value) {
    let is_empty =
        |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    for part in config
        .as_object_mut()
        .into_iter()
        .flat_map(|map| map.values_mut())
    {
        if let Some(sections) = part.as_object_mut() {
            sections.retain(|_, section| !is_empty(section));
        }
    }
    if let Some(map) = config.as_object_mut() {
        map.retain(|_, part| !is_empty(part));
    }
}

/// The names and hashes of those whom the API's guard lets in.
fn guarding_users(config: &Value) -> impl Iterator<Item = (&str, &str)> {
    let middlewares = config["http"]["middlewares"].as_object();
    let guards = middlewares.into_iter().flatten();
    let guards = guards.filter(|(name, _)| is_api_name(name));
    let users = guards.filter_map(|(_, guard)| guard["basicAuth"]["users"].as_array());
    let users = users.flatten().filter_map(Value::as_str);
    users.filter_map(|user| user.split_once(':'))
}

/// The hashes that guard Traefik's API in a dynamic configuration.
pub(crate) fn password_hashes(config: &Value) -> Vec<&str> {
    guarding_users(config).map(|(_, hash)| hash).collect()
}

/// The hash of a password that needs no slow one, because nobody can guess it. Traefik checks it
/// at every request to its API.
pub(crate) fn fast_hash(password: &str) -> String {
    let sha1 = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    format!("{{SHA}}{}", STANDARD.encode(sha1))
}

/// Whether a hash is one that Traefik's basicAuth takes.
pub(crate) fn is_password_hash(hash: &str) -> bool {
    let is_digits = |text: &str, length: std::ops::RangeInclusive<usize>| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
        length.contains(&text.len()) && text.bytes().all(plain)
    };
    if let Some(sha) = hash.strip_prefix("{SHA}") {
        return STANDARD.decode(sha).is_ok_and(|sha| sha.len() == 20);
    }
    match *hash.split('$').collect::<Vec<_>>() {
        ["", "apr1", salt, digest] => is_digits(salt, 1..=8) && is_digits(digest, 22..=22),
        ["", "2a" | "2b" | "2y", cost, digest] => {
            cost.parse().is_ok_and(|cost: u8| (4..=31).contains(&cost))
                && is_digits(digest, 53..=53)
        }
        _ => false,
    }
}

/// One entry of the dynamic configuration outside of the routes: `http.routers.NAME` and the like.
pub(crate) struct Entry<'a> {
    /// One or two keys, such as `["http", "routers"]`.
    pub(crate) section: Vec<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) value: &'a Value,
}

/// The entries of a dynamic configuration.
///
/// # Errors
/// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is not maps of maps on the upper levels.
pub(crate) fn entries(config: &Value) -> Result<Vec<Entry<'_>>> {
    let not_a_map = |path: &str| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("the dynamic configuration's {path} must be a map"),
        )
    };
    let mut entries = Vec::new();
    for (top, parts) in config.as_object().ok_or_else(|| not_a_map("root"))? {
        for (part, named) in parts.as_object().ok_or_else(|| not_a_map(top))? {
            match named {
                Value::Object(named) => entries.extend(named.iter().map(|(name, value)| Entry {
                    section: vec![top, part],
                    name,
                    value,
                })),
                value => entries.push(Entry {
                    section: vec![top],
                    name: part,
                    value,
                }),
            }
        }
    }
    Ok(entries)
}

/// A router of ours in `http.routers`.
pub(crate) struct RouterConfig<'a> {
    pub(crate) name: String,
    pub(crate) rule: Cow<'a, str>,
    pub(crate) priority: u64,
    service: Option<Cow<'a, str>>,
    pub(crate) middlewares: Cow<'a, [String]>,
    settings: Option<Cow<'a, BTreeMap<String, Value>>>,
}

/// What a route becomes, whose service has this name. `has_defaults` says whether Traefik fills them in.
pub(crate) fn router<'a>(
    namespace: &str,
    route: &'a Route,
    service: &'a str,
    has_defaults: bool,
) -> RouterConfig<'a> {
    let settings = route.router_map().map(|map| match has_defaults {
        true => Cow::Borrowed(map),
        false => Cow::Owned(spell_out_router(map)),
    });
    RouterConfig {
        name: router_name(namespace, &route.spec),
        rule: rule(&route.spec).into(),
        priority: priority(&route.spec),
        service: Some(service.into()),
        middlewares: middlewares(namespace, route),
        settings,
    }
}

/// The middlewares that requests for a route pass.
fn middlewares<'a>(namespace: &str, route: &'a Route) -> Cow<'a, [String]> {
    match prefix_stripper(route) {
        None => Cow::Borrowed(route.middlewares()),
        Some(_) => {
            let own = router_name(namespace, &route.spec);
            Cow::Owned([route.middlewares(), &[own]].concat())
        }
    }
}

/// The middleware that takes the path of a route off its requests, if the route asks for that. It has the name of
/// the router.
pub(crate) fn prefix_stripper(route: &Route) -> Option<Value> {
    let pattern = prefix_pattern(&route.spec).filter(|_| route.strips_prefix())?;
    Some(json!({"replacePathRegex": {"regex": pattern, "replacement": "/$1"}}))
}

impl RouterConfig<'_> {
    /// Its configuration, but for its [`Place`].
    fn fields(&self) -> impl Iterator<Item = (&str, Field<'_>)> {
        let service = self.service.as_deref();
        let settings = self.settings.iter().flat_map(|settings| settings.iter());
        [
            ("priority", Field::Number(self.priority)),
            ("rule", Field::Text(&self.rule)),
        ]
        .into_iter()
        .chain(service.map(|service| ("service", Field::Text(service))))
        .chain(settings.map(|(name, value)| (&**name, Field::Value(value))))
    }

    /// All of its configuration. Its own `tls` comes in place of that of its [`Place`].
    pub(crate) fn fields_at<'p>(
        &'p self,
        place: &'p Place<'_>,
    ) -> impl Iterator<Item = (&'p str, Field<'p>)> {
        let has = |name: &str| {
            self.settings
                .as_ref()
                .is_some_and(|set| set.contains_key(name))
        };
        // Requests pass the middleware of the place first.
        let middlewares = match (place.middleware(), &*self.middlewares) {
            (None, []) => None,
            (None, [first, others @ ..]) => Some(Field::List(first, others)),
            (Some(first), others) => Some(Field::List(first, others)),
        };
        let place = place.fields().filter(move |(name, _)| !has(name));
        (place.chain(self.fields())).chain(middlewares.map(|names| ("middlewares", names)))
    }
}

/// Where the routers at the top of a table get their requests from.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Entrance<'a> {
    pub(crate) entrypoint: &'a str,
    /// Whether the routers carry `tls`, as an entrypoint without TLS of its own wants it.
    pub(crate) tls: bool,
    /// The middleware that the routers have; an empty name is none.
    pub(crate) middleware: &'a str,
}

impl Entrance<'_> {
    /// Has the routers of a dynamic configuration that name no entrypoint stand here.
    pub(crate) fn place(&self, config: &mut Value) {
        let routers = config.pointer_mut("/http/routers");
        let routers = routers.and_then(Value::as_object_mut).into_iter().flatten();
        let routers = routers.filter_map(|(_, router)| router.as_object_mut());
        for router in routers.filter(|router| !router.contains_key("entryPoints")) {
            router.insert("entryPoints".into(), json!([self.entrypoint]));
            if self.tls {
                router.entry("tls").or_insert_with(|| json!({}));
            }
        }
    }
}

/// Where a router gets its requests from.
pub(crate) enum Place<'a> {
    Entrypoint(Entrance<'a>),
    /// The router of this name.
    Below(String),
}

impl<'a> Place<'a> {
    pub(crate) fn new(namespace: &str, entrance: Entrance<'a>, parent: Option<&Group>) -> Self {
        match parent {
            Some(group) => Self::Below(parent_name(namespace, group)),
            None => Self::Entrypoint(entrance),
        }
    }

    fn middleware(&self) -> Option<&str> {
        match self {
            Self::Entrypoint(entrance) => Some(entrance.middleware).filter(|name| !name.is_empty()),
            Self::Below(_) => None,
        }
    }

    fn fields(&self) -> impl Iterator<Item = (&str, Field<'_>)> {
        let (place, tls) = match self {
            Self::Entrypoint(entrance) => {
                let tls = entrance.tls.then_some(("tls", Field::Defaults));
                (("entryPoints", Field::List(entrance.entrypoint, &[])), tls)
            }
            Self::Below(parent) => (("parentRefs", Field::List(parent, &[])), None),
        };
        std::iter::once(place).chain(tls)
    }
}

/// What a parent becomes in `http.routers`: itself, and the router below it that takes what is
/// left, if there is one.
pub(crate) fn parent<'a>(
    namespace: &str,
    entrance: Entrance<'a>,
    group: &Group,
    parent: &'a Parent,
) -> impl Iterator<Item = (RouterConfig<'a>, Place<'a>)> {
    let this = RouterConfig {
        name: parent_name(namespace, group),
        rule: Cow::from(&parent.rule),
        priority: parent.priority,
        service: None,
        middlewares: Cow::Borrowed(&[]),
        settings: None,
    };
    let rest = parent.fallback.as_ref().map(|route| {
        let rest = RouterConfig {
            name: fallback_name(namespace, group),
            rule: "PathPrefix(\"/\")".into(),
            priority: 1,
            service: Some(service_name(namespace, route).into()),
            middlewares: middlewares(namespace, route),
            settings: None,
        };
        (rest, Place::Below(this.name.clone()))
    });
    let place = Place::new(namespace, entrance, parent.above.as_ref());
    std::iter::once((this, place)).chain(rest)
}

/// What the servers of a route become in `http.services`, under their [`service_name`]. `defaults` are merged
/// over that, and then what the route sets.
pub(crate) fn service(route: &Route, defaults: &Value) -> Value {
    if !route.has_special_service() {
        return load_balancer(vec![server(&route.target)], defaults);
    }
    let servers = route.servers().into_iter().map(|one| {
        let mut server = server(&one.target);
        if one.weight != 1 {
            server["weight"] = one.weight.into();
        }
        server
    });
    let mut service = load_balancer(servers.collect(), defaults);
    merge(&mut service["loadBalancer"], &route.service_settings());
    service
}

fn server(target: &Target) -> Value {
    if target.has_path() {
        json!({"url": target, "preservePath": true})
    } else {
        json!({"url": target})
    }
}

fn load_balancer(servers: Vec<Value>, defaults: &Value) -> Value {
    let mut service = json!({"loadBalancer": {"servers": servers}});
    if defaults.is_object() {
        merge(&mut service["loadBalancer"], defaults);
    }
    service
}

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

/// Where an entrypoint answers 200 once a table that is pushed is loaded.
pub(crate) const READY_PATH: &str = "/.traefik-router/ready";
/// The middleware of the router there.
pub(crate) const READY: &str = "traefik-router-ready";

pub(crate) const GENERATION_HEADER: &str = "X-Traefik-Router-Generation";

/// The middleware that carries what we keep for ourselves of a table that is pushed.
pub(crate) const RECORDS: &str = "traefik-router-records";

/// Above all routes.
const GENERATION_PRIORITY: u64 = 1_000_000_000;
/// Above all routers of others on the API's entrypoint.
const API_PRIORITY: u64 = 2_000_000_000;
/// What Traefik calls its API.
pub(crate) const API_SERVICE: &str = "api@internal";
/// What Traefik calls its REST provider, which takes a table that is pushed.
pub(crate) const REST_SERVICE: &str = "rest@internal";

#[cfg(test)]
mod tests {
    use super::*;

    fn api() -> ApiAccess {
        ApiAccess {
            entrypoint: "auth_api".into(),
            username: "jupyterhub".into(),
            password: "password".into(),
            given: true,
            password_hash: "$apr1$x$y".into(),
            metrics: false,
        }
    }

    #[test]
    fn hash_equals_that_of_htpasswd() {
        // htpasswd -nbs user password
        assert_eq!(fast_hash("password"), "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=");
    }

    #[test]
    fn only_traefiks_hashes_are_accepted() {
        let bcrypt = format!("$2y$05${}", "x".repeat(53));
        for (hash, expected) in [
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", true),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9", false),
            ("{SHA}", false),
            ("$apr1$rXqB4lbw$bWHf.3xwFDlkjbQmsLLOn/", true),
            ("$apr1$rXqB4lbw$short", false),
            (&bcrypt, true),
            (&bcrypt[..30], false),
            ("$6$salt$hash", false),
            ("plain", false),
        ] {
            assert_eq!(is_password_hash(hash), expected, "{hash}");
        }
    }

    #[test]
    fn stored_hash_admits_its_password() {
        let guarded = |user: &str| {
            let mut config = api().config("");
            config["http"]["middlewares"][API_AUTH]["basicAuth"]["users"] = json!([user]);
            config
        };
        for (user, expected) in [
            ("jupyterhub:$apr1$x$y", true),
            ("jupyterhub:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", true),
            ("jupyterhub:{SHA}other", false),
            ("other:$apr1$x$y", false),
        ] {
            assert_eq!(api().is_let_in_by(&guarded(user)), expected, "{user}");
        }
        assert!(!api().is_let_in_by(&json!({})));
        assert!(api().is_let_in_by(&api().config("")));
        let elsewhere = ApiAccess {
            entrypoint: "other".into(),
            ..api()
        };
        assert!(!elsewhere.is_let_in_by(&api().config("")));
    }

    #[test]
    fn service_identifies_api_routers() {
        let config = json!({"http": {"routers": {
            "here": {"service": "api@internal", "entryPoints": ["api"]},
            "everywhere": {"service": "api@internal"},
            "elsewhere": {"service": "api@internal", "entryPoints": ["other"]},
            "api": {"service": "mine"},
        }}});
        assert_eq!(api_routers(&config, "api"), ["everywhere", "here"]);
        assert_eq!(api_routers(&api().config(""), "auth_api"), [API_ROUTER]);
        assert_eq!(api_part(&api().config("")), api().config(""));
        assert_eq!(api_part(&config), json!({}));
    }

    #[test]
    fn removal_leaves_no_empty_maps() {
        let mut config = certificate("/c.pem");
        assert!(has_default_certificate(&config));
        merge(&mut config, &json!({"http": {"a": 1}}));
        for _ in 0..2 {
            without_certificate(&mut config);
            assert_eq!(config, json!({"http": {"a": 1}}));
        }
        let mut config = api().config("");
        without_api(&mut config);
        assert_eq!(config, json!({}));
    }

    #[test]
    fn entries_refuses_invalid_configuration() {
        for bad in [json!(1), json!({"http": 1})] {
            assert_eq!(
                entries(&bad).err().map(|e| e.kind()),
                Some(ErrorKind::InvalidConfig)
            );
        }
    }
}
