//! Sending a table to Traefiks that do not read it, at each commit and whenever one of them has lost it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use super::verify::{Asked, Others, ask_quorum};
use crate::backend::{Backend, Commit, Document};
use crate::config::MAX_WAIT;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::unpoisoned;
use crate::threads::{Repeated, at_once};
use crate::traefik::{Api, RestContent};

/// How long the keeper waits for an answer.
const LOOK: Duration = Duration::from_secs(1);
/// How soon a push is tried again while Traefik does not take it; each pause is twice as long as the one before.
const TRY_AGAIN: Duration = Duration::from_millis(20);
const MAX_TRY_AGAIN: Duration = Duration::from_millis(500);
/// How often a commit asks whether the keeper has ended a push.
const LOCK_POLL: Duration = Duration::from_millis(1);
/// A Traefik that took the table so recently is not asked whether another program has replaced it.
const RECENT: Duration = Duration::from_millis(100);
/// How long Traefik may take to load what it has taken, for each megabyte, and at least.
const LOADING_PER_MEGABYTE: Duration = Duration::from_millis(500);
const LOADING: Duration = Duration::from_secs(2);

/// The Traefiks of a Router whose store is pushed.
pub(super) struct Delivery {
    store: Arc<dyn Backend>,
    receivers: Vec<Receiver>,
    quorum: Option<usize>,
}

/// A Traefik that takes the table.
struct Receiver {
    api: Api,
    /// Whether it is known to take a table from us alone, and to have none of others.
    is_trusted: AtomicBool,
    /// Whether the next table that it is sent may replace what another program has pushed.
    may_replace: AtomicBool,
    /// Held while it is sent something: of two requests that are under way Traefik may take the earlier one
    /// last.
    sent: Mutex<Option<Sent>>,
    /// Why it is left alone, if another program pushes to it.
    replaced: Mutex<Option<String>>,
    /// What the keeper last failed with.
    failure: Mutex<Option<ErrorKind>>,
}

/// What a Traefik has taken.
struct Sent {
    marker: String,
    generation: u64,
    at: Instant,
    /// How long Traefik may take to load it.
    loading: Duration,
    /// Whether it was seen to have loaded it.
    is_loaded: bool,
}

/// What to do about a Traefik that has not the table.
#[derive(Clone, Copy, PartialEq)]
enum Look {
    Only,
    AndSend,
}

impl Delivery {
    pub(super) fn new(store: Arc<dyn Backend>, apis: &[Api], quorum: Option<usize>) -> Self {
        let receiver = |api: &Api| Receiver {
            api: api.clone(),
            is_trusted: AtomicBool::new(false),
            may_replace: AtomicBool::new(false),
            sent: Mutex::new(None),
            replaced: Mutex::new(None),
            failure: Mutex::new(None),
        };
        Self {
            receivers: apis.iter().map(receiver).collect(),
            store,
            quorum,
        }
    }

    /// Has the Traefiks whose APIs are at these URLs sent the table without further questions.
    pub(super) fn trust(&self, urls: &[&str]) {
        let trusted = |one: &&Receiver| urls.contains(&one.api.url());
        for one in self.receivers.iter().filter(trusted) {
            one.is_trusted.store(true, Ordering::Relaxed);
        }
    }

    /// Lets the next table that each Traefik is sent replace what another program has pushed there.
    pub(super) fn replace_others(&self) {
        for one in &self.receivers {
            one.may_replace.store(true, Ordering::Relaxed);
        }
    }

    /// Sends a commit to all Traefiks that have not taken it yet; says which have, and when the
    /// last of them was sent it. It is sent again where no answer comes, unless `check` fails.
    /// Returns once all have answered, or have not answered in time and a quorum has.
    ///
    /// # Errors
    /// If fewer than a quorum have taken it by the deadline.
    pub(super) fn deliver(
        &self,
        commit: &Commit,
        deadline: Instant,
        check: impl Fn() -> Result<()> + Sync,
    ) -> Result<(Vec<Api>, Option<Instant>)> {
        let bring = |one: &Receiver, others: &Others| {
            let Some(mut sent) = one.sent_unless(others) else {
                return Ok(None);
            };
            let sent = &mut *sent;
            if sent.as_ref().is_some_and(|sent| sent.is(commit)) {
                return Ok(Some(None));
            }
            let document = self.document()?;
            let (begun, mut pause) = (Instant::now(), TRY_AGAIN);
            loop {
                let tried = Instant::now();
                let left = deadline.saturating_duration_since(tried);
                let patience = left.min(others.patience(begun.elapsed()));
                let brief = one.api.at_most(patience);
                let taken = self
                    .examine(one, &brief)
                    .and_then(|()| one.send(&brief, sent, &document, left));
                let Err(error) = taken else {
                    return Ok(Some(Some(tried)));
                };
                check()?;
                if others.are_certain() {
                    return Ok(None);
                }
                let is_coming_up = match error.kind() {
                    ErrorKind::Unavailable | ErrorKind::InvalidConfig => !left.is_zero(),
                    _ => false,
                };
                if !is_coming_up {
                    return Err(one.not_taken(error));
                }
                // Its answer may have been lost.
                if has_loaded(&brief, commit) {
                    *sent = Some(Sent {
                        is_loaded: true,
                        ..Sent::now(commit)
                    });
                    return Ok(Some(None));
                }
                std::thread::sleep(pause.min(left));
                pause = (2 * pause).min(MAX_TRY_AGAIN);
            }
        };
        let taken = ask_quorum(&self.receivers, self.quorum, "take the table", bring)?;
        let taken = taken.into_iter().map(|(one, sent)| (one.api.clone(), sent));
        let (taken, sent): (_, Vec<_>) = taken.unzip();
        Ok((taken, sent.into_iter().flatten().max()))
    }

    /// Notes that the Traefik whose API is at this URL has loaded a commit: if it shows another table later,
    /// that is not because it is still at it.
    pub(super) fn set_loaded(&self, url: &str, commit: &Commit) {
        let one = self.receivers.iter().find(|one| one.api.url() == url);
        if let Some(Some(sent)) = one.map(Receiver::sent).as_deref_mut() {
            sent.is_loaded |= sent.is(commit);
        }
    }

    /// Fails if a Traefik that was away until now must not be sent the table.
    fn examine(&self, one: &Receiver, api: &Api) -> Result<()> {
        if one.is_trusted.load(Ordering::Relaxed) {
            return Ok(());
        }
        api.check_rest()?;
        if !self.may_be_sent(one, api)? {
            let message = one.replaced_by();
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        one.is_trusted.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn document(&self) -> Result<Document> {
        let pushed = self.store.pushed();
        pushed.map_or_else(
            || Err(Error::internal("this store is not pushed")),
            |store| store.document(),
        )
    }

    /// Has the table sent again in place of what other programs have pushed, with a generation that is later
    /// than theirs: otherwise they would take it for an earlier state of their own, and send that again.
    pub(super) fn take_over(&self) -> Result<()> {
        let ask = |one: &Receiver, _: &Others| {
            // One that does not answer may be given the table later.
            Ok(Some(self.table_of_others(one).unwrap_or_default()))
        };
        let shown = ask_quorum(&self.receivers, None, "can be asked", ask)?;
        let others: Vec<_> = shown.into_iter().filter_map(|(_, table)| table).collect();
        if let (Some(store), false) = (self.store.pushed(), others.is_empty()) {
            store.renew(&others)?;
        }
        self.replace_others();
        self.send_again();
        Ok(())
    }

    /// The records of a table that a Traefik has from another program.
    fn table_of_others(&self, one: &Receiver) -> Result<Option<String>> {
        let api = one.api.at_most(LOOK);
        let commit = self.store.last_commit()?;
        let marker = commit.map(|commit| commit.marker_at("rest"));
        if let Some(marker) = marker {
            if api.generation(&marker)?.is_some() {
                return Ok(None);
            }
        }
        Ok(match api.rest_content()? {
            RestContent::Table(records) => Some(records),
            RestContent::Nothing | RestContent::Other => None,
        })
    }

    /// Forgets what was sent and by whom it was replaced, so that it is sent again.
    pub(super) fn send_again(&self) {
        for one in &self.receivers {
            // Where the lock is held, the keeper sends it now.
            if let Some(mut sent) = one.try_sent() {
                *sent = None;
            }
            *one.replaced() = None;
        }
    }

    /// Fails if another program pushes to one of the Traefiks. Asks those that have answered the keeper: it may not
    /// have noticed yet.
    pub(super) fn check(&self) -> Result<()> {
        self.look_after(Look::Only, Receiver::may_be_replaced);
        self.receivers.iter().try_for_each(Receiver::check)
    }

    /// Fails if another program pushes to the Traefik whose API is at this URL.
    pub(super) fn check_at(&self, url: &str) -> Result<()> {
        let one = self.receivers.iter().find(|one| one.api.url() == url);
        one.map_or(Ok(()), Receiver::check)
    }

    /// Looks for other programs at each of these Traefiks; gives it the table, if it has lost it or was away.
    fn look_after(&self, look: Look, which: impl Fn(&Receiver) -> bool) {
        let those = self.receivers.iter().filter(|one| which(one));
        at_once(those, |one| one.report(self.look_after_one(one, look)));
    }

    fn look_after_one(&self, one: &Receiver, look: Look) -> Result<()> {
        let Some(commit) = self.store.last_commit()? else {
            return Ok(());
        };
        // The end of the Router waits for this.
        let api = one.api.at_most(LOOK);
        let marker = commit.marker_at("rest");
        let has_loaded = |shown: Option<u64>| {
            let has_loaded = shown.is_some_and(|generation| generation >= commit.generation);
            if has_loaded {
                *one.replaced() = None;
            }
            has_loaded
        };
        let shown = api.generation(&marker)?;
        if has_loaded(shown) {
            return Ok(());
        }
        let is_ours = shown.is_some() || self.may_be_sent(one, &api)?;
        if is_ours && look == Look::Only {
            return Ok(());
        }
        let Some(mut sent) = one.try_sent() else {
            // A commit is on its way.
            return Ok(());
        };
        // Nothing else is sent meanwhile.
        let document = self.document()?;
        let is_loading =
            |sent: &Sent| sent.is(&commit) && !sent.is_loaded && sent.at.elapsed() < sent.loading;
        if document.commit != commit || sent.as_ref().is_some_and(is_loading) {
            return Ok(());
        }
        // It may have loaded the table after it was asked.
        if has_loaded(api.generation(&marker)?) {
            return Ok(());
        }
        if is_ours {
            self.examine(one, &api)?;
            *one.replaced() = None;
            one.send(&one.api, &mut sent, &document, MAX_WAIT)?;
            let url = api.url();
            log::warn!("Traefik at {url} did not have the table, and was sent it again");
        } else if one.replaced().is_none() {
            let why = one.replaced_by();
            log::error!("{why}");
            *one.replaced() = Some(why);
        }
        Ok(())
    }

    /// Whether what a Traefik has is nothing, or an earlier state of the table, or may be replaced.
    fn may_be_sent(&self, one: &Receiver, api: &Api) -> Result<bool> {
        if one.may_replace.load(Ordering::Relaxed) {
            return Ok(true);
        }
        match (api.rest_content()?, self.store.pushed()) {
            (RestContent::Nothing, _) => Ok(true),
            (RestContent::Table(records), Some(store)) => store.is_later_than(&records),
            _ => Ok(false),
        }
    }
}

impl Asked for Receiver {
    fn url(&self) -> &str {
        self.api.url()
    }
}

impl Receiver {
    fn sent(&self) -> MutexGuard<'_, Option<Sent>> {
        unpoisoned(self.sent.lock())
    }

    /// The same; `None` while it is sent something.
    fn try_sent(&self) -> Option<MutexGuard<'_, Option<Sent>>> {
        match self.sent.try_lock() {
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Ok(sent) => Some(sent),
        }
    }

    /// The same; `None` if the others are certain while the keeper still sends it something.
    fn sent_unless(&self, others: &Others) -> Option<MutexGuard<'_, Option<Sent>>> {
        loop {
            let sent = self.try_sent();
            if sent.is_some() || others.are_certain() {
                return sent;
            }
            std::thread::sleep(LOCK_POLL);
        }
    }

    /// Whether it answered the keeper last, and took no table since just now.
    fn may_be_replaced(&self) -> bool {
        let is_recent = |sent: &Sent| sent.at.elapsed() < RECENT;
        // Where the lock is held, a table is on its way.
        let is_quiet = (self.try_sent()).is_some_and(|sent| !sent.as_ref().is_some_and(is_recent));
        is_quiet && unpoisoned(self.failure.lock()).is_none()
    }

    fn replaced(&self) -> MutexGuard<'_, Option<String>> {
        unpoisoned(self.replaced.lock())
    }

    /// Fails if another program pushes to it.
    fn check(&self) -> Result<()> {
        match &*self.replaced() {
            None => Ok(()),
            Some(why) => Err(Error::new(ErrorKind::Conflict, why.clone())),
        }
    }

    fn replaced_by(&self) -> String {
        format!(
            "another program has pushed a table to Traefik at {} in place of this Router's; changes are \
             refused until this Router attaches again, or `reconcile` or `repair` pushes its table",
            self.api.url()
        )
    }

    /// Sends a document, and notes that it was sent.
    fn send(
        &self,
        api: &Api,
        sent: &mut Option<Sent>,
        document: &Document,
        left: Duration,
    ) -> Result<()> {
        let megabytes = (document.body.len() >> 20) as u32;
        let more = LOADING_PER_MEGABYTE * megabytes;
        *sent = None;
        api.push(&document.body, more, left)?;
        self.may_replace.store(false, Ordering::Relaxed);
        *sent = Some(Sent {
            loading: LOADING + more,
            ..Sent::now(&document.commit)
        });
        Ok(())
    }

    /// Logs what the keeper has failed with, once.
    fn report(&self, outcome: Result<()>) {
        let failure = outcome.as_ref().err().map(Error::kind);
        let last = std::mem::replace(&mut *unpoisoned(self.failure.lock()), failure);
        match outcome {
            Err(error) if failure != last => {
                log::warn!(
                    "Traefik at {} can't be looked after: {error}",
                    self.api.url()
                );
            }
            _ => {}
        }
    }

    fn not_taken(&self, error: Error) -> Error {
        let url = self.api.url();
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::InvalidConfig => Error::new(
                ErrorKind::NotLoaded,
                format!("Traefik at {url} did not take the table: {error}"),
            ),
            _ => error,
        }
    }
}

/// Whether an API shows this commit, or a later one.
fn has_loaded(api: &Api, commit: &Commit) -> bool {
    let shown = api.at_most(LOOK).generation(&commit.marker_at("rest"));
    shown.is_ok_and(|shown| shown >= Some(commit.generation))
}

impl Sent {
    fn now(commit: &Commit) -> Self {
        Self {
            marker: commit.marker.clone(),
            generation: commit.generation,
            at: Instant::now(),
            loading: LOADING,
            is_loaded: false,
        }
    }

    fn is(&self, commit: &Commit) -> bool {
        self.marker == commit.marker && self.generation >= commit.generation
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}

/// Gives the table to Traefiks that have lost it, until this is dropped.
///
/// # Errors
/// [`Internal`](ErrorKind::Internal) if there can be no thread.
pub(super) fn keep(delivery: Arc<Delivery>, interval: Duration) -> Result<Repeated> {
    let look_after = move || delivery.look_after(Look::AndSend, |_| true);
    Repeated::start("keeper", interval, look_after)
}
