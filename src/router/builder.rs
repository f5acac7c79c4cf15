//! Setting up a [`Router`].

mod api_access;
mod attach;
mod check;
mod diagnose;
mod entrypoints;
mod overlap;
mod printed;
mod remove;
mod start;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::{Value, json};

use super::host::Host;
use super::listen::Listen;
use super::verify::{PublicUrl, Verifier};
use super::{NotAsked, Router, unknown};
use crate::backend::{Backend, Setup};
use crate::config::MAX_WAIT;
use crate::error::{Error, Result, Stored};
use crate::http::Tls;
use crate::route::{Nested, Route, Table, Version};
use crate::traefik::Api;
use crate::traefik::entrypoint::EntrypointProbe;

/// The options of a [`Router`], and three ways to make one:
///
/// - [`start`](Self::start) a Traefik for this Router,
/// - [`attach`](Self::attach) to *external* Traefiks, which this Router does not start,
/// - stay [`offline`](Self::offline) and work on the store alone.
///
/// [`diagnose`](Self::diagnose) reports problems beforehand.
///
/// Options that jupyterhub-traefik-proxy has, too, have the same names here.
#[must_use = "a Router is made by `start`, `attach` or `offline`"]
pub struct Builder {
    backend: Arc<dyn Backend>,
    public_url: Option<String>,
    entrypoint: Option<String>,
    api_entrypoint: String,
    api_urls: Vec<String>,
    quorum: Option<usize>,
    api_username: String,
    api_password: Option<String>,
    api_hashed_password: Option<String>,
    #[cfg(feature = "bcrypt")]
    bcrypt_cost: Option<u32>,
    api_tls: Tls,
    api_timeout: Duration,
    check_route_timeout: Duration,
    setup_dynamic_config: bool,
    ssl: (Option<PathBuf>, Option<PathBuf>),
    extra_dynamic_config: Option<Value>,
    replace_api: bool,
    metrics_router: bool,
    initial_routes: Option<Table>,
    replace_served: bool,
    extra_service_config: Option<Value>,
    entrypoint_middleware: Option<String>,
    traefik_bin: PathBuf,
    static_config_file: PathBuf,
    extra_static_config: Value,
    nested: Option<Nested>,
    host: Option<String>,
    throttle: Duration,
    dynamic_config_file: PathBuf,
    keeper_interval: Duration,
    cancelled: Arc<AtomicBool>,
    commit_wait: Duration,
    replace_pushed: bool,
    log_level: String,
    env: Vec<(OsString, OsString)>,
    stop_timeout: Duration,
}

impl Router {
    /// Starts to set up a Router that keeps its routes in `backend`.
    pub fn builder(backend: impl Backend) -> Builder {
        Builder::new(Arc::new(backend))
    }
}

impl Builder {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            public_url: None,
            entrypoint: None,
            api_entrypoint: "auth_api".into(),
            api_urls: vec!["http://127.0.0.1:8099".into()],
            quorum: None,
            api_username: "jupyterhub".into(),
            api_password: None,
            api_hashed_password: None,
            #[cfg(feature = "bcrypt")]
            bcrypt_cost: None,
            api_tls: Tls::new(),
            api_timeout: Duration::from_secs(5),
            check_route_timeout: Duration::from_secs(30),
            setup_dynamic_config: true,
            ssl: (None, None),
            extra_dynamic_config: None,
            replace_api: false,
            metrics_router: false,
            initial_routes: None,
            replace_served: false,
            extra_service_config: None,
            entrypoint_middleware: None,
            traefik_bin: "traefik".into(),
            static_config_file: "traefik.toml".into(),
            extra_static_config: json!({}),
            nested: None,
            host: None,
            throttle: Duration::ZERO,
            dynamic_config_file: "dynamic.toml".into(),
            keeper_interval: Duration::from_secs(1),
            cancelled: Arc::default(),
            commit_wait: Duration::from_millis(250),
            replace_pushed: false,
            log_level: "ERROR".into(),
            env: collector(),
            stop_timeout: Duration::from_secs(5),
        }
    }

    /// The URL that requests come in at. A started Traefik listens there; with `https` it uses
    /// [`ssl`](Self::ssl), or else a generated certificate, which no client trusts.
    /// `http://:8000` means all addresses. Defaults to `http://127.0.0.1:8000`.
    ///
    /// With [`start`](Self::start), or if it is set, a change counts as served only once it is served at this URL;
    /// [`Applied::verified`](crate::Applied::verified) says whether that could be checked. With
    /// [`attach`](Self::attach) it also decides whether routers carry `tls`: they do if the URL begins with `https`
    /// and Traefik's entrypoint has no TLS of its own. If a proxy in front of Traefik terminates TLS, give the URL
    /// that the proxy sends requests to.
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.public_url = Some(url.into());
        self
    }

    /// The name of the entrypoint that routes are served on. All routes of a table use the same entrypoint: another
    /// name moves all of them. Defaults to the one that is stored; for a new table to
    /// `http` or `https`, as [`public_url`](Self::public_url) begins.
    pub fn traefik_entrypoint(mut self, name: impl Into<String>) -> Self {
        self.entrypoint = Some(name.into());
        self
    }

    /// The name of the entrypoint that Traefik's API is served on. Defaults to `auth_api`.
    pub fn traefik_api_entrypoint(mut self, name: impl Into<String>) -> Self {
        self.api_entrypoint = name.into();
        self
    }

    /// The URL of Traefik's API. A started Traefik listens there, on 127.0.0.1 if the host is `localhost`. Defaults
    /// to `http://127.0.0.1:8099`.
    pub fn traefik_api_url(self, url: impl Into<String>) -> Self {
        self.traefik_api_urls([url])
    }

    /// The URLs of the APIs of several Traefiks that read the same store, or get its table. A change is served once
    /// all of them serve it, or as many as [`traefik_quorum`](Self::traefik_quorum) says. They are asked in parallel,
    /// each by a thread that ends with the call. [`start`](Self::start) takes exactly one URL.
    pub fn traefik_api_urls<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.api_urls = urls.into_iter().map(Into::into).collect();
        self
    }

    /// How many of several Traefiks have to serve a change, from 1 to all; the others may lag or be
    /// down. One that accepts connections but does not answer delays a call by a quarter of a second, and a push by
    /// half a second more for each megabyte of the table. Defaults to all.
    pub fn traefik_quorum(mut self, quorum: usize) -> Self {
        self.quorum = Some(quorum);
        self
    }

    /// The user name for Traefik's API. Defaults to `jupyterhub`.
    pub fn traefik_api_username(mut self, username: impl Into<String>) -> Self {
        self.api_username = username.into();
        self
    }

    /// The password for Traefik's API. With [`start`](Self::start) it defaults to 256 random bits. With
    /// [`attach`](Self::attach) it defaults to none: then the API must need no password, and no router is stored for
    /// it.
    ///
    /// Traefik checks it at each request to the API, and each change sends such requests. So it is stored as a fast
    /// hash (`{SHA}`), which is as safe for a random password. For one that a person
    /// chose, see `bcrypt_cost` (with the feature `bcrypt`), or
    /// [`traefik_api_hashed_password`](Self::traefik_api_hashed_password). An empty one is refused.
    pub fn traefik_api_password(mut self, password: impl Into<String>) -> Self {
        self.api_password = Some(password.into());
        self
    }

    /// The hash to store for Traefik's API, as its basicAuth takes it: `{SHA}…`, `$apr1$…` or
    /// bcrypt. It must be the hash of [`traefik_api_password`](Self::traefik_api_password). This is checked for
    /// `{SHA}`, and for bcrypt with the feature `bcrypt`.
    /// Defaults to a hash that the Router makes.
    pub fn traefik_api_hashed_password(mut self, hash: impl Into<String>) -> Self {
        self.api_hashed_password = Some(hash.into());
        self
    }

    /// Stores the password as bcrypt with this cost, 4 to 31. Each request to the API, and there
    /// is at least one for each change, then takes Traefik 1.6 ms of CPU at cost 5, 50 ms at 10
    /// and 265 ms at 12 (measured on Traefik 3.7.15). Defaults to a fast hash instead.
    #[cfg(feature = "bcrypt")]
    pub fn bcrypt_cost(mut self, cost: u32) -> Self {
        self.bcrypt_cost = Some(cost);
        self
    }

    /// The TLS options for an API whose URL begins with `https`. Defaults to
    /// [`Tls::new`](crate::Tls::new): full validation.
    pub fn traefik_api_tls(mut self, tls: Tls) -> Self {
        self.api_tls = tls;
        self
    }

    /// How long one request to the API may take, but not longer than is left of
    /// [`check_route_timeout`](Self::check_route_timeout). Defaults to 5 seconds.
    pub fn traefik_api_timeout(mut self, timeout: Duration) -> Self {
        self.api_timeout = timeout.min(MAX_WAIT);
        self
    }

    /// How long a change may take until every Traefik serves it. Defaults to 30 seconds.
    ///
    /// This time begins once the change is stored. Until then the store has bounds of its own:
    /// [`FileBackend::lock_timeout`](crate::FileBackend::lock_timeout), or
    /// [`KvBackend::conflict_timeout`](crate::KvBackend::conflict_timeout) and
    /// [`Etcd::timeout`](crate::Etcd::timeout). A change that comes while this Router makes another
    /// one waits for that one first, so it may take twice as long. Changes that wait share one commit.
    pub fn check_route_timeout(mut self, timeout: Duration) -> Self {
        self.check_route_timeout = timeout.min(MAX_WAIT);
        self
    }

    /// Whether [`attach`](Self::attach) may store configuration beside the routes. It has no effect on
    /// [`start`](Self::start). If it is `true`:
    ///
    /// - `attach` stores a router for Traefik's API, guarded by [`traefik_api_password`](Self::traefik_api_password),
    ///   if the API answers 404. A set [`replace_api_router`](Self::replace_api_router) also replaces one that
    ///   another Router has stored and that refuses the password. With [`metrics_router`](Self::metrics_router)
    ///   it stores the router for the metrics beside that router, also if that one is stored already. It stores none
    ///   of these without a password or in a pushed table.
    /// - `attach` stores [`extra_dynamic_config`](Self::extra_dynamic_config) if that is set, in a pushed table as
    ///   well.
    ///
    /// If it is `false`, `attach` stores neither, and what is stored stays. Defaults to `true`.
    pub fn enable_setup_dynamic_config(mut self, enable: bool) -> Self {
        self.setup_dynamic_config = enable;
        self
    }

    /// Whether [`attach`](Self::attach) may replace the API's router and password that another Router
    /// has stored, such as to change the password. With [`start`](Self::start) it replaces those that
    /// an `attach` has left in a file. A hand-written router is never replaced. Defaults to `false`.
    pub fn replace_api_router(mut self, replace: bool) -> Self {
        self.replace_api = replace;
        self
    }

    /// Whether to set up, beside the router for Traefik's API, one for its metrics: at `/metrics` on the same
    /// entrypoint and with the same password; [`dynamic_config_text`](Self::dynamic_config_text) then has
    /// both. Traefik disables that router unless its static configuration has `metrics.prometheus`. Defaults to
    /// `false`.
    pub fn metrics_router(mut self, metrics: bool) -> Self {
        self.metrics_router = metrics;
        self
    }

    /// The routes to begin with: [`start`](Self::start) makes the table equal to them before Traefik
    /// serves any. It is refused if another program serves routes from the same store, unless
    /// [`replace_served_routes`](Self::replace_served_routes) is set. [`attach`](Self::attach) and
    /// [`offline`](Self::offline) refuse it. Defaults to the routes that are stored.
    pub fn initial_routes(mut self, routes: impl IntoIterator<Item = Route>) -> Self {
        self.initial_routes = Some(routes.into_iter().collect());
        self
    }

    /// Whether [`initial_routes`](Self::initial_routes) may replace routes that another program
    /// serves. Defaults to `false`.
    pub fn replace_served_routes(mut self, replace: bool) -> Self {
        self.replace_served = replace;
        self
    }

    /// The files, in PEM, of the certificate and the private key for HTTPS, for a started Traefik. The server's own
    /// certificate comes first. Traefik gets a private copy of both. If you renew the files, it gets the new pair with
    /// the next change, or by [`Router::renew_certificate`]. While the two do not match, it keeps the old pair.
    /// Defaults to a generated certificate.
    pub fn ssl(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.ssl = (Some(cert.into()), Some(key.into()));
        self
    }

    /// More dynamic configuration, as Traefik documents it: middlewares, other routers, TLS options. It is merged
    /// over the configuration that the Router writes. A `null` removes the key.
    ///
    /// A started Traefik reads it from a file, with any store: its names end in `@file`.
    /// With [`attach`](Self::attach) it is stored with the table, until another Router sets it, and its names
    /// end in the store's [provider](crate::Backend::provider). A router in it that names no `entryPoints` is
    /// served on the entrypoint of the routes, with TLS if they have it. Defaults to none, or with `attach` to what
    /// is stored.
    pub fn extra_dynamic_config(mut self, config: Value) -> Self {
        self.extra_dynamic_config = Some(config);
        self
    }

    /// More configuration of the services of all routes, as Traefik documents a service's
    /// `loadBalancer`: `serversTransport`, `passHostHeader`, a health check. It is merged over the configuration that
    /// the Router writes. It may have the keys of [`Route::service_config`]; any other is refused. It stays in the store
    /// until another Router sets it. Defaults to what is in the store.
    pub fn extra_service_config(mut self, config: Value) -> Self {
        self.extra_service_config = Some(config);
        self
    }

    /// The name of a middleware that requests for all routes go through, such as one that
    /// [`extra_dynamic_config`](Self::extra_dynamic_config) has; a `chain` stands for several. A name
    /// without an `@` is looked up in the store's [provider](crate::Backend::provider). The routers at
    /// the entrypoint have it, and Traefik disables them if there is no such middleware. It stays in the
    /// store until another Router sets it, or replaces the `extra_dynamic_config` that it is in; the empty name
    /// removes it. Defaults to what is in the store.
    pub fn entrypoint_middleware(mut self, name: impl Into<String>) -> Self {
        self.entrypoint_middleware = Some(name.into());
        self
    }

    /// Whether Traefik's routers are nested, so that requests are served as fast with thousands of routes as with a
    /// few. It holds for the whole table, until another Router sets
    /// it. Defaults to what is stored with the table.
    ///
    /// Needs Traefik 3.6 or later, since an older one would reject the whole table. A new table has no nested routers
    /// until the first [`start`](Self::start) or [`attach`](Self::attach) has read its Traefiks' versions. It then
    /// stores [`Nested::Auto`], or [`Nested::Never`] if one of them is older. If an older Traefik is added later,
    /// `Never` is stored if no router is nested yet; else that Traefik is refused.
    pub fn nested_routers(mut self, nested: Nested) -> Self {
        self.nested = Some(nested);
        self
    }

    /// Limits the table to one host, such as `hub.example.org`, so that several tables can share a Traefik: all
    /// routes match requests to this host only. You write and get routespecs without the host, `/user/zoe/`. The
    /// store and messages have the full routespec, `hub.example.org/user/zoe/`. So does a Router without this option.
    ///
    /// A routespec with another host is refused ([`InvalidRoute`](crate::ErrorKind::InvalidRoute)). A table that has
    /// routes of other hosts is refused ([`Conflict`](crate::ErrorKind::Conflict)) by [`start`](Self::start),
    /// [`attach`](Self::attach), [`offline`](Self::offline), each change and each read, and nothing is written. For
    /// this `offline` reads the store. Routers of
    /// [`extra_dynamic_config`](Self::extra_dynamic_config) stay as they are. Defaults to any host.
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.host = Some(name.into());
        self
    }

    /// The Traefik binary to start: a path, or a name on PATH. Defaults to `traefik`.
    pub fn traefik_bin(mut self, program: impl Into<PathBuf>) -> Self {
        self.traefik_bin = program.into();
        self
    }

    /// The file for the static configuration of a started Traefik, `.toml` or (with the
    /// feature `yaml`) `.yaml`. It is removed when Traefik is stopped. Defaults to `traefik.toml`.
    pub fn static_config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.static_config_file = path.into();
        self
    }

    /// The file in which an external Traefik will find
    /// [`dynamic_config_text`](Self::dynamic_config_text), `.toml` or (with the feature `yaml`) `.yaml`.
    /// [`static_config_text`](Self::static_config_text) names it for a store that is pushed. The Router does not
    /// write it. A relative path is relative to the folder that Traefik is started in. Defaults to
    /// `dynamic.toml`.
    pub fn dynamic_config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.dynamic_config_file = path.into();
        self
    }

    /// More static configuration, as Traefik documents it. It is merged over the configuration that the Router writes.
    /// In it, the entrypoints of [`public_url`](Self::public_url) and [`traefik_api_url`](Self::traefik_api_url) must
    /// listen at these URLs.
    /// Defaults to none.
    pub fn extra_static_config(mut self, config: Value) -> Self {
        self.extra_static_config = config;
        self
    }

    /// The setting `providersThrottleDuration` in the static configuration of a started Traefik: how long it waits
    /// after a change before it loads the next one. It has no effect on an external Traefik, where Traefik's own
    /// default of 2 seconds may delay each change that long. It must be shorter than
    /// [`check_route_timeout`](Self::check_route_timeout). Defaults to zero: Traefik loads changes as fast as it can,
    /// and several at once if they come faster.
    pub fn traefik_providers_throttle_duration(mut self, throttle: Duration) -> Self {
        self.throttle = throttle.min(MAX_WAIT);
        self
    }

    /// How long a change may wait for other changes before it is stored, so that they share one reload of
    /// Traefik. A change waits only if several threads make changes in quick succession. The wait ends when as many
    /// calls wait as shared the last commit or came during it, or after a quarter of the time of that commit. If a
    /// wait brought few calls, the next changes do not wait.
    /// [`Applied::callers`](crate::Applied::callers) says how many calls shared a commit. Zero disables the wait.
    /// Defaults to 250 milliseconds.
    pub fn commit_wait(mut self, longest: Duration) -> Self {
        self.commit_wait = longest.min(MAX_WAIT);
        self
    }

    /// How often a Router whose store is pushed ([`MemoryBackend`](crate::MemoryBackend)) asks its Traefiks
    /// whether they still have the table. A Traefik that was restarted or unreachable gets the table again, without a
    /// call. This takes one thread, which ends with the Router, and sends one small request to each Traefik each time.
    /// At least 10 milliseconds. Defaults to 1 second.
    pub fn keeper_interval(mut self, interval: Duration) -> Self {
        self.keeper_interval = interval.clamp(Duration::from_millis(10), MAX_WAIT);
        self
    }

    /// A flag that cancels waits. While it is `true`, an [`attach`](Self::attach) that waits for Traefiks fails and
    /// removes what it has stored. A change that waits for them fails, too, but stays stored. The error is
    /// [`NotLoaded`](crate::ErrorKind::NotLoaded). A request that was sent is completed first. Defaults to none.
    pub fn cancelled_by(mut self, flag: Arc<AtomicBool>) -> Self {
        self.cancelled = flag;
        self
    }

    /// Whether [`attach`](Self::attach) may replace what a Traefik's REST provider has: the table of another
    /// [name](crate::MemoryBackend::named), a table of the same name if this backend has routes already, or
    /// configuration of a program of another kind. Without this option `attach` then fails with
    /// [`InUse`](crate::ErrorKind::InUse).
    ///
    /// The Router whose table was replaced finds that out at its next change, or within a
    /// [`keeper_interval`](Self::keeper_interval). Its changes then fail with
    /// [`Conflict`](crate::ErrorKind::Conflict). There is one exception: a change that is sent at the same moment as
    /// the other table may still replace it. Defaults to `false`.
    pub fn replace_pushed_table(mut self, replace: bool) -> Self {
        self.replace_pushed = replace;
        self
    }

    /// The log level of a started Traefik: `TRACE`, `DEBUG`, `INFO`, `WARN`, `ERROR`, `FATAL` or `PANIC`. Its log goes
    /// to the log of your program, with the target `traefik`. Defaults to `ERROR`.
    pub fn traefik_log_level(mut self, level: impl Into<String>) -> Self {
        self.log_level = level.into();
        self
    }

    /// An environment variable for a started Traefik. It also inherits those of your program, with these exceptions:
    ///
    /// - `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capital or small letters. Traefik would send
    ///   users' requests through that proxy, with their cookies and tokens. If Traefik itself needs a proxy, as for
    ///   certificates by ACME, set `HTTPS_PROXY` here, and a `NO_PROXY` that has the hosts of all targets.
    /// - `CONFIGPROXY_AUTH_TOKEN`, `ETCD_PASSWORD`, `REDIS_PASSWORD` and `TRAEFIK_API_PASSWORD`. They are secrets of
    ///   `traefik-router`.
    ///
    /// A name that is empty or contains `=`, and a NUL byte in a name or value, are refused. Defaults to `GOGC=400`,
    /// unless your program has `GOGC` or `GOMEMLIMIT`: Traefik collects garbage a quarter as often as it
    /// would by itself, and takes about a third less time for reloads of large tables. But it takes
    /// more memory at its peak: 117 instead of 95 MB without routes, 176 instead of 125 at 1,000, 624
    /// instead of 350 at 10,000.
    pub fn traefik_env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// How long Traefik may take to stop: running requests may finish until then.
    /// Defaults to 5 seconds.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout.min(MAX_WAIT);
        self
    }

    /// Works on the store alone: changes return when they are stored, whether a Traefik loads them or not. Nothing is
    /// written before the first change. It also stores the options of the table that you have set. Options for a
    /// Traefik have no effect.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if an option is not acceptable. With
    /// [`host`](Self::host) also [`Conflict`](crate::ErrorKind::Conflict) if the table has other routes, and as
    /// [`Backend::inspect`](crate::Backend::inspect).
    pub fn offline(mut self) -> Result<Router> {
        self.api_urls.clear();
        self.check_options()?;
        if self.initial_routes.is_some() {
            return Err(Error::invalid(
                "`initial_routes` are for a Traefik that is started; `Router::reconcile` makes the table equal to a list \
                 of routes",
            ));
        }
        let public = self.public()?;
        let host = self.confined()?;
        if self.host.is_some() {
            host.check(&self.backend.inspect()?.unwrap_or_default().routes)?;
        }
        let setup = self.setup(&self.default_entrypoint(&public)?);
        let verifier = Verifier::new(
            Vec::new(),
            self.backend.provider(),
            self.check_route_timeout,
            None,
            PublicUrl::Not(NotAsked::Offline),
        );
        let router = Router::new(self.backend, verifier, self.commit_wait, host);
        Ok(router.first_storing(setup))
    }

    /// The host that routes are for.
    fn confined(&self) -> Result<Host> {
        self.host.as_deref().map_or(Ok(Host::default()), Host::new)
    }

    /// What is set of the table's own options.
    fn setup(&self, default_entrypoint: &str) -> Setup {
        Setup {
            entrypoint: self.entrypoint.clone(),
            default_entrypoint: default_entrypoint.into(),
            service: self.extra_service_config.clone(),
            middleware: self.entrypoint_middleware.clone(),
            nested: self.nested,
            ..Setup::default()
        }
    }

    fn verifier(&self, apis: Vec<Api>, public: PublicUrl) -> Verifier {
        Verifier::new(
            apis,
            self.backend.provider(),
            self.check_route_timeout,
            self.quorum,
            public,
        )
        .cancelled_by(&self.cancelled)
        .delivering(&self.backend)
    }

    /// Takes back what was stored for a Router that can't be set up.
    fn undo(&self, error: Error) -> Error {
        let reverted = self.backend.revert();
        if !matches!(error.stored(), Stored::Nothing | Stored::All) {
            // A store that went away knows better.
            return error;
        }
        match reverted {
            Ok(true) => error.with_stored(Stored::Nothing),
            Ok(false) => {
                let why = "another program has written to the store meanwhile, so what was stored for this Router stays";
                error.context(why).with_stored(Stored::All)
            }
            Err(second) => {
                let why = format!("what was stored for this Router can't be taken back ({second})");
                error.context(why).with_stored(Stored::Unknown)
            }
        }
    }
}

/// Environment variables for Traefik's garbage collector, unless this program has some.
fn collector() -> Vec<(OsString, OsString)> {
    let given = ["GOGC", "GOMEMLIMIT"].map(std::env::var_os);
    if given.iter().any(Option::is_some) {
        return Vec::new();
    }
    vec![("GOGC".into(), "400".into())]
}

/// Fails if a Traefik of this version is too old for what one of the routes asks for.
fn check_routes(routes: &Table, version: Option<Version>) -> Result<()> {
    match routes.iter().find_map(|route| unknown(route, version)) {
        Some(why) => Err(Error::invalid(why)),
        None => Ok(()),
    }
}

/// The probe of requests to a URL.
fn probe(public: &Listen) -> PublicUrl {
    match EntrypointProbe::new(&public.url()) {
        Ok(probe) => PublicUrl::Ask(probe),
        // Without the feature `tls`, an entrypoint that speaks it can't be asked.
        Err(error) => PublicUrl::Not(NotAsked::Unreachable {
            reason: error.to_string(),
        }),
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Passwords, Traefik's environment and extra configuration may hold secrets.
        f.debug_struct("Builder")
            .field("backend", &self.backend)
            .field("public_url", &self.public_url)
            .field("traefik_api_urls", &self.api_urls)
            .field("static_config_file", &self.static_config_file)
            .finish_non_exhaustive()
    }
}
