//! Who waits for a commit, and when the next one begins. Times are handed in, so that tests need no clock.

use std::mem::take;
use std::time::{Duration, Instant};

/// After so many commits without a wait, the next leader tries one again.
const MAX_SKIP: u32 = 32;

/// Callers that wait, of whom one at a time, the leader, commits for all.
///
/// The callers of a commit return together, and those of a loop are back a moment later. A leader that began
/// at once would leave them to the commit after its own. So it waits until as many callers wait as this
/// commit left behind: its own, and those who came while it ran. It waits for a quarter of that commit's time
/// at most, and for one caller never. Where a wait brought few callers, the next leaders begin at once.
#[derive(Debug)]
pub(super) struct Queue<J> {
    waiting: Vec<J>,
    /// Whether a caller leads.
    led: bool,
    /// What the leader waits for before it commits.
    gathering: Option<Gathering>,
    longest: Duration,
    /// How many leaders do not wait, since the last wait brought too few callers; it doubles each time.
    pause_after_vain: u32,
    /// How many of them are left.
    skip: u32,
}

#[derive(Debug, Clone, Copy)]
struct Gathering {
    callers: usize,
    /// Those who waited already when the commit ended.
    early: usize,
    until: Instant,
}

impl<J> Queue<J> {
    /// No leader waits beyond `longest`.
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            waiting: Vec::new(),
            led: false,
            gathering: None,
            longest,
            pause_after_vain: 0,
            skip: 0,
        }
    }

    pub(super) fn push(&mut self, job: J) {
        self.waiting.push(job);
    }

    pub(super) fn is_led(&self) -> bool {
        self.led
    }

    pub(super) fn lead(&mut self) {
        self.led = true;
    }

    /// How long the leader waits for more callers; `None` once it is to commit.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        let gathering = self.gathering.as_ref()?;
        let left = gathering.until.checked_duration_since(now)?;
        (self.waiting.len() < gathering.callers && !left.is_zero()).then_some(left)
    }

    /// The jobs that the leader commits.
    pub(super) fn take(&mut self) -> Vec<J> {
        if let Some(gathering) = self.gathering.take() {
            // Where no leader waits, callers that ask in a loop split in two: one half commits while the other waits.
            let without = gathering.early.max(gathering.callers / 2);
            let with = self.waiting.len();
            // A wait takes up to a quarter of a commit's time, so it should bring a quarter more callers.
            let is_vain = with < gathering.callers && 4 * with < 5 * without;
            self.pause_after_vain = match is_vain {
                true => (2 * self.pause_after_vain).clamp(1, MAX_SKIP),
                false => 0,
            };
            self.skip = self.pause_after_vain;
        }
        take(&mut self.waiting)
    }

    /// The leader is done with the jobs of so many callers, for which it took so long.
    pub(super) fn end(&mut self, callers: usize, took: Duration, now: Instant) {
        self.led = false;
        let callers = callers + self.waiting.len();
        let waits = callers > 1 && self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        self.gathering = waits.then(|| Gathering {
            callers,
            early: self.waiting.len(),
            until: now + self.longest.min(took / 4),
        });
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LONGEST: Duration = Duration::from_millis(40);

    /// A caller that asks anew some time after each answer.
    #[derive(Debug, Clone)]
    struct Caller {
        first: u64,
        /// The times between an answer and the next request, in microseconds.
        pauses: Vec<u64>,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Event {
        /// Before arrivals of the same moment.
        Committed,
        Arrives(usize),
        Gathered,
    }

    /// A commit: when its leader could begin, when it began and ended, and who was in it.
    #[derive(Debug)]
    struct Run {
        free: Duration,
        began: Duration,
        ended: Duration,
        /// Each caller, and when it came.
        callers: Vec<(usize, Duration)>,
    }

    /// The commits of such callers, each of which takes the next one of `times`.
    fn commits(callers: &[Caller], times: &[u64]) -> Vec<Run> {
        let start = Instant::now();
        let mut times = times.iter().cycle();
        let mut queue = Queue::new(LONGEST);
        let mut events = BTreeMap::new();
        for (n, caller) in callers.iter().enumerate() {
            events.insert((caller.first, Event::Arrives(n)), ());
        }
        let mut left: Vec<_> = callers.iter().map(|one| one.pauses.iter()).collect();
        let mut free = 0;
        let mut running: Option<Run> = None;
        let mut runs = Vec::new();
        let micros = Duration::from_micros;
        while let Some(((now, event), ())) = events.pop_first() {
            match event {
                Event::Arrives(n) => queue.push((n, micros(now))),
                Event::Gathered => {}
                Event::Committed => {
                    let run = running.take().unwrap();
                    let took = run.ended - run.began;
                    queue.end(run.callers.len(), took, start + micros(now));
                    for (n, _) in &run.callers {
                        if let Some(pause) = left[*n].next() {
                            events.insert((now + pause, Event::Arrives(*n)), ());
                        }
                    }
                    runs.push(run);
                    free = now;
                }
            }
            if running.is_some() || queue.waiting() == 0 {
                continue;
            }
            if !queue.is_led() {
                queue.lead();
                free = free.max(now);
            }
            if let Some(pause) = queue.pause(start + micros(now)) {
                let pause = u64::try_from(pause.as_nanos().div_ceil(1000)).unwrap();
                events.insert((now + pause, Event::Gathered), ());
                continue;
            }
            let ended = now + times.next().unwrap();
            running = Some(Run {
                free: micros(free),
                began: micros(now),
                ended: micros(ended),
                callers: queue.take(),
            });
            events.insert((ended, Event::Committed), ());
        }
        assert_eq!(queue.waiting(), 0);
        runs
    }

    fn any_caller() -> impl Strategy<Value = Caller> {
        let pause = prop_oneof![0..2_000_u64, 0..200_000_u64];
        (0..100_000_u64, prop::collection::vec(pause, 0..8))
            .prop_map(|(first, pauses)| Caller { first, pauses })
    }

    /// Callers that ask again `turn` microseconds after an answer, so many times.
    fn loops(callers: usize, rounds: usize, turn: u64) -> Vec<Caller> {
        let caller = |n| Caller {
            first: n as u64,
            pauses: vec![turn; rounds - 1],
        };
        (0..callers).map(caller).collect()
    }

    proptest! {
        #[test]
        fn nobody_waits_longer_than_promised(
            callers in prop::collection::vec(any_caller(), 1..12),
            times in prop::collection::vec(1..300_000_u64, 1..6),
        ) {
            let runs = commits(&callers, &times);
            let asked: usize = callers.iter().map(|one| 1 + one.pauses.len()).sum();
            let answered: usize = runs.iter().map(|run| run.callers.len()).sum();
            prop_assert_eq!(asked, answered);
            let mut before: Option<&Run> = None;
            for run in &runs {
                let waited = run.began - run.free;
                let bound = before.map_or(Duration::ZERO, |before| {
                    // Counted from the end of the commit before, whenever the first caller came.
                    let until = before.ended + LONGEST.min((before.ended - before.began) / 4);
                    until.saturating_sub(run.free)
                });
                prop_assert!(waited <= bound + Duration::from_micros(1), "{waited:?} > {bound:?}");
                // Nobody is left to a later commit.
                for (caller, came) in &run.callers {
                    let since = before.map_or(Duration::ZERO, |before| before.began);
                    prop_assert!(*came >= since, "{caller} came before the last commit began");
                }
                before = Some(run);
            }
        }
    }

    #[test]
    fn single_caller_never_waits() {
        for run in commits(&loops(1, 50, 100), &[10_000]) {
            assert_eq!(run.began, run.free);
        }
    }

    #[test]
    fn first_of_burst_never_waits() {
        let mut callers = loops(10, 2, 100);
        // Long after the others.
        callers.push(Caller {
            first: 1_000_000,
            pauses: vec![],
        });
        let runs = commits(&callers, &[20_000]);
        for run in [&runs[0], runs.last().unwrap()] {
            assert_eq!(run.began, run.free);
            assert_eq!(run.callers.len(), 1);
        }
    }

    proptest! {
        #[test]
        fn callers_in_loops_share_commits(
            callers in 2..64_usize,
            turns in prop::collection::vec(0..3_000_u64, 1..50),
        ) {
            let mut callers = loops(callers, 100, 0);
            for (n, caller) in callers.iter_mut().enumerate() {
                let turns = turns.iter().cycle().skip(n);
                caller.pauses = turns.take(99).copied().collect();
            }
            // A quarter of the shortest is longer than any turn.
            let runs = commits(&callers, &[20_000, 15_000, 30_000]);
            // The first caller commits alone at first, and so is ahead at the end.
            prop_assert!(runs.len() <= 102, "{}", runs.len());
        }
    }

    /// Callers that were late once are waited for again.
    #[test]
    fn late_callers_share_again() {
        let mut callers = loops(10, 100, 500);
        for late in &mut callers[..5] {
            late.pauses[50] = 10_000;
        }
        let runs = commits(&callers, &[20_000]);
        assert!(runs.len() <= 104, "{}", runs.len());
    }

    #[test]
    fn commit_begins_once_all_wait() {
        // Each is back after a millisecond, long before a quarter of a commit is over; the first caller does
        // not come to the last commit.
        let runs = commits(&loops(10, 20, 1_000), &[100_000]);
        for run in &runs[..runs.len() - 1] {
            assert!(run.began - run.free <= Duration::from_micros(1_000));
        }
    }

    /// They return too late to be waited for.
    #[test]
    fn late_callers_cost_little() {
        for (callers, turn) in [(2, 6_000), (2, 15_000), (10, 8_000), (64, 19_000)] {
            let runs = commits(&loops(callers, 100, turn), &[20_000]);
            let waited: Duration = runs.iter().map(|run| run.began - run.free).sum();
            let ran: Duration = runs.iter().map(|run| run.ended - run.began).sum();
            assert!(
                waited * 20 <= ran,
                "{callers} {turn}: {waited:?} of {ran:?}"
            );
        }
    }
}
