//! Calls that arrive during a commit share the next one.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::queue::Queue;
use super::{Applied, Verified};
use crate::backend::{Commit, Edit};
use crate::error::{Error, Result, Stored};
use crate::route::{Change, Effect, Route, RouteSpec, Table};
use crate::sync::unpoisoned;

/// What a caller asks for.
#[derive(Debug)]
pub(super) enum Request {
    Changes(Vec<Change>),
    Reconcile(Table),
    /// The table as it is stored.
    Repair,
}

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

/// What Traefik serves after a commit.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// The routes whose routers must be there afterwards.
    pub(super) set: Vec<Arc<Route>>,
    /// Whether an earlier commit stored some of them. The generation proves nothing about these, so each
    /// router is checked.
    pub(super) stored_before: bool,
    /// The number of routes in the table after it, if that is known.
    pub(super) routes: Option<usize>,
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
            plan = Plan::of(self.jobs, table).after(std::mem::take(&mut plan), stored);
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
            Request::Reconcile(table) => table.get(spec).is_some(),
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

/// The changes that the requests make to the table.
#[derive(Default)]
struct Plan {
    changes: Vec<Change>,
    expected: Expected,
    /// What each request changes.
    applied: Vec<Applied>,
    /// The requests that change nothing, since Traefik would not serve the routes as they ask.
    refused: HashMap<usize, Error>,
}

impl Plan {
    fn of(jobs: &[Arc<Job>], table: &Table) -> Self {
        let mut plan = Self::default();
        let mut overlay = Overlay {
            table,
            changed: HashMap::new(),
        };
        for (n, job) in jobs.iter().enumerate() {
            if let Some(error) = overlay.clash(&job.request) {
                plan.refused.insert(n, error);
                plan.applied.push(Applied::default());
                continue;
            }
            let applied = match &job.request {
                Request::Changes(changes) => plan.add(changes, &mut overlay),
                Request::Reconcile(desired) => {
                    let changes = overlay.to_table().changes_to(desired);
                    let applied = plan.add(&changes, &mut overlay);
                    let set = changes
                        .iter()
                        .filter(|change| matches!(change, Change::Set(_)));
                    plan.expected.stored_before |= set.count() < desired.len();
                    overlay.expect(desired);
                    applied
                }
                Request::Repair => {
                    plan.expected.stored_before = true;
                    overlay.expect(&overlay.to_table());
                    Applied::default()
                }
            };
            plan.applied.push(applied);
        }
        let added: usize = plan.applied.iter().map(|one| one.added.len()).sum();
        let deleted: usize = plan.applied.iter().map(|one| one.deleted.len()).sum();
        plan.expected.routes = Some(table.len() + added - deleted);
        plan.expected.set = overlay.changed.values().flatten().cloned().collect();
        plan
    }

    /// This plan, made anew after those of an `earlier` one's routes were `stored`.
    fn after(mut self, earlier: Self, stored: &BTreeSet<RouteSpec>) -> Self {
        if stored.is_empty() {
            return self;
        }
        let known = self.expected.set.iter().map(|route| route.spec.clone());
        let known: HashSet<_> = known.collect();
        let further = earlier.expected.set.into_iter();
        let further =
            further.filter(|one| !known.contains(&one.spec) && stored.contains(&one.spec));
        self.expected.set.extend(further);
        for (now, before) in self.applied.iter_mut().zip(earlier.applied) {
            let said: HashSet<_> = [&now.added, &now.changed, &now.deleted]
                .into_iter()
                .flatten()
                .cloned()
                .collect();
            let done = |specs: Vec<RouteSpec>| {
                specs
                    .into_iter()
                    .filter(|spec| !said.contains(spec) && stored.contains(spec))
                    .collect::<Vec<_>>()
            };
            now.added.extend(done(before.added));
            now.changed.extend(done(before.changed));
            now.deleted.extend(done(before.deleted));
        }
        self
    }

    fn add(&mut self, changes: &[Change], overlay: &mut Overlay<'_>) -> Applied {
        let mut applied = Applied::default();
        // Of several changes to one routespec only the last one counts.
        let mut seen = HashSet::with_capacity(changes.len());
        let last = changes.iter().rev();
        let last: Vec<_> = last.filter(|change| seen.insert(change.spec())).collect();
        overlay.changed.reserve(last.len());
        for change in last.into_iter().rev() {
            let spec = change.spec().clone();
            match overlay.apply(change) {
                Effect::None => self.expected.stored_before |= matches!(change, Change::Set(_)),
                Effect::Added => applied.added.push(spec),
                Effect::Changed => applied.changed.push(spec),
                Effect::Deleted => applied.deleted.push(spec),
            }
            self.changes.push(change.clone());
        }
        applied
    }
}

/// A table with changes over it, without copying the table.
struct Overlay<'t> {
    table: &'t Table,
    changed: HashMap<RouteSpec, Option<Arc<Route>>>,
}

impl Overlay<'_> {
    fn apply(&mut self, change: &Change) -> Effect {
        let spec = change.spec();
        let old = match self.changed.get(spec) {
            Some(route) => route.as_ref(),
            None => self.table.get(spec),
        };
        let new = match change {
            Change::Set(route) => Some(route),
            Change::Delete(_) => None,
        };
        let effect = match (old, new) {
            (None, None) => Effect::None,
            (Some(old), Some(new)) if old == new => Effect::None,
            (Some(_), Some(_)) => Effect::Changed,
            (None, Some(_)) => Effect::Added,
            (Some(_), None) => Effect::Deleted,
        };
        self.changed.insert(spec.clone(), new.cloned());
        effect
    }

    /// Why Traefik would not serve the routes as they ask after this request.
    fn clash(&self, request: &Request) -> Option<Error> {
        let changes = match request {
            Request::Changes(changes) => changes,
            Request::Reconcile(desired) => return desired.check().err(),
            Request::Repair => return None,
        };
        let hosts = changes.iter().filter_map(|change| change.spec().host());
        let hosts: HashSet<&str> = hosts.collect();
        if hosts.is_empty() {
            return None;
        }
        let last: HashMap<_, _> = changes
            .iter()
            .map(|change| (change.spec(), change))
            .collect();
        // Those that stay agree with each other.
        let stays = |route: &&Arc<Route>| !last.contains_key(&route.spec);
        let added = LazyCell::new(|| {
            let added = self.changed.values().flatten().filter(stays);
            let added = added.filter_map(|route| Some((route.spec.host()?, route)));
            added.collect::<HashMap<_, _>>()
        });
        let mut known: HashMap<&str, &Arc<Route>> = HashMap::new();
        for host in hosts {
            let mut kept = self.table.of_host(host).filter_map(|route| {
                let changed = self.changed.get(&route.spec);
                changed.map_or(Some(route), Option::as_ref)
            });
            let first = kept.find(stays).or_else(|| added.get(host).copied());
            known.extend(first.map(|route| (host, route)));
        }
        last.into_values().find_map(|change| {
            let Change::Set(route) = change else {
                return None;
            };
            let first = known.entry(route.spec.host()?).or_insert(route);
            route.clash_with(first)
        })
    }

    /// Counts routes that are in the table already as set.
    fn expect(&mut self, table: &Table) {
        for route in table {
            let changed = self.changed.entry(route.spec.clone());
            changed.or_insert_with(|| Some(Arc::clone(route)));
        }
    }

    fn to_table(&self) -> Table {
        let mut table = self.table.clone();
        for (spec, route) in &self.changed {
            let change = match route {
                Some(route) => Change::Set(Arc::clone(route)),
                None => Change::Delete(spec.clone()),
            };
            table.apply(&change);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::{sleep, spawn};

    use proptest::prelude::*;

    use crate::error::ErrorKind;

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
    fn plan_counts_resulting_routes() {
        let add = |spec: &str, target: &str| Change::set(spec, target).unwrap();
        let mut table = Table::new();
        for spec in ["/a/", "/b/", "/c/"] {
            table.apply(&add(spec, "http://t"));
        }
        for (changes, expected) in [
            (vec![], 3),
            (vec![add("/d/", "http://t"), add("/a/", "http://other")], 4),
            (
                vec![
                    Change::delete("/a/").unwrap(),
                    Change::delete("/x/").unwrap(),
                ],
                2,
            ),
            (
                vec![add("/d/", "http://t"), Change::delete("/d/").unwrap()],
                3,
            ),
        ] {
            let job = |changes: &[Change]| {
                Arc::new(Job {
                    request: Request::Changes(changes.to_vec()),
                    outcome: Mutex::new(None),
                })
            };
            // In one request, and in one each.
            let each: Vec<_> = changes.chunks(1).map(job).collect();
            for jobs in [vec![job(&changes)], each] {
                let plan = Plan::of(&jobs, &table);
                assert_eq!(plan.expected.routes, Some(expected), "{changes:?}");
            }
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
