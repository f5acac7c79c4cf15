//! The domain: routes, the rules that Traefik matches them by, and the table that holds them.
//! Nothing in here does any I/O.

mod allowed;
mod change;
mod check;
mod layout;
mod names;
mod path;
mod rule;
mod settings;
mod spec;
mod stored;
mod table;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use self::settings::Settings;

pub use change::Change;
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
pub(crate) use settings::check_service_config;
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
#[must_use = "`Router::apply` adds it"]
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Route {
    /// Says which requests match.
    pub spec: RouteSpec,
    /// Where they go; of several [servers](Self::server) the first.
    pub target: Target,
    /// Any JSON that you want back with the route. Traefik does not use it. It is not secret: with a
    /// [`MemoryBackend`](crate::MemoryBackend) it can be read through Traefik's API.
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

    /// Any JSON that you want back with the route. Defaults to `null`.
    pub fn data(mut self, data: impl Into<Value>) -> Self {
        self.data = data.into();
        self
    }

    /// The target's share of the requests if there are further [servers](Self::server). With weight 0 it gets none.
    /// Defaults to 1.
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

    /// One more middleware that requests pass, after those that were added before. This is only its name: configure
    /// it elsewhere, as in [`extra_dynamic_config`](crate::Builder::extra_dynamic_config). If another provider than
    /// the table's has it, add the provider to the name, `strip@docker`. Traefik refuses a route whose
    /// middleware does not exist. Defaults to none.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) if the name or a part of it beside the `@` is empty, or if the name has
    /// a space, a comma, a control character, `║` (U+2551) or a second `@`.
    pub fn middleware(mut self, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        self.try_with(|settings| settings.add_middleware(name))?;
        Ok(self)
    }

    /// Sends all requests of a client to the same server, by a cookie of this name. For more settings, such
    /// as `secure`, use [`service_config`](Self::service_config). Defaults to any server.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) if the name is empty or has a control character.
    pub fn sticky_cookie(self, name: impl Into<String>) -> Result<Self> {
        let name: String = name.into();
        self.service_config(json!({"sticky": {"cookie": {"name": name}}}))
    }

    /// Traefik requests `path` from each server every `interval`. It sends no requests to a server that does not answer
    /// with a status from 200 to 399. For more settings, such as `timeout`, use
    /// [`service_config`](Self::service_config). Defaults to no health check.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) if the path is empty or has a control character, or if the interval is
    /// less than a millisecond.
    pub fn health_check(self, path: impl Into<String>, interval: Duration) -> Result<Self> {
        if interval < Duration::from_millis(1) {
            let why = "the interval of a health check is less than a millisecond: Traefik would wait 30 s instead";
            return Err(self.invalid(why));
        }
        let (path, interval): (String, _) = (path.into(), format!("{}ms", interval.as_millis()));
        self.service_config(json!({"healthCheck": {"path": path, "interval": interval}}))
    }

    /// How Traefik connects to the servers: the name of a `serversTransport`. Configure it elsewhere, as in
    /// [`extra_dynamic_config`](crate::Builder::extra_dynamic_config). Defaults to Traefik's own.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) if the name is empty or has a control character.
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

    /// Serves the route over HTTPS only, with certificates of this resolver of Traefik's static configuration. If
    /// Traefik has no such resolver, it logs that, and serves its default certificate. Without this the route is
    /// served over HTTPS if the table is.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) if the name is empty or has a control character.
    pub fn cert_resolver(self, name: impl Into<String>) -> Result<Self> {
        let name: String = name.into();
        self.router_config(json!({"tls": {"certResolver": name}}))
    }

    /// Whether Traefik writes access logs for this route, counts its requests in metrics, and traces them, if its
    /// static configuration has access logs, metrics and tracing. Needs Traefik 3.3. Defaults to what the entrypoint
    /// has.
    pub fn observability(self, access_logs: bool, metrics: bool, tracing: bool) -> Self {
        let all = json!({"accessLogs": access_logs, "metrics": metrics, "tracing": tracing});
        self.with(|settings| {
            settings.router.insert("observability".into(), all);
        })
    }

    /// Settings of the service, as Traefik documents `loadBalancer`: `healthCheck`, `passHostHeader`,
    /// `passiveHealthCheck`, `responseForwarding`, `serversTransport`, `sticky`, `strategy`. A key replaces the earlier
    /// value of this key, and the one in [`extra_service_config`](crate::Builder::extra_service_config). Defaults to
    /// none.
    ///
    /// Routes whose servers and settings are equal share one service.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) with the key's name, if this crate does not know the key, or if its
    /// value has the wrong type: Traefik would reject the whole table.
    pub fn service_config(self, config: Value) -> Result<Self> {
        self.configure(config, Settings::set_service)
    }

    /// Settings of the router, as Traefik documents them: `tls` and `observability`. A key replaces the earlier value
    /// of this key. Defaults to none.
    ///
    /// A router with such settings has no parent, even if routers are [nested](Nested). `tls.options` needs a route
    /// with a host. All routes of this host must have the same `tls.options`, since Traefik chooses them by the host.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) as [`service_config`](Self::service_config).
    pub fn router_config(self, config: Value) -> Result<Self> {
        self.configure(config, Settings::set_router)
    }

    /// Gives the route a service of its own, with the name of its router, see
    /// [`Router::router_name`](crate::Router::router_name). The name stays the same when the servers change, so
    /// hand-written routers can use it. Without this, routes with the same servers and settings share one service,
    /// whose name changes with the servers.
    pub fn own_service(self) -> Self {
        self.with(|settings| settings.own_service = true)
    }

    /// Removes the path of the route from requests to the servers: on the route `/app/`, a server gets `/x` for
    /// `/app/x`. The route's other middlewares see the whole path. Defaults to the whole path.
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

    /// The same route for other requests.
    pub(crate) fn at(&self, spec: RouteSpec) -> Self {
        let route = self.clone();
        Self { spec, ..route }
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
