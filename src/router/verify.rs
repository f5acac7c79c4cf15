//! Whether Traefik serves what was stored.
//!
//! Each commit carries its generation in a middleware that no router uses. Traefik puts a whole
//! configuration into effect at once, for its API and for requests alike; an API that shows the
//! generation therefore proves every change of that commit, deletions included, with one small
//! answer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::backend::Commit;
use crate::config::dynamic::generation;
use crate::error::{Error, ErrorKind, Result};
use crate::route::{RouteSpec, router_name};
use crate::traefik::{Api, RouterInfo};

/// For how long an API may refuse our password: a new password is not known before it is loaded.
const UNAUTHORIZED_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Verifier {
    apis: Vec<Api>,
    provider: String,
    timeout: Duration,
}

/// What an API said last.
enum Seen {
    /// It answers, but has no marker.
    NoMarker,
    Generation(u64),
    Failure(Error),
}

impl Verifier {
    pub(super) fn new(apis: Vec<Api>, provider: &str, timeout: Duration) -> Self {
        Self {
            apis,
            provider: provider.into(),
            timeout,
        }
    }

    pub(super) fn apis(&self) -> &[Api] {
        &self.apis
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Waits until every Traefik serves `commit`. Returns those of `set` that one refuses, each
    /// with its error.
    ///
    /// `check` fails once Traefik has ended; `complaints` is what Traefik has logged since.
    pub(super) fn confirm(
        &self,
        commit: &Commit,
        set: &[RouteSpec],
        check: &dyn Fn() -> Result<()>,
        complaints: &dyn Fn(Instant) -> Vec<String>,
    ) -> Result<HashMap<RouteSpec, Error>> {
        let start = Instant::now();
        let mut refused = HashMap::new();
        // Waiting for one after the other is no slower than waiting for all at once.
        for api in &self.apis {
            self.wait(api, commit, start, check, complaints)?;
            for router in self.refused(api, set)? {
                let spec = set.iter().find(|spec| self.full_name(spec) == router.name);
                if let Some(spec) = spec {
                    refused.insert(spec.clone(), refusal(api, spec, &router));
                }
            }
        }
        Ok(refused)
    }

    fn wait(
        &self,
        api: &Api,
        commit: &Commit,
        start: Instant,
        check: &dyn Fn() -> Result<()>,
        complaints: &dyn Fn(Instant) -> Vec<String>,
    ) -> Result<()> {
        let deadline = start + self.timeout;
        let marker = format!("{}@{}", commit.marker, self.provider);
        let mut unauthorized_since = None;
        loop {
            let seen = match api.middleware_by(&marker, deadline) {
                Ok(None) => Seen::NoMarker,
                Ok(Some(middleware)) => match generation(&middleware.settings.into()) {
                    Some(generation) if generation >= commit.generation => return Ok(()),
                    Some(generation) => Seen::Generation(generation),
                    None => Seen::NoMarker,
                },
                Err(error) => Seen::Failure(error),
            };
            check()?;
            match &seen {
                Seen::Failure(error) if error.kind() == ErrorKind::Unauthorized => {
                    let since = *unauthorized_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= UNAUTHORIZED_PATIENCE {
                        return Err(error.clone());
                    }
                }
                _ => unauthorized_since = None,
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(self.not_loaded(api, commit, seen, &complaints(start)));
            }
            std::thread::sleep(pause(now - start).min(deadline - now));
        }
    }

    fn refused(&self, api: &Api, set: &[RouteSpec]) -> Result<Vec<RouterInfo>> {
        match set {
            [] => Ok(Vec::new()),
            [spec] => {
                let router = api.router(&self.full_name(spec))?;
                Ok(router
                    .filter(|router| router.status == "disabled")
                    .into_iter()
                    .collect())
            }
            _ => api.refused_routers(),
        }
    }

    fn full_name(&self, spec: &RouteSpec) -> String {
        format!("{}@{}", router_name(spec), self.provider)
    }

    fn not_loaded(&self, api: &Api, commit: &Commit, seen: Seen, complaints: &[String]) -> Error {
        let url = api.url();
        let mut message = format!(
            "stored, but Traefik at {url} did not load it within {:?}",
            self.timeout
        );
        message.push_str(&match seen {
            Seen::NoMarker => match providers(api) {
                Some(running) if !running.iter().any(|name| name.eq_ignore_ascii_case(&self.provider)) => format!(
                    ": its provider {:?} is not running (these are: {}); check its static configuration, and restart it if the store was not there when it started",
                    self.provider,
                    running.join(", "),
                ),
                _ => format!(
                    ": it has never loaded anything of ours from its provider {:?}; it probably reads another file or prefix than the one we write",
                    self.provider
                ),
            },
            Seen::Generation(generation) => format!(
                ": it still has generation {generation} instead of {}; it rejects what is stored now (its log says why) or watches no longer",
                commit.generation
            ),
            Seen::Failure(error) => format!(": {error}"),
        });
        if !complaints.is_empty() {
            message.push_str(&format!("; its log says: {}", complaints.join(" | ")));
        }
        Error::new(ErrorKind::NotLoaded, message)
    }
}

/// Short pauses at first; later about a tenth of the time that has passed.
fn pause(elapsed: Duration) -> Duration {
    (elapsed / 10).clamp(Duration::from_micros(300), Duration::from_millis(100))
}

/// The providers that run, if the API says so.
fn providers(api: &Api) -> Option<Vec<String>> {
    let overview = api.overview().ok()?;
    let names = overview["providers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    Some(
        names
            .iter()
            .filter_map(|name| name.as_str().map(str::to_lowercase))
            .collect(),
    )
}

fn refusal(api: &Api, spec: &RouteSpec, router: &RouterInfo) -> Error {
    let url = api.url();
    let words = router.error.join("; ");
    let message = format!("stored, but Traefik at {url} refuses the route {spec}: {words}");
    Error::new(ErrorKind::Refused, message).with_stored(crate::error::Stored::All)
}
