//! Whether Traefik serves what was stored.
//!
//! Each commit carries its generation in a middleware, the marker. Traefik puts a whole configuration into
//! effect at once on each entrypoint. An API that shows the generation therefore proves every change of that
//! commit, deletions included, with one small answer. The entrypoint for routes shows the generation as well,
//! and its answer costs half as much. So it is asked first, and the API second. Either may be the first to
//! change, and another Traefik than ours may answer on the entrypoint.

mod loading;
mod pending;
mod public_url;
mod quorum;
mod routers;
mod schedule;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::applied::Verified;
use super::commit::Confirmed;
use super::delivery::Delivery;
use super::managed::Managed;
use super::plan::Expected;
use crate::backend::{Backend, Commit};
use crate::error::{Error, ErrorKind, Result};
use crate::route::RouteSpec;
use crate::sync::unpoisoned;
use crate::traefik::Api;

use self::loading::wait_until_loaded;
use self::pending::{Pending, check_cancelled, full_router_name};
use self::routers::await_routers;
use self::schedule::{PollSchedule, ReloadEstimate};

pub(super) use self::loading::{providers, unheard, unread};
pub(super) use self::pending::{Serving, has_loaded, in_time};
pub(super) use self::public_url::PublicUrl;
pub(super) use self::quorum::{Asked, Others, ask_quorum};

/// An API that refuses the password is asked again for so long.
const UNAUTHORIZED_GRACE: Duration = Duration::from_secs(1);
/// The same after a new password was stored. Traefik loads it after its `providersThrottleDuration`, which
/// defaults to 2 s.
const NEW_PASSWORD_GRACE: Duration = Duration::from_secs(3);

/// A table that takes less time to push and to load is polled for at once.
const SMALL_PUSH: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Verifier {
    apis: Vec<Api>,
    provider: String,
    timeout: Duration,
    /// How many Traefiks have to serve a change; `None` means all.
    quorum: Option<usize>,
    public_url: PublicUrl,
    estimate: Mutex<ReloadEstimate>,
    /// What sends the table to the Traefiks, where they do not read it.
    delivery: Option<Arc<Delivery>>,
    /// Set to have all waiting end.
    cancelled: Arc<AtomicBool>,
}

impl Verifier {
    pub(super) fn new(
        apis: Vec<Api>,
        provider: &str,
        timeout: Duration,
        quorum: Option<usize>,
        public_url: PublicUrl,
    ) -> Self {
        Self {
            apis,
            provider: provider.into(),
            timeout,
            quorum,
            public_url,
            estimate: Mutex::default(),
            delivery: None,
            cancelled: Arc::default(),
        }
    }

    /// This one, whose waiting ends once this is set.
    pub(super) fn cancelled_by(mut self, flag: &Arc<AtomicBool>) -> Self {
        self.cancelled = Arc::clone(flag);
        self
    }

    /// Fails once the caller has cancelled what it waits for.
    pub(super) fn check_cancelled(&self) -> Result<()> {
        check_cancelled(&self.cancelled)
    }

    /// This one, for Traefiks that are sent their table.
    pub(super) fn delivering(mut self, store: &Arc<dyn Backend>) -> Self {
        let is_pushed = store.pushed().is_some() && !self.apis.is_empty();
        let delivery = is_pushed.then(|| Delivery::new(Arc::clone(store), &self.apis, self.quorum));
        self.delivery = delivery.map(Arc::new);
        self
    }

    pub(super) fn delivery(&self) -> Option<&Arc<Delivery>> {
        self.delivery.as_ref()
    }

    pub(super) fn apis(&self) -> impl Iterator<Item = &Api> {
        self.apis.iter()
    }

    /// The version of the first Traefik.
    pub(super) fn version(&self) -> Result<String> {
        let first = self.apis().next().map(Api::version);
        first.map_or_else(|| Ok(String::new()), |version| Ok(version?.version))
    }

    /// What Traefik calls the router of a route.
    pub(super) fn router_name(&self, namespace: &str, spec: &RouteSpec) -> String {
        full_router_name(namespace, spec, &self.provider)
    }

    /// Asks all Traefiks in parallel; returns the answers of a quorum. See [`ask_quorum`].
    pub(super) fn ask_quorum<T: Send>(
        &self,
        do_what: &str,
        ask: impl Fn(&Api, &Others) -> Result<Option<T>> + Sync,
    ) -> Result<Vec<(&Api, T)>> {
        ask_quorum(&self.apis, self.quorum, do_what, ask)
    }

    /// Waits until every Traefik serves `commit`, which this Router began to store at `begun`.
    pub(super) fn confirm(
        &self,
        commit: &Commit,
        expected: &Expected,
        begun: Instant,
        serving: Serving<'_>,
    ) -> Result<Confirmed> {
        let stored_at = Instant::now();
        self.confirm_pending(Pending {
            commit,
            expected,
            provider: &self.provider,
            serving,
            delivery: self.delivery.as_deref(),
            cancelled: &self.cancelled,
            begun,
            visible: commit.visible.unwrap_or(stored_at),
            stored_at,
            timeout: self.timeout,
            unauthorized_grace: UNAUTHORIZED_GRACE,
            is_setup: false,
        })
    }

    /// Waits until every API shows the commit of a setup, which may come with a new password. Returns how long
    /// the slowest took to load what it had.
    pub(super) fn confirm_setup(
        &self,
        commit: &Commit,
        begun: Instant,
        serving: Serving<'_>,
    ) -> Result<Duration> {
        let pending = self.setup(commit, begun, serving);
        let confirmed = self.confirm_pending(pending)?;
        let loading = confirmed.loading.unwrap_or_default();
        Ok(loading.saturating_sub(confirmed.sending))
    }

    /// Waits until requests meet the commit of a setup that an API has shown.
    pub(super) fn confirm_public(&self, commit: &Commit, serving: Serving<'_>) -> Result<Verified> {
        if let PublicUrl::Ask(probe) = &self.public_url {
            probe.set_reached();
        }
        self.public_url
            .wait(&self.setup(commit, Instant::now(), serving))
    }

    /// Waits until the Traefik that this Router has started serves `commit` on its entrypoint.
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
            .and_then(|_| managed.wait_until_open(self.timeout))
            .and_then(|()| self.confirm_public(commit, serving));
        managed.set_ready(ready.is_ok());
        ready.map(drop)
    }

    fn setup<'a>(
        &'a self,
        commit: &'a Commit,
        begun: Instant,
        serving: Serving<'a>,
    ) -> Pending<'a> {
        static NOTHING: Expected = Expected {
            set: Vec::new(),
            deleted: Vec::new(),
            stored_before: false,
            routes: None,
        };
        // Traefik may have been started after the commit was stored.
        let now = Instant::now();
        Pending {
            commit,
            expected: &NOTHING,
            provider: &self.provider,
            serving,
            delivery: self.delivery.as_deref(),
            cancelled: &self.cancelled,
            begun,
            visible: now,
            stored_at: now,
            timeout: self.timeout,
            unauthorized_grace: NEW_PASSWORD_GRACE,
            is_setup: true,
        }
    }

    /// Waits until a quorum of Traefiks serves the commit, and until requests meet it.
    fn confirm_pending(&self, mut pending: Pending<'_>) -> Result<Confirmed> {
        if self.apis.is_empty() {
            return Ok(Confirmed::default());
        }
        let begun = pending.visible;
        let (taken, sending) = self.deliver(&mut pending)?;
        // The first pushes may have failed.
        let sent_after = pending.visible.saturating_duration_since(begun);
        let traefiks = taken.as_deref().unwrap_or(&self.apis);
        let pending = &pending;
        let mut polls = self.first_poll(pending);
        let met_after = self.public_url.wait_briefly(pending, &mut polls)?;
        if met_after.is_some() {
            self.learn(&polls, pending);
        }
        let loading = AtomicU64::new(0);
        let answers = ask_quorum(traefiks, self.quorum, "serve the change", |api, others| {
            self.confirm_at(api, pending, polls, met_after, &loading, others)
        })?;
        for (api, _) in &answers {
            if let Some(delivery) = &self.delivery {
                delivery.set_loaded(api.url(), pending.commit);
            }
        }
        let refused = answers.into_iter().flat_map(|(_, refused)| refused);
        let refused = refused.collect();
        let verified = match met_after {
            Some(_) => Ok(Verified::Seen),
            // A Traefik that was just started may not listen there yet.
            None if pending.is_setup => Ok(Verified::default()),
            None => self.public_url.wait(pending),
        };
        Ok(Confirmed {
            refused,
            loading: Some(sent_after + Duration::from_micros(loading.into_inner())),
            sending,
            verified,
        })
    }

    /// Sends a commit to Traefiks that do not read it; says which have taken it, and how long that took.
    fn deliver(&self, pending: &mut Pending<'_>) -> Result<(Option<Vec<Api>>, Duration)> {
        let Some(delivery) = &self.delivery else {
            return Ok((None, Duration::ZERO));
        };
        let begun = Instant::now();
        if pending.is_setup {
            delivery.send_again();
        }
        let check = || match pending.check_process() {
            Ok(()) if pending.is_rejected() => {
                let what = "Traefik can't take the table";
                let message = format!("{}{what}{}", pending.message_start(), pending.complaints());
                Err(Error::new(ErrorKind::NotLoaded, message))
            }
            checked => checked,
        };
        let (taken, sent) = delivery.deliver(pending.commit, pending.deadline(), check)?;
        pending.visible = sent.unwrap_or(pending.visible);
        Ok((Some(taken), begun.elapsed()))
    }

    /// Waits until one Traefik serves the commit. Returns the routes that it refuses, or `None` once
    /// the others are certain. `loading` is the longest time in microseconds that a Traefik took to load it.
    fn confirm_at(
        &self,
        api: &Api,
        pending: &Pending<'_>,
        mut polls: PollSchedule,
        met_after: Option<Duration>,
        loading: &AtomicU64,
        others: &Others,
    ) -> Result<Option<HashMap<RouteSpec, Error>>> {
        let mut since = pending.visible;
        if met_after.is_some() {
            // The API's entrypoint is about to show it as well.
            (polls, since) = (PollSchedule::new(Duration::ZERO), Instant::now());
        }
        // No other Traefik can have shown it: none was sent it, or this Router has started the one that listens there.
        let is_ours = self.delivery.is_some() || pending.serving.managed.is_some();
        let is_proven = met_after.is_some() && is_ours;
        if !is_proven && !wait_until_loaded(api, pending, &mut polls, since, others)? {
            return Ok(None);
        }
        if met_after.is_none() {
            self.learn(&polls, pending);
        }
        let loaded_after = met_after.unwrap_or_else(|| pending.visible.elapsed());
        loading.fetch_max(micros(loaded_after), Ordering::Relaxed);
        await_routers(api, pending).map(Some)
    }

    /// The poll schedule of a commit, whose first poll is due now.
    fn first_poll(&self, pending: &Pending<'_>) -> PollSchedule {
        let estimate = self.estimate().scaled_to(pending.expected.routes);
        // Time is left to poll, however long the last reload took.
        let estimate = match self.delivery {
            // It is often loaded by the time that Traefik has answered.
            Some(_) if estimate < SMALL_PUSH => Duration::ZERO,
            _ => estimate.min(self.timeout / 8),
        };
        let mut polls = PollSchedule::new(estimate);
        // A commit that wrote nothing may be loaded already.
        if pending.commit.visible.is_some() {
            std::thread::sleep(polls.first_pause(pending.visible.elapsed()));
        }
        polls
    }

    /// Keeps how long the reload took. A Traefik that was just started takes longer, so a setup does not
    /// count.
    fn learn(&self, polls: &PollSchedule, pending: &Pending<'_>) {
        if let (Some(took), Some(_)) = (
            polls.took(pending.visible.elapsed()),
            pending.expected.routes,
        ) {
            *self.estimate() = ReloadEstimate {
                took,
                routes: pending.expected.routes,
            };
        }
    }

    fn estimate(&self) -> MutexGuard<'_, ReloadEstimate> {
        unpoisoned(self.estimate.lock())
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap_or(u64::MAX)
}
