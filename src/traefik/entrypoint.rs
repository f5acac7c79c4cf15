//! The entrypoint that routes are served on, as far as it tells which generation it serves.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::dynamic::generation_path;
use crate::error::Result;
use crate::http::{Http, Tls};

/// Where requests come in. It may be out of our reach, or lead to another Traefik than the one
/// whose API we ask.
#[derive(Debug)]
pub(crate) struct Served {
    http: Http,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// From when on it is to be asked; `None` if it was not seen to tell its generation.
    tells_from: Option<Instant>,
    /// How long to leave it alone if it is silent.
    rest: Duration,
}

/// How long to leave one alone that was silent, and at the most if it stays so: to wait for it at
/// every change would cost too much.
const REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(300);

impl Served {
    /// The entrypoint at this URL; its certificate may be any one, since nothing secret is asked or
    /// told.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let tls = Tls::new().danger_skip_validation(url.starts_with("https://"));
        Ok(Self {
            http: Http::new(url, &tls)?,
            state: Mutex::new(State {
                tells_from: None,
                rest: REST,
            }),
        })
    }

    pub(crate) fn url(&self) -> &str {
        self.http.base()
    }

    /// The generation that requests meet; `None` if whoever answers does not tell.
    ///
    /// # Errors
    /// If nobody answers in time.
    pub(crate) fn generation(&self, marker: &str, timeout: Duration) -> Result<Option<u64>> {
        let answer = self.http.get(&generation_path(marker), timeout)?;
        Ok(answer.generation)
    }

    /// Whether it was seen to tell its generation, and is not left alone.
    pub(crate) fn tells(&self) -> bool {
        let from = self.state().tells_from;
        from.is_some_and(|from| from <= Instant::now())
    }

    /// Whether it was silent when it was last asked.
    pub(crate) fn was_silent(&self) -> bool {
        self.state().rest > REST
    }

    pub(crate) fn set_tells(&self, tells: bool) {
        *self.state() = State {
            tells_from: tells.then(Instant::now),
            rest: REST,
        };
    }

    /// Leaves one alone that was silent, for longer each time.
    pub(crate) fn leave_alone(&self) {
        let mut state = self.state();
        if state.tells_from.is_some() {
            state.tells_from = Some(Instant::now() + state.rest);
            state.rest = (2 * state.rest).min(LONGEST_REST);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
