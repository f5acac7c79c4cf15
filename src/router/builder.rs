//! Setting up a [`Router`].

mod attach;
mod diagnose;
mod overlap;
mod remove;
mod start;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::{Value, json};

use super::certificate::made_up;
use super::host::Host;
use super::listen::Listen;
use super::verify::{PublicUrl, Verifier};
use super::{NotAsked, Router, unknown};
use crate::backend::{Backend, Contents, Setup};
use crate::config::dynamic::{self, ApiAccess};
use crate::config::static_config::StaticConfig;
use crate::config::text::{Entries as _, Syntax};
use crate::config::{MAX_WAIT, merge};
use crate::error::{Error, Result, Stored};
use crate::http::Tls;
use crate::route::{Nested, Route, Table, Version};
use crate::traefik::Api;
use crate::traefik::entrypoint::EntrypointProbe;

const DEFAULT_PUBLIC_URL: &str = "http://127.0.0.1:8000";

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

    /// The URL of Traefik's API. A started Traefik listens there. Defaults to `http://127.0.0.1:8099`.
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
    /// [`traefik_api_hashed_password`](Self::traefik_api_hashed_password).
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

    /// How long one request to the API may take. Defaults to 5 seconds.
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

    /// Whether [`attach`](Self::attach) may store two things: a router for Traefik's API, guarded by
    /// [`traefik_api_password`](Self::traefik_api_password), and
    /// [`extra_dynamic_config`](Self::extra_dynamic_config). It stores the router only if Traefik does not serve its
    /// API yet, and never in a pushed table. Defaults to `true`.
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
    /// [`replace_served_routes`](Self::replace_served_routes) is set. Defaults to the routes that are
    /// stored.
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
    /// the Router writes. It stays in the store until another Router sets it. Defaults to what is in the store.
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
    /// Defaults to `GOGC=400`,
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
    /// written before the first change. It also stores the options of the table that you have set.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if an option is not acceptable. With
    /// [`host`](Self::host) also [`Conflict`](crate::ErrorKind::Conflict) if the table has other routes, and as
    /// [`Backend::inspect`](crate::Backend::inspect).
    pub fn offline(mut self) -> Result<Router> {
        self.api_urls.clear();
        self.check_options()?;
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

    /// What [`start`](Self::start) would write to [`static_config_file`](Self::static_config_file), without the
    /// comment that marks the file as the Router's and without the reference to the private file. For a store that is
    /// pushed it names [`dynamic_config_file`](Self::dynamic_config_file) instead. The file is neither written nor
    /// read: its name only selects the syntax. Unless `with_secrets` is `true`,
    /// `REDACTED` stands for the store's password and private key.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) as [`start`](Self::start), or as
    /// [`Backend::static_config`](crate::Backend::static_config).
    pub fn static_config_text(&self, with_secrets: bool) -> Result<String> {
        self.check_options()?;
        let syntax = Syntax::of(&self.static_config_file)?;
        let (public, api) = self.listens()?;
        let entrypoint = self.default_entrypoint(&public)?;
        self.check_entrypoints(&entrypoint)?;
        let mut provider = self.backend.static_config()?;
        if self.backend.pushed().is_some() {
            let file = crate::atomic::utf8(&self.dynamic_config_file)?;
            let file = json!({"filename": file, "watch": true});
            merge(&mut provider, &json!({"providers": {"file": file}}));
        }
        let mut config = self.static_config(&public, &api, &entrypoint, provider);
        let provider = format!("/providers/{}", self.backend.provider());
        for secret in ["/password", "/tls/key"] {
            if let Some(value) = config.pointer_mut(&format!("{provider}{secret}")) {
                if !with_secrets {
                    *value = json!("REDACTED");
                }
            }
        }
        Ok(syntax.document(&config))
    }

    /// The dynamic configuration that an external Traefik needs for a pushed table: routers for its API and
    /// its REST provider, with [`traefik_api_password`](Self::traefik_api_password), a generated default certificate,
    /// which no client trusts, and [`extra_dynamic_config`](Self::extra_dynamic_config). It is for the file that
    /// [`dynamic_config_file`](Self::dynamic_config_file) names. Unless `with_secrets` is `true`, `REDACTED` stands
    /// for the password's hash and the certificate.
    ///
    /// Remove `tls.stores` if another provider of that Traefik sets the default certificate: Traefik drops both if
    /// two set one. Without a default certificate, a change takes some 40 ms more, since Traefik generates one each
    /// time.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if an option is not acceptable, if there is no
    /// password, or if Traefik reads the store by itself.
    pub fn dynamic_config_text(&self, with_secrets: bool) -> Result<String> {
        self.check_options()?;
        let syntax = Syntax::of(&self.dynamic_config_file)?;
        if self.backend.pushed().is_none() {
            return Err(Error::invalid(
                "Traefik reads its dynamic configuration from this store; only a table that is pushed needs \
                 a file beside it",
            ));
        }
        let Some(password) = &self.api_password else {
            return Err(Error::invalid(
                "anybody who may push a table controls Traefik: set a password (`traefik_api_password`)",
            ));
        };
        let mut api = self.api_access(password)?;
        if !with_secrets {
            api.password_hash = "REDACTED".into();
        }
        let mut config = api.config("");
        merge(&mut config, &api.rest_config());
        // Without a default certificate Traefik makes one up at each change. It takes the text of one, too.
        let pem = match with_secrets {
            true => made_up()?.pem,
            false => "REDACTED".into(),
        };
        merge(&mut config, &dynamic::certificate(&pem));
        if let Some(extra) = &self.extra_dynamic_config {
            merge(&mut config, extra);
        }
        let text = syntax.document(&config);
        if !text.contains("{{") {
            return Ok(text);
        }
        // Traefik would run it as a template. Entries hold none, but are hard to read.
        let parts = config.as_object().into_iter().flatten();
        Ok(parts.map(|(name, part)| syntax.entry(name, part)).collect())
    }

    fn static_config(
        &self,
        public: &Listen,
        api: &Listen,
        entrypoint: &str,
        provider: Value,
    ) -> Value {
        let config = StaticConfig {
            entrypoint: public.entrypoint(entrypoint),
            api: api.entrypoint(&self.api_entrypoint),
            throttle: self.throttle,
            grace: self.stop_timeout,
            log_level: &self.log_level,
            provider,
            extra: &self.extra_static_config,
        };
        config.to_value()
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

    fn public(&self) -> Result<Listen> {
        let url = self.public_url.as_deref().unwrap_or(DEFAULT_PUBLIC_URL);
        Listen::parse("public_url", url)
    }

    /// Where a started Traefik listens: for requests, and with its API.
    fn listens(&self) -> Result<(Listen, Listen)> {
        let [api_url] = &*self.api_urls else {
            return Err(Error::invalid(
                "a Traefik that is started has one API URL (`traefik_api_urls`)",
            ));
        };
        let api = Listen::parse("traefik_api_url", api_url)?;
        if api.tls {
            return Err(Error::invalid(
                "the API of a Traefik that is started is served without TLS; begin `traefik_api_url` \
                 with http://",
            ));
        }
        Ok((self.public()?, api))
    }

    /// The entrypoint of a table that has none yet.
    fn default_entrypoint(&self, public: &Listen) -> Result<String> {
        let default = if public.tls { "https" } else { "http" };
        let name = self.entrypoint.as_deref().unwrap_or(default);
        for (option, name) in [
            ("traefik_entrypoint", name),
            ("traefik_api_entrypoint", &self.api_entrypoint),
        ] {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if name.is_empty() || !name.bytes().all(is_plain) {
                return Err(Error::invalid(format!(
                    "`{option}` {name:?} is no entrypoint's name: letters, digits, '-' and '_'"
                )));
            }
        }
        Ok(name.into())
    }

    /// The entrypoint that routes are going to be served on.
    fn entrypoint_over(&self, stored: &Contents, public: &Listen) -> Result<String> {
        let default = self.default_entrypoint(public)?;
        let name = match &self.entrypoint {
            None if !stored.entrypoint.is_empty() => stored.entrypoint.clone(),
            _ => default,
        };
        self.check_entrypoints(&name)?;
        Ok(name)
    }

    /// On one entrypoint the API would answer in place of routes.
    fn check_entrypoints(&self, entrypoint: &str) -> Result<()> {
        if *entrypoint == self.api_entrypoint {
            return Err(Error::invalid(format!(
                "routes and Traefik's API must have entrypoints of their own, and both have \
                 {entrypoint:?} (`traefik_entrypoint`, `traefik_api_entrypoint`)"
            )));
        }
        Ok(())
    }

    /// Refuses options that are wrong with any store.
    fn check_options(&self) -> Result<()> {
        for (option, config) in [
            ("extra_dynamic_config", self.extra_dynamic_config.as_ref()),
            ("extra_service_config", self.extra_service_config.as_ref()),
            ("extra_static_config", Some(&self.extra_static_config)),
        ] {
            if config.is_some_and(|config| !config.is_object()) {
                return Err(Error::invalid(format!(
                    "`{option}` must be a map, as Traefik documents it"
                )));
            }
        }
        if let Some(config) = &self.extra_dynamic_config {
            dynamic::entries(config)?;
        }
        let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "PANIC"];
        if !levels.contains(&&*self.log_level.to_uppercase()) {
            // Traefik would start all the same, and log what it likes.
            return Err(Error::invalid(format!(
                "`traefik_log_level` {:?} is none that Traefik has: {}",
                self.log_level,
                levels.join(", ")
            )));
        }
        let all = self.api_urls.len();
        match self.quorum {
            Some(quorum) if all > 0 && !(1..=all).contains(&quorum) => {
                return Err(Error::invalid(format!(
                    "`traefik_quorum` is {quorum}, and there are {all} Traefiks (`traefik_api_urls`): \
                     choose 1 to {all}"
                )));
            }
            _ => {}
        }
        if let Some(hash) = &self.api_hashed_password {
            let Some(password) = &self.api_password else {
                return Err(Error::invalid(
                    "`traefik_api_hashed_password` needs `traefik_api_password` beside it",
                ));
            };
            if !dynamic::is_password_hash(hash) {
                return Err(Error::invalid(
                    "`traefik_api_hashed_password` is no hash that Traefik takes: {SHA}, $apr1$ or \
                     bcrypt, as htpasswd writes them",
                ));
            }
            if dynamic::is_hash_of(hash, password) == Some(false) {
                return Err(Error::invalid(
                    "`traefik_api_hashed_password` is not the hash of `traefik_api_password`: Traefik would \
                     refuse that password",
                ));
            }
        }
        if !self.throttle.is_zero() && self.throttle >= self.check_route_timeout {
            return Err(Error::invalid(format!(
                "`traefik_providers_throttle_duration` is {:?}, and a change has to be served within \
                 `check_route_timeout`, {:?}: choose a shorter throttle or a longer timeout",
                self.throttle, self.check_route_timeout
            )));
        }
        self.username().map(drop)
    }

    /// How to guard an API that we set up.
    fn api_access(&self, password: &str) -> Result<ApiAccess> {
        Ok(ApiAccess {
            entrypoint: self.api_entrypoint.clone(),
            username: self.username()?,
            password: password.into(),
            given: self.api_password.is_some(),
            password_hash: self.password_hash(password)?,
            metrics: self.metrics_router,
        })
    }

    fn username(&self) -> Result<String> {
        let name = &self.api_username;
        let refused = |c: char| c.is_control() || ":,\u{2551}".contains(c);
        if name.is_empty() || name.trim() != name || name.chars().any(refused) {
            return Err(Error::invalid(
                "`traefik_api_username` must not be empty, begin or end with a space, or contain ':', \
                 ',', '\u{2551}' or control characters: Traefik would read another name",
            ));
        }
        Ok(name.clone())
    }

    fn password_hash(&self, password: &str) -> Result<String> {
        if let Some(hash) = &self.api_hashed_password {
            return Ok(hash.clone());
        }
        #[cfg(feature = "bcrypt")]
        if let Some(cost) = self.bcrypt_cost {
            return match bcrypt::hash(password, cost) {
                Ok(hash) => Ok(hash),
                Err(error) => Err(Error::invalid("`bcrypt_cost`").with_source(error)),
            };
        }
        Ok(dynamic::fast_hash(password))
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

    fn apis(&self, password: Option<&str>) -> Result<Vec<Api>> {
        let api = |url| {
            let api = Api::with_tls(url, &self.api_tls)?.timeout(self.api_timeout);
            Ok(match password {
                Some(password) => api.basic_auth(&self.api_username, password),
                None => api,
            })
        };
        self.api_urls.iter().map(api).collect()
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
