//! Sending a table to Traefiks that do not read it, at each commit and whenever one of them has lost it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::verify::ask_quorum;
use crate::backend::{Backend, Commit, Document};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::sync::unpoisoned;
use crate::traefik::{Api, Pushed};

/// How often a push is tried again while Traefik does not take it.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// How long Traefik may take to load what it has taken, for each megabyte, and at least.
const LOADING_PER_MEGABYTE: Duration = Duration::from_millis(500);
const LOADING: Duration = Duration::from_secs(2);

/// The Traefiks of a Router whose store is pushed.
pub(super) struct Delivery {
    store: Arc<dyn Backend>,
    receivers: Vec<Receiver>,
    quorum: Option<usize>,
    /// Who else pushes to one of them, if somebody does.
    replaced: Mutex<Option<String>>,
}

/// A Traefik that takes the table.
struct Receiver {
    api: Api,
    /// Held while it is sent something: of two requests that are under way Traefik may take the earlier one
    /// last.
    sent: Mutex<Option<Sent>>,
}

/// Whether a Traefik has taken what it was sent.
enum Taken {
    Surely,
    /// Its answer was lost.
    Perhaps,
}

/// What a Traefik has taken.
struct Sent {
    marker: String,
    generation: u64,
    at: Instant,
    /// How long Traefik may take to load it.
    loading: Duration,
}

impl Delivery {
    pub(super) fn new(store: Arc<dyn Backend>, apis: &[Api], quorum: Option<usize>) -> Self {
        let receiver = |api: &Api| Receiver {
            api: api.clone(),
            sent: Mutex::new(None),
        };
        Self {
            receivers: apis.iter().map(receiver).collect(),
            store,
            quorum,
            replaced: Mutex::new(None),
        }
    }

    /// Sends a commit to all Traefiks that have not taken it yet; says which have, and whether it was sent to
    /// any of them. A Traefik that gives no answer may have taken it. `check` fails where it is in vain to go
    /// on.
    ///
    /// # Errors
    /// If fewer than a quorum have taken it by the deadline.
    pub(super) fn deliver(
        &self,
        commit: &Commit,
        deadline: Instant,
        check: impl Fn() -> Result<()> + Sync,
    ) -> Result<(Vec<Api>, bool)> {
        let any_sent = AtomicBool::new(false);
        let document = Mutex::new(None);
        let taken = ask_quorum(
            &self.receivers,
            self.quorum,
            "take the table",
            |one, is_certain| {
                let sent = &mut *one.sent();
                if sent.as_ref().is_some_and(|sent| sent.is(commit)) {
                    return Ok(Some(()));
                }
                let document = self.document_once(&document)?;
                any_sent.store(true, Ordering::Relaxed);
                loop {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let error = match one.send(sent, &document, left) {
                        Ok(Taken::Surely) => return Ok(Some(())),
                        Ok(Taken::Perhaps) => {
                            return Ok((!is_certain.load(Ordering::Relaxed)).then_some(()));
                        }
                        Err(error) => error,
                    };
                    check()?;
                    if is_certain.load(Ordering::Relaxed) {
                        return Ok(None);
                    }
                    let is_coming_up = match error.kind() {
                        ErrorKind::Unavailable | ErrorKind::InvalidConfig => !left.is_zero(),
                        _ => false,
                    };
                    if !is_coming_up {
                        return Err(one.not_taken(error));
                    }
                    std::thread::sleep(TRY_AGAIN.min(left));
                }
            },
        )?;
        let taken = taken.into_iter().map(|(one, ())| one.api.clone());
        Ok((taken.collect(), any_sent.into_inner()))
    }

    fn document_once(&self, document: &Mutex<Option<Document>>) -> Result<Document> {
        let mut document = unpoisoned(document.lock());
        if document.is_none() {
            *document = Some(self.document()?);
        }
        document
            .clone()
            .ok_or_else(|| Error::internal("no document"))
    }

    fn document(&self) -> Result<Document> {
        let pushed = self.store.pushed();
        pushed.map_or_else(
            || Err(Error::internal("this store is not pushed")),
            |store| store.document(),
        )
    }

    /// Forgets what was sent, so that it is sent again.
    pub(super) fn send_again(&self) {
        *self.replaced() = None;
        self.receivers.iter().for_each(|one| *one.sent() = None);
    }

    /// Fails if another program pushes to one of the Traefiks.
    pub(super) fn check(&self) -> Result<()> {
        match &*self.replaced() {
            None => Ok(()),
            Some(why) => Err(Error::new(ErrorKind::Conflict, why)),
        }
    }

    /// Gives the table to each Traefik that has lost it, or was away.
    fn look_after(&self) {
        std::thread::scope(|scope| {
            for one in &self.receivers {
                let look_after = || {
                    if let Err(error) = self.look_after_one(one) {
                        log::debug!("{error}");
                    }
                };
                match &*self.receivers {
                    [_] => look_after(),
                    _ => drop(scope.spawn(look_after)),
                }
            }
        });
    }

    fn look_after_one(&self, one: &Receiver) -> Result<()> {
        let Some(commit) = self.store.last_commit()? else {
            return Ok(());
        };
        let shown = one.api.generation(&commit.marker_at("rest"))?;
        if shown.is_some_and(|generation| generation >= commit.generation) || self.check().is_err()
        {
            return Ok(());
        }
        let is_ours = shown.is_some() || self.is_ours(one.api.pushed()?)?;
        let Ok(mut sent) = one.sent.try_lock() else {
            // A commit is on its way.
            return Ok(());
        };
        // Nothing else is sent meanwhile.
        let document = self.document()?;
        let is_loading = |sent: &Sent| sent.is(&commit) && sent.at.elapsed() < sent.loading;
        if document.commit != commit || sent.as_ref().is_some_and(is_loading) {
            return Ok(());
        }
        let url = one.api.url();
        if is_ours {
            one.send(&mut sent, &document, LOADING)?;
            log::warn!("Traefik at {url} did not have the table, and was sent it again");
        } else {
            let why = format!(
                "another program has pushed a table to Traefik at {url} in place of this Router's; changes \
                 are refused until `reconcile` or `repair` pushes this one again"
            );
            log::error!("{why}");
            *self.replaced() = Some(why);
        }
        Ok(())
    }

    /// Whether what a Traefik has is nothing, or an earlier state of the table.
    fn is_ours(&self, pushed: Pushed) -> Result<bool> {
        match (pushed, self.store.pushed()) {
            (Pushed::Nothing, _) => Ok(true),
            (Pushed::Table(records), Some(store)) => {
                store.is_later_than(&Document::records(records))
            }
            _ => Ok(false),
        }
    }

    fn replaced(&self) -> MutexGuard<'_, Option<String>> {
        unpoisoned(self.replaced.lock())
    }
}

impl Receiver {
    fn sent(&self) -> MutexGuard<'_, Option<Sent>> {
        unpoisoned(self.sent.lock())
    }

    /// Sends a document, and notes that it was sent.
    fn send(&self, sent: &mut Option<Sent>, document: &Document, left: Duration) -> Result<Taken> {
        let megabytes = (document.body.len() >> 20) as u32;
        let more = LOADING_PER_MEGABYTE * megabytes;
        let pushed = self.api.push(&document.body, more, left);
        let is_lost = |error: &Error| *error.stored() == Stored::Unknown;
        let taken = match pushed {
            Ok(()) => Ok(Taken::Surely),
            // The generation that it shows will tell.
            Err(error) if is_lost(&error) => Ok(Taken::Perhaps),
            Err(error) => Err(error),
        };
        *sent = taken.is_ok().then(|| Sent {
            marker: document.commit.marker.clone(),
            generation: document.commit.generation,
            at: Instant::now(),
            loading: LOADING + more,
        });
        taken
    }

    fn not_taken(&self, error: Error) -> Error {
        let url = self.api.url();
        match error.kind() {
            ErrorKind::Unavailable => Error::new(
                ErrorKind::NotLoaded,
                format!("Traefik at {url} did not take the table: {error}"),
            ),
            _ => error,
        }
    }
}

impl Sent {
    fn is(&self, commit: &Commit) -> bool {
        self.marker == commit.marker && self.generation >= commit.generation
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}

/// The thread that gives the table to Traefiks that have lost it. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    is_set: Mutex<bool>,
    set: Condvar,
}

impl Keeper {
    /// Looks after the Traefiks this often.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) if there can be no thread.
    pub(super) fn start(delivery: Arc<Delivery>, interval: Duration) -> Result<Self> {
        let stop = Arc::new(Stop::default());
        let told = Arc::clone(&stop);
        let keep = move || {
            while !told.wait(interval) {
                delivery.look_after();
            }
        };
        let thread = std::thread::Builder::new().name("traefik-router-keeper".into());
        let thread = thread.spawn(keep).map_err(|error| {
            Error::internal("the thread that looks after Traefiks can't be started")
                .with_source(error)
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Stop {
    /// Waits for so long; says whether it is time to stop.
    fn wait(&self, interval: Duration) -> bool {
        let is_set = unpoisoned(self.is_set.lock());
        let waited = self
            .set
            .wait_timeout_while(is_set, interval, |is_set| !*is_set);
        *unpoisoned(waited).0
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        *unpoisoned(self.stop.is_set.lock()) = true;
        self.stop.set.notify_all();
        if let Some(thread) = self.thread.take() {
            // It logs what goes wrong, and has panicked if this fails.
            thread.join().ok();
        }
    }
}
