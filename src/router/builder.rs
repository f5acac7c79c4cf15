//! Setting up a [`Router`].

mod diagnose;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Router;
use super::listen::Listen;
use super::managed::{Managed, StaticFile};
use super::verify::Verifier;
use crate::backend::{Backend, Commit, Setup};
use crate::config::FOREVER;
use crate::config::dynamic::{self, ApiAccess};
use crate::config::static_config::StaticConfig;
use crate::config::text::Syntax;
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::http::Tls;
use crate::route::Nested;
use crate::traefik::Api;
use crate::traefik::entrypoint::Served;
use crate::traefik::process::Launch;

/// The options of a [`Router`], and three ways to make one of them:
///
/// - [`start`](Self::start) a Traefik of our own,
/// - [`attach`](Self::attach) to one that somebody else runs,
/// - stay [`offline`](Self::offline) and work on the store alone.
///
/// [`diagnose`](Self::diagnose) tells what would be in the way.
///
/// Options bear the names that jupyterhub-traefik-proxy documents.
#[must_use = "a Router is made by `start`, `attach` or `offline`"]
pub struct Builder {
    backend: Box<dyn Backend>,
    public_url: String,
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
    extra_dynamic_config: Value,
    extra_service_config: Option<Value>,
    traefik_bin: PathBuf,
    static_config_file: PathBuf,
    extra_static_config: Value,
    nested: Option<Nested>,
    throttle: Duration,
    log_level: String,
    env: Vec<(OsString, OsString)>,
    stop_timeout: Duration,
}

impl Builder {
    pub(super) fn new(backend: Box<dyn Backend>) -> Self {
        Self {
            backend,
            public_url: "http://127.0.0.1:8000".into(),
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
            extra_dynamic_config: json!({}),
            extra_service_config: None,
            traefik_bin: "traefik".into(),
            static_config_file: "traefik.toml".into(),
            extra_static_config: json!({}),
            nested: None,
            throttle: Duration::ZERO,
            log_level: "ERROR".into(),
            env: collector(),
            stop_timeout: Duration::from_secs(5),
        }
    }

    /// Where Traefik listens for requests. With `https` it uses [`ssl`](Self::ssl), or else a
    /// certificate that is made up and that no client trusts. `http://:8000` means all addresses.
    /// Defaults to `http://127.0.0.1:8000`.
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.public_url = url.into();
        self
    }

    /// The name of the entrypoint that routes are served on. All routes of a store are served on
    /// one; the last Router that was set up decides. Defaults to `http` or `https`, as
    /// [`public_url`](Self::public_url) begins.
    pub fn traefik_entrypoint(mut self, name: impl Into<String>) -> Self {
        self.entrypoint = Some(name.into());
        self
    }

    /// The name of the entrypoint that Traefik's API is served on. Defaults to `auth_api`.
    pub fn traefik_api_entrypoint(mut self, name: impl Into<String>) -> Self {
        self.api_entrypoint = name.into();
        self
    }

    /// Where Traefik's API is. A Traefik that we start listens there. Defaults to
    /// `http://127.0.0.1:8099`.
    pub fn traefik_api_url(self, url: impl Into<String>) -> Self {
        self.traefik_api_urls([url])
    }

    /// Where the APIs of several Traefiks are that read the same store. A change is served once
    /// all of them serve it, or as many as [`traefik_quorum`](Self::traefik_quorum) says. They are
    /// asked at the same time, each by a thread that lives as long as the call.
    pub fn traefik_api_urls<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.api_urls = urls.into_iter().map(Into::into).collect();
        self
    }

    /// How many of several Traefiks have to serve a change, at least 1; the others may lag or be
    /// down. A call can still last [`traefik_api_timeout`](Self::traefik_api_timeout) if one of
    /// them takes connections and does not answer. Defaults to all.
    pub fn traefik_quorum(mut self, quorum: usize) -> Self {
        self.quorum = Some(quorum.max(1));
        self
    }

    /// The user name for Traefik's API. Defaults to `jupyterhub`.
    pub fn traefik_api_username(mut self, username: impl Into<String>) -> Self {
        self.api_username = username.into();
        self
    }

    /// The password for Traefik's API. For a Traefik that we start it defaults to 256 random bits;
    /// for another one to none: then the API must be open to us, and we set up no router for it.
    ///
    /// Traefik checks it at each request to the API, and we ask at each change; so it is stored as
    /// a fast hash (`{SHA}`). That loses nothing for a random password. For one that a person
    /// chose, see `bcrypt_cost` (with the feature `bcrypt`), or
    /// [`traefik_api_hashed_password`](Self::traefik_api_hashed_password).
    pub fn traefik_api_password(mut self, password: impl Into<String>) -> Self {
        self.api_password = Some(password.into());
        self
    }

    /// The hash to store for Traefik's API, as its basicAuth takes it: `{SHA}…`, `$apr1$…` or
    /// bcrypt. It must be the hash of [`traefik_api_password`](Self::traefik_api_password).
    /// Defaults to a hash that we make.
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

    /// How TLS is done towards an API whose URL begins with `https`. Defaults to
    /// [`Tls::new`](crate::Tls::new): full validation.
    pub fn traefik_api_tls(mut self, tls: Tls) -> Self {
        self.api_tls = tls;
        self
    }

    /// How long one request to the API may take. Defaults to 5 seconds.
    pub fn traefik_api_timeout(mut self, timeout: Duration) -> Self {
        self.api_timeout = timeout.min(FOREVER);
        self
    }

    /// How long a change may take until every Traefik serves it. Defaults to 30 seconds.
    pub fn check_route_timeout(mut self, timeout: Duration) -> Self {
        self.check_route_timeout = timeout.min(FOREVER);
        self
    }

    /// Whether [`attach`](Self::attach) puts the API's router, the certificate and
    /// [`extra_dynamic_config`](Self::extra_dynamic_config) into the store. If not, whoever runs
    /// Traefik has to set up its API, and a default certificate, without which Traefik makes a new
    /// key at each reload. Defaults to `true`.
    pub fn enable_setup_dynamic_config(mut self, enable: bool) -> Self {
        self.setup_dynamic_config = enable;
        self
    }

    /// The files, in PEM, of the certificate and the private key for HTTPS. Traefik reads them, so
    /// they have to be there for Traefik under these absolute paths. Defaults to a certificate
    /// that is made up.
    pub fn ssl(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.ssl = (Some(cert.into()), Some(key.into()));
        self
    }

    /// More dynamic configuration, as Traefik documents it, merged over ours: middlewares, other
    /// routers, TLS options. A `null` takes away what is there. Defaults to none.
    pub fn extra_dynamic_config(mut self, config: Value) -> Self {
        self.extra_dynamic_config = config;
        self
    }

    /// More configuration of every service that a target becomes, as Traefik documents a service's
    /// `loadBalancer`, merged over ours: `serversTransport`, `passHostHeader`, a health check. It
    /// stays in the store until another Router sets it. Defaults to what is in the store.
    pub fn extra_service_config(mut self, config: Value) -> Self {
        self.extra_service_config = Some(config);
        self
    }

    /// Whether Traefik's routers stand below others, so that requests are served as fast with
    /// thousands of routes as with a few. It holds for the whole table, until another Router sets
    /// it. Defaults to what is stored with the table, and that to [`Nested::Auto`]. Needs
    /// Traefik 3.6 or later, since an older one would reject the whole table: where `start` or
    /// `attach` finds one, the default is [`Nested::Never`].
    pub fn nested_routers(mut self, nested: Nested) -> Self {
        self.nested = Some(nested);
        self
    }

    /// The program to start: a path, or a name on PATH. Defaults to `traefik`.
    pub fn traefik_bin(mut self, program: impl Into<PathBuf>) -> Self {
        self.traefik_bin = program.into();
        self
    }

    /// Where to write the static configuration for a Traefik that we start, `.toml` or (with the
    /// feature `yaml`) `.yaml`. It is removed when Traefik is stopped. Defaults to `traefik.toml`.
    pub fn static_config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.static_config_file = path.into();
        self
    }

    /// More static configuration, as Traefik documents it, merged over ours. Defaults to none.
    pub fn extra_static_config(mut self, config: Value) -> Self {
        self.extra_static_config = config;
        self
    }

    /// How long Traefik waits after a change before it takes the next one. Traefik's own default
    /// of 2 seconds is how long every second user would wait. Defaults to zero: Traefik then loads
    /// changes as fast as it can, several at once if they come faster.
    pub fn traefik_providers_throttle_duration(mut self, throttle: Duration) -> Self {
        self.throttle = throttle.min(FOREVER);
        self
    }

    /// What Traefik logs: `TRACE`, `DEBUG`, `INFO`, `WARN`, `ERROR`, `FATAL` or `PANIC`. It goes to this program's log, with
    /// the target `traefik`. Defaults to `ERROR`.
    pub fn traefik_log_level(mut self, level: impl Into<String>) -> Self {
        self.log_level = level.into();
        self
    }

    /// An environment variable for Traefik, beside those of this program. Defaults to `GOGC=400`
    /// unless this program has `GOGC` or `GOMEMLIMIT`: Traefik collects garbage a quarter as often as it
    /// would by itself, and takes about a third less time for reloads of large tables. For that it takes
    /// more memory at its peak: 117 instead of 95 MB without routes, 176 instead of 125 at 1,000, 624
    /// instead of 350 at 10,000.
    pub fn traefik_env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// How long Traefik may take to stop: requests that are under way may finish until then.
    /// Defaults to 5 seconds.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout.min(FOREVER);
        self
    }

    /// Starts a Traefik, and returns when its API and its entrypoint answer and the routes in the
    /// store are served.
    ///
    /// Traefik runs until [`Router::stop`], until the Router is dropped, or until this program
    /// ends, however it ends (on Unix; elsewhere a program that is killed leaves its Traefik
    /// behind). Two threads read what it logs. On Unix a shell watches over it.
    ///
    /// # Errors
    /// - [`InvalidConfig`](ErrorKind::InvalidConfig) if options are not acceptable or contradict
    ///   each other, or the static configuration's file is there and not ours.
    /// - [`Process`](ErrorKind::Process) if there is no such program, an address is taken, or
    ///   Traefik ends at once; the message has its last words.
    /// - As [`Backend::open`], and as [`Router::add_route`] if Traefik does not load the store.
    ///
    /// Whatever was made until then is removed again.
    pub fn start(mut self) -> Result<Router> {
        let Entrypoints {
            public,
            api,
            entrypoint,
        } = self.entrypoints()?;
        if self.api_password.is_none() {
            if self.api_hashed_password.is_some() {
                return Err(invalid(
                    "traefik_api_hashed_password needs traefik_api_password beside it",
                ));
            }
            self.api_password = Some(crate::random::hex::<32>()?);
        }
        let setup = self.setup(&entrypoint)?;
        let verifier = self.verifier(&public)?;
        public.check_free("public_url")?;
        api.check_free("traefik_api_url")?;

        let started = self.backend.open(&setup).and_then(|commit| {
            let config = self.static_config(&public, &api, &entrypoint)?;
            let file = StaticFile::write(&self.static_config_file, &config)?;
            let path = file.path().to_path_buf();
            let launch = Launch {
                program: self.traefik_bin.clone(),
                config: path,
                env: self.env.clone(),
                stop_timeout: self.stop_timeout,
            };
            let begun = Instant::now();
            let managed = Managed::start(file, launch, public)?;
            managed.wait_until_ready(&verifier, &commit, begun)?;
            let flat = self.flat_if_need_be(&verifier, &setup)?;
            if let Some(commit) = &flat {
                verifier.confirm_setup(commit, Instant::now(), Some(&managed))?;
            }
            Ok((managed, flat.unwrap_or(commit)))
        });
        let (managed, commit) = started.inspect_err(|_| {
            if let Err(error) = self.backend.close() {
                log::warn!("{error}");
            }
        })?;
        Ok(Router::new(self.backend, verifier, Some(managed), commit))
    }

    /// Works with the Traefiks at [`traefik_api_urls`](Self::traefik_api_urls), which somebody
    /// else runs, and returns when they serve the routes in the store.
    ///
    /// # Errors
    /// - [`InvalidConfig`](ErrorKind::InvalidConfig) if options contradict each other, or a
    ///   Traefik has no such entrypoint.
    /// - As [`Backend::open`], and as [`Router::add_route`] if a Traefik does not load the store.
    pub fn attach(self) -> Result<Router> {
        if self.api_urls.is_empty() {
            return Err(invalid(
                "traefik_api_urls names no Traefik; `offline` needs none",
            ));
        }
        let public = Listen::parse("public_url", &self.public_url)?;
        let entrypoint = self.entrypoint_name(public.tls)?;
        let setup = if self.setup_dynamic_config {
            self.setup(&entrypoint)?
        } else {
            Setup {
                nested: self.nested,
                ..Setup::new(&entrypoint)
            }
        };
        let verifier = self.verifier(&public)?;
        let mut commit = self.backend.open(&setup)?;
        let confirm = |commit: &Commit| {
            let confirmed = verifier.confirm_setup(commit, Instant::now(), None);
            confirmed.map_err(|error| error.with_stored(Stored::All))
        };
        confirm(&commit)?;
        if let Some(flat) = self.flat_if_need_be(&verifier, &setup)? {
            confirm(&flat)?;
            commit = flat;
        }
        verifier.look_at_entrypoint(&commit);
        for (traefik, known) in
            verifier.everywhere(|traefik, _| traefik.api.entrypoints().map(Some))?
        {
            if !known.iter().any(|known| known.name == entrypoint) {
                let names: Vec<_> = known.iter().map(|known| &*known.name).collect();
                return Err(invalid(&format!(
                    "Traefik at {} has no entrypoint {entrypoint:?} (traefik_entrypoint); it has {}",
                    traefik.api.url(),
                    names.join(", ")
                )));
            }
        }
        Ok(Router::new(self.backend, verifier, None, commit))
    }

    /// Has routers stand side by side if a Traefik knows nothing else, unless somebody has asked
    /// for more.
    fn flat_if_need_be(&self, verifier: &Verifier, setup: &Setup) -> Result<Option<Commit>> {
        if self.nested == Some(Nested::Never) {
            return Ok(None);
        }
        let Some(old) = verifier.version_without_parents()? else {
            return Ok(None);
        };
        if self.nested.is_some() {
            return Err(invalid(&format!(
                "nested_routers needs Traefik 3.6 or later, and this one is {old}; set it to \
                 Nested::Never"
            )));
        }
        let setup = Setup {
            nested: Some(Nested::Never),
            ..setup.clone()
        };
        self.backend.open(&setup).map(Some)
    }

    /// Works on the store alone: changes return when they are stored, whether a Traefik loads
    /// them or not.
    ///
    /// # Errors
    /// As [`Backend::open`].
    pub fn offline(mut self) -> Result<Router> {
        self.api_urls.clear();
        let public = Listen::parse("public_url", &self.public_url)?;
        let commit = self.backend.open(&Setup {
            nested: self.nested,
            ..Setup::new(self.entrypoint_name(public.tls)?)
        })?;
        let verifier = self.verifier(&public)?;
        Ok(Router::new(self.backend, verifier, None, commit))
    }

    /// What [`start`](Self::start) would write to
    /// [`static_config_file`](Self::static_config_file), but for the comment that marks the file as
    /// one of ours, to be removed. The file is neither written nor looked at: its name only says
    /// which syntax. Unless `with_secrets`, `REDACTED` stands for the store's password and private
    /// key.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) as [`start`](Self::start), or if the store's place
    /// can't be told to Traefik.
    pub fn static_config_text(&self, with_secrets: bool) -> Result<String> {
        let syntax = Syntax::of(&self.static_config_file)?;
        let Entrypoints {
            public,
            api,
            entrypoint,
        } = self.entrypoints()?;
        let mut config = self.static_config(&public, &api, &entrypoint)?;
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

    fn static_config(&self, public: &Listen, api: &Listen, entrypoint: &str) -> Result<Value> {
        let config = StaticConfig {
            entrypoint: public.entrypoint(entrypoint),
            api: api.entrypoint(&self.api_entrypoint),
            throttle: self.throttle,
            grace: self.stop_timeout,
            log_level: &self.log_level,
            provider: self.backend.static_config()?,
            extra: &self.extra_static_config,
        };
        Ok(config.to_value())
    }

    /// Where a Traefik that we start listens.
    fn entrypoints(&self) -> Result<Entrypoints> {
        let [api_url] = &*self.api_urls else {
            return Err(invalid(
                "a Traefik that we start has one API URL (traefik_api_urls)",
            ));
        };
        let public = Listen::parse("public_url", &self.public_url)?;
        let api = Listen::parse("traefik_api_url", api_url)?;
        if api.tls {
            return Err(invalid(
                "the API of a Traefik that we start is served without TLS; begin traefik_api_url \
                 with http://",
            ));
        }
        let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "PANIC"];
        if !levels.contains(&&*self.log_level.to_uppercase()) {
            // Traefik would start all the same, and log what it likes.
            return Err(invalid(&format!(
                "traefik_log_level {:?} is none that Traefik has: {}",
                self.log_level,
                levels.join(", ")
            )));
        }
        let entrypoint = self.entrypoint_name(public.tls)?;
        if entrypoint == self.api_entrypoint {
            return Err(invalid(
                "traefik_entrypoint and traefik_api_entrypoint must differ",
            ));
        }
        Ok(Entrypoints {
            public,
            api,
            entrypoint,
        })
    }

    fn entrypoint_name(&self, tls: bool) -> Result<String> {
        let default = if tls { "https" } else { "http" };
        let name = self.entrypoint.as_deref().unwrap_or(default);
        for (option, name) in [
            ("traefik_entrypoint", name),
            ("traefik_api_entrypoint", &self.api_entrypoint),
        ] {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if name.is_empty() || !name.bytes().all(is_plain) {
                return Err(invalid(&format!(
                    "{option} {name:?} is no entrypoint's name: letters, digits, '-' and '_'"
                )));
            }
        }
        Ok(name.into())
    }

    fn setup(&self, entrypoint: &str) -> Result<Setup> {
        for (option, config) in [
            ("extra_dynamic_config", &self.extra_dynamic_config),
            (
                "extra_service_config",
                self.extra_service_config.as_ref().unwrap_or(&json!({})),
            ),
            ("extra_static_config", &self.extra_static_config),
        ] {
            if !config.is_object() {
                return Err(invalid(&format!(
                    "{option} must be a map, as Traefik documents it"
                )));
            }
        }
        let certificate = match &self.ssl {
            (Some(cert), Some(key)) => Some((absolute(cert)?, absolute(key)?)),
            _ => None,
        };
        let username = self.username()?;
        let api = self.password_hash()?.map(|password_hash| ApiAccess {
            entrypoint: self.api_entrypoint.clone(),
            username,
            password_hash,
        });
        let files = certificate.as_ref().map(|(cert, key)| (&**cert, &**key));
        Ok(Setup {
            base: Some(dynamic::base(
                api.as_ref(),
                files,
                &self.extra_dynamic_config,
            )),
            service: self.extra_service_config.clone(),
            fallback_certificate: Some(made_up_certificate()?),
            nested: self.nested,
            ..Setup::new(entrypoint)
        })
    }

    fn username(&self) -> Result<String> {
        let name = &self.api_username;
        if name.is_empty() || name.contains([':', ',']) || name.chars().any(char::is_control) {
            return Err(invalid(
                "traefik_api_username must not be empty or contain ':', ',' or control characters",
            ));
        }
        Ok(name.clone())
    }

    fn password_hash(&self) -> Result<Option<String>> {
        if let Some(hash) = &self.api_hashed_password {
            let known = ["{SHA}", "$apr1$", "$2a$", "$2b$", "$2y$"];
            if !known.iter().any(|kind| hash.starts_with(kind)) {
                return Err(invalid(
                    "traefik_api_hashed_password is of no kind that Traefik knows: {SHA}, $apr1$ \
                     or bcrypt",
                ));
            }
            return Ok(Some(hash.clone()));
        }
        let Some(password) = &self.api_password else {
            return Ok(None);
        };
        #[cfg(feature = "bcrypt")]
        if let Some(cost) = self.bcrypt_cost {
            return match bcrypt::hash(password, cost) {
                Ok(hash) => Ok(Some(hash)),
                Err(error) => Err(invalid("bcrypt_cost").with_source(error)),
            };
        }
        Ok(Some(dynamic::fast_hash(password)))
    }

    /// What asks the APIs, and where there is one alone, the entrypoint that listens there.
    fn verifier(&self, public: &Listen) -> Result<Verifier> {
        let served = match &*self.api_urls {
            // Without the feature `tls`, an entrypoint that speaks it can't be asked.
            [_] => Served::new(&public.url()).ok(),
            _ => None,
        };
        Ok(Verifier::new(
            self.apis()?,
            self.backend.provider(),
            self.check_route_timeout,
            self.quorum,
            served,
        ))
    }

    fn apis(&self) -> Result<Vec<Api>> {
        let api = |url| {
            let api = Api::with_tls(url, &self.api_tls)?.timeout(self.api_timeout);
            Ok(match &self.api_password {
                Some(password) => api.basic_auth(&self.api_username, password),
                None => api,
            })
        };
        self.api_urls.iter().map(api).collect()
    }
}

/// How Traefik is to collect garbage, unless that is told otherwise.
fn collector() -> Vec<(OsString, OsString)> {
    let told = ["GOGC", "GOMEMLIMIT"].map(std::env::var_os);
    if told.iter().any(Option::is_some) {
        return Vec::new();
    }
    vec![("GOGC".into(), "400".into())]
}

/// Where a Traefik that we start listens, and the name of the entrypoint for routes.
struct Entrypoints {
    public: Listen,
    api: Listen,
    entrypoint: String,
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

pub(super) fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path)
        .map_err(|error| invalid(&format!("ssl: can't read {}", path.display())).with_source(error))
}

fn made_up_certificate() -> Result<(String, String)> {
    let made = rcgen::generate_simple_self_signed(vec!["traefik-router.invalid".into()]);
    let made = made.map_err(|error| {
        Error::new(ErrorKind::Process, "can't make a certificate").with_source(error)
    })?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}
