//! Traefik's API: whether it has loaded a configuration, and what it made of it.

mod answers;
mod rest;

use std::fmt;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::{MAX_WAIT, dynamic};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Answer, Http, Tls};
use crate::url;

pub use self::answers::{EntryPoint, Middleware, RouterInfo, Service, Version};
pub(crate) use self::rest::RestContent;

/// All pages of a list together may take as long as so many requests, or else a server could go on forever.
const LIST_REQUESTS: u32 = 10;

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
        self.timeout = timeout.min(MAX_WAIT);
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
        let limit = self.timeout * LIST_REQUESTS;
        let deadline = Instant::now() + limit;
        let mut page = 1;
        loop {
            let asked = format!("{path}?{query}per_page={per_page}&page={page}");
            let answer = self.http.get(&asked, self.timeout)?;
            let next = answer.number("x-next-page");
            let goes_on = goes_on(self.read(&asked, answer)?);
            match next {
                Some(next) if next > page && goes_on => page = next,
                _ => return Ok(()),
            }
            if Instant::now() >= deadline {
                let message = format!("{}{path} has no end after {limit:?}", self.url());
                return Err(Error::new(ErrorKind::Unavailable, message));
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

fn generation(marker: Option<Middleware>) -> Option<u64> {
    dynamic::generation(&marker?.settings.into())
}
