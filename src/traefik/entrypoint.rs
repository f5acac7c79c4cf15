//! The entrypoint that routes are served on, as far as it tells which generation it serves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::dynamic::generation_path;
use crate::error::Result;
use crate::http::{Http, Tls};

/// Where requests come in. It may be out of our reach, or lead to another Traefik than the one
/// whose API we ask.
#[derive(Debug)]
pub(crate) struct Served {
    http: Http,
    tells: AtomicBool,
}

impl Served {
    /// The entrypoint at this URL; its certificate may be any one, since nothing secret is asked or
    /// told.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let tls = Tls::new().danger_skip_validation(url.starts_with("https://"));
        Ok(Self {
            http: Http::new(url, &tls)?,
            tells: AtomicBool::new(false),
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

    /// Whether it has been seen to tell its generation.
    pub(crate) fn tells(&self) -> bool {
        self.tells.load(Ordering::Relaxed)
    }

    pub(crate) fn set_tells(&self, tells: bool) {
        self.tells.store(tells, Ordering::Relaxed);
    }
}
