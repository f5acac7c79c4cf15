//! How the Traefiks of a Router are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use super::Router;
use super::managed::{Managed, ProcessStatus};
use crate::config::MAX_WAIT;
use crate::error::{Error, ErrorKind, Result};
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

/// How far one Traefik is behind what is stored.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Lag {
    /// The URL of its API.
    pub url: String,
    /// The time between the commit that it serves and the last one: zero if it serves what is stored, `None` if
    /// it has loaded no commit. Or why it did not answer.
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

    /// How far each Traefik is behind what is stored now, by their order. They are asked in parallel, and no
    /// commit that is under way is waited for. An answer may take up to `patience`.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn lag(&self, patience: Duration) -> Result<Vec<Lag>> {
        let (stored, marker) = self.stored()?;
        let deadline = Instant::now() + patience.min(MAX_WAIT);
        let lag = |api: &Api| Lag {
            url: api.url().to_string(),
            // A generation is the time of its commit, in milliseconds.
            behind: api.generation_by(&marker, deadline).map(|loaded| {
                loaded.map(|loaded| Duration::from_millis(stored.saturating_sub(loaded)))
            }),
        };
        Ok(std::thread::scope(|scope| {
            let ask = |api| scope.spawn(move || lag(api));
            let asked: Vec<_> = self.verifier.apis().map(ask).collect();
            let join = |thread: ScopedJoinHandle<'_, _>| {
                let joined = thread.join();
                joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            asked.into_iter().map(join).collect()
        }))
    }

    /// Waits until all Traefiks, or as many as [`Builder::traefik_quorum`](super::Builder::traefik_quorum) says,
    /// have loaded what is stored now. Changes that come meanwhile are not waited for, so that a table which
    /// always changes is served, too.
    ///
    /// # Errors
    /// [`NotLoaded`](ErrorKind::NotLoaded) or [`Unavailable`](ErrorKind::Unavailable) if fewer have within
    /// `patience`; or if the store can't be read.
    pub fn wait_until_served(&self, patience: Duration) -> Result<()> {
        let (stored, marker) = self.stored()?;
        let deadline = Instant::now() + patience.min(MAX_WAIT);
        let ask = |api: &Api, is_certain: &AtomicBool| loop {
            let loaded = api.generation_by(&marker, deadline)?;
            if loaded.is_some_and(|loaded| loaded >= stored) {
                return Ok(Some(()));
            }
            if is_certain.load(Ordering::Relaxed) {
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
        let stored = self.backend.last_commit()?;
        let stored = stored.unwrap_or_else(|| self.last().clone());
        let marker = stored.marker_at(self.backend.provider());
        Ok((stored.generation, marker))
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
