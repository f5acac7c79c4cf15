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
    /// From when on it is to be asked; `None` if it was not seen to tell its generation.
    tells_from: Mutex<Option<Instant>>,
}

/// How long to leave one alone that was silent: to wait for it at every change would cost too much.
const REST: Duration = Duration::from_secs(5);

impl Served {
    /// The entrypoint at this URL; its certificate may be any one, since nothing secret is asked or
    /// told.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let tls = Tls::new().danger_skip_validation(url.starts_with("https://"));
        Ok(Self {
            http: Http::new(url, &tls)?,
            tells_from: Mutex::new(None),
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
        self.tells_from().is_some_and(|from| from <= Instant::now())
    }

    pub(crate) fn set_tells(&self, tells: bool) {
        *self.tells_from() = tells.then(Instant::now);
    }

    pub(crate) fn leave_alone(&self) {
        *self.tells_from() = Some(Instant::now() + REST);
    }

    fn tells_from(&self) -> MutexGuard<'_, Option<Instant>> {
        self.tells_from
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
