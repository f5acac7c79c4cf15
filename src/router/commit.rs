//! Calls that arrive during a commit share the next one.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::plan::{Expected, Plan, Request};
use super::queue::Queue;
use super::{Applied, Verified};
use crate::backend::{Commit, Edit};
use crate::error::{Error, Result, Stored};
use crate::route::RouteSpec;
use crate::sync::unpoisoned;

/// The two halves of a commit. A Router implements them.
pub(super) trait Committer {
    /// Stores what `edit` makes of the table.
    fn store(&self, scope: Scope, edit: &mut Edit<'_>) -> Result<Commit>;

    /// Waits until Traefik serves a commit that `store` was called for at `begun`.
    fn confirm(&self, commit: &Commit, expected: &Expected, begun: Instant) -> Result<Confirmed>;
}

/// What a commit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The routes that it changes.
    Routes,
    /// The table as a whole.
    Table,
}

/// A commit that Traefik serves.
#[derive(Debug)]
pub(super) struct Confirmed {
    /// The routes that Traefik refuses or serves in another way, each with its error.
    pub(super) refused: HashMap<RouteSpec, Error>,
    /// How long loading took; `None` if no Traefik was asked.
    pub(super) loading: Option<Duration>,
    /// How much of that it took to send the table, where it is sent.
    pub(super) sending: Duration,
    /// Whether requests meet it. If Traefik refuses a route as well, the refusal is reported.
    pub(super) verified: Result<Verified>,
}

impl Default for Confirmed {
    fn default() -> Self {
        Self {
            refused: HashMap::new(),
            loading: None,
            sending: Duration::ZERO,
            verified: Ok(Verified::default()),
        }
    }
}

/// A group commit: one caller at a time, the leader, commits the requests of all that wait.
#[derive(Debug)]
pub(super) struct CommitQueue {
    queue: Mutex<Queue<Arc<Job>>>,
    /// Notified when a caller comes, for the leader that waits for more of them.
    arrived: Condvar,
    /// Notified when a leader is done.
    done: Condvar,
}

#[derive(Debug)]
struct Job {
    request: Request,
    outcome: Mutex<Option<Result<Applied>>>,
}

impl Job {
    fn outcome(&self) -> MutexGuard<'_, Option<Result<Applied>>> {
        unpoisoned(self.outcome.lock())
    }
}

impl CommitQueue {
    /// A leader waits for other callers no longer than `longest`.
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            queue: Mutex::new(Queue::new(longest)),
            arrived: Condvar::new(),
            done: Condvar::new(),
        }
    }

    /// Returns when the request is served, whether this caller has committed it or another one.
    pub(super) fn submit(&self, request: Request, committer: &impl Committer) -> Result<Applied> {
        let job = Arc::new(Job {
            request,
            outcome: Mutex::new(None),
        });
        let mut queue = self.queue();
        queue.push(Arc::clone(&job));
        self.arrived.notify_one();
        // A caller whose request is done returns, even if the next commit is running.
        while queue.is_led() && job.outcome().is_none() {
            queue = unpoisoned(self.done.wait(queue));
        }
        if let Some(outcome) = job.outcome().take() {
            return outcome;
        }
        queue.lead();
        while let Some(pause) = queue.pause(Instant::now()) {
            queue = unpoisoned(self.arrived.wait_timeout(queue, pause)).0;
        }
        let jobs = queue.take();
        drop(queue);
        let leader = Leader::new(self, &jobs);
        leader.run(committer);
        drop(leader);
        let outcome = job.outcome().take();
        outcome.unwrap_or_else(|| Err(abandoned()))
    }

    /// Runs `job` while no commit runs.
    pub(super) fn alone<T>(&self, job: impl FnOnce() -> T) -> T {
        let mut queue = self.queue();
        while queue.is_led() {
            queue = unpoisoned(self.done.wait(queue));
        }
        queue.lead();
        drop(queue);
        let leader = Leader::new(self, &[]);
        let done = job();
        drop(leader);
        done
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Arc<Job>>> {
        unpoisoned(self.queue.lock())
    }
}

/// The caller that commits. When this is dropped, even by a panic, every job has an outcome, and the next
/// leader may begin.
struct Leader<'a> {
    commits: &'a CommitQueue,
    jobs: &'a [Arc<Job>],
    start: Instant,
}

impl<'a> Leader<'a> {
    fn new(commits: &'a CommitQueue, jobs: &'a [Arc<Job>]) -> Self {
        Self {
            commits,
            jobs,
            start: Instant::now(),
        }
    }

    fn run(&self, committer: &impl Committer) {
        let start = self.start;
        let mut plan = Plan::default();
        let is_whole = |job: &Arc<Job>| !matches!(job.request, Request::Changes(_));
        let scope = match self.jobs.iter().any(is_whole) {
            true => Scope::Table,
            false => Scope::Routes,
        };
        let commit = committer.store(scope, &mut |table, stored| {
            plan = Plan::of(self.jobs.iter().map(|job| &job.request), table)
                .after(std::mem::take(&mut plan), stored);
            match plan.refused.values().next() {
                // Nothing is to be written, not even the table's options.
                Some(error) if plan.refused.len() == self.jobs.len() => Err(error.clone()),
                _ => Ok(std::mem::take(&mut plan.changes)),
            }
        });
        let stored_after = start.elapsed();
        let confirmed = commit.and_then(|commit| {
            let confirmed = (committer.confirm(&commit, &plan.expected, start))
                .map_err(|error| error.with_stored(Stored::All))?;
            let visible = commit.visible.unwrap_or(start + stored_after);
            let loaded_after = confirmed.loading.map(|loading| {
                let loaded_after = visible.saturating_duration_since(start) + loading;
                loaded_after.max(stored_after)
            });
            Ok((commit, confirmed, loaded_after))
        });
        let served_after = start.elapsed();
        for (n, (job, applied)) in (self.jobs.iter())
            .zip(
                plan.applied
                    .into_iter()
                    .chain(std::iter::repeat_with(Applied::default)),
            )
            .enumerate()
        {
            let outcome = match (plan.refused.remove(&n), &confirmed) {
                (Some(error), _) => Err(error),
                (None, Err(error)) => Err(error.clone()),
                (None, Ok((commit, confirmed, loaded_after))) => {
                    job.finish(applied, confirmed).map(|applied| Applied {
                        generation: commit.generation,
                        callers: self.jobs.len(),
                        stored_after,
                        loaded_after: *loaded_after,
                        served_after: loaded_after.map(|_| served_after),
                        ..applied
                    })
                }
            };
            *job.outcome() = Some(outcome);
        }
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        for job in self.jobs {
            job.outcome().get_or_insert_with(|| Err(abandoned()));
        }
        let now = Instant::now();
        let took = now.duration_since(self.start);
        self.commits.queue().end(self.jobs.len(), took, now);
        self.commits.done.notify_all();
    }
}

fn abandoned() -> Error {
    let message = "another thread was committing this change, together with its own, and panicked";
    Error::internal(message).with_stored(Stored::Unknown)
}

impl Job {
    /// The outcome of this job, given the commit's.
    fn finish(&self, applied: Applied, confirmed: &Confirmed) -> Result<Applied> {
        let is_ours = |spec: &&RouteSpec| match &self.request {
            Request::Changes(changes) => changes.iter().any(|change| change.spec() == *spec),
            Request::Reconcile(table) => {
                table.get(spec).is_some() || applied.deleted.contains(spec)
            }
            Request::Repair => true,
        };
        match confirmed.refused.iter().find(|(spec, _)| is_ours(spec)) {
            Some((_, error)) => Err(error.clone()),
            None => match &confirmed.verified {
                Ok(verified) => Ok(Applied {
                    verified: verified.clone(),
                    ..applied
                }),
                Err(error) => Err(error.clone().with_stored(Stored::All)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::{sleep, spawn};

    use proptest::prelude::*;

    use crate::error::ErrorKind;
    use crate::route::{Change, Table};

    /// A commit begins when the test has let it.
    struct Gate(Mutex<Receiver<()>>);

    impl Committer for Gate {
        fn store(&self, _: Scope, edit: &mut Edit<'_>) -> Result<Commit> {
            edit(&Table::new(), &BTreeSet::new())?;
            self.0.lock().unwrap().recv().unwrap();
            Ok(Commit::new("m", 1))
        }

        fn confirm(&self, _: &Commit, _: &Expected, _: Instant) -> Result<Confirmed> {
            Ok(Confirmed::default())
        }
    }

    /// How many callers share the commit of an added route.
    fn add(commits: &Arc<CommitQueue>, gate: &Arc<Gate>, spec: &str) -> Receiver<usize> {
        let (done, outcome): (Sender<usize>, _) = channel();
        let change = Change::set(spec, "http://t").unwrap();
        let (commits, gate) = (Arc::clone(commits), Arc::clone(gate));
        spawn(move || {
            let applied = commits.submit(Request::Changes(vec![change]), &*gate);
            done.send(applied.unwrap().callers).unwrap();
        });
        outcome
    }

    fn gated(longest: Duration) -> (Sender<()>, Arc<CommitQueue>, Arc<Gate>) {
        let (open, gate) = channel();
        let commits = Arc::new(CommitQueue::new(longest));
        (open, commits, Arc::new(Gate(Mutex::new(gate))))
    }

    fn wait_for_waiting(commits: &CommitQueue, count: usize) {
        while commits.queue().waiting() != count || !commits.queue().is_led() {
            sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn finished_caller_returns_at_once() {
        for _ in 0..20 {
            // Nobody waits for more callers: the test says who shares which commit.
            let (open, commits, gate) = gated(Duration::ZERO);
            let first = add(&commits, &gate, "/1/");
            wait_for_waiting(&commits, 0);
            let shared: Vec<_> = (2..10)
                .map(|n| add(&commits, &gate, &format!("/{n}/")))
                .collect();
            wait_for_waiting(&commits, 8);
            open.send(()).unwrap();
            wait_for_waiting(&commits, 0);
            let last = add(&commits, &gate, "/last/");
            wait_for_waiting(&commits, 1);
            open.send(()).unwrap();
            // The last one may be committing by now, and is not let.
            let wait = Duration::from_secs(10);
            assert_eq!(first.recv_timeout(wait), Ok(1));
            for outcome in shared {
                assert_eq!(outcome.recv_timeout(wait), Ok(8));
            }
            open.send(()).unwrap();
            assert_eq!(last.recv(), Ok(1));
        }
    }

    #[test]
    fn leader_waits_for_last_callers() {
        let (open, commits, gate) = gated(Duration::MAX);
        let first = add(&commits, &gate, "/1/");
        wait_for_waiting(&commits, 0);
        let second = add(&commits, &gate, "/2/");
        wait_for_waiting(&commits, 1);
        // A quarter of this is how long the leader of the second commit waits for the first caller.
        sleep(Duration::from_secs(2));
        open.send(()).unwrap();
        assert_eq!(first.recv(), Ok(1));
        let again = add(&commits, &gate, "/1/");
        open.send(()).unwrap();
        assert_eq!((second.recv(), again.recv()), (Ok(2), Ok(2)));
    }

    /// Panics at commits by this plan, over and over.
    struct Panics(Mutex<std::iter::Cycle<std::vec::IntoIter<bool>>>);

    impl Committer for Panics {
        fn store(&self, _: Scope, edit: &mut Edit<'_>) -> Result<Commit> {
            edit(&Table::new(), &BTreeSet::new())?;
            sleep(Duration::from_micros(200));
            if unpoisoned(self.0.lock()).next() == Some(true) {
                // Without a message on standard error.
                std::panic::resume_unwind(Box::new(()));
            }
            Ok(Commit::new("m", 1))
        }

        fn confirm(&self, _: &Commit, _: &Expected, _: Instant) -> Result<Confirmed> {
            Ok(Confirmed::default())
        }
    }

    proptest! {
        #[test]
        fn panicking_leader_leaves_nobody(
            plan in prop::collection::vec(any::<bool>(), 1..8),
            callers in 1..6_usize,
        ) {
            let panics = Panics(Mutex::new(plan.into_iter().cycle()));
            let commits = CommitQueue::new(Duration::from_millis(1));
            std::thread::scope(|scope| {
                for n in 0..callers {
                    let (commits, panics) = (&commits, &panics);
                    scope.spawn(move || {
                        for _ in 0..5 {
                            let change = Change::set(format!("/{n}/"), "http://t").unwrap();
                            let request = Request::Changes(vec![change]);
                            let submit = || commits.submit(request, panics);
                            let outcome = catch_unwind(AssertUnwindSafe(submit));
                            // Its own panic, another's, or none.
                            if let Ok(Err(error)) = outcome {
                                assert_eq!(error.kind(), ErrorKind::Internal);
                            }
                        }
                    });
                }
            });
            assert!(!commits.queue().is_led());
            assert_eq!(commits.queue().waiting(), 0);
        }
    }
}
