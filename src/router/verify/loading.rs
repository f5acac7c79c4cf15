//! One Traefik, and whether it has loaded a commit.
//!
//! Its API shows the generation that it has loaded. The commonest commit sets one route: where the Traefik is
//! known to have loaded the commit before it, the new router proves it as well, and the same answer shows
//! whether Traefik refuses it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::pending::Pending;
use super::schedule::PollSchedule;
use crate::error::{Error, ErrorKind, Result};
use crate::route::service_name;
use crate::traefik::{Api, RouterInfo};

#[derive(Debug)]
pub(in crate::router) struct Traefik {
    pub(in crate::router) api: Api,
    /// The last generation that it was seen to have loaded.
    loaded: AtomicU64,
}

/// Whether a Traefik has loaded a commit.
pub(super) enum Loaded {
    /// Its generation shows that it has.
    ByGeneration,
    /// This router shows that it has.
    ByRouter(RouterInfo),
    /// Not known: other Traefiks are enough.
    NotNeeded,
}

/// What an API answered last.
enum LastAnswer {
    /// It answers, but has no generation of this table.
    NoGeneration,
    Generation(u64),
    Failure(Error),
}

/// A router whose presence proves a commit.
struct Proof {
    router: String,
    service: String,
}

impl Traefik {
    pub(super) fn new(api: Api) -> Self {
        Self {
            api,
            loaded: AtomicU64::new(0),
        }
    }

    /// Waits until this Traefik has loaded the commit, or `is_certain` is set. The schedule begins at `since`.
    pub(super) fn wait_until_loaded(
        &self,
        pending: &Pending<'_>,
        polls: &mut PollSchedule,
        since: Instant,
        is_certain: &AtomicBool,
    ) -> Result<Loaded> {
        let mut proof = self.proof(pending);
        let marker = pending.commit.marker_at(pending.provider);
        let mut unauthorized_since = None;
        let mut before = None;
        loop {
            // Another writer may have deleted the route. Only the generation shows what is wrong.
            if since.elapsed() > polls.proof_patience() {
                proof = None;
            }
            let seen = match self.poll_once(pending, proof.as_ref(), &marker) {
                Ok(loaded) => {
                    self.loaded
                        .store(pending.commit.generation, Ordering::Relaxed);
                    return Ok(loaded);
                }
                Err(seen) => seen,
            };
            pending.check_process()?;
            match &seen {
                LastAnswer::Failure(error) if error.kind() == ErrorKind::Unauthorized => {
                    let since = *unauthorized_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= pending.unauthorized_grace {
                        return Err(error.clone());
                    }
                }
                _ => unauthorized_since = None,
            }
            if is_certain.load(Ordering::Relaxed) {
                return Ok(Loaded::NotNeeded);
            }
            let left = pending.time_left();
            if left.is_zero() || pending.is_rejected() {
                // A last request that the deadline cut short shows nothing.
                let is_cut_short = matches!(&seen, LastAnswer::Failure(error) if error.kind() == ErrorKind::Unavailable);
                let seen = before.filter(|_| is_cut_short).unwrap_or(seen);
                return Err(match seen {
                    LastAnswer::Failure(error) if error.kind() == ErrorKind::Unauthorized => error,
                    seen => self.not_loaded(pending, seen),
                });
            }
            if !matches!(seen, LastAnswer::Generation(_)) {
                polls.set_failed();
            }
            before = Some(seen);
            std::thread::sleep(polls.next_pause(since.elapsed()).min(left));
        }
    }

    /// The router that proves the commit, if this Traefik has loaded the commit before it. Otherwise it may
    /// show that router from an earlier time.
    fn proof(&self, pending: &Pending<'_>) -> Option<Proof> {
        let route = pending.expected.sole.as_ref()?;
        let loaded = self.loaded.load(Ordering::Relaxed);
        (pending.commit.follows == Some(loaded)).then(|| Proof {
            router: pending.router_name(&route.spec),
            service: service_name(&pending.commit.namespace, &route.target),
        })
    }

    /// Asks the API once. The error is what it shows instead of the commit.
    fn poll_once(
        &self,
        pending: &Pending<'_>,
        proof: Option<&Proof>,
        marker: &str,
    ) -> Result<Loaded, LastAnswer> {
        let deadline = pending.deadline();
        if let Some(proof) = proof {
            let router = self.api.router_by(&proof.router, deadline);
            return match router.map_err(LastAnswer::Failure)? {
                Some(router) if router.service == proof.service => Ok(Loaded::ByRouter(router)),
                _ => Err(LastAnswer::Generation(
                    pending.commit.follows.unwrap_or_default(),
                )),
            };
        }
        let generation = self.api.generation_by(marker, deadline);
        let generation = generation
            .map_err(LastAnswer::Failure)?
            .ok_or(LastAnswer::NoGeneration)?;
        match pending
            .is_shown_by(generation)
            .map_err(LastAnswer::Failure)?
        {
            true => Ok(Loaded::ByGeneration),
            false => Err(LastAnswer::Generation(generation)),
        }
    }

    fn not_loaded(&self, pending: &Pending<'_>, seen: LastAnswer) -> Error {
        let provider = pending.provider;
        let why = match seen {
            LastAnswer::NoGeneration => match providers(&self.api) {
                Ok(running) if !running.contains(&provider.to_lowercase()) => format!(
                    "its provider {provider:?} is not running (these are: {}); check its static \
                     configuration, and restart it if the store was not there when it started",
                    running.join(", "),
                ),
                Ok(_) => format!(
                    "it has never loaded anything of ours from its provider {provider:?}: {UNREAD}"
                ),
                Err(error) => error.to_string(),
            },
            LastAnswer::Generation(generation) if generation > pending.commit.generation => {
                format!(
                    "it shows generation {generation}, which is later than the one stored, {}: the store \
                 was put back to an earlier state, and this Traefik hears nothing of it; restart it",
                    pending.commit.generation
                )
            }
            LastAnswer::Generation(generation) => format!(
                "it still has generation {generation} instead of {}: {UNHEARD}",
                pending.commit.generation
            ),
            LastAnswer::Failure(error) => error.to_string(),
        };
        let mut message = format!(
            "{}Traefik at {} did not load it within {} ms: {why}",
            pending.message_start(),
            self.api.url(),
            pending.stored_at.elapsed().as_millis()
        );
        let managed = pending.serving.managed;
        let complaints = managed.map(|managed| managed.complaints_since(pending.begun));
        if let Some(complaints) = complaints.filter(|complaints| !complaints.is_empty()) {
            message.push_str(&format!("; its log says: {}", complaints.join(" | ")));
        }
        Error::new(ErrorKind::NotLoaded, message)
    }
}

/// Why a Traefik may have loaded nothing of a store.
pub(in crate::router) const UNREAD: &str = "it reads another file or prefix than this one, or rejects what is in it, and \
    its log says why; or the file was not there when it started: restart it";

/// Why a Traefik may not load a change.
pub(in crate::router) const UNHEARD: &str = "it rejects what is stored, and its log says why; or it hears of no change. Where \
    it reads a symbolic link, have it read the file itself; restart it otherwise";

/// The providers that run, in lower case. The time for the commit is over: this must be quick.
pub(in crate::router) fn providers(api: &Api) -> Result<Vec<String>> {
    let overview = api.clone().timeout(Duration::from_secs(1)).overview()?;
    let names = overview["providers"].as_array();
    let names = names.map(Vec::as_slice).unwrap_or_default();
    Ok(names
        .iter()
        .filter_map(|name| name.as_str().map(str::to_lowercase))
        .collect())
}
