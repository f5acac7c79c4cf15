//! Whether Traefik serves what was stored.
//!
//! Each commit carries its generation in a middleware. Traefik puts a whole configuration into
//! effect at once on each entrypoint; an API that shows the generation therefore proves every change
//! of that commit, deletions included, with one small answer. The entrypoint that routes are served
//! on tells it as well, where it can be asked, and its answer costs half as much: it is asked first,
//! and then the API. Neither has to be the first to change, and another Traefik than ours may answer
//! on the entrypoint.
//!
//! The commonest commit sets one route. Where a Traefik is known to have loaded the commit before
//! it, the new router proves it as well, and the same answer tells whether Traefik refuses it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use super::commit::{Confirmed, Wanted};
use super::managed::Managed;
use super::{NotAsked, Verified};
use crate::backend::{Backend, Commit};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::route::{Route, RouteSpec, router_name, service_name};
use crate::traefik::entrypoint::{EntrypointProbe, Met};
use crate::traefik::{Api, RouterInfo};

/// For how long an API may refuse our password.
const UNAUTHORIZED_PATIENCE: Duration = Duration::from_secs(1);
/// The same after a new password was stored: Traefik takes its time by default (its
/// `providersThrottleDuration` of 2 s) until it knows it.
const NEW_PASSWORD_PATIENCE: Duration = Duration::from_secs(3);

/// For how long a Traefik that says that it rejects what is stored may change its mind: it may have
/// read what somebody was still writing.
const REJECTION_PATIENCE: Duration = Duration::from_millis(500);

/// For how long beyond the usual the quick proofs are waited for: the entrypoint, and a router.
const PROOF_PATIENCE: Duration = Duration::from_millis(20);

/// How long an entrypoint may take to answer what costs it nothing.
const ENTRYPOINT_PATIENCE: Duration = Duration::from_millis(500);
/// The same for one that has told before, and may have much to do.
const ENTRYPOINT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Verifier {
    traefiks: Vec<Traefik>,
    provider: String,
    timeout: Duration,
    /// How many Traefiks have to serve a change; `None` means all.
    quorum: Option<usize>,
    public: Public,
    last: Mutex<Last>,
}

/// Where requests come in, or why nobody asks there.
#[derive(Debug)]
pub(super) enum Public {
    Ask(EntrypointProbe),
    Not(NotAsked),
}

/// How long a Traefik took for the last commit for which that could be told, more or less.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    took: Duration,
    /// How many routes it then had, if that is known.
    routes: Option<usize>,
}

/// Without routes Traefik takes as long as for so many.
const ROUTES_OF_NONE: usize = 15;

impl Last {
    /// How long it may take with so many routes.
    fn expected(self, routes: Option<usize>) -> Duration {
        let (Some(now), Some(then)) = (routes, self.routes) else {
            return self.took;
        };
        let [now, then] = [now, then].map(|routes| (ROUTES_OF_NONE + routes) as f64);
        let scaled = self.took.mul_f64(now / then);
        match now > then {
            // It may have taken that long for other reasons, and to ask too late costs more.
            true => self.took.max(scaled / 8).min(self.took * 4),
            false => scaled,
        }
    }
}

#[derive(Debug)]
pub(super) struct Traefik {
    pub(super) api: Api,
    /// The last generation that it was seen to have loaded.
    loaded: AtomicU64,
}

/// When to ask whether a commit is loaded: each question takes CPU from the reload that it waits for,
/// and some of ours.
#[derive(Clone, Copy)]
struct Polls {
    since: Instant,
    expected: Duration,
    /// Whether the first question waited for its time.
    waited: bool,
    /// Whether a question came too early.
    in_vain: bool,
    /// Whether one was not answered: how long Traefik was away says nothing.
    failed: bool,
}

/// From when on a reload takes so long that a question costs more than it saves, and from when on it
/// costs nothing beside the reload.
const LONG: Duration = Duration::from_millis(20);
const VERY_LONG: Duration = Duration::from_millis(200);

impl Polls {
    fn new(since: Instant, expected: Duration) -> Self {
        Self {
            since,
            expected,
            waited: false,
            in_vain: false,
            failed: false,
        }
    }

    /// When to ask first, in parts of the expected time, and in how many it is divided.
    fn parts(&self) -> (u32, u32) {
        match self.expected {
            short if short < LONG => (5, 8),
            long if long < VERY_LONG => (7, 8),
            _ => (20, 32),
        }
    }

    /// After how long to ask.
    fn planned(&self) -> impl Iterator<Item = Duration> {
        let (first, all) = self.parts();
        (first..=all).map(move |part| self.expected * part / all)
    }

    /// Before the first question, which comes at once if its time is over.
    fn begin(&mut self) {
        let first = self.planned().next().unwrap_or_default();
        let pause = first.saturating_sub(self.since.elapsed());
        self.waited = !pause.is_zero();
        std::thread::sleep(pause);
    }

    /// After one in vain: until the next part of the expected time, or beyond it for half a part of
    /// what has passed.
    fn go_on(&mut self, at_most: Duration) {
        self.in_vain = true;
        let elapsed = self.since.elapsed();
        let next = self.planned().find(|at| *at > elapsed);
        let (_, all) = self.parts();
        let pause = next.map_or(elapsed / (2 * all), |at| at - elapsed);
        let pause = pause.clamp(Duration::from_micros(50), Duration::from_millis(250));
        std::thread::sleep(pause.min(at_most));
    }

    /// How long it took, now that it is loaded, as far as that can be told: it may have been there
    /// before we asked for the first time, and something may have held it up for once.
    fn took(&self) -> Option<Duration> {
        let took = match (self.in_vain, self.waited) {
            _ if self.failed => return None,
            (true, _) => self.since.elapsed(),
            (false, true) => self.since.elapsed() * 7 / 8,
            (false, false) => return None,
        };
        Some(match self.expected {
            Duration::ZERO => took,
            expected => took.min(expected * 4),
        })
    }
}

/// Where a commit is stored, and the Traefik that we have started, if we have.
#[derive(Clone, Copy)]
pub(super) struct Serving<'a> {
    pub(super) store: &'a dyn Backend,
    pub(super) managed: Option<&'a Managed>,
}

/// A commit that Traefik is to load.
struct Awaited<'a> {
    commit: &'a Commit,
    wanted: &'a Wanted,
    store: &'a dyn Backend,
    managed: Option<&'a Managed>,
    begun: Instant,
    /// When Traefik could begin to load it.
    visible: Instant,
    /// When it was wholly stored.
    start: Instant,
    /// For how long an API may refuse our password.
    patience: Duration,
    /// Whether it is what a Router begins with: then it is taken back if Traefik does not load it.
    is_setup: bool,
}

impl Awaited<'_> {
    /// Whether a Traefik that we have started says that it rejects what is stored, and has had time to
    /// change its mind.
    fn is_rejected(&self) -> bool {
        self.start.elapsed() >= REJECTION_PATIENCE
            && (self.managed).is_some_and(|managed| managed.has_rejected_since(self.begun))
    }

    fn is_shown_by(&self, generation: u64) -> Result<bool> {
        has_loaded(self.store, self.commit, generation)
    }

    /// Leaves out the routes for which somebody has committed something else since.
    fn retain_current(&self, wrong: &mut Vec<(&Route, Error)>) {
        if let Ok(Some(now)) = self.store.inspect() {
            let is_moved = now.entrypoint != self.commit.entrypoint;
            wrong.retain(|(route, _)| {
                let stored = now.routes.get(&route.spec);
                !is_moved && stored.is_some_and(|stored| **stored == **route)
            });
        }
    }

    /// What an error says first.
    fn stored(&self) -> &'static str {
        if self.is_setup { "" } else { "stored, but " }
    }
}

/// Whether a Traefik has loaded a commit.
enum Loaded {
    /// It has, as its marker shows.
    Yes,
    /// It has, as this router shows.
    Proven(Vec<RouterInfo>),
    /// Others are enough.
    Whatever,
}

/// What an API said last.
enum Seen {
    /// It answers, but has no marker.
    NoMarker,
    Generation(u64),
    Failure(Error),
}

impl Verifier {
    pub(super) fn new(
        apis: Vec<Api>,
        provider: &str,
        timeout: Duration,
        quorum: Option<usize>,
        public: Public,
    ) -> Self {
        let traefiks = apis.into_iter().map(|api| Traefik {
            api,
            loaded: AtomicU64::new(0),
        });
        Self {
            traefiks: traefiks.collect(),
            provider: provider.into(),
            timeout,
            quorum,
            public,
            last: Mutex::default(),
        }
    }

    pub(super) fn apis(&self) -> impl Iterator<Item = &Api> {
        self.traefiks.iter().map(|traefik| &traefik.api)
    }

    /// The version of the first Traefik.
    pub(super) fn version(&self) -> Result<String> {
        let first = self.apis().next().map(Api::version);
        first.map_or_else(|| Ok(String::new()), |version| Ok(version?.version))
    }

    /// Waits until every Traefik serves `commit`. A Traefik that we have `managed` to start tells what
    /// it has logged since the commit was `begun`: it may read what is stored before we look.
    pub(super) fn confirm(
        &self,
        commit: &Commit,
        wanted: &Wanted,
        begun: Instant,
        serving: Serving<'_>,
    ) -> Result<Confirmed> {
        let start = Instant::now();
        self.await_commit(&Awaited {
            commit,
            wanted,
            store: serving.store,
            managed: serving.managed,
            begun,
            visible: commit.visible.unwrap_or(start),
            start,
            patience: UNAUTHORIZED_PATIENCE,
            is_setup: false,
        })
    }

    /// Waits until every API shows the commit of a setup, which may come with a new password.
    pub(super) fn confirm_setup(
        &self,
        commit: &Commit,
        begun: Instant,
        serving: Serving<'_>,
    ) -> Result<()> {
        let awaited = Self::setup(commit, begun, serving);
        self.await_commit(&awaited).map(drop)
    }

    /// Waits until the Traefik that we have started serves `commit` on its entrypoint.
    pub(super) fn confirm_start(
        &self,
        commit: &Commit,
        store: &dyn Backend,
        managed: &Managed,
    ) -> Result<()> {
        let since = managed.started_at()?;
        let serving = Serving {
            store,
            managed: Some(managed),
        };
        let ready = (self.confirm_setup(commit, since, serving))
            .and_then(|()| managed.wait_until_open(self.timeout))
            .and_then(|()| self.confirm_public(commit, serving));
        managed.set_ready(ready.is_ok());
        ready.map(drop)
    }

    /// Waits until requests meet the commit of a setup, as an API has shown it.
    pub(super) fn confirm_public(&self, commit: &Commit, serving: Serving<'_>) -> Result<Verified> {
        if let Public::Ask(probe) = &self.public {
            probe.set_reached();
        }
        let awaited = Self::setup(commit, Instant::now(), serving);
        self.await_entrypoint(&awaited)
    }

    fn setup<'a>(commit: &'a Commit, begun: Instant, serving: Serving<'a>) -> Awaited<'a> {
        static NOTHING: Wanted = Wanted {
            set: Vec::new(),
            stored_before: false,
            sole: None,
            routes: None,
        };
        // Traefik may have been started after the commit was stored.
        let start = Instant::now();
        Awaited {
            commit,
            wanted: &NOTHING,
            store: serving.store,
            managed: serving.managed,
            begun,
            visible: start,
            start,
            patience: NEW_PASSWORD_PATIENCE,
            is_setup: true,
        }
    }

    fn await_commit(&self, awaited: &Awaited<'_>) -> Result<Confirmed> {
        if self.traefiks.is_empty() {
            return Ok(Confirmed::default());
        }
        let loading = AtomicU64::new(0);
        let mut polls = self.polls(awaited);
        let met = self.is_met(awaited, &mut polls)?;
        let answers = self.everywhere("serve the change", |traefik, enough| {
            let loaded = self.wait(traefik, awaited, polls, met.is_some(), enough)?;
            let loaded_after = met.unwrap_or_else(|| awaited.visible.elapsed());
            loading.fetch_max(micros(loaded_after), Ordering::Relaxed);
            match loaded {
                Loaded::Proven(routers) => self.await_routers(traefik, awaited, Some(routers)),
                Loaded::Yes => self.await_routers(traefik, awaited, None),
                Loaded::Whatever => return Ok(None),
            }
            .map(Some)
        })?;
        let refused = answers.into_iter().flat_map(|(_, refused)| refused);
        let refused = refused.collect();
        let verified = match met {
            Some(_) => Ok(Verified::Seen),
            // A Traefik that was just started may not listen there yet.
            None if awaited.is_setup => Ok(Verified::default()),
            None => self.await_entrypoint(awaited),
        };
        Ok(Confirmed {
            refused,
            loading: Some(Duration::from_micros(loading.into_inner())),
            verified,
        })
    }

    /// Waits until the routers of a loaded commit are as it wants them. Returns the errors of those
    /// that Traefik refuses, or has in another way. `seen` are the routers if they were asked for
    /// already.
    fn await_routers(
        &self,
        traefik: &Traefik,
        awaited: &Awaited<'_>,
        mut seen: Option<Vec<RouterInfo>>,
    ) -> Result<HashMap<RouteSpec, Error>> {
        let mut pause = Duration::from_millis(1);
        loop {
            let routers = match seen.take() {
                Some(routers) => routers,
                None => {
                    let ask = || self.routers(&traefik.api, awaited);
                    // A connection may have died since; a Traefik that has ended is told as such.
                    let again = |_| {
                        awaited.managed.map_or(Ok(()), Managed::check)?;
                        ask()
                    };
                    ask().or_else(again)?
                }
            };
            let mut wrong = self.wrong_routers(&traefik.api, awaited, &routers);
            let is_over = awaited.start.elapsed() >= self.timeout;
            let may_change = |error: &Error| error.kind() == ErrorKind::NotLoaded;
            if !is_over && wrong.iter().any(|(_, error)| may_change(error)) {
                awaited.retain_current(&mut wrong);
            }
            if is_over || !wrong.iter().any(|(_, error)| may_change(error)) {
                let wrong = wrong.into_iter();
                return Ok(wrong
                    .map(|(route, error)| (route.spec.clone(), error))
                    .collect());
            }
            awaited.managed.map_or(Ok(()), Managed::check)?;
            std::thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_millis(100));
        }
    }

    /// The routers to look at: those of a commit, or perhaps only those that Traefik refuses.
    fn routers(&self, api: &Api, awaited: &Awaited<'_>) -> Result<Vec<RouterInfo>> {
        match &*awaited.wanted.set {
            [] => Ok(Vec::new()),
            [route] => {
                let name = self.router_name(&awaited.commit.namespace, &route.spec);
                Ok(api.router(&name)?.into_iter().collect())
            }
            _ if awaited.wanted.stored_before => api.routers(),
            _ => api.refused_routers(),
        }
    }

    /// The routes of a commit whose routers are refused, or are not as it wants them.
    fn wrong_routers<'a>(
        &self,
        api: &Api,
        awaited: &'a Awaited<'_>,
        routers: &[RouterInfo],
    ) -> Vec<(&'a Route, Error)> {
        let Awaited { commit, wanted, .. } = *awaited;
        let each = wanted.stored_before || wanted.set.len() == 1;
        // Thousands of names cost more than the answer that nothing is refused.
        if !each && routers.is_empty() {
            return Vec::new();
        }
        let by_name: HashMap<&str, &RouterInfo> =
            (routers.iter()).map(|info| (&*info.name, info)).collect();
        let check = |route: &'a Arc<Route>| {
            let name = self.router_name(&commit.namespace, &route.spec);
            let is_wrong = |what: String| {
                let message = format!(
                    "stored, but Traefik at {} does not serve the route {}: its router {name} {what}",
                    api.url(),
                    route.spec
                );
                Error::new(ErrorKind::NotLoaded, message).with_stored(Stored::All)
            };
            let service = service_name(&commit.namespace, &route.target);
            let error = match by_name.get(&*name) {
                Some(info) if info.status == "disabled" => refusal(api, &route.spec, info),
                Some(info) if info.service != service => is_wrong(format!(
                    "leads to the service {} instead of {service}",
                    info.service
                )),
                Some(info) if !is_at(info, &commit.entrypoint) => is_wrong(format!(
                    "is on the entrypoint {} instead of {}",
                    info.entry_points.join(", "),
                    commit.entrypoint
                )),
                Some(_) => return None,
                None if each => is_wrong("is not there".into()),
                None => return None,
            };
            Some((&**route, error))
        };
        wanted.set.iter().filter_map(check).collect()
    }

    /// How long it took until requests met the commit, if they do about when they usually do.
    fn is_met(&self, awaited: &Awaited<'_>, polls: &mut Polls) -> Result<Option<Duration>> {
        let Public::Ask(probe) = &self.public else {
            return Ok(None);
        };
        if awaited.is_setup || probe.was_unreachable() {
            return Ok(None);
        }
        // If it takes longer, or fails, the API says why, and needs time for that.
        let bound = (self.timeout / 2).min(PROOF_PATIENCE + 2 * polls.expected);
        let left = |of: Duration| of.saturating_sub(awaited.start.elapsed());
        while !left(bound).is_zero() && !awaited.is_rejected() {
            // Less would cut off one that is far away, time and again.
            let patience = left(self.timeout).min(ENTRYPOINT_PATIENCE);
            match probe.ask(&awaited.commit.marker, patience) {
                Ok(Met::Generation(generation)) => {
                    if awaited.is_shown_by(generation).unwrap_or(false) {
                        self.learn(*polls, awaited);
                        return Ok(Some(awaited.visible.elapsed()));
                    }
                }
                Ok(Met::Other(_)) | Err(_) => {
                    polls.failed = true;
                    break;
                }
            }
            awaited.managed.map_or(Ok(()), Managed::check)?;
            polls.go_on(left(bound));
        }
        Ok(None)
    }

    /// When to ask for a commit; it is time for the first question.
    fn polls(&self, awaited: &Awaited<'_>) -> Polls {
        let expected = self.last().expected(awaited.wanted.routes);
        // Whatever the last one took, there has to be time to ask.
        let mut polls = Polls::new(awaited.visible, expected.min(self.timeout / 8));
        // One that wrote nothing, or was not alone, may be loaded already.
        if awaited.commit.follows.is_some() {
            polls.begin();
        }
        polls
    }

    /// Remembers how long Traefik took for a commit; for a setup it may just have been started.
    fn learn(&self, polls: Polls, awaited: &Awaited<'_>) {
        if let (Some(took), Some(_)) = (polls.took(), awaited.wanted.routes) {
            *self.last() = Last {
                took,
                routes: awaited.wanted.routes,
            };
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until requests meet the commit. Traefik gives it to its entrypoints one after the
    /// other, and that of the API may be the first.
    fn await_entrypoint(&self, awaited: &Awaited<'_>) -> Result<Verified> {
        let probe = match &self.public {
            Public::Ask(probe) => probe,
            Public::Not(why) => return Ok(Verified::NotAsked(why.clone())),
        };
        let not_asked = |reason| Ok(Verified::NotAsked(NotAsked::Unreachable { reason }));
        if let Some(why) = probe.unreachable() {
            return not_asked(why);
        }
        // One that was not reached has one more chance, and not much time.
        let (start, mut failed) = (Instant::now(), probe.was_unreachable());
        let longest = match failed {
            true => ENTRYPOINT_PATIENCE,
            false => ENTRYPOINT_TIMEOUT,
        };
        let mut polls = Polls::new(start, Duration::ZERO);
        let patience =
            ENTRYPOINT_PATIENCE.max(self.timeout.saturating_sub(awaited.start.elapsed()));
        let not_served = |what: String| {
            let message = format!(
                "{}requests to {} (`public_url`) {what}, though Traefik's API shows the change",
                awaited.stored(),
                probe.url()
            );
            Err(Error::new(ErrorKind::NotLoaded, message))
        };
        loop {
            let left = patience.saturating_sub(start.elapsed());
            let bound = left.clamp(ENTRYPOINT_PATIENCE, longest);
            match probe.ask(&awaited.commit.marker, bound) {
                Ok(Met::Generation(generation)) => {
                    if awaited.is_shown_by(generation).unwrap_or(false) {
                        probe.set_reached();
                        return Ok(Verified::Seen);
                    }
                    if left.is_zero() {
                        return not_served(format!(
                            "still meet generation {generation} instead of {}",
                            awaited.commit.generation
                        ));
                    }
                }
                Ok(Met::Other(answer)) if start.elapsed() >= ENTRYPOINT_PATIENCE => {
                    return not_served(format!(
                        "are not answered by these routers, but with {answer}"
                    ));
                }
                Ok(Met::Other(_)) => {}
                Err(_) if !failed => failed = true,
                Err(error) => {
                    if start.elapsed() >= ENTRYPOINT_PATIENCE || awaited.is_setup {
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
            awaited.managed.map_or(Ok(()), Managed::check)?;
            polls.go_on(left);
        }
    }

    pub(super) fn router_name(&self, namespace: &str, spec: &RouteSpec) -> String {
        let name = router_name(namespace, spec);
        format!("{name}@{}", self.provider)
    }

    /// Asks all Traefiks in parallel; returns the answers once a quorum has replied. `ask` may answer
    /// nothing once it sees that others were enough. The error says how many do `what` all have to.
    pub(super) fn everywhere<T: Send>(
        &self,
        what: &str,
        ask: impl Fn(&Traefik, &AtomicBool) -> Result<Option<T>> + Sync,
    ) -> Result<Vec<(&Traefik, T)>> {
        let enough = AtomicBool::new(false);
        if let [traefik] = &*self.traefiks {
            return Ok(ask(traefik, &enough)?
                .map(|answer| (traefik, answer))
                .into_iter()
                .collect());
        }
        let all = self.traefiks.len();
        let needed = self.quorum.unwrap_or(all).min(all);
        let (have, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let ask = |traefik| {
            let answer = ask(traefik, &enough);
            let (count, limit) = match &answer {
                Ok(_) => (&have, needed),
                Err(_) => (&failed, all - needed + 1),
            };
            if count.fetch_add(1, Ordering::Relaxed) + 1 >= limit {
                enough.store(true, Ordering::Relaxed);
            }
            (traefik, answer)
        };
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let ask = &ask;
            let threads: Vec<_> = self
                .traefiks
                .iter()
                .map(|traefik| scope.spawn(move || ask(traefik)))
                .collect();
            let join = |thread: ScopedJoinHandle<'_, _>| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        for (traefik, outcome) in outcomes {
            match outcome {
                Ok(answer) => answers.extend(answer.map(|answer| (traefik, answer))),
                Err(error) => failures.push(error),
            }
        }
        match failures.into_iter().next() {
            Some(error) if answers.len() < needed => Err(error.context(format!(
                "{} of {all} Traefiks {what}, {needed} have to",
                answers.len()
            ))),
            _ => Ok(answers),
        }
    }

    /// Waits until a Traefik has loaded the commit.
    fn wait(
        &self,
        traefik: &Traefik,
        awaited: &Awaited<'_>,
        mut polls: Polls,
        met: bool,
        enough: &AtomicBool,
    ) -> Result<Loaded> {
        if met {
            // The API's entrypoint is about to show it as well.
            polls = Polls::new(Instant::now(), Duration::ZERO);
        }
        let loaded = self.poll(traefik, awaited, &mut polls, enough)?;
        if !matches!(loaded, Loaded::Whatever) {
            let generation = awaited.commit.generation;
            traefik.loaded.store(generation, Ordering::Relaxed);
            if !met {
                self.learn(polls, awaited);
            }
        }
        Ok(loaded)
    }

    /// The router that proves the commit, and the service that it then has. Had Traefik not loaded
    /// the commit before, it might show that router from an earlier time.
    fn proof(&self, traefik: &Traefik, awaited: &Awaited<'_>) -> Option<(String, String)> {
        let commit = awaited.commit;
        let route = awaited.wanted.sole.as_ref()?;
        let loaded = traefik.loaded.load(Ordering::Relaxed);
        (commit.follows == Some(loaded)).then(|| {
            let service = service_name(&commit.namespace, &route.target);
            (self.router_name(&commit.namespace, &route.spec), service)
        })
    }

    fn poll(
        &self,
        traefik: &Traefik,
        awaited: &Awaited<'_>,
        polls: &mut Polls,
        enough: &AtomicBool,
    ) -> Result<Loaded> {
        let Awaited {
            commit,
            managed,
            start,
            ..
        } = *awaited;
        let api = &traefik.api;
        let mut proof = self.proof(traefik, awaited);
        let deadline = start + self.timeout;
        let marker = format!("{}@{}", commit.marker, self.provider);
        let mut unauthorized_since = None;
        let mut before = None;
        loop {
            // Somebody may have deleted the route by now, and only the marker tells what is wrong.
            if polls.since.elapsed() > PROOF_PATIENCE + 2 * polls.expected {
                proof = None;
            }
            let seen = match &proof {
                Some((router, service)) => match api.router_by(router, deadline) {
                    Ok(Some(router)) if router.service == *service => {
                        return Ok(Loaded::Proven(vec![router]));
                    }
                    Ok(_) => Seen::Generation(commit.follows.unwrap_or_default()),
                    Err(error) => Seen::Failure(error),
                },
                None => match api.generation_by(&marker, deadline) {
                    Ok(Some(generation)) => match awaited.is_shown_by(generation) {
                        Ok(true) => return Ok(Loaded::Yes),
                        Ok(false) => Seen::Generation(generation),
                        Err(error) => Seen::Failure(error),
                    },
                    Ok(None) => Seen::NoMarker,
                    Err(error) => Seen::Failure(error),
                },
            };
            managed.map_or(Ok(()), Managed::check)?;
            match &seen {
                Seen::Failure(error) if error.kind() == ErrorKind::Unauthorized => {
                    let since = *unauthorized_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= awaited.patience {
                        return Err(error.clone());
                    }
                }
                _ => unauthorized_since = None,
            }
            if enough.load(Ordering::Relaxed) {
                return Ok(Loaded::Whatever);
            }
            let now = Instant::now();
            if now >= deadline || awaited.is_rejected() {
                // A last request that the deadline cut short tells nothing.
                let cut_short =
                    matches!(&seen, Seen::Failure(error) if error.kind() == ErrorKind::Unavailable);
                let seen = before.filter(|_| cut_short).unwrap_or(seen);
                return Err(match seen {
                    Seen::Failure(error) if error.kind() == ErrorKind::Unauthorized => error,
                    seen => self.not_loaded(api, awaited, seen),
                });
            }
            polls.failed |= !matches!(seen, Seen::Generation(_));
            before = Some(seen);
            polls.go_on(deadline - now);
        }
    }

    fn not_loaded(&self, api: &Api, awaited: &Awaited<'_>, seen: Seen) -> Error {
        let provider = &self.provider;
        let why = match seen {
            Seen::NoMarker => match providers(api) {
                Ok(running) if !running.contains(&provider.to_lowercase()) => format!(
                    "its provider {provider:?} is not running (these are: {}); check its static \
                     configuration, and restart it if the store was not there when it started",
                    running.join(", "),
                ),
                Ok(_) => format!(
                    "it has never loaded anything of ours from its provider {provider:?}: {UNREAD}"
                ),
                Err(error) => error.to_string(),
            },
            Seen::Generation(generation) if generation > awaited.commit.generation => format!(
                "it shows generation {generation}, which is later than the one stored, {}: the store \
                 was put back to an earlier state, and this Traefik hears nothing of it; restart it",
                awaited.commit.generation
            ),
            Seen::Generation(generation) => format!(
                "it still has generation {generation} instead of {}: {UNHEARD}",
                awaited.commit.generation
            ),
            Seen::Failure(error) => error.to_string(),
        };
        let mut message = format!(
            "{}Traefik at {} did not load it within {} ms: {why}",
            awaited.stored(),
            api.url(),
            awaited.start.elapsed().as_millis()
        );
        let complaints = awaited
            .managed
            .map(|managed| managed.complaints_since(awaited.begun));
        if let Some(complaints) = complaints.filter(|complaints| !complaints.is_empty()) {
            message.push_str(&format!("; its log says: {}", complaints.join(" | ")));
        }
        Error::new(ErrorKind::NotLoaded, message)
    }
}

/// Why a Traefik may have loaded nothing of a store.
pub(super) const UNREAD: &str = "it reads another file or prefix than this one, or rejects what is in it, and \
    its log says why; or the file was not there when it started: restart it";

/// Why a Traefik may not load a change.
pub(super) const UNHEARD: &str = "it rejects what is stored, and its log says why; or it hears of no change. Where \
    it reads a symbolic link, have it read the file itself; restart it otherwise";

/// Refuses a Traefik that is too old for anything we write.
pub(super) fn check_version(version: &str) -> Result<()> {
    let major = version.trim_start_matches('v').split('.').next();
    match major.and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major < 3 => Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("Traefik {version} is too old; install Traefik 3"),
        )),
        _ => Ok(()),
    }
}

/// Whether a Traefik of this version knows `parentRefs`. One that was built by hand may have any
/// version.
pub(super) fn has_parents(version: &str) -> bool {
    let mut numbers = version
        .trim_start_matches('v')
        .split('.')
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (3, 6),
        _ => true,
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap_or(u64::MAX)
}

/// The providers that run, in lower case. The time for the commit is over: this must be quick.
pub(super) fn providers(api: &Api) -> Result<Vec<String>> {
    let overview = api.clone().timeout(Duration::from_secs(1)).overview()?;
    let names = overview["providers"].as_array();
    let names = names.map(Vec::as_slice).unwrap_or_default();
    Ok(names
        .iter()
        .filter_map(|name| name.as_str().map(str::to_lowercase))
        .collect())
}

/// Whether a Traefik that shows this generation has loaded the commit. A later generation may be that of a
/// later commit, or one from before the store was put back to an earlier state.
pub(super) fn has_loaded(store: &dyn Backend, commit: &Commit, generation: u64) -> Result<bool> {
    if generation <= commit.generation {
        return Ok(generation == commit.generation);
    }
    let is_as_late = |last: Commit| last.marker == commit.marker && last.generation >= generation;
    Ok(store.last_commit()?.is_none_or(is_as_late))
}

/// Whether a router is on this entrypoint, or below another one, which is.
fn is_at(router: &RouterInfo, entrypoint: &str) -> bool {
    let on = &router.entry_points;
    entrypoint.is_empty() || on.is_empty() || on.len() == 1 && on[0] == entrypoint
}

fn refusal(api: &Api, spec: &RouteSpec, router: &RouterInfo) -> Error {
    let url = api.url();
    let words = router.error.join("; ");
    let message = format!("stored, but Traefik at {url} refuses the route {spec}: {words}");
    Error::new(ErrorKind::Refused, message).with_stored(Stored::All)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_questions_that_waited_or_were_in_vain_tell_how_long_it_took() {
        let ms = Duration::from_millis;
        let begun = |expected| {
            let mut polls = Polls::new(Instant::now(), expected);
            polls.begin();
            polls
        };
        let mut polls = begun(Duration::ZERO);
        assert_eq!(polls.took(), None);
        polls.go_on(ms(5));
        let took = polls.took().expect("one was in vain");
        assert!(took > Duration::ZERO && took <= polls.since.elapsed());
        polls.failed = true;
        assert_eq!(polls.took(), None);
        let polls = begun(ms(160));
        let took = polls.took().expect("it waited");
        assert!(took >= ms(122) && took <= polls.since.elapsed() * 7 / 8);
        // It took far longer than ever before.
        let mut held_up = Polls::new(polls.since, ms(20));
        held_up.in_vain = true;
        assert_eq!(held_up.took(), Some(ms(80)));
        // What was expected is over.
        let mut polls = Polls::new(polls.since, ms(80));
        polls.begin();
        assert_eq!(polls.took(), None);
    }

    #[test]
    fn questions_come_where_they_cost_little() {
        let ms = Duration::from_millis;
        for (expected, first, questions) in [
            (ms(8), ms(5), 4),
            (ms(80), ms(70), 2),
            (ms(800), ms(500), 13),
        ] {
            let planned: Vec<_> = Polls::new(Instant::now(), expected).planned().collect();
            assert_eq!((planned[0], planned.len()), (first, questions));
            assert_eq!(planned.last(), Some(&expected));
        }
    }

    #[test]
    fn what_is_expected_follows_the_number_of_routes() {
        let ms = Duration::from_millis;
        let last = |took, routes| Last {
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
            assert_eq!(last.expected(routes), expected, "{last:?} {routes:?}");
        }
    }

    #[test]
    fn versions() {
        for (version, expected) in [
            ("3.7.15", true),
            ("v3.6.0-rc1", true),
            ("3.5.3", false),
            ("v2.11.4", false),
            ("4.0", true),
            ("dev", true),
        ] {
            assert_eq!(has_parents(version), expected, "{version}");
        }
    }
}
