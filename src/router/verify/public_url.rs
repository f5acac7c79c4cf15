//! Whether requests to `public_url` meet a commit.

use std::time::{Duration, Instant};

use super::pending::Pending;
use super::schedule::PollSchedule;
use crate::error::{Error, ErrorKind, Result};
use crate::router::applied::{NotAsked, Verified};
use crate::traefik::entrypoint::{EntrypointProbe, Met};

/// How long an entrypoint may take to answer at first.
const FIRST_TIMEOUT: Duration = Duration::from_millis(500);
/// How long one may take that has answered before: it may be busy.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Where requests come in, or why nothing is asked there.
#[derive(Debug)]
pub(in crate::router) enum PublicUrl {
    Ask(EntrypointProbe),
    Not(NotAsked),
}

impl PublicUrl {
    /// Waits until requests meet the commit, if they do about when they usually do. Returns how long that
    /// took. `None` if they do not, or nothing is asked: then the API shows why.
    pub(super) fn wait_briefly(
        &self,
        pending: &Pending<'_>,
        polls: &mut PollSchedule,
    ) -> Result<Option<Duration>> {
        let Self::Ask(probe) = self else {
            return Ok(None);
        };
        if pending.is_setup || probe.was_unreachable() {
            return Ok(None);
        }
        // The other half of the time is for the API.
        let bound = (pending.timeout / 2).min(polls.entrypoint_patience());
        let left = || bound.saturating_sub(pending.visible.elapsed());
        while !left().is_zero() && !pending.is_rejected() {
            // A shorter time would cut off an entrypoint that is far away, again and again.
            let timeout = pending.time_left().min(FIRST_TIMEOUT);
            match probe.ask(&pending.commit.marker, timeout) {
                Ok(Met::Generation(generation)) => {
                    if pending.is_shown_by(generation).unwrap_or(false) {
                        return Ok(Some(pending.visible.elapsed()));
                    }
                }
                Ok(Met::Other(_)) | Err(_) => {
                    polls.set_failed();
                    break;
                }
            }
            pending.check_process()?;
            let pause = polls.next_pause(pending.visible.elapsed());
            std::thread::sleep(pause.min(left()));
        }
        Ok(None)
    }

    /// Waits until requests meet a commit that the API has shown. Traefik gives a configuration to its
    /// entrypoints one after the other, and the API's may be the first.
    pub(super) fn wait(&self, pending: &Pending<'_>) -> Result<Verified> {
        let probe = match self {
            Self::Ask(probe) => probe,
            Self::Not(why) => return Ok(Verified::NotAsked(why.clone())),
        };
        let not_asked = |reason| Ok(Verified::NotAsked(NotAsked::Unreachable { reason }));
        if let Some(why) = probe.unreachable() {
            return not_asked(why);
        }
        // One that was unreachable is asked once more, for a short time.
        let (start, mut has_failed) = (Instant::now(), probe.was_unreachable());
        let longest = match has_failed {
            true => FIRST_TIMEOUT,
            false => TIMEOUT,
        };
        let mut polls = PollSchedule::new(Duration::ZERO);
        let patience = FIRST_TIMEOUT.max(pending.time_left());
        loop {
            let left = patience.saturating_sub(start.elapsed());
            match probe.ask(&pending.commit.marker, left.clamp(FIRST_TIMEOUT, longest)) {
                Ok(Met::Generation(generation)) => {
                    if pending.is_shown_by(generation).unwrap_or(false) {
                        probe.set_reached();
                        return Ok(Verified::Seen);
                    }
                    if left.is_zero() {
                        let expected = pending.commit.generation;
                        let what =
                            format!("still meet generation {generation} instead of {expected}");
                        return Err(not_served(pending, probe, &what));
                    }
                }
                Ok(Met::Other(answer)) if start.elapsed() >= FIRST_TIMEOUT => {
                    let what = format!("are not answered by these routers, but with {answer}");
                    return Err(not_served(pending, probe, &what));
                }
                Ok(Met::Other(_)) => {}
                Err(_) if !has_failed => has_failed = true,
                Err(error) => {
                    if start.elapsed() >= FIRST_TIMEOUT || pending.is_setup {
                        probe.leave_alone(&error.to_string());
                    }
                    log::warn!(
                        "{} (`public_url`) can't be asked which routes it serves; the change is \
                         verified through Traefik's API alone: {error}",
                        probe.url()
                    );
                    return not_asked(error.to_string());
                }
            }
            pending.check_process()?;
            std::thread::sleep(polls.next_pause(start.elapsed()).min(left));
        }
    }
}

fn not_served(pending: &Pending<'_>, probe: &EntrypointProbe, what: &str) -> Error {
    let message = format!(
        "{}requests to {} (`public_url`) {what}, though Traefik's API shows the change",
        pending.message_start(),
        probe.url()
    );
    Error::new(ErrorKind::NotLoaded, message)
}
