//! A commit that Traefiks have not confirmed yet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::backend::{Backend, Commit};
use crate::error::{Error, ErrorKind, Result};
use crate::route::{Route, RouteSpec, router_name, service_name};
use crate::router::delivery::Delivery;
use crate::router::managed::Managed;
use crate::router::plan::Expected;
use crate::traefik::Api;

/// A Traefik that reports that it rejects the configuration is not believed before this: it may have read a
/// file that another program was still writing, and reads it again.
const REJECTION_GRACE: Duration = Duration::from_millis(500);
/// How long a request may take that is made at the end of the time, or after it, to say how a Traefik is then.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// Where commits are stored, and the Traefik that this Router has started, if it has started one.
#[derive(Clone, Copy)]
pub(in crate::router) struct Serving<'a> {
    pub(in crate::router) store: &'a dyn Backend,
    pub(in crate::router) managed: Option<&'a Managed>,
}

/// A commit that Traefiks are to load.
pub(super) struct Pending<'a> {
    pub(super) commit: &'a Commit,
    pub(super) expected: &'a Expected,
    /// The name of the provider through which Traefik reads the store.
    pub(super) provider: &'a str,
    pub(super) serving: Serving<'a>,
    /// What sends the commit, where Traefiks do not read the store.
    pub(super) delivery: Option<&'a Delivery>,
    /// Set once the caller no longer waits.
    pub(super) cancelled: &'a AtomicBool,
    /// When the first of it could be in the store: the log of the Traefik that this Router has started is
    /// read from then on.
    pub(super) begun: Instant,
    /// When Traefik could begin to load it, or when it began to be sent.
    pub(super) visible: Instant,
    /// When all of it was stored. `timeout` counts from then on.
    pub(super) stored_at: Instant,
    pub(super) timeout: Duration,
    /// An API that refuses the password is asked again for so long.
    pub(super) unauthorized_grace: Duration,
    /// Whether it is the first commit of a Router, which is taken back if Traefik does not load it.
    pub(super) is_setup: bool,
}

impl Pending<'_> {
    pub(super) fn deadline(&self) -> Instant {
        self.stored_at + self.timeout
    }

    pub(super) fn time_left(&self) -> Duration {
        self.timeout.saturating_sub(self.stored_at.elapsed())
    }

    /// Fails if the Traefik that this Router has started has ended, or the caller no longer waits.
    pub(super) fn check_process(&self) -> Result<()> {
        check_cancelled(self.cancelled)?;
        self.serving.managed.map_or(Ok(()), Managed::check)
    }

    /// Fails if this Traefik can't load it any more: the one that this Router has started has ended, or
    /// another program pushes to it.
    pub(super) fn check(&self, api: &Api) -> Result<()> {
        self.check_process()?;
        let delivery = self.delivery;
        delivery.map_or(Ok(()), |delivery| delivery.check_at(api.url()))
    }

    /// Whether the Traefik that this Router has started reports that it rejects the configuration, and has
    /// had time to read it again.
    pub(super) fn is_rejected(&self) -> bool {
        let is_rejected = |managed: &Managed| managed.has_rejected_since(self.begun);
        self.stored_at.elapsed() >= REJECTION_GRACE && self.serving.managed.is_some_and(is_rejected)
    }

    /// Whether a Traefik that shows this generation has loaded the commit.
    pub(super) fn is_shown_by(&self, generation: u64) -> Result<bool> {
        has_loaded(self.serving.store, self.commit, generation)
    }

    /// Whether Traefik has loaded all of a commit whose generation it shows.
    pub(super) fn is_read_at_once(&self) -> bool {
        self.serving.store.is_read_at_once()
    }

    /// Whether the generation does not prove all routes of the commit, so that each router is checked.
    pub(super) fn needs_each(&self) -> bool {
        let expected = self.expected;
        expected.stored_before || expected.set.len() == 1 || !self.is_read_at_once()
    }

    /// What Traefik calls the router of a route.
    pub(super) fn router_name(&self, spec: &RouteSpec) -> String {
        full_router_name(&self.commit.namespace, spec, self.provider)
    }

    /// What Traefik calls the service of a route.
    pub(super) fn service_name(&self, route: &Route) -> String {
        let name = service_name(&self.commit.namespace, route);
        format!("{name}@{}", self.provider)
    }

    /// Drops the errors of routes that another commit has changed since.
    pub(super) fn retain_current(&self, wrong: &mut Vec<(&RouteSpec, Error)>) {
        if let Ok(Some(now)) = self.serving.store.inspect() {
            let is_moved = now.entrypoint != self.commit.entrypoint;
            let set = self.expected.set.iter().map(|route| (&route.spec, route));
            let set: HashMap<_, _> = set.collect();
            wrong.retain(|(spec, _)| !is_moved && now.routes.get(spec) == set.get(spec).copied());
        }
    }

    /// What our Traefik has logged since then, as the end of a message.
    pub(super) fn complaints(&self) -> String {
        let managed = self.serving.managed;
        let complaints = managed.map(|managed| managed.complaints_since(self.begun));
        match complaints.filter(|complaints| !complaints.is_empty()) {
            Some(complaints) => format!("; its log says: {}", complaints.join(" | ")),
            None => String::new(),
        }
    }

    /// How a message begins. A setup is taken back, so that nothing of it is stored.
    pub(super) fn message_start(&self) -> &'static str {
        if self.is_setup { "" } else { "stored, but " }
    }
}

/// This API, for requests that are made when so much of the time is left.
pub(in crate::router) fn in_time(api: &Api, left: Duration) -> Api {
    api.at_most(left.max(LAST_REQUEST))
}

/// Fails once this is set.
pub(super) fn check_cancelled(flag: &AtomicBool) -> Result<()> {
    match flag.load(Ordering::Relaxed) {
        true => Err(Error::new(
            ErrorKind::NotLoaded,
            "cancelled while Traefik was awaited (`cancelled_by`)",
        )),
        false => Ok(()),
    }
}

/// What Traefik calls the router of a route: `name@provider`.
pub(super) fn full_router_name(namespace: &str, spec: &RouteSpec, provider: &str) -> String {
    format!("{}@{provider}", router_name(namespace, spec))
}

/// Whether a Traefik that shows this generation has loaded the commit. A later generation is that of a later
/// commit, or one from before the store was put back to an earlier state.
pub(in crate::router) fn has_loaded(
    store: &dyn Backend,
    commit: &Commit,
    generation: u64,
) -> Result<bool> {
    if generation <= commit.generation {
        return Ok(generation == commit.generation);
    }
    let is_as_late = |last: Commit| last.marker == commit.marker && last.generation >= generation;
    Ok(store.last_commit()?.is_none_or(is_as_late))
}
