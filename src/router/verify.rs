//! Whether Traefik serves what was stored.
//!
//! Each commit carries its generation in a middleware that no router uses. Traefik puts a whole
//! configuration into effect at once, for its API and for requests alike; an API that shows the
//! generation therefore proves every change of that commit, deletions included, with one small
//! answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use super::managed::Managed;
use crate::backend::Commit;
use crate::error::{Error, ErrorKind, Result};
use crate::route::{RouteSpec, router_name};
use crate::traefik::{Api, RouterInfo};

/// For how long an API may refuse our password.
const UNAUTHORIZED_PATIENCE: Duration = Duration::from_secs(1);
/// The same after a new password was stored: Traefik takes its time by default (its
/// `providersThrottleDuration` of 2 s) until it knows it.
const NEW_PASSWORD_PATIENCE: Duration = Duration::from_secs(3);

/// For how long a Traefik that says that it rejects what is stored may change its mind: it may have
/// read what somebody was still writing.
const REJECTION_PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Verifier {
    apis: Vec<Api>,
    provider: String,
    timeout: Duration,
    /// How many Traefiks have to serve a change; `None` means all.
    quorum: Option<usize>,
    /// How long Traefik took for the last commit, in microseconds.
    last_took: AtomicU64,
}

/// A commit that Traefik is to load.
struct Awaited<'a> {
    commit: &'a Commit,
    managed: Option<&'a Managed>,
    begun: Instant,
    /// When it was stored.
    start: Instant,
    /// For how long an API may refuse our password.
    patience: Duration,
}

impl<'a> Awaited<'a> {
    fn new(
        commit: &'a Commit,
        begun: Instant,
        managed: Option<&'a Managed>,
        patience: Duration,
    ) -> Self {
        Self {
            commit,
            managed,
            begun,
            start: Instant::now(),
            patience,
        }
    }
}

/// What an API said last.
enum Seen {
    /// It answers, but has no marker.
    NoMarker,
    Generation(u64),
    Failure(Error),
}

impl Verifier {
    pub(super) fn new(
        apis: Vec<Api>,
        provider: &str,
        timeout: Duration,
        quorum: Option<usize>,
    ) -> Self {
        Self {
            apis,
            provider: provider.into(),
            timeout,
            quorum,
            last_took: AtomicU64::new(0),
        }
    }

    pub(super) fn apis(&self) -> &[Api] {
        &self.apis
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Waits until every Traefik serves `commit`. Returns those of the routes in `set` that one
    /// refuses, each with its error. A Traefik that we have `managed` to start tells what it has
    /// logged since the commit was `begun`: it may read what is stored before we look.
    pub(super) fn confirm(
        &self,
        commit: &Commit,
        set: &[RouteSpec],
        begun: Instant,
        managed: Option<&Managed>,
    ) -> Result<HashMap<RouteSpec, Error>> {
        self.await_commit(
            set,
            &Awaited::new(commit, begun, managed, UNAUTHORIZED_PATIENCE),
        )
    }

    /// The same for the commit of a setup, which may come with a new password.
    pub(super) fn confirm_setup(
        &self,
        commit: &Commit,
        begun: Instant,
        managed: Option<&Managed>,
    ) -> Result<()> {
        self.await_commit(
            &[],
            &Awaited::new(commit, begun, managed, NEW_PASSWORD_PATIENCE),
        )?;
        Ok(())
    }

    fn await_commit(
        &self,
        set: &[RouteSpec],
        awaited: &Awaited<'_>,
    ) -> Result<HashMap<RouteSpec, Error>> {
        let mut refused = HashMap::new();
        if self.apis.is_empty() {
            return Ok(refused);
        }
        let namespace = &awaited.commit.namespace;
        let name = |spec| format!("{}@{}", router_name(namespace, spec), self.provider);
        let by_name: HashMap<String, &RouteSpec> =
            set.iter().map(|spec| (name(spec), spec)).collect();
        for (api, routers) in self.everywhere(|api, enough| {
            if self.wait(api, awaited, enough)? {
                // A connection may have died since; a Traefik that has ended is told as such.
                let again = |_| {
                    awaited.managed.map_or(Ok(()), Managed::check)?;
                    refused_of(api, &by_name)
                };
                return Ok(Some(refused_of(api, &by_name).or_else(again)?));
            }
            Ok(None)
        })? {
            for router in routers {
                if let Some(spec) = by_name.get(&router.name) {
                    refused.insert((*spec).clone(), refusal(api, spec, &router));
                }
            }
        }
        Ok(refused)
    }

    /// Asks all Traefiks at once; what as many of them answered as have to. `ask` may answer
    /// nothing once it sees that others were enough.
    pub(super) fn everywhere<T: Send>(
        &self,
        ask: impl Fn(&Api, &AtomicBool) -> Result<Option<T>> + Sync,
    ) -> Result<Vec<(&Api, T)>> {
        let enough = AtomicBool::new(false);
        if let [api] = &*self.apis {
            return Ok(ask(api, &enough)?
                .map(|answer| (api, answer))
                .into_iter()
                .collect());
        }
        let needed = self.quorum.unwrap_or(self.apis.len()).min(self.apis.len());
        let (have, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let ask = |api| {
            let answer = ask(api, &enough);
            let (count, limit) = match &answer {
                Ok(_) => (&have, needed),
                Err(_) => (&failed, self.apis.len() - needed + 1),
            };
            if count.fetch_add(1, Ordering::Relaxed) + 1 >= limit {
                enough.store(true, Ordering::Relaxed);
            }
            (api, answer)
        };
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let ask = &ask;
            let threads: Vec<_> = self
                .apis
                .iter()
                .map(|api| scope.spawn(move || ask(api)))
                .collect();
            let join = |thread: ScopedJoinHandle<'_, _>| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        for (api, outcome) in outcomes {
            match outcome {
                Ok(answer) => answers.extend(answer.map(|answer| (api, answer))),
                Err(error) => failures.push(error),
            }
        }
        match failures.into_iter().next() {
            Some(error) if answers.len() < needed => Err(error.context(format!(
                "{} of {} Traefiks serve the change, {needed} have to",
                answers.len(),
                self.apis.len()
            ))),
            _ => Ok(answers),
        }
    }

    /// Waits until a Traefik has loaded the commit; false if that is no longer asked for.
    fn wait(&self, api: &Api, awaited: &Awaited<'_>, enough: &AtomicBool) -> Result<bool> {
        let Awaited {
            commit,
            managed,
            start,
            ..
        } = *awaited;
        let deadline = start + self.timeout;
        let marker = format!("{}@{}", commit.marker, self.provider);
        let mut unauthorized_since = None;
        let mut before = None;
        loop {
            let seen = match api.generation_by(&marker, deadline) {
                Ok(Some(generation)) if generation >= commit.generation => {
                    let took = start.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
                    self.last_took.store(took, Ordering::Relaxed);
                    return Ok(true);
                }
                Ok(Some(generation)) => Seen::Generation(generation),
                Ok(None) => Seen::NoMarker,
                Err(error) => Seen::Failure(error),
            };
            managed.map_or(Ok(()), Managed::check)?;
            match &seen {
                Seen::Failure(error) if error.kind() == ErrorKind::Unauthorized => {
                    let since = *unauthorized_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= awaited.patience {
                        return Err(error.clone());
                    }
                }
                _ => unauthorized_since = None,
            }
            if enough.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let now = Instant::now();
            let rejected = now - start >= REJECTION_PATIENCE
                && managed.is_some_and(|managed| managed.has_rejected_since(awaited.begun));
            if now >= deadline || rejected {
                // A last request that the deadline cut short tells nothing.
                let cut_short =
                    matches!(&seen, Seen::Failure(error) if error.kind() == ErrorKind::Unavailable);
                let seen = before.filter(|_| cut_short).unwrap_or(seen);
                return Err(match seen {
                    Seen::Failure(error) if error.kind() == ErrorKind::Unauthorized => error,
                    seen => self.not_loaded(api, awaited, seen),
                });
            }
            before = Some(seen);
            let expected = Duration::from_micros(self.last_took.load(Ordering::Relaxed));
            std::thread::sleep(pause(now - start, expected).min(deadline - now));
        }
    }

    fn not_loaded(&self, api: &Api, awaited: &Awaited<'_>, seen: Seen) -> Error {
        let provider = &self.provider;
        let why = match seen {
            Seen::NoMarker => match providers(api) {
                Ok(running) if !running.contains(&provider.to_lowercase()) => format!(
                    "its provider {provider:?} is not running (these are: {}); check its static \
                     configuration, and restart it if the store was not there when it started",
                    running.join(", "),
                ),
                Ok(_) => format!(
                    "it has never loaded anything of ours from its provider {provider:?}; it \
                     probably reads another file or prefix than the one we write"
                ),
                Err(error) => error.to_string(),
            },
            Seen::Generation(generation) => format!(
                "it still has generation {generation} instead of {}; it rejects what is stored \
                 now (its log says why) or watches no longer",
                awaited.commit.generation
            ),
            Seen::Failure(error) => error.to_string(),
        };
        let mut message = format!(
            "stored, but Traefik at {} did not load it within {} ms: {why}",
            api.url(),
            awaited.start.elapsed().as_millis()
        );
        let complaints = awaited
            .managed
            .map(|managed| managed.complaints_since(awaited.begun));
        if let Some(complaints) = complaints.filter(|complaints| !complaints.is_empty()) {
            message.push_str(&format!("; its log says: {}", complaints.join(" | ")));
        }
        Error::new(ErrorKind::NotLoaded, message)
    }
}

/// The routers that Traefik refuses, at least those of these names.
fn refused_of(api: &Api, by_name: &HashMap<String, &RouteSpec>) -> Result<Vec<RouterInfo>> {
    let mut names = by_name.keys();
    match (names.next(), names.next()) {
        (None, _) => Ok(Vec::new()),
        (Some(name), None) => {
            let router = api.router(name)?;
            Ok(router
                .filter(|router| router.status == "disabled")
                .into_iter()
                .collect())
        }
        _ => api.refused_routers(),
    }
}

/// Few polls until it may be there: each takes CPU from the reload that it waits for. Then every
/// twentieth of the time that has passed.
fn pause(elapsed: Duration, expected: Duration) -> Duration {
    let part = if elapsed < expected / 2 { 2 } else { 20 };
    (elapsed / part).clamp(Duration::from_micros(100), Duration::from_millis(100))
}

/// The providers that run, in lower case. The time for the commit is over: this must be quick.
pub(super) fn providers(api: &Api) -> Result<Vec<String>> {
    let overview = api.clone().timeout(Duration::from_secs(1)).overview()?;
    let names = overview["providers"].as_array();
    let names = names.map(Vec::as_slice).unwrap_or_default();
    Ok(names
        .iter()
        .filter_map(|name| name.as_str().map(str::to_lowercase))
        .collect())
}

fn refusal(api: &Api, spec: &RouteSpec, router: &RouterInfo) -> Error {
    let url = api.url();
    let words = router.error.join("; ");
    let message = format!("stored, but Traefik at {url} refuses the route {spec}: {words}");
    Error::new(ErrorKind::Refused, message).with_stored(crate::error::Stored::All)
}
