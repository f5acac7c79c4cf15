//! How the Traefiks of a Router are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Router;
use super::managed::{Managed, ProcessStatus};
use super::verify::Others;
use crate::backend::Commit;
use crate::config::MAX_WAIT;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{in_background, unpoisoned};
use crate::threads::at_once;
use crate::traefik::{Api, RouterInfo, Version};

/// For how long a Traefik may take to load a commit before we say that it has not. With its own default
/// `providersThrottleDuration` it takes 2 seconds.
pub(super) const RELOAD_PATIENCE: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How a Router's Traefiks are.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The Traefik that this Router has started; `None` if it has started none.
    pub process: Option<ProcessStatus>,
    /// What each configured Traefik answers.
    pub traefiks: Vec<TraefikStatus>,
}

/// How one Traefik is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TraefikStatus {
    /// The URL of its API.
    pub url: String,
    /// What its API answers; or why it did not answer, or could not be asked.
    pub answer: Result<TraefikAnswer>,
}

/// What the API of one Traefik answers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TraefikAnswer {
    /// Its version, and since when it runs.
    pub version: Version,
    /// The generation of this table that it has loaded; `None` if it has loaded none.
    pub generation: Option<u64>,
    /// Whether that is the one stored. A commit that is under way is waited for, up to 3 seconds.
    pub is_current: bool,
    /// The routers of this table that it refuses, each with its reasons.
    pub refused: Vec<RouterInfo>,
}

/// For how long one Traefik has been behind what is stored.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Lag {
    /// The URL of its API.
    pub url: String,
    /// The age of the first commit that it does not serve: zero if it serves what is stored, `None` if it has
    /// loaded no commit. Or why it did not answer.
    pub behind: Result<Option<Duration>>,
}

impl Status {
    /// Whether everything is as it should be: each Traefik answers, has loaded what is stored, and
    /// refuses none of its routers.
    pub fn is_healthy(&self) -> bool {
        matches!(self.process, None | Some(ProcessStatus::Running { .. }))
            && self.traefiks.iter().all(TraefikStatus::is_healthy)
    }
}

impl TraefikStatus {
    /// Whether it answers, has loaded what is stored, and refuses none of its routers.
    pub fn is_healthy(&self) -> bool {
        let is_healthy = |answer: &TraefikAnswer| answer.is_current && answer.refused.is_empty();
        self.answer.as_ref().is_ok_and(is_healthy)
    }
}

impl Router {
    /// Asks every Traefik how it is: its version, the generation it has loaded, and which routers of this
    /// table it refuses. Never fails; what is wrong is in the answer.
    pub fn status(&self) -> Status {
        let status = |api: &Api| TraefikStatus {
            url: api.url().to_string(),
            answer: self.ask(api),
        };
        Status {
            process: self.process(),
            traefiks: self.verifier.apis().map(status).collect(),
        }
    }

    /// How the Traefik that this Router has started is; `None` if it has started none. Asks no API.
    pub fn process(&self) -> Option<ProcessStatus> {
        self.managed.as_ref().map(Managed::status)
    }

    /// For how long each Traefik has been behind what is stored, by their order. They are asked in parallel, and no
    /// commit that is under way is waited for. The answer comes within `patience`.
    ///
    /// A commit is known from the first call that finds it stored. So call this in intervals: of the commits
    /// between two calls only the last one is known. If the store does not answer, its last commit is the one that
    /// this Router knows.
    pub fn lag(&self, patience: Duration) -> Vec<Lag> {
        let (begun, patience) = (Instant::now(), patience.min(MAX_WAIT));
        let stored = self.stored_by(begun + patience / 2);
        let (stored, marker) = stored.unwrap_or_else(|_| self.shown(None));
        let deadline = begun + patience;
        let lag = |api: &Api| Lag {
            url: api.url().to_string(),
            behind: api.generation_by(&marker, deadline).map(|loaded| {
                let loaded = loaded?;
                let first = self.first_unserved(api.url(), stored, loaded);
                Some(first.map_or(Duration::ZERO, |first| Commit::new("", first).age()))
            }),
        };
        at_once(self.verifier.apis(), lag)
    }

    /// The first generation that this Traefik does not serve, of those that were seen to be stored.
    fn first_unserved(&self, url: &str, stored: u64, loaded: u64) -> Option<u64> {
        let mut unserved = unpoisoned(self.unserved.lock());
        let known = unserved.remove(url).filter(|first| *first > loaded);
        let first = (stored > loaded).then(|| known.unwrap_or(stored))?;
        unserved.insert(url.into(), first);
        Some(first)
    }

    /// Waits until all Traefiks, or as many as [`Builder::traefik_quorum`](super::Builder::traefik_quorum) says,
    /// have loaded what is stored now. Changes that come meanwhile are not waited for, so that a table which
    /// always changes is served, too.
    ///
    /// # Errors
    /// [`NotLoaded`](ErrorKind::NotLoaded) or [`Unavailable`](ErrorKind::Unavailable) if fewer have within
    /// `patience`; or if the store can't be read within it.
    pub fn wait_until_served(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience.min(MAX_WAIT);
        let (stored, marker) = self.stored_by(deadline)?;
        let ask = |api: &Api, others: &Others| loop {
            let asked = others.ask(api, |api| api.generation_by(&marker, deadline))?;
            let Some(loaded) = asked else {
                return Ok(None);
            };
            if loaded.is_some_and(|loaded| loaded >= stored) {
                return Ok(Some(()));
            }
            if others.are_certain() {
                return Ok(None);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left <= POLL_INTERVAL {
                let url = api.url();
                let loaded = loaded.map_or("none".into(), |loaded| loaded.to_string());
                let message =
                    format!("Traefik at {url} has generation {loaded} instead of {stored}");
                return Err(Error::new(ErrorKind::NotLoaded, message));
            }
            std::thread::sleep(POLL_INTERVAL);
        };
        let served = (self.verifier).ask_quorum("serve what is stored", ask);
        served.map(drop)
    }

    /// The generation that is stored, and what Traefik calls its marker.
    fn stored(&self) -> Result<(u64, String)> {
        Ok(self.shown(self.backend.last_commit()?))
    }

    /// The same, by a deadline. A thread reads the store.
    fn stored_by(&self, deadline: Instant) -> Result<(u64, String)> {
        let backend = Arc::clone(&self.backend);
        let read = in_background(move || backend.last_commit());
        let left = deadline.saturating_duration_since(Instant::now());
        let stored = read.recv_timeout(left).unwrap_or_else(|_| {
            let why = "the store did not say in time what is stored";
            Err(Error::new(ErrorKind::Unavailable, why))
        })?;
        Ok(self.shown(stored))
    }

    /// What a Traefik shows of this commit; of the last one that this Router knows, if there is none.
    fn shown(&self, commit: Option<Commit>) -> (u64, String) {
        let commit = commit.unwrap_or_else(|| self.last().clone());
        (commit.generation, commit.marker_at(self.backend.provider()))
    }

    fn ask(&self, api: &Api) -> Result<TraefikAnswer> {
        let version = api.version()?;
        let (generation, is_current) = self.loaded_by(api, Instant::now() + RELOAD_PATIENCE)?;
        Ok(TraefikAnswer {
            version,
            generation,
            is_current,
            refused: self.refused_by(api)?,
        })
    }

    /// The generation that a Traefik has loaded, and whether it is the one stored.
    fn loaded_by(&self, api: &Api, deadline: Instant) -> Result<(Option<u64>, bool)> {
        loop {
            let (stored, marker) = self.stored()?;
            let loaded = api.generation(&marker)?;
            let is_current = loaded == Some(stored);
            if is_current || Instant::now() >= deadline {
                return Ok((loaded, is_current));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// The routers of this table that a Traefik refuses.
    fn refused_by(&self, api: &Api) -> Result<Vec<RouterInfo>> {
        let mut refused = api.refused_routers()?;
        if !refused.is_empty() {
            let stored = self.backend.inspect()?.unwrap_or_default();
            let ours = stored.router_names(self.backend.provider());
            refused.retain(|router| ours.contains_key(&router.name));
        }
        Ok(refused)
    }

    /// Whether every Traefik serves what is stored.
    pub(super) fn is_served(&self) -> bool {
        let mut apis = self.verifier.apis();
        apis.all(|api| {
            let loaded = self.loaded_by(api, Instant::now());
            loaded.is_ok_and(|(_, is_current)| is_current)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;

    #[test]
    fn lag_begins_with_first_unserved() {
        let router = Router::builder(MemoryBackend::new()).offline().unwrap();
        for (stored, loaded, expected) in [
            (5, 5, None),
            (7, 5, Some(7)),
            (9, 5, Some(7)),
            (9, 7, Some(9)),
            (9, 9, None),
            (8, 9, None),
            (11, 9, Some(11)),
        ] {
            let first = router.first_unserved("http://t", stored, loaded);
            assert_eq!(first, expected, "{stored} {loaded}");
        }
    }
}
