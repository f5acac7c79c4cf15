//! What a route becomes, and what a parent becomes: routers, middlewares and services.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::config::defaults::spell_out_router;
use crate::config::merge;
use crate::config::text::Field;
use crate::route::{
    Group, Parent, Route, Target, fallback_name, parent_name, prefix_pattern, priority,
    router_name, rule, service_name,
};

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
    let pattern = route
        .strips_prefix()
        .then(|| prefix_pattern(&route.spec))??;
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
    // `json!` would copy them.
    let map = |name: &str, value| Value::Object(Map::from_iter([(name.into(), value)]));
    let mut balancer = map("servers", Value::Array(servers));
    if defaults.is_object() {
        merge(&mut balancer, defaults);
    }
    map("loadBalancer", balancer)
}
