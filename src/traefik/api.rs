//! Traefik's API: whether it has loaded a configuration, and what it made of it.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::dynamic::{self, RECORDS, REST_SERVICE};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Answer, Http, Tls};
use crate::url;

/// Where the REST provider takes a table.
const REST_PATH: &str = "/api/providers/rest";

/// A blocking client of one Traefik's API. Connections are kept; cloning shares them.
///
/// ```no_run
/// # fn main() -> Result<(), traefik_router::Error> {
/// use traefik_router::traefik::Api;
///
/// let api = Api::new("http://127.0.0.1:8099")?.basic_auth("jupyterhub", "secret");
/// println!("Traefik {}", api.version()?.version);
/// for router in api.refused_routers()? {
///     println!("{}: {}", router.name, router.error.join("; "));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Api {
    http: Http,
    timeout: Duration,
}

/// What `/api/version` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Version {
    /// Such as `3.7.15`.
    #[serde(rename = "Version")]
    pub version: String,
    /// When this process started (RFC 3339); another value means that Traefik was restarted.
    #[serde(rename = "startDate", default)]
    pub start_date: String,
}

/// An entrypoint: a place where Traefik listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EntryPoint {
    /// The name that routers use.
    pub name: String,
    /// `host:port`.
    #[serde(default)]
    pub address: String,
    /// Its settings for HTTP, as Traefik documents them.
    #[serde(default)]
    pub http: Value,
    /// Whose `X-Forwarded-…` headers it believes, as Traefik documents it.
    #[serde(default)]
    pub forwarded_headers: Value,
    /// How long requests may take, as Traefik documents it.
    #[serde(default)]
    pub transport: Value,
}

impl EntryPoint {
    /// Whether it serves TLS to routers that do not ask for it.
    pub(crate) fn has_tls(&self) -> bool {
        !self.http["tls"].is_null()
    }

    /// For how long it reads a request; `None` for as long as it takes.
    pub(crate) fn read_timeout(&self) -> Option<&str> {
        self.transport["respondingTimeouts"]["readTimeout"].as_str()
    }

    /// Whether it answers all requests with a redirect.
    pub(crate) fn redirects(&self) -> bool {
        !self.http["redirections"]["entryPoint"].is_null()
    }
}

/// A router as Traefik runs it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RouterInfo {
    /// The name, with its provider: `…-user-zoe@file`.
    pub name: String,
    /// The rule that requests have to match.
    #[serde(default)]
    pub rule: String,
    /// The greater one is tried first. Traefik's own routers come close to the greatest `i64`.
    #[serde(default)]
    pub priority: i64,
    /// The service that requests go to.
    #[serde(default)]
    pub service: String,
    /// What requests pass on the way there, by their names with the provider.
    #[serde(default)]
    pub middlewares: Vec<String>,
    /// Its TLS settings; null without any.
    #[serde(default)]
    pub tls: Value,
    /// Its observability settings; null without any.
    #[serde(default)]
    pub observability: Value,
    /// Where the router listens; nowhere itself if it stands below others.
    #[serde(default)]
    pub entry_points: Vec<String>,
    /// The routers that it stands below, by their names with the provider.
    #[serde(default)]
    pub parent_refs: Vec<String>,
    /// `enabled`, `disabled` or `warning`.
    #[serde(default)]
    pub status: String,
    /// Why it is not enabled, in Traefik's words.
    #[serde(default)]
    pub error: Vec<String>,
}

/// A service as Traefik runs it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Service {
    /// The name, with its provider.
    pub name: String,
    /// `enabled`, `disabled` or `warning`.
    #[serde(default)]
    pub status: String,
    /// The servers, and all else that Traefik shows of a load balancer.
    #[serde(default)]
    pub load_balancer: Value,
    /// The routers that use it.
    #[serde(default)]
    pub used_by: Vec<String>,
}

/// What Traefik's REST provider has loaded.
#[derive(Debug)]
pub(crate) enum RestContent {
    Nothing,
    /// A table, with the records of its [`Document`](crate::backend::Document) by their names.
    Table(HashMap<String, String>),
    /// Something that is not of this crate.
    Other,
}

/// A middleware as Traefik runs it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Middleware {
    /// The name, with its provider.
    pub name: String,
    /// `enabled`, `disabled` or `warning`.
    #[serde(default)]
    pub status: String,
    /// Its configuration, under the name of its type.
    #[serde(flatten)]
    pub settings: serde_json::Map<String, Value>,
}

impl Api {
    /// The API at this URL, without the `/api` that its paths begin with.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is not an `http` or `https` URL.
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        Self::with_tls(url, &Tls::new())
    }

    /// The API at this URL, with TLS done this way.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) as [`new`](Self::new), and if a certificate or
    /// key is not PEM.
    pub fn with_tls(url: impl AsRef<str>, tls: &Tls) -> Result<Self> {
        let http = Http::new(url.as_ref(), tls).map_err(|error| error.context("Traefik's API"))?;
        Ok(Self {
            http,
            timeout: Duration::from_secs(5),
        })
    }

    /// The user name and the password to send with every request. Defaults to none.
    pub fn basic_auth(mut self, username: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        self.http = self.http.basic_auth(username.as_ref(), password.as_ref());
        self
    }

    /// How long one request may take. Defaults to 5 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// This one, whose requests take at most so long.
    pub(crate) fn at_most(&self, limit: Duration) -> Self {
        self.clone().timeout(self.timeout.min(limit))
    }

    /// The URL that was given.
    pub fn url(&self) -> &str {
        self.http.base()
    }

    /// Traefik's version, and when it started.
    ///
    /// # Errors
    /// All calls fail with [`Unavailable`](ErrorKind::Unavailable) if no answer comes in time,
    /// [`Unauthorized`](ErrorKind::Unauthorized) if the password is wrong, and
    /// [`Protocol`](ErrorKind::Protocol) if the answer is not Traefik's.
    pub fn version(&self) -> Result<Version> {
        self.one("/api/version")
    }

    /// The version; `None` if the answer is 404, as before Traefik has loaded a router for its API.
    pub(crate) fn version_if_there(&self) -> Result<Option<Version>> {
        let path = "/api/version";
        let answer = self.http.get(path, self.timeout)?;
        match answer.status {
            404 => Ok(None),
            _ => self.read(path, answer).map(Some),
        }
    }

    /// How many routers, services and middlewares there are, and which providers run.
    ///
    /// # Errors
    /// As [`version`](Self::version).
    pub fn overview(&self) -> Result<Value> {
        self.one("/api/overview")
    }

    /// The entrypoints.
    ///
    /// # Errors
    /// As [`version`](Self::version).
    pub fn entrypoints(&self) -> Result<Vec<EntryPoint>> {
        self.all("/api/entrypoints", "")
    }

    /// All HTTP routers. At 10,000 of them the answer has 3 MB.
    ///
    /// # Errors
    /// As [`version`](Self::version).
    pub fn routers(&self) -> Result<Vec<RouterInfo>> {
        self.all("/api/http/routers", "")
    }

    /// The HTTP routers that Traefik refuses, with its reasons.
    ///
    /// # Errors
    /// As [`version`](Self::version).
    pub fn refused_routers(&self) -> Result<Vec<RouterInfo>> {
        self.all("/api/http/routers", "status=disabled&")
    }

    /// All HTTP services.
    ///
    /// # Errors
    /// As [`version`](Self::version).
    pub fn services(&self) -> Result<Vec<Service>> {
        self.all("/api/http/services", "")
    }

    /// All HTTP middlewares.
    ///
    /// # Errors
    /// As [`version`](Self::version).
    pub fn middlewares(&self) -> Result<Vec<Middleware>> {
        self.all("/api/http/middlewares", "")
    }

    /// The HTTP router of this name, such as `…-user-zoe@file`, if there is one.
    ///
    /// # Errors
    /// As [`version`](Self::version).
    pub fn router(&self, name: &str) -> Result<Option<RouterInfo>> {
        self.named("routers", name, None)
    }

    /// The HTTP service of this name, if there is one.
    pub(crate) fn service(&self, name: &str) -> Result<Option<Service>> {
        self.named("services", name, None)
    }

    /// The HTTP middleware of this name, if there is one.
    ///
    /// # Errors
    /// As [`version`](Self::version).
    pub fn middleware(&self, name: &str) -> Result<Option<Middleware>> {
        self.named("middlewares", name, None)
    }

    /// What Traefik counts, in Prometheus' text format. `path` is where the API's entrypoint has a router for
    /// `prometheus@internal`.
    ///
    /// # Errors
    /// As [`version`](Self::version).
    pub fn metrics(&self, path: &str) -> Result<String> {
        let answer = self.http.get(path, self.timeout)?;
        match answer.status {
            200 => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
            404 => Err(Error::new(
                ErrorKind::Protocol,
                format!(
                    "{}{path} answers 404: Traefik has no `metrics.prometheus` in its static configuration, \
                     or no router for prometheus@internal there",
                    self.url()
                ),
            )),
            _ => self.read::<Value>(path, answer).map(|_| String::new()),
        }
    }

    /// Gives the REST provider a dynamic configuration, whole, as JSON. Traefik has taken it then, and loads
    /// it afterwards. It may take so much `more` time than other requests, and not more than is `left`.
    pub(crate) fn push(&self, document: &[u8], more: Duration, left: Duration) -> Result<()> {
        let timeout = (self.timeout + more).min(left);
        let answer = self.http.put(REST_PATH, document, timeout)?;
        match answer.status {
            200 => Ok(()),
            400 => {
                let why = String::from_utf8_lossy(&answer.body);
                let message = format!(
                    "{}{REST_PATH} refuses the table: {}",
                    self.url(),
                    why.trim()
                );
                Err(Error::new(ErrorKind::Refused, message))
            }
            404 => Err(no_rest_router(self.url())),
            _ => self.read::<Value>(REST_PATH, answer).map(drop),
        }
    }

    /// Fails unless Traefik takes a table from us, and from nobody without the API's password.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) with what to change, and as [`version`](Self::version).
    pub(crate) fn check_rest(&self) -> Result<()> {
        let is_there = |kind: &str| Ok(self.named::<Value>(kind, REST_SERVICE, None)?.is_some());
        if !is_there("services")? {
            if self.version_if_there()?.is_none() {
                let message = format!(
                    "{}/api/version answers 404: the router for Traefik's API is not loaded (yet), or the \
                     API is somewhere else",
                    self.url()
                );
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            return Err(Error::invalid(format!(
                "Traefik at {} has no REST provider: add `providers.rest` to its static configuration \
                 (`traefik-router config static` prints one)",
                self.url()
            )));
        }
        if is_there("routers")? {
            return Err(Error::invalid(format!(
                "Traefik at {} takes a table from anybody: take `insecure` out of `providers.rest` in its \
                 static configuration, and give {REST_SERVICE} a router behind a password \
                 (`traefik-router config dynamic` prints one)",
                self.url()
            )));
        }
        let nobody = Self {
            http: self.http.clone().anonymous(),
            timeout: self.timeout,
        };
        if nobody.probe_rest().is_ok() {
            return Err(Error::invalid(format!(
                "Traefik at {} takes a table from anybody who knows this URL: guard the router of \
                 {REST_SERVICE} by a password (`traefik-router config dynamic` prints one)",
                self.url()
            )));
        }
        self.probe_rest()
    }

    /// Fails unless the REST provider reads what we send. It is sent what is no JSON, and so loads nothing: with a
    /// throttle even `{}`, which it skips, would take the place of a table that is yet to be loaded.
    fn probe_rest(&self) -> Result<()> {
        let answer = self.http.put(REST_PATH, b"?", self.timeout)?;
        match answer.status {
            400 => Ok(()),
            404 => Err(no_rest_router(self.url())),
            200 => Err(Error::new(
                ErrorKind::Protocol,
                format!("{}{REST_PATH} did not answer as Traefik does", self.url()),
            )),
            _ => self.read::<Value>(REST_PATH, answer).map(drop),
        }
    }

    /// What the REST provider has loaded.
    pub(crate) fn rest_content(&self) -> Result<RestContent> {
        let records = format!("{RECORDS}@rest");
        if let Some(middleware) = self.named::<Middleware>("middlewares", &records, None)? {
            let settings = Value::from(middleware.settings);
            let records = settings["headers"]["customRequestHeaders"].as_object();
            let text =
                |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.into()));
            let records = records.into_iter().flatten();
            return Ok(RestContent::Table(records.filter_map(text).collect()));
        }
        for kind in [
            "http/routers",
            "http/services",
            "http/middlewares",
            "tcp/routers",
            "tcp/services",
            "tcp/middlewares",
            "udp/routers",
            "udp/services",
        ] {
            // The search finds what is in a rule, too.
            let is_rest = |one: &Value| one["name"].as_str().is_some_and(|n| n.ends_with("@rest"));
            let mut is_found = false;
            self.each_page(&format!("/api/{kind}"), "search=@rest&", 100, |page| {
                is_found = page.iter().any(is_rest);
                !is_found
            })?;
            if is_found {
                return Ok(RestContent::Other);
            }
        }
        Ok(RestContent::Nothing)
    }

    /// The generation that Traefik has loaded of a store; `None` if it has loaded nothing of it.
    /// `marker` is the [`Commit::marker`](crate::backend::Commit::marker) with its provider, such as
    /// `…@file`.
    ///
    /// # Errors
    /// As [`version`](Self::version).
    pub fn generation(&self, marker: &str) -> Result<Option<u64>> {
        Ok(generation(self.middleware(marker)?))
    }

    /// [`generation`](Self::generation), with an answer by `deadline`.
    pub(crate) fn generation_by(&self, marker: &str, deadline: Instant) -> Result<Option<u64>> {
        Ok(generation(self.named(
            "middlewares",
            marker,
            Some(deadline),
        )?))
    }

    fn named<T: DeserializeOwned>(
        &self,
        kind: &str,
        name: &str,
        deadline: Option<Instant>,
    ) -> Result<Option<T>> {
        let path = format!("/api/http/{kind}/{}", url::encode(name));
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(self.timeout, |left| left.min(self.timeout));
        let answer = self.http.get(&path, timeout)?;
        match answer.status {
            404 => Ok(None),
            _ => self.read(&path, answer).map(Some),
        }
    }

    fn one<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.read(path, self.http.get(path, self.timeout)?)
    }

    /// All pages of a list. Traefik says that there is no further one by naming the first.
    fn all<T: DeserializeOwned>(&self, path: &str, query: &str) -> Result<Vec<T>> {
        let mut all = Vec::new();
        self.each_page(path, query, 10_000, |mut page| {
            all.append(&mut page);
            true
        })?;
        Ok(all)
    }

    /// Reads a list page by page while `goes_on`.
    fn each_page<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &str,
        per_page: usize,
        mut goes_on: impl FnMut(Vec<T>) -> bool,
    ) -> Result<()> {
        let mut page = 1;
        loop {
            let path = format!("{path}?{query}per_page={per_page}&page={page}");
            let answer = self.http.get(&path, self.timeout)?;
            let next = answer.number("x-next-page");
            let goes_on = goes_on(self.read(&path, answer)?);
            match next {
                Some(next) if next > page && goes_on => page = next,
                _ => return Ok(()),
            }
        }
    }

    fn read<T: DeserializeOwned>(&self, path: &str, answer: Answer) -> Result<T> {
        let url = format!("{}{path}", self.http.base());
        match answer.status {
            200 => serde_json::from_slice(&answer.body).map_err(|error| {
                let message = format!("{url} did not answer as Traefik's API does");
                Error::new(ErrorKind::Protocol, message).with_source(error)
            }),
            401 | 403 => Err(Error::new(
                ErrorKind::Unauthorized,
                format!(
                    "{url} refuses the user name or password (`traefik_api_username`, \
                     `traefik_api_password`) with status {}",
                    answer.status
                ),
            )),
            404 => Err(Error::new(
                ErrorKind::Protocol,
                format!(
                    "{url} answers 404; the router for Traefik's API is not loaded (yet), or the \
                     API is somewhere else"
                ),
            )),
            status => {
                let kind = if status >= 500 {
                    ErrorKind::Unavailable
                } else {
                    ErrorKind::Protocol
                };
                Err(Error::new(
                    kind,
                    format!("{url} answers with status {status}"),
                ))
            }
        }
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("url", &self.url())
            .field("timeout", &self.timeout)
            .finish()
    }
}

fn no_rest_router(url: &str) -> Error {
    let message = format!(
        "{url}{REST_PATH} answers 404: Traefik has no REST provider (`providers.rest` in its static \
         configuration), or the API's entrypoint has no router for {REST_SERVICE} \
         (`traefik-router config dynamic` prints one)"
    );
    Error::new(ErrorKind::InvalidConfig, message)
}

fn generation(marker: Option<Middleware>) -> Option<u64> {
    dynamic::generation(&marker?.settings.into())
}
