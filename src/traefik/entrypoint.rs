//! Which generation requests meet where they come in.

use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::config::dynamic::{GENERATION_HEADER, generation_path};
use crate::error::Result;
use crate::http::{Http, Tls};
use crate::sync::unpoisoned;

/// Asks an entrypoint for the generation that it serves. The entrypoint may be out of our reach, or
/// belong to another Traefik than the one whose API we ask.
#[derive(Debug)]
pub(crate) struct EntrypointProbe {
    http: Http,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Why it was not reached when it was last asked; `None` if it was.
    unreachable: Option<String>,
    /// From when on it is to be asked again.
    ask_from: Instant,
    /// How long to leave it alone if it is not reached.
    rest: Duration,
}

/// What requests meet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Generation(u64),
    Other(OtherAnswer),
}

/// An answer that is not our generation router's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OtherAnswer {
    status: u16,
    location: Option<String>,
}

/// How long to leave an entrypoint alone that was not reached, and at the most if it stays so: to
/// wait for it at every change would cost too much.
const REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(300);

impl EntrypointProbe {
    /// The entrypoint at this URL. Its certificate may be any one, since nothing secret is asked or
    /// answered.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let tls = Tls::new().danger_skip_validation(true);
        Ok(Self {
            http: Http::new(url, &tls)?,
            state: Mutex::new(State {
                unreachable: None,
                ask_from: Instant::now(),
                rest: REST,
            }),
        })
    }

    pub(crate) fn url(&self) -> &str {
        self.http.base()
    }

    /// What a request meets.
    ///
    /// # Errors
    /// If no answer comes in time.
    pub(crate) fn ask(&self, marker: &str, timeout: Duration) -> Result<Met> {
        let answer = self.http.get(&generation_path(marker), timeout)?;
        Ok(match answer.number(GENERATION_HEADER) {
            Some(generation) => Met::Generation(generation),
            None => Met::Other(OtherAnswer {
                status: answer.status,
                location: answer.header("location").map(Into::into),
            }),
        })
    }

    /// Why it is not to be asked now, if so.
    pub(crate) fn unreachable(&self) -> Option<String> {
        let state = self.state();
        let why = state.unreachable.as_ref();
        why.filter(|_| state.ask_from > Instant::now()).cloned()
    }

    /// Whether it was not reached when it was last asked.
    pub(crate) fn was_unreachable(&self) -> bool {
        self.state().unreachable.is_some()
    }

    pub(crate) fn set_reached(&self) {
        let mut state = self.state();
        state.unreachable = None;
        state.rest = REST;
    }

    /// Leaves one alone that was not reached, for longer each time.
    pub(crate) fn leave_alone(&self, why: &str) {
        let mut state = self.state();
        state.unreachable = Some(why.into());
        state.ask_from = Instant::now() + state.rest;
        state.rest = (2 * state.rest).min(LONGEST_REST);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        unpoisoned(self.state.lock())
    }
}

impl fmt::Display for OtherAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(to) => write!(f, "status {}, a redirect to {to}", self.status),
            None => write!(f, "status {}", self.status),
        }
    }
}
