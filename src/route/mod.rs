//! The domain: routes, the rules that Traefik matches them by, and the table that holds them.
//! Nothing in here does any I/O.

mod allowed;
mod layout;
mod names;
mod path;
mod rule;
mod settings;
mod spec;
mod table;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use self::settings::Settings;

pub use layout::Nested;
pub use rule::{priority, rule};
pub use settings::Server;
pub use spec::RouteSpec;
pub use table::Table;
pub use target::Target;

pub(crate) use allowed::{Version, is_list_index, is_zero_duration};
pub(crate) use layout::{Behind, Group, Layout, Parent};
pub(crate) use names::{
    fallback_name, is_like_a_name, marker_name, parent_name, router_name, service_name, slug,
    target_service_name,
};
pub(crate) use rule::prefix_pattern;
pub(crate) use table::Effect;

#[cfg(test)]
pub(crate) use tests::{asking, evaluate::matches};

use crate::error::{Error, ErrorKind, Result};

/// A route: requests that `spec` matches go to `target`.
///
/// A route may ask Traefik for more: middlewares, several servers, settings of its service and of its router.
/// [`guide::routes`](crate::guide::routes) has examples.
///
/// ```
/// use traefik_router::Route;
///
/// let route = Route::new("/app/", "http://blue:80")?
///     .weight(9)
///     .server("http://green:80", 1)?
///     .middleware("strip-app")?
///     .sticky_cookie("app")?;
/// assert_eq!(route.servers().len(), 2);
/// # Ok::<(), traefik_router::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Stored")]
#[non_exhaustive]
pub struct Route {
    /// Which requests.
    pub spec: RouteSpec,
    /// Where they go; of several [servers](Self::server) the first.
    pub target: Target,
    /// Any JSON that the caller wants back with the route; Traefik never sees it.
    pub data: Value,
    /// `None` if it asks for nothing else.
    settings: Option<Box<Settings>>,
}

impl Route {
    /// A route without data.
    ///
    /// # Errors
    /// [`InvalidRoute`](crate::ErrorKind::InvalidRoute) as [`RouteSpec::new`] and [`Target::new`].
    pub fn new(spec: impl AsRef<str>, target: impl AsRef<str>) -> Result<Self> {
        Ok(Self {
            spec: RouteSpec::new(spec)?,
            target: Target::new(target)?,
            data: Value::Null,
            settings: None,
        })
    }

    /// What the caller wants back with the route. Defaults to `null`.
    pub fn data(mut self, data: impl Into<Value>) -> Self {
        self.data = data.into();
        self
    }

    /// The target's share of the requests, where there are further [servers](Self::server). One of weight 0 gets
    /// none. Defaults to 1.
    pub fn weight(self, weight: u32) -> Self {
        self.with(|settings| settings.weight = weight)
    }

    /// One more server, and its share of the requests: with a target of weight 9 and a server of weight 1, every
    /// tenth request goes to the server. Defaults to none.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) as [`Target::new`], and if the route has this server already.
    pub fn server(mut self, target: impl AsRef<str>, weight: u32) -> Result<Self> {
        let target = Target::new(target)?;
        let first = self.target.clone();
        self.try_with(|settings| settings.add_server(&first, Server { target, weight }))?;
        Ok(self)
    }

    /// One more middleware that requests pass, after those before it: the name of one that others have
    /// configured, as in [`extra_dynamic_config`](crate::Builder::extra_dynamic_config). A middleware of
    /// another provider than this table's has that in its name, `strip@docker`. Traefik refuses a route whose
    /// middleware is not there. Defaults to none.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) for what is no such name.
    pub fn middleware(mut self, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        self.try_with(|settings| settings.add_middleware(name))?;
        Ok(self)
    }

    /// Has requests of a client go to the same server each time, by a cookie of this name. For more of it, such
    /// as `secure`, use [`service_config`](Self::service_config). Defaults to any server.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) for what is no such name.
    pub fn sticky_cookie(self, name: impl Into<String>) -> Result<Self> {
        let name: String = name.into();
        self.service_config(json!({"sticky": {"cookie": {"name": name}}}))
    }

    /// Has Traefik ask each server for this path so often, and send no requests to one that does not answer with
    /// a status from 200 to 399. For more of it, such as `timeout`, use
    /// [`service_config`](Self::service_config). Defaults to never.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) for an empty path.
    pub fn health_check(self, path: impl Into<String>, interval: Duration) -> Result<Self> {
        let (path, interval): (String, _) = (path.into(), format!("{}ms", interval.as_millis()));
        self.service_config(json!({"healthCheck": {"path": path, "interval": interval}}))
    }

    /// How Traefik connects to the servers: the name of a `serversTransport` that others have configured.
    /// Defaults to Traefik's own.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) for what is no such name.
    pub fn servers_transport(self, name: impl Into<String>) -> Result<Self> {
        let name: String = name.into();
        self.service_config(json!({"serversTransport": name}))
    }

    /// Whether servers see the `Host` header of the request. Defaults to `true`.
    pub fn pass_host_header(self, pass: bool) -> Self {
        self.with(|settings| {
            settings
                .service
                .insert("passHostHeader".into(), pass.into());
        })
    }

    /// Serves the route over HTTPS, with certificates of this resolver of Traefik's static configuration. The
    /// router has `tls` then, so that it is served over HTTPS alone. Where there is no such resolver, Traefik
    /// logs that, and serves its default certificate. Defaults to what the table has.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) for what is no such name.
    pub fn cert_resolver(self, name: impl Into<String>) -> Result<Self> {
        let name: String = name.into();
        self.router_config(json!({"tls": {"certResolver": name}}))
    }

    /// Whether Traefik writes access logs for this route, counts its requests in metrics, and traces them, where
    /// it does so at all. Needs Traefik 3.3. Defaults to what its entrypoint has.
    pub fn observability(self, access_logs: bool, metrics: bool, tracing: bool) -> Self {
        let all = json!({"accessLogs": access_logs, "metrics": metrics, "tracing": tracing});
        self.with(|settings| {
            settings.router.insert("observability".into(), all);
        })
    }

    /// Settings of the service, as Traefik documents `loadBalancer`: `healthCheck`, `passHostHeader`,
    /// `passiveHealthCheck`, `responseForwarding`, `serversTransport`, `sticky`, `strategy`. Each replaces what
    /// was set of it. They come over those of
    /// [`extra_service_config`](crate::Builder::extra_service_config). Defaults to none.
    ///
    /// Routes whose servers and settings are equal share one service.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) with the key's name, if this crate knows no Traefik that has it,
    /// or its value is of another kind: Traefik would reject the whole table.
    pub fn service_config(self, config: Value) -> Result<Self> {
        self.configure(config, Settings::set_service)
    }

    /// Settings of the router, as Traefik documents them: `tls` and `observability`. Each replaces what was set
    /// of it. Defaults to none.
    ///
    /// A router that has some stands at the top of a [nested](Nested) layout. The `options` of `tls` are for a
    /// route with a host, and the same for all routes of that host: Traefik chooses them by the host.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) as [`service_config`](Self::service_config).
    pub fn router_config(self, config: Value) -> Result<Self> {
        self.configure(config, Settings::set_router)
    }

    /// Gives the route a service of its own, whose name stays when the servers change:
    /// [`Router::router_name`](crate::Router::router_name) of the route. Routers by hand can
    /// lead to it. Without this a service is named after its servers, and routes with the same ones share it.
    pub fn own_service(self) -> Self {
        self.with(|settings| settings.own_service = true)
    }

    /// Has requests reach the servers without the path of the route: where that is `/app/`, one for `/app/x` as
    /// `/x`. They pass all middlewares before that. Defaults to the whole path.
    pub fn strip_prefix(self) -> Self {
        self.with(|settings| settings.strip_prefix = true)
    }

    /// All servers, beginning with the target.
    pub fn servers(&self) -> Vec<Server> {
        let more = self.settings.as_deref();
        let first = Server {
            target: self.target.clone(),
            weight: more.map_or(1, |more| more.weight),
        };
        let further = more.into_iter().flat_map(|more| &more.servers);
        std::iter::once(first).chain(further.cloned()).collect()
    }

    /// The names of the middlewares, in the order in which requests pass them.
    pub fn middlewares(&self) -> &[String] {
        self.settings
            .as_deref()
            .map_or(&[], |more| &more.middlewares)
    }

    /// The settings of its service, a map.
    pub fn service_settings(&self) -> Value {
        let set = self.service_map().into_iter().flatten();
        set.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// The settings of its router, a map.
    pub fn router_settings(&self) -> Value {
        let set = self.router_map().into_iter().flatten();
        set.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Whether it has a service [of its own](Self::own_service).
    pub fn has_own_service(&self) -> bool {
        self.settings
            .as_deref()
            .is_some_and(|more| more.own_service)
    }

    /// Whether requests reach its servers [without its path](Self::strip_prefix).
    pub fn strips_prefix(&self) -> bool {
        self.settings
            .as_deref()
            .is_some_and(|more| more.strip_prefix)
    }

    /// Whether its service is another one than that of its target alone.
    pub(crate) fn has_special_service(&self) -> bool {
        let is_special = |more: &Settings| more.own_service || more.has_service();
        self.settings.as_deref().is_some_and(is_special)
    }

    pub(crate) fn service_map(&self) -> Option<&BTreeMap<String, Value>> {
        let map = self.settings.as_deref().map(|more| &more.service);
        map.filter(|map| !map.is_empty())
    }

    pub(crate) fn router_map(&self) -> Option<&BTreeMap<String, Value>> {
        let map = self.settings.as_deref().map(|more| &more.router);
        map.filter(|map| !map.is_empty())
    }

    /// Whether its router may stand below no other.
    pub(crate) fn stands_at_top(&self) -> bool {
        self.router_map().is_some()
    }

    /// The TLS options that it asks for, if these are not Traefik's default ones.
    pub(crate) fn tls_options(&self) -> Option<&str> {
        let options = self.settings.as_deref()?.tls_options();
        options.filter(|name| *name != "default")
    }

    /// Why Traefik would serve neither this route nor another one of its host as they ask.
    pub(crate) fn clash_with(&self, other: &Self) -> Option<Error> {
        let [ours, theirs] = [self, other].map(Self::tls_options);
        if ours == theirs || self.spec.host() != other.spec.host() {
            return None;
        }
        let name = |options: Option<&str>| match options {
            Some(name) => format!("the TLS options {name:?}"),
            None => "Traefik's default TLS options".into(),
        };
        Some(self.invalid(&format!(
            "it asks for {}, and the route {} of the same host for {}: Traefik would take its default ones for \
             both, so give all routes of a host the same, in one change",
            name(ours),
            other.spec,
            name(theirs)
        )))
    }

    /// The first Traefik that knows all that the route asks for, and for what it needs that one. `None` if any
    /// Traefik 3 will do.
    pub(crate) fn needs(&self) -> Option<(Version, String)> {
        if self.spec.is_wildcard() {
            return Some((WILDCARDS, "a wildcard host".into()));
        }
        let latest = self.settings.as_deref().and_then(Settings::latest);
        latest.filter(|(since, _)| *since > (3, 0))
    }

    /// The same route for other requests.
    pub(crate) fn at(&self, spec: RouteSpec) -> Self {
        let route = self.clone();
        Self { spec, ..route }
    }

    /// Whether the route can be stored, read back and served.
    pub(crate) fn check(&self) -> Result<()> {
        if depth(&self.data) > MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::InvalidRoute,
                format!(
                    "the data of {} is nested more than {MAX_DEPTH} levels deep",
                    self.spec
                ),
            ));
        }
        let Some(settings) = self.settings.as_deref() else {
            return Ok(());
        };
        if self.spec.host().is_none() && settings.tls_options().is_some() {
            return Err(self.invalid(
                "Traefik chooses TLS options by the host, so that a route without one can't have any",
            ));
        }
        match settings.problem() {
            Some(problem) => Err(self.invalid(problem)),
            None => Ok(()),
        }
    }

    /// Changes the settings. A route whose settings are the defaults has none.
    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        let settings = self.settings.get_or_insert_default();
        change(settings);
        self.settings = self
            .settings
            .filter(|settings| **settings != Settings::default());
        self
    }

    fn try_with(&mut self, change: impl FnOnce(&mut Settings) -> Result<(), String>) -> Result<()> {
        let settings = self.settings.get_or_insert_default();
        change(settings).map_err(|why| self.invalid(&why))
    }

    fn configure(
        mut self,
        config: Value,
        set: fn(&mut Settings, &str, Value) -> Result<(), String>,
    ) -> Result<Self> {
        let Value::Object(config) = config else {
            return Err(self.invalid(&format!("{config} is no map of settings")));
        };
        for (name, value) in config {
            self.try_with(|settings| set(settings, &name, value))?;
        }
        Ok(self)
    }

    fn invalid(&self, why: &str) -> Error {
        let message = format!("route {}: {why}", self.spec);
        Error::new(ErrorKind::InvalidRoute, message)
    }
}

/// Stands where a route has its target if it asks for more. Versions of this crate that do not know that refuse
/// such a route, and show this: they would serve it without its middlewares.
const LATER: &str =
    "not for this version of traefik-router, which knows no route with settings: use a later one";

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = if self.settings.is_some() { 5 } else { 3 };
        let mut route = serializer.serialize_struct("Route", fields)?;
        route.serialize_field("spec", &self.spec)?;
        match &self.settings {
            None => route.serialize_field("target", &self.target)?,
            Some(_) => route.serialize_field("target", LATER)?,
        }
        route.serialize_field("data", &self.data)?;
        if let Some(settings) = &self.settings {
            route.serialize_field("server", &self.target)?;
            route.serialize_field("settings", settings)?;
        }
        route.end()
    }
}

/// A route as it is stored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    spec: RouteSpec,
    target: String,
    data: Value,
    #[serde(default)]
    server: Option<Target>,
    #[serde(default)]
    settings: Option<Box<Settings>>,
}

impl TryFrom<Stored> for Route {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self> {
        let mut route = Self {
            target: match stored.server {
                Some(server) => server,
                None => Target::new(stored.target)?,
            },
            spec: stored.spec,
            data: stored.data,
            settings: None,
        };
        if let Some(settings) = stored.settings {
            let accepted = settings.accepted(&route.target);
            let accepted = accepted.map_err(|why| route.invalid(&why))?;
            route = route.with(|settings| *settings = accepted);
        }
        Ok(route)
    }
}

/// The first Traefik in whose rules a host may be a wildcard. It is the latest that any setting needs.
const WILDCARDS: Version = (3, 7);

/// JSON is read with a limit of 128 levels, a few of which are ours.
const MAX_DEPTH: usize = 100;

/// How deep a value is nested, as far as that matters here.
fn depth(value: &Value) -> usize {
    let mut deepest = 0;
    let mut left = vec![(value, 1)];
    while let Some((value, depth)) = left.pop() {
        deepest = deepest.max(depth);
        match value {
            Value::Array(items) => left.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => left.extend(map.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    deepest
}

/// One step of a [`Router::apply`](crate::Router::apply).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Add the route, or replace the one that has the same routespec.
    Set(Arc<Route>),
    /// Delete the route of this routespec, if there is one.
    Delete(RouteSpec),
}

impl Change {
    /// Adds a route without data, or replaces the one that has the same routespec. For a route with
    /// data there is `Route::new(spec, target)?.data(data).into()`.
    ///
    /// # Errors
    /// As [`Route::new`].
    pub fn set(spec: impl AsRef<str>, target: impl AsRef<str>) -> Result<Self> {
        Ok(Route::new(spec, target)?.into())
    }

    /// Deletes a route; not an error if there is none.
    ///
    /// # Errors
    /// As [`RouteSpec::new`].
    pub fn delete(spec: impl AsRef<str>) -> Result<Self> {
        Ok(Self::Delete(RouteSpec::new(spec)?))
    }

    /// The routespec that this change is about.
    pub fn spec(&self) -> &RouteSpec {
        match self {
            Self::Set(route) => &route.spec,
            Self::Delete(spec) => spec,
        }
    }
}

impl From<Route> for Change {
    fn from(route: Route) -> Self {
        Self::Set(Arc::new(route))
    }
}

#[cfg(test)]
mod tests {
    pub(crate) mod evaluate;

    use super::*;

    /// A route that asks for more, in one of seven ways; in the first one for nothing.
    pub(crate) fn asking(way: u8, route: Route) -> Route {
        match way % 7 {
            0 => route,
            1 => route.middleware("m@file").unwrap(),
            2 => route.cert_resolver("le").unwrap(),
            3 => route.own_service(),
            4 => route
                .own_service()
                .weight(3)
                .server("http://two", 1)
                .unwrap(),
            5 => route
                .server("http://two", 1)
                .unwrap()
                .sticky_cookie("c")
                .unwrap(),
            _ => (route
                .observability(false, true, true)
                .pass_host_header(false))
            .middleware("m")
            .unwrap(),
        }
    }

    #[test]
    fn settings_come_back_as_stored() {
        for way in 0..7 {
            let route = asking(way, Route::new("/a/", "http://one").unwrap().data("d"));
            let text = serde_json::to_string(&route).unwrap();
            let back: Route = serde_json::from_str(&text).unwrap();
            assert_eq!(back, route, "{text}");
            assert_eq!(text.contains("settings"), way > 0, "{text}");
        }
        let route = Route::new("/a/", "http://one").unwrap().weight(2);
        assert_ne!(route, route.clone().weight(1));
        assert_eq!(route.weight(1), Route::new("/a/", "http://one").unwrap());
    }

    /// What the version before knows of a route.
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "they are only read")]
    struct Before {
        spec: RouteSpec,
        target: Target,
        data: Value,
    }

    #[test]
    fn version_before_refuses_settings() {
        for way in 0..7 {
            let route = asking(way, Route::new("/a/", "http://one").unwrap());
            let text = serde_json::to_string(&route).unwrap();
            match serde_json::from_str::<Before>(&text) {
                Ok(_) => assert_eq!(way, 0, "{text}"),
                Err(error) => assert!(error.to_string().contains("use a later one"), "{error}"),
            }
        }
        // And this one what later versions add.
        for (text, why) in [
            (
                r#"{"spec":"/a/","target":"http://t","data":1,"more":2}"#,
                "`more`",
            ),
            (
                r#"{"spec":"/a/","target":"","data":1,"server":"http://t","settings":{"more":2}}"#,
                "`more`",
            ),
            (
                r#"{"spec":"/a/","target":"","data":1,"server":"http://t","settings":{"service":{"more":2}}}"#,
                "route /a/: \"more\" is no setting",
            ),
        ] {
            let error = serde_json::from_str::<Route>(text).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn wrong_settings_are_refused() {
        let route = || Route::new("/a/", "http://one").unwrap();
        let refused = [
            route().server("ftp://two", 1).err(),
            route().server("http://ONE", 1).err(),
            route().middleware("").err(),
            route().middleware("a b").err(),
            route().middleware("a@b@c").err(),
            route().middleware("a,b").err(),
            route().sticky_cookie("").err(),
            route().service_config(json!({"servers": []})).err(),
            route().service_config(json!(1)).err(),
            route().router_config(json!({"priority": 1})).err(),
            route().weight(0).check().err(),
            (route()
                .router_config(json!({"tls": {"options": "o@file"}}))
                .unwrap()
                .check())
            .err(),
            route()
                .weight(0)
                .server("http://two", 0)
                .unwrap()
                .check()
                .err(),
        ];
        for (n, error) in refused.into_iter().enumerate() {
            let error = error.unwrap_or_else(|| panic!("{n} is not refused"));
            assert_eq!(error.kind(), ErrorKind::InvalidRoute, "{error}");
        }
        route()
            .weight(0)
            .server("http://two", 1)
            .unwrap()
            .check()
            .unwrap();
    }
}
