//! When to poll Traefik for a commit, and how long it will probably take to load one.

use std::time::Duration;

/// Below this, Traefik reloads so fast that polling often finds the end of a reload soonest. Above it, each
/// poll takes CPU time from the reload and delays it.
const SLOW: Duration = Duration::from_millis(20);
/// Above this, a poll costs nothing beside the reload.
const VERY_SLOW: Duration = Duration::from_millis(200);

/// The shortest and the longest pause between two polls.
const MIN_PAUSE: Duration = Duration::from_micros(50);
const MAX_PAUSE: Duration = Duration::from_millis(250);

/// Grace period for the entrypoint after twice the estimate.
const ENTRYPOINT_GRACE: Duration = Duration::from_millis(20);

/// Without routes Traefik takes about as long to reload as with so many.
const BASE_ROUTES: usize = 15;

/// How long the last reload took whose end was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReloadEstimate {
    pub(super) took: Duration,
    /// The number of routes after it, if that is known.
    pub(super) routes: Option<usize>,
}

impl ReloadEstimate {
    /// How long a reload will probably take with so many routes.
    pub(super) fn scaled_to(self, routes: Option<usize>) -> Duration {
        let (Some(now), Some(then)) = (routes, self.routes) else {
            return self.took;
        };
        let [now, then] = [now, then].map(|routes| (BASE_ROUTES + routes) as f64);
        let scaled = self.took.mul_f64(now / then);
        match now > then {
            // The last reload may have been slow for another reason. An estimate that is too long delays
            // the first poll, which costs more than one that is too short.
            true => self.took.max(scaled / 8).min(self.took * 4),
            false => scaled,
        }
    }
}

/// When to poll, as pauses for the caller to sleep. Each poll takes CPU time from the reload that it waits for, so
/// the first one comes shortly before the estimated end.
#[derive(Clone, Copy)]
pub(super) struct PollSchedule {
    estimate: Duration,
    /// Whether the first poll had to be waited for.
    waited: bool,
    /// Whether a poll came before the end of the reload.
    polled_early: bool,
    /// Whether a poll failed. The time until Traefik answers again says nothing about reloads.
    failed: bool,
}

impl PollSchedule {
    pub(super) fn new(estimate: Duration) -> Self {
        Self {
            estimate,
            waited: false,
            polled_early: false,
            failed: false,
        }
    }

    /// The number of the first part of the estimate after which to poll, and the number of all parts.
    fn parts(&self) -> (u32, u32) {
        match self.estimate {
            fast if fast < SLOW => (5, 8),
            slow if slow < VERY_SLOW => (14, 16),
            _ => (20, 32),
        }
    }

    /// The times of polls up to the estimated end.
    fn planned(&self) -> impl Iterator<Item = Duration> {
        let (first, all) = self.parts();
        (first..=all).map(move |part| self.estimate * part / all)
    }

    /// How long the entrypoint is waited for before the API is asked.
    pub(super) fn entrypoint_patience(&self) -> Duration {
        ENTRYPOINT_GRACE + 2 * self.estimate
    }

    /// The pause before the first poll, `elapsed` after the reload could begin.
    pub(super) fn first_pause(&mut self, elapsed: Duration) -> Duration {
        let first = self.planned().next().unwrap_or_default();
        let pause = first.saturating_sub(elapsed);
        self.waited = !pause.is_zero();
        pause
    }

    /// The pause after a poll that came too early. Beyond the estimate it is half a part of the time that has
    /// passed.
    pub(super) fn next_pause(&mut self, elapsed: Duration) -> Duration {
        self.polled_early = true;
        let next = self.planned().find(|at| *at > elapsed);
        let (_, all) = self.parts();
        let pause = next.map_or(elapsed / (2 * all), |at| at - elapsed);
        pause.clamp(MIN_PAUSE, MAX_PAUSE)
    }

    /// Notes that a poll failed.
    pub(super) fn set_failed(&mut self) {
        self.failed = true;
    }

    /// How long the reload took, now that its end was seen. `None` if that is not known: it may have ended
    /// before the first poll. At most four times the estimate, since something may have delayed this one.
    pub(super) fn took(&self, elapsed: Duration) -> Option<Duration> {
        let took = match (self.polled_early, self.waited) {
            _ if self.failed => return None,
            (true, _) => elapsed,
            (false, true) => elapsed * 7 / 8,
            (false, false) => return None,
        };
        Some(match self.estimate {
            Duration::ZERO => took,
            estimate => took.min(estimate * 4),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Those that waited, or came early.
    #[test]
    fn only_some_polls_measure_reloads() {
        let mut polls = PollSchedule::new(Duration::ZERO);
        assert_eq!(polls.first_pause(ms(1)), Duration::ZERO);
        assert_eq!(polls.took(ms(1)), None);
        assert!(polls.next_pause(ms(1)) > Duration::ZERO);
        assert_eq!(polls.took(ms(5)), Some(ms(5)));
        polls.set_failed();
        assert_eq!(polls.took(ms(5)), None);
        let mut polls = PollSchedule::new(ms(160));
        assert_eq!(polls.first_pause(ms(10)), ms(130));
        assert_eq!(polls.took(ms(160)), Some(ms(140)));
        // Far longer than the estimate.
        let mut delayed = PollSchedule::new(ms(20));
        delayed.next_pause(ms(30));
        assert_eq!(delayed.took(ms(900)), Some(ms(80)));
        // The estimated time is over.
        let mut polls = PollSchedule::new(ms(80));
        assert_eq!(polls.first_pause(ms(90)), Duration::ZERO);
        assert_eq!(polls.took(ms(95)), None);
    }

    #[test]
    fn polls_cost_little() {
        for (estimate, first, polls) in [
            (ms(8), ms(5), 4),
            (ms(80), ms(70), 3),
            (ms(800), ms(500), 13),
        ] {
            let schedule = PollSchedule::new(estimate);
            let planned: Vec<_> = schedule.planned().collect();
            assert_eq!((planned[0], planned.len()), (first, polls));
            assert_eq!(planned.last(), Some(&estimate));
        }
    }

    #[test]
    fn estimates_follow_route_count() {
        let last = |took, routes| ReloadEstimate {
            took: ms(took),
            routes,
        };
        for (last, routes, expected) in [
            (last(70, Some(1_000)), Some(1_000), ms(70)),
            (last(1_015, Some(1_000)), Some(0), ms(15)),
            (last(2, Some(0)), Some(1), ms(2)),
            (last(15, Some(0)), Some(465), ms(60)),
            (last(15, Some(0)), Some(9_985), ms(60)),
            (last(70, None), Some(1_000), ms(70)),
            (last(70, Some(1_000)), None, ms(70)),
        ] {
            assert_eq!(last.scaled_to(routes), expected, "{last:?} {routes:?}");
        }
    }
}
