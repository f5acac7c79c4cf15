//! The [`Router`]: routes in, routes served.

mod applied;
mod builder;
mod certificate;
mod commit;
mod config_file;
mod delivery;
mod host;
mod listen;
mod managed;
mod plan;
mod queue;
mod status;
mod verify;
mod watch;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::certificate::CertificateFiles;
use self::commit::{CommitQueue, Committer, Confirmed, Scope};
use self::host::Host;
use self::managed::Managed;
use self::plan::{Expected, Request};
use self::verify::{Serving, Verifier};
use crate::backend::{Backend, Commit, Edit, Setup};
use crate::config::dynamic::Own;
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::route::{Change, Route, RouteSpec, Table, Version};
use crate::sync::unpoisoned;
use crate::threads::Repeated;

pub use applied::{Applied, NotAsked, Verified};
pub use builder::Builder;
pub use config_file::read_config;
pub use managed::ProcessStatus;
pub use status::{Lag, Status, TraefikAnswer, TraefikStatus};
pub use watch::{RouteEvent, Watch};

/// Keeps the routes of one or several Traefiks.
///
/// Made by [`Router::builder`]. Its methods block, and may be called from many threads at once. They return when
/// every configured Traefik serves the change. Calls that come during a commit wait for it and share the next one, so
/// that many threads cost few reloads.
///
/// Dropping a Router that has [started](Builder::start) a Traefik ends that Traefik.
#[must_use = "a Traefik that it has started ends when the Router is dropped"]
#[derive(Debug)]
pub struct Router {
    backend: Arc<dyn Backend>,
    verifier: Verifier,
    commits: CommitQueue,
    host: Host,
    managed: Option<Managed>,
    /// What the first change is to store, where nothing was stored when this Router was made.
    first: Mutex<Option<Setup>>,
    /// What was stored for the started Traefik.
    own: Option<Own>,
    /// The last commit: its marker and namespace are what to ask Traefik for.
    last: Mutex<Commit>,
    /// The oldest of the Traefiks, where they were asked.
    oldest: Option<Version>,
    /// Looks after the Traefiks that the table is sent to.
    keeper: Mutex<Option<Repeated>>,
    /// The first generation that a Traefik was seen not to serve, by the URL of its API.
    unserved: Mutex<HashMap<String, u64>>,
    /// Whether it serves no more what Traefiks of others serve.
    is_stopped: AtomicBool,
}

impl Router {
    fn new(
        backend: Arc<dyn Backend>,
        verifier: Verifier,
        commit_wait: Duration,
        host: Host,
    ) -> Self {
        Self {
            backend,
            verifier,
            commits: CommitQueue::new(commit_wait),
            host,
            managed: None,
            first: Mutex::new(None),
            own: None,
            last: Mutex::new(Commit::new("", 0)),
            oldest: None,
            keeper: Mutex::new(None),
            unserved: Mutex::default(),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// This Router, on a store that was opened.
    fn opened(mut self, commit: Commit) -> Self {
        self.last = Mutex::new(commit);
        self
    }

    /// This Router, whose Traefiks are all of this version or a later one.
    fn since(mut self, oldest: Option<Version>) -> Self {
        self.oldest = oldest;
        self
    }

    /// This Router, with a Traefik for which this was stored.
    fn managing(mut self, managed: Managed, own: Option<Own>) -> Self {
        self.managed = Some(managed);
        self.own = own;
        self
    }

    /// This Router, which looks after the Traefiks that it sends the table to.
    fn keeping(self, interval: Duration) -> Result<Self> {
        if let Some(delivery) = self.verifier.delivery() {
            let keeper = delivery::keep(Arc::clone(delivery), interval)?;
            *unpoisoned(self.keeper.lock()) = Some(keeper);
        }
        Ok(self)
    }

    /// This Router, whose first change stores a setup.
    fn first_storing(mut self, setup: Setup) -> Self {
        self.first = Mutex::new(Some(setup));
        self
    }

    /// Adds a route, or replaces the one that has the same routespec. Returns when requests reach
    /// `target`.
    ///
    /// `data` is kept with the route for the caller, unchanged; Traefik does not use it.
    ///
    /// If the table already has the same route, this checks its stored entries and its router in Traefik's API.
    /// Entries that were changed by hand are written again. If none was, nothing is written.
    ///
    /// # Errors
    /// - [`InvalidRoute`](ErrorKind::InvalidRoute) as [`RouteSpec::new`] and
    ///   [`Target::new`](crate::Target::new), and if `data` is nested more than 100 levels deep. With
    ///   [`apply`](Self::apply) also if all servers of a route have the weight 0, if routes of one host would
    ///   differ in their TLS options, or if a Traefik is too old for what a route asks for.
    /// - [`Store`](ErrorKind::Store), [`Locked`](ErrorKind::Locked),
    ///   [`Corrupt`](ErrorKind::Corrupt), [`TooLarge`](ErrorKind::TooLarge): not stored; the store is as it was.
    /// - [`Unavailable`](ErrorKind::Unavailable), [`Protocol`](ErrorKind::Protocol): etcd or Redis does not answer, or
    ///   something else answers in its place. [`Error::stored`] says whether the change may be stored.
    /// - [`InUse`](ErrorKind::InUse): not stored; another program has set another entrypoint or
    ///   `extra_service_config` for the table than this Router has.
    /// - [`Conflict`](ErrorKind::Conflict): not stored; other writers kept changing the table, or the store was
    ///   restored to an earlier state than this Router has seen, as from a backup. [`reconcile`](Self::reconcile) and
    ///   [`repair`](Self::repair) accept that state. With a store that is pushed: another program has pushed a table
    ///   in place of this one; these two methods push this one again.
    /// - [`NotLoaded`](ErrorKind::NotLoaded): stored, but a Traefik did not load it within
    ///   [`check_route_timeout`](Builder::check_route_timeout), or its router differs from the table. The message
    ///   names the likely cause.
    /// - [`Refused`](ErrorKind::Refused): stored and loaded, but Traefik refuses the router; the
    ///   message has Traefik's reason.
    /// - [`Unauthorized`](ErrorKind::Unauthorized): not stored, since etcd or Redis refuses the password; or stored, but
    ///   Traefik's API refuses it. [`Error::stored`] says which.
    /// - [`Process`](ErrorKind::Process): stored, but the Traefik that this Router has started has ended; or not stored,
    ///   since this Router was [stopped](Self::stop).
    /// - [`Internal`](ErrorKind::Internal): another thread was committing this change, together with its own, and
    ///   panicked; whether the change is stored is not known.
    pub fn add_route(
        &self,
        spec: impl AsRef<str>,
        target: impl AsRef<str>,
        data: impl Into<Value>,
    ) -> Result<Applied> {
        self.apply([Route::new(spec, target)?.data(data).into()])
    }

    /// Deletes a route. Returns when requests no longer reach it. If there is no such route, `deleted` is empty.
    ///
    /// # Errors
    /// As [`add_route`](Self::add_route).
    pub fn delete_route(&self, spec: impl AsRef<str>) -> Result<Applied> {
        self.apply([Change::delete(spec)?])
    }

    /// Makes many changes at once: they are stored together, and Traefik loads them together. Of
    /// several changes to one routespec the last one counts.
    ///
    /// # Errors
    /// As [`add_route`](Self::add_route).
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> Result<Applied> {
        let changes = changes.into_iter();
        let changes = changes.map(|change| self.host.stored_change(change));
        let changes = changes.collect::<Result<Vec<_>>>()?;
        for change in &changes {
            if let Change::Set(route) = change {
                self.check(route)?;
            }
        }
        self.submit(Request::Changes(changes))
    }

    /// Makes the table equal to `desired`: adds missing routes, changes those that differ, deletes all others.
    ///
    /// Before that it compares everything that Traefik reads of this table with the table, and writes
    /// again what differs. Then it checks the router of each route in Traefik's API. If the store was restored to an
    /// earlier state, it accepts that state. After a restore of etcd a Traefik may miss changes. The error
    /// [`NotLoaded`](ErrorKind::NotLoaded) then names the Traefiks to restart.
    ///
    /// # Errors
    /// As [`add_route`](Self::add_route).
    pub fn reconcile(&self, desired: impl IntoIterator<Item = Route>) -> Result<Applied> {
        let desired = self.host.stored_table(desired.into_iter().collect())?;
        for route in &desired {
            self.check(route)?;
        }
        self.submit(Request::Reconcile(desired))
    }

    /// Does what [`reconcile`](Self::reconcile) does, for the routes that are stored: writes again entries that
    /// were changed by hand, accepts a store that was restored to an earlier state, and returns when every
    /// Traefik serves the table.
    ///
    /// # Errors
    /// As [`add_route`](Self::add_route).
    pub fn repair(&self) -> Result<Applied> {
        self.submit(Request::Repair)
    }

    /// The route with exactly this routespec.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) as [`RouteSpec::new`]; and as
    /// [`get_all_routes`](Self::get_all_routes).
    pub fn get_route(&self, spec: impl AsRef<str>) -> Result<Option<Arc<Route>>> {
        let spec = RouteSpec::new(spec)?;
        let spec = self.host.stored(&spec)?;
        let table = self.backend.read()?;
        self.host.check(&table)?;
        Ok(table.get(&spec).map(|route| self.host.shown_route(route)))
    }

    /// All routes, in the order of their routespecs.
    ///
    /// # Errors
    /// - [`Store`](ErrorKind::Store), [`Unavailable`](ErrorKind::Unavailable),
    ///   [`Unauthorized`](ErrorKind::Unauthorized), [`Protocol`](ErrorKind::Protocol),
    ///   [`Corrupt`](ErrorKind::Corrupt): the store can't be read.
    /// - [`Conflict`](ErrorKind::Conflict): the store was restored to an earlier state than this Router has seen; or,
    ///   with [`Builder::host`], the table has routes of other hosts.
    pub fn get_all_routes(&self) -> Result<Table> {
        self.host.shown_table(self.backend.read()?)
    }

    /// The route that serves a request; see [`Table::resolve`]. Asks the store, not Traefik.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) if no request can have this path; and as
    /// [`get_all_routes`](Self::get_all_routes).
    pub fn resolve(&self, host: &str, path: &str) -> Result<Option<Arc<Route>>> {
        let table = self.backend.read()?;
        self.host.check(&table)?;
        let route = table.resolve(host, path)?;
        Ok(route.map(|route| self.host.shown_route(route)))
    }

    /// The name of a route's router in Traefik, `name@provider`, whether there is such a route or not. Traefik's API,
    /// logs and metrics use this name. A router whose name contains `all-` and the beginning of a path, such as
    /// `all-user-n`, is the [parent](crate::Nested) of routes whose paths begin with `/user/n`.
    pub fn router_name(&self, spec: &RouteSpec) -> String {
        let stored = self.host.stored(spec);
        let spec = stored.as_deref().unwrap_or(spec);
        self.verifier.router_name(&self.last().namespace, spec)
    }

    /// If the Traefik that this Router has started has ended by itself, starts it again with the same static
    /// configuration, and returns `true` when it serves the routes in the store. If this Router has started no
    /// Traefik, or its Traefik runs and serves, this returns `false` and costs next to nothing.
    ///
    /// A Traefik can run and serve nothing: its file provider does not start if the system has no
    /// inotify instance left. Then `revive` returns an error, and [`Router::status`] reports
    /// [`NotServing`](ProcessStatus::NotServing). The next call of `revive` ends that Traefik and starts a new one,
    /// unless it serves by then.
    ///
    /// Private files beside the static configuration are written again if they were removed. If the folder that
    /// Traefik watches was removed and created again, Traefik no longer notices changes, so it is restarted.
    ///
    /// If several threads call this, one starts Traefik; the others wait for it.
    ///
    /// Changes that are made meanwhile fail with [`Process`](ErrorKind::Process) or wait; what they
    /// have stored is served afterwards.
    ///
    /// Each call tries once. Your program decides how often to call it, and when to give up.
    /// `traefik-router chp` waits longer each time. It gives up after six times within a minute, or
    /// after six errors in a row.
    ///
    /// # Errors
    /// [`Process`](ErrorKind::Process) if Traefik can't be started, ends at once, or was stopped by
    /// [`Router::stop`]; and as [`Router::add_route`] if it does not load the store.
    pub fn revive(&self) -> Result<bool> {
        let Some(managed) = &self.managed else {
            return Ok(false);
        };
        if managed.has_failed() && self.is_served() {
            managed.serves(Instant::now());
        }
        managed.revive(|| {
            let commit = self.backend.commit(&mut |_, _| Ok(Vec::new()))?;
            self.verifier
                .confirm_start(&commit, &*self.backend, managed)
        })
    }

    /// Gives the Traefik that this Router has started the certificate of [`Builder::ssl`], if its files were
    /// renewed since Traefik got it. Each change does that, too: this is for a program that may make no change for
    /// days. Call it as often as you like: it only checks whether the files were written. While a renewed certificate
    /// does not match its key, the old one stays.
    ///
    /// # Errors
    /// As [`Router::add_route`].
    pub fn renew_certificate(&self) -> Result<()> {
        let files = self.managed.as_ref().and_then(Managed::certificate);
        match files.and_then(CertificateFiles::renewed) {
            Some(_) => self.apply([]).map(drop),
            None => Ok(()),
        }
    }

    /// Ends the Traefik that this Router has started, and removes its files. From the store it removes what only
    /// started Traefiks need, unless another program has started one on this store. Routes stay in the store for the
    /// next start. External Traefiks keep serving; the table is no longer marked as served by this Router.
    ///
    /// A stopped Router can still read routes. It can still change them if it started no Traefik and its store is not
    /// [pushed](crate::MemoryBackend).
    ///
    /// # Errors
    /// [`Process`](ErrorKind::Process) if the process can't be ended; and as
    /// [`Backend::close`](crate::Backend::close).
    pub fn stop(&self) -> Result<()> {
        // It would log that the Traefik which ends here does not answer.
        *unpoisoned(self.keeper.lock()) = None;
        let Some(managed) = &self.managed else {
            let serves = self.verifier.apis().next().is_some();
            return match serves && !self.is_stopped.swap(true, Ordering::Relaxed) {
                true => self.backend.close(),
                false => Ok(()),
            };
        };
        // A commit that is under way fails now; none begins after it.
        managed.end()?;
        self.commits
            .alone(|| managed.clean_up(|| self.backend.close()))
    }

    /// What a commit is verified with.
    fn serving(&self) -> Serving<'_> {
        Serving {
            store: &*self.backend,
            managed: self.managed.as_ref(),
        }
    }

    /// Whether a route can be stored, and every Traefik knows what it asks for.
    fn check(&self, route: &Route) -> Result<()> {
        route.check()?;
        match unknown(route, self.oldest) {
            Some(why) => Err(Error::new(ErrorKind::InvalidRoute, why)),
            None => Ok(()),
        }
    }

    fn last(&self) -> MutexGuard<'_, Commit> {
        unpoisoned(self.last.lock())
    }

    fn submit(&self, request: Request) -> Result<Applied> {
        let applied = self.host.shown_applied(self.commits.submit(request, self)?);
        warn_of_likely_mistakes(&applied.added);
        Ok(applied)
    }

    /// Stores a commit; with it the setup of an offline Router, or a certificate that was renewed.
    fn store_with_setup(&self, edit: &mut Edit<'_>) -> Result<Commit> {
        let mut first = unpoisoned(self.first.lock());
        if let Some(setup) = &*first {
            let commit = self.backend.open(setup, edit)?;
            *first = None;
            return Ok(commit);
        }
        drop(first);
        let renewal = self.managed.as_ref().and_then(|managed| {
            let files = managed.certificate()?;
            Some((managed, files, files.renewed()?))
        });
        let Some((managed, files, renewed)) = renewal else {
            return self.backend.commit(edit);
        };
        let certificate = renewed.certificate;
        let is_refused = Cell::new(false);
        let edit: &mut Edit<'_> = &mut |table, stored| {
            let changes = edit(table, stored);
            is_refused.set(changes.is_err());
            changes
        };
        let handed_over = match self.own.clone() {
            Some(own) => {
                let setup = Setup {
                    own: Some(Own { certificate, ..own }),
                    serves: true,
                    started: true,
                    ..Setup::default()
                };
                self.backend.open(&setup, edit)
            }
            None => {
                (managed.replace_certificate(&certificate)).and_then(|()| self.backend.commit(edit))
            }
        };
        match handed_over {
            Ok(commit) => {
                files.used(renewed.files);
                Ok(commit)
            }
            // Routes can be changed even where the certificate can't be renewed.
            Err(error) if *error.stored() == Stored::Nothing && !is_refused.get() => {
                files.refused(renewed.files, &error);
                self.backend.commit(edit)
            }
            Err(error) => Err(error),
        }
    }
}

impl Committer for Router {
    fn store(&self, scope: Scope, edit: &mut Edit<'_>) -> Result<Commit> {
        if self.managed.as_ref().is_some_and(Managed::is_stopped) {
            return Err(Error::new(
                ErrorKind::Process,
                "this Router has stopped its Traefik; start another one",
            ));
        }
        if let Some(delivery) = self.verifier.delivery() {
            if self.is_stopped.load(Ordering::Relaxed) {
                let message = "this Router is stopped and pushes no table; attach another one";
                return Err(Error::new(ErrorKind::Process, message));
            }
            match scope {
                Scope::Table => delivery.take_over()?,
                Scope::Routes => delivery.check()?,
            }
        }
        if scope == Scope::Table {
            self.backend.repair()?;
        }
        let commit = self.store_with_setup(&mut |table, stored| {
            if stored.is_empty() {
                self.host.check(table)?;
            }
            edit(table, stored)
        })?;
        self.last().clone_from(&commit);
        Ok(commit)
    }

    fn confirm(&self, commit: &Commit, expected: &Expected, begun: Instant) -> Result<Confirmed> {
        let serving = self.serving();
        let confirmed = self.verifier.confirm(commit, expected, begun, serving)?;
        if let (Some(managed), Ok(_)) = (serving.managed, &confirmed.verified) {
            managed.serves(begun);
        }
        Ok(confirmed)
    }
}

/// What a route asks for that a Traefik of this version does not know.
fn unknown(route: &Route, version: Option<Version>) -> Option<String> {
    let (major, minor) = version?;
    let ((since_major, since_minor), what) = route.needs()?;
    ((major, minor) < (since_major, since_minor)).then(|| {
        format!(
            "route {}: {what} needs Traefik {since_major}.{since_minor} or later, and this one is \
             {major}.{minor}",
            route.spec
        )
    })
}

/// Logs which of these routespecs may not mean what the caller had in mind.
fn warn_of_likely_mistakes<'a>(specs: impl IntoIterator<Item = &'a RouteSpec>) {
    for mistake in specs.into_iter().filter_map(RouteSpec::likely_mistake) {
        log::warn!("{mistake}");
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            log::error!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::backend::MemoryBackend;

    struct Log(Mutex<Vec<String>>);

    impl log::Log for Log {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.level() == log::Level::Warn && metadata.target().ends_with("router")
        }

        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                let mut lines = unpoisoned(self.0.lock());
                lines.push(record.args().to_string());
            }
        }

        fn flush(&self) {}
    }

    #[test]
    fn slashless_path_is_logged_once() {
        static LOG: Log = Log(Mutex::new(Vec::new()));
        log::set_logger(&LOG).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
        let router = Router::builder(MemoryBackend::new()).offline().unwrap();
        router.add_route("/user/zoe/", "http://t", ()).unwrap();
        router.add_route("h.x/user/zoe/", "http://t", ()).unwrap();
        for target in ["http://t", "http://t", "http://u"] {
            router.add_route("user/zoe", target, ()).unwrap();
        }
        router.delete_route("user/zoe").unwrap();
        let wiki = Route::new("wiki/", "http://t").unwrap();
        router.reconcile([wiki.clone()]).unwrap();
        router.reconcile([wiki]).unwrap();
        let lines = LOG.0.lock().unwrap();
        let expected = ["\"/user/zoe/\"", "\"/wiki/\""];
        assert_eq!(lines.len(), expected.len(), "{lines:?}");
        for (line, advice) in lines.iter().zip(expected) {
            assert!(line.contains(advice), "{line}");
        }
    }

    #[test]
    fn offline_changes_have_no_times() {
        let router = Router::builder(MemoryBackend::new()).offline().unwrap();
        let applied = router.add_route("/a/", "http://t", ()).unwrap();
        assert_eq!((applied.loaded_after, applied.served_after), (None, None));
    }

    /// Panics at its commits, after a time in which others queue.
    #[derive(Debug)]
    struct Panics(MemoryBackend);

    impl Backend for Panics {
        fn provider(&self) -> &str {
            self.0.provider()
        }

        fn static_config(&self) -> Result<Value> {
            self.0.static_config()
        }

        fn open(&self, _: &Setup, _: &mut Edit<'_>) -> Result<Commit> {
            std::thread::sleep(std::time::Duration::from_millis(200));
            panic!("a fault of this backend")
        }

        fn read(&self) -> Result<Table> {
            self.0.read()
        }

        fn commit(&self, edit: &mut Edit<'_>) -> Result<Commit> {
            self.open(&Setup::default(), edit)
        }

        fn close(&self) -> Result<()> {
            self.0.close()
        }
    }

    #[test]
    fn panicking_commit_fails_as_internal() {
        let router = Router::builder(Panics(MemoryBackend::new()))
            .offline()
            .unwrap();
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..10)
                .map(|n| {
                    let router = &router;
                    scope.spawn(move || router.add_route(format!("/{n}/"), "http://t", ()))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        let errors: Vec<_> = (outcomes.into_iter().flatten())
            .map(|outcome| outcome.unwrap_err())
            .collect();
        assert!(!errors.is_empty());
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
            assert_eq!(*error.stored(), Stored::Unknown, "{error}");
        }
    }
}
