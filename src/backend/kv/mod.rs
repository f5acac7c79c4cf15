//! Routes in a key-value store that several Traefiks watch and several programs write.

mod diagnose;
mod etcd;
mod flatten;
mod heartbeat;
mod legacy;
mod memory;
mod presence;
mod readers;
#[cfg(feature = "redis")]
mod redis;
mod seen;
mod step;
mod store;
mod table_keys;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::flatten::unflatten;
use self::heartbeat::Heartbeat;
use self::presence::Presence;
use self::readers::Readers;
use self::seen::{Question, Seen};
use self::step::Step;
use self::table_keys::{Keys, TableKeys};
use super::record::{Explicit, Header};
use super::{Backend, Commit, Contents, Edit, Setup};
use crate::config::MAX_WAIT;
use crate::config::dynamic::{ApiAccess, api_routers, has_default_certificate};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::finding::Finding;
use crate::route::{Change, RouteSpec, Table};
use crate::sync::unpoisoned;

#[cfg(feature = "redis")]
pub use self::redis::Redis;
pub use etcd::Etcd;
pub use memory::MemoryStore;
pub use store::{Entry, KvStore, Transaction};

/// A [`Backend`] that keeps the routes in a [`KvStore`].
///
/// Keys that Traefik reads are below one prefix. Keys that only this crate reads are below another one; changes to
/// them do not make Traefik reload. Each commit is one transaction. It fails if another writer has committed since the
/// table was read; then the commit is made again on the table that is stored now. Changes that are too large for one
/// transaction go in several. A route is never split between two, and an error says which routes are stored.
///
/// Programs that share the prefixes share the table. Tables with different
/// [`jupyterhub_prefix`](Self::jupyterhub_prefix)es do not touch each other, even under one
/// [`traefik_prefix`](Self::traefik_prefix).
///
/// While a Router is [started](crate::Builder::start) or [attached](crate::Builder::attach), a
/// thread keeps a key alive which says that the table is served. [`Router::stop`](crate::Router::stop) removes the key.
/// After a kill the store removes it, and other programs know after about 8 seconds, at most 11, that the table is no
/// longer served.
pub struct KvBackend<S> {
    store: Arc<S>,
    keys: Keys,
    conflict_timeout: Duration,
    max_age: Duration,
    /// Marks the commits of this handle.
    writer: String,
    /// Held for the whole of a commit.
    writing: Mutex<()>,
    /// Never held while the store is asked.
    seen: Mutex<Seen>,
    readers: Readers,
    heartbeat: Mutex<Option<Heartbeat>>,
    serving: Mutex<Serving>,
}

/// What `open` has changed, for `revert` to undo or to leave as other Routers need it.
#[derive(Default)]
struct Serving {
    explicit: Explicit,
    /// Says that a Traefik serves from the store for us.
    presence: Option<Presence>,
    /// Whether that Traefik is not one that we have started.
    attached: bool,
    /// What was there before [`Backend::open`], to be put back by [`Backend::revert`].
    before: Option<Before>,
}

struct Before {
    keys: BTreeMap<String, Entry>,
    /// The same keys as `open` has left them.
    after: BTreeMap<String, Entry>,
    /// Whether other Routers served the table then.
    others: bool,
    /// Whether others have written between two calls of `open`: then only the last one is undone.
    incomplete: bool,
    header: Header,
    /// What we have made of it.
    made: Header,
    /// Whether routes were changed with it.
    routes: bool,
}

impl<S: KvStore> KvBackend<S> {
    /// Routes kept in this store.
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            keys: Keys::new("traefik", "jupyterhub"),
            conflict_timeout: Duration::from_secs(10),
            max_age: Duration::ZERO,
            // Without random bytes two writers may take each other's lost commits for their own.
            writer: crate::random::hex::<8>().unwrap_or_default(),
            writing: Mutex::default(),
            seen: Mutex::default(),
            readers: Readers::default(),
            heartbeat: Mutex::new(None),
            serving: Mutex::default(),
        }
    }

    /// The prefix of the keys that Traefik reads (its `rootKey`), with or without slashes around it. Defaults to
    /// `/traefik/`.
    pub fn traefik_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.keys = Keys::new(prefix.as_ref(), self.keys.private());
        self
    }

    /// The prefix of the keys that only this crate reads, with or without slashes around it. It must not begin with the
    /// text of the other prefix: `/traefik-hub/` beside `/traefik/` is refused, since Traefik watches all keys that
    /// begin with `traefik`. Tables with different prefixes do not touch each other. Defaults to `/jupyterhub/`.
    pub fn jupyterhub_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.keys = Keys::new(self.keys.traefik(), prefix.as_ref());
        self
    }

    /// For how long to try again when other writers keep committing first. Defaults to 10 seconds.
    ///
    /// No attempt begins after this time, and an attempt ends at the first request that gets no answer. So on an etcd
    /// that stops answering, a change is stored or fails within
    /// max(`conflict_timeout`, [`Etcd::timeout`]) + `Etcd::timeout`. On Redis one request may take four times the
    /// `timeout` of `Redis`. If the answer to a transaction is lost before `conflict_timeout`, the store is asked once
    /// whether the transaction was made; later the error says [`Stored::Unknown`].
    pub fn conflict_timeout(mut self, timeout: Duration) -> Self {
        self.conflict_timeout = timeout.min(MAX_WAIT);
        self
    }

    /// How old an answer of [`read`](Backend::read) may be. Within this time after a read or a
    /// commit the next reads come from memory. They, and [`Router::watch`](crate::Router::watch), do not show what
    /// other programs have changed meanwhile. A commit always starts from the stored table. Defaults to zero: each
    /// read asks the store, which on a network takes some tenths of a millisecond.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        unpoisoned(self.seen.lock())
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        unpoisoned(self.writing.lock())
    }

    /// The table as it is stored now, given what a writer knows of it, and whether that is an
    /// earlier state than this handle has seen.
    fn refresh(&self, known: Option<TableKeys>) -> Result<(TableKeys, bool)> {
        let question = Question::begin(&self.seen());
        let header = self.store.get(&self.keys.header())?;
        let state = match known.filter(|state| state.is_at(header.as_ref())) {
            Some(state) => state,
            None => self.read_state()?,
        };
        self.seen().learn(&question, &state);
        let is_behind = question.is_behind(state.version());
        Ok((state, is_behind))
    }

    fn read_state(&self) -> Result<TableKeys> {
        let tree = self.store.read_tree(&self.keys.own_tree())?;
        self.parse(&tree)
    }

    /// The table that these keys stand for, which are below [`Keys::own_tree`].
    fn parse(&self, tree: &BTreeMap<String, Entry>) -> Result<TableKeys> {
        TableKeys::parse(&self.keys, tree, self.store.max_bytes())
    }

    /// The table as it is stored now, for readers.
    fn ask(&self) -> Result<Table> {
        let (question, expected, known) = {
            let seen = self.seen();
            let expected = seen.routes && seen.opened;
            (Question::begin(&seen), expected, seen.known.clone())
        };
        let header = self.store.get(&self.keys.header())?;
        let snapshot = match known.filter(|known| known.header == header) {
            Some(known) => {
                let mut seen = self.seen();
                if seen.updates == question.updates {
                    seen.heard = Some(question.begun);
                }
                known
            }
            None => {
                let state = self.read_state()?;
                let snapshot = state.snapshot();
                let mut seen = self.seen();
                if seen.learn(&question, &state) {
                    seen.state = Some(state);
                }
                snapshot
            }
        };
        let version = snapshot.header.map_or(0, |header| header.version);
        if question.is_behind(version) {
            return Err(self.went_back());
        }
        // A table whose last Router has ended in good order is an empty one.
        if version == 0 && expected && self.store.is_behind(question.version)? {
            return Err(Error::new(
                ErrorKind::Store,
                format!(
                    "the table below {} is gone: the store was restored to before it was there; \
                     the next change begins a new one, so set all routes anew",
                    self.keys.private()
                ),
            ));
        }
        Ok(snapshot.table)
    }

    fn heart(&self) -> MutexGuard<'_, Option<Heartbeat>> {
        unpoisoned(self.heartbeat.lock())
    }

    fn serving(&self) -> MutexGuard<'_, Serving> {
        unpoisoned(self.serving.lock())
    }

    /// Begins a table anew that was there when this handle opened the store. Takes over an earlier
    /// state of the store, if that `may_be`.
    fn restore(&self, known: &Known, state: &mut TableKeys, may_be: bool) -> Result<Vec<Step>> {
        let below = self.keys.private();
        let catch_up = || self.store.catch_up(&self.keys.scratch(), known.version);
        match &known.header {
            Some(header) if state.is_gone() => {
                log::warn!("the table below {below} is gone; it is begun anew");
                catch_up()?;
                state.begin_as(header)
            }
            Some(_) if known.is_behind && !may_be => Err(self.went_back()),
            Some(header) if known.is_behind => {
                log::warn!("the table below {below} is an earlier one, and is taken over as it is");
                catch_up()?;
                Ok(vec![state.follow(header)])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn went_back(&self) -> Error {
        let message = format!(
            "the store went back: the table below {} is an earlier one than this program has seen, as \
             after a restore from a backup. Set all routes anew, or repair the table to go on \
             with those that are stored; every Traefik then loads them",
            self.keys.private()
        );
        Error::new(ErrorKind::Conflict, message)
    }

    /// Fails if the store has what a setup may not be stored beside.
    fn check_setup(&self, setup: &Setup, state: &TableKeys) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        let lets_in = |api: &&ApiAccess| api.is_let_in_by(&state.head().base);
        let api = setup.api.as_ref().filter(|api| !lets_in(api));
        if let Some(api) = api.filter(|_| !setup.replace_api) {
            let tree = self.store.read_tree(&self.keys.routers())?;
            let pairs = tree.iter().map(|(key, entry)| (&**key, &*entry.value));
            let config = unflatten(self.keys.traefik(), pairs);
            if let Some(name) = api_routers(&config, &api.entrypoint).first() {
                return refuse(format!(
                    "the store has a router for Traefik's API, {name}, and Traefik does not serve it"
                ));
            }
        }
        if setup.certificate_elsewhere {
            let stored = self.store.read_tree(&self.keys.default_certificate())?;
            // What an older version of this crate made up goes.
            let stays = |key: &&String| !state.has_config(key) || state.keeps_certificate(setup);
            if let Some(key) = stored.keys().find(stays) {
                return refuse(format!(
                    "the store sets a default certificate ({key}), and Traefik takes none if it is \
                     given two (ssl): remove one of them"
                ));
            }
        }
        let adds_one = setup.extra.as_ref().is_some_and(has_default_certificate)
            && !has_default_certificate(&state.head().base);
        if adds_one && self.is_served_by_others()? {
            return Err(Error::new(
                ErrorKind::InUse,
                "extra_dynamic_config sets a default certificate, and another program serves the table, \
                 whose Traefik may have one of its own; Traefik takes none if it is given two",
            ));
        }
        Ok(())
    }

    /// Fails if another program serves the table, and has begun to before us. One that was killed is
    /// still thought to for a while.
    fn wait_until_alone(&self) -> Result<()> {
        let deadline = Instant::now() + presence::TTL + 2 * presence::SILENCE;
        let mut silent_since: HashMap<String, Instant> = HashMap::new();
        loop {
            let known = self.store.read_tree(&self.keys.program(""))?;
            let alive = self.store.read_tree(&self.keys.serving(""))?;
            let ours = known.get(&self.keys.program(&self.writer));
            let since = ours.map_or(u64::MAX, |ours| ours.version);
            // One whose other key was lost is alive all the same.
            let is_unknown = |key: &String| {
                let name = key.strip_prefix(&self.keys.serving("")).unwrap_or_default();
                name != self.writer && !known.contains_key(&self.keys.program(name))
            };
            let mut waits = alive.keys().any(is_unknown);
            for (key, entry) in known.iter().filter(|(_, entry)| entry.version < since) {
                let name = key.strip_prefix(&self.keys.program("")).unwrap_or_default();
                if alive.contains_key(&self.keys.serving(name)) {
                    silent_since.remove(name);
                    waits = true;
                    continue;
                }
                // Its key may be gone for a moment, as after an outage of the store.
                let silent = silent_since.entry(name.into()).or_insert_with(Instant::now);
                if silent.elapsed() < presence::SILENCE {
                    waits = true;
                    continue;
                }
                let mut gone = Transaction::new();
                gone.delete.insert(key.clone());
                gone.expect = Some((key.clone(), Some(entry.clone())));
                self.store.transact(&gone)?;
            }
            if !waits {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::new(
                    ErrorKind::InUse,
                    format!(
                        "another program serves the routes below {}, and to begin without them \
                         would take them from it",
                        self.keys.private()
                    ),
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_served_by_others(&self) -> Result<bool> {
        let serving = self.store.read_tree(&self.keys.serving(""))?;
        let ours = self.keys.serving(&self.writer);
        Ok(serving.keys().any(|key| *key != ours))
    }

    /// All keys that [`Backend::open`] may write.
    fn snapshot(&self) -> Result<BTreeMap<String, Entry>> {
        let trees = [
            format!("{}/", self.keys.traefik()),
            self.keys.own_tree(),
            self.keys.legacy_tree(),
        ];
        let mut all = BTreeMap::new();
        for tree in trees {
            all.extend(self.store.read_tree(&tree)?);
        }
        let programs = [self.keys.serving(""), self.keys.program("")];
        all.retain(|key, _| !programs.iter().any(|tree| key.starts_with(tree)));
        Ok(all)
    }

    /// Makes the store what it was, if the table is still what we have made of it. What others have
    /// written beside it stays.
    fn put_back(&self, before: &Before, made: Option<&Entry>) -> Result<bool> {
        let Before {
            keys: before,
            after,
            ..
        } = before;
        let mut now = self.snapshot()?;
        let header_key = self.keys.header();
        if now.get(&header_key) != made {
            return Ok(false);
        }
        let is_ours = |key: &String| before.get(key) != after.get(key);
        now.retain(|key, entry| is_ours(key) && after.get(key) == Some(entry));
        let set = before.iter().filter(|(key, _)| is_ours(key));
        let set = set.filter(|(key, old)| match now.get(*key) {
            Some(now) => now.value != old.value,
            // We have deleted it.
            None => !after.contains_key(*key),
        });
        let set = set.map(|(key, old)| (key, Some(&old.value)));
        let deleted = now.keys().filter(|key| !before.contains_key(*key));
        let all = set.chain(deleted.map(|key| (key, None)));
        // The header goes last: each part expects the header that we have written.
        let (header, rest): (Vec<_>, Vec<_>) = all.partition(|(key, _)| **key == header_key);
        let expect = Some((header_key, made.cloned()));
        let mut part = Transaction::new();
        for (key, value) in rest.into_iter().chain(header) {
            if part.bytes() + key.len() > self.store.max_bytes() {
                part.expect.clone_from(&expect);
                if self.store.transact(&std::mem::take(&mut part))?.is_none() {
                    return Ok(false);
                }
            }
            match value {
                Some(value) => drop(part.set.insert(key.clone(), value.clone())),
                None => drop(part.delete.insert(key.clone())),
            }
        }
        part.expect = expect;
        Ok(self.store.transact(&part)?.is_some())
    }

    /// Makes a commit of what `plan` wants, until no other writer comes between.
    ///
    /// The first attempt is made on the table as this handle knows it, without asking: if that is
    /// not what is stored any more, the transaction fails.
    fn write(&self, plan: &mut Plan<'_>) -> Result<Commit> {
        self.write_over(false, plan)
    }

    /// [`write`](Self::write); `may_be_behind` says whether to take over a store that was put back to
    /// an earlier state.
    fn write_over(&self, may_be_behind: bool, plan: &mut Plan<'_>) -> Result<Commit> {
        let _writing = self.writing();
        let deadline = Instant::now() + self.conflict_timeout;
        let mut pause = Duration::from_millis(1);
        let mut attempt = Attempt::until(deadline);
        let (mut known, mut current, mut updates) = {
            let mut seen = self.seen();
            let known = Known {
                header: seen.last.clone().filter(|_| seen.opened),
                version: seen.version,
                is_behind: seen.is_behind,
            };
            (known, seen.state.take(), seen.updates)
        };
        let is_there = |state: &TableKeys| state.version() != 0;
        let mut unasked = current.as_ref().is_some_and(is_there) && !known.is_behind;
        loop {
            let asked = match current.take() {
                Some(state) if unasked => Ok(state),
                state => self.refresh(state).map(|(state, is_behind)| {
                    known.is_behind = is_behind;
                    updates = self.seen().updates;
                    state
                }),
            };
            let outcome = asked.and_then(|mut state| {
                if !self.has_turn(&mut state, &mut attempt)? {
                    return Ok(None);
                }
                let mut steps = self.restore(&known, &mut state, may_be_behind)?;
                let is_torn = state.is_torn();
                let planned = plan(&mut state, &attempt.stored);
                // Others may have written meanwhile: then a refusal may not hold any more, nor that there
                // is nothing to change. A store that did not answer is not asked again.
                let is_unsure = match &planned {
                    Ok(more) => unasked && steps.is_empty() && more.is_empty(),
                    Err(error) => error.kind() != ErrorKind::Unavailable,
                };
                if is_unsure {
                    match self.store.get(&self.keys.header()) {
                        Ok(header) if state.is_at(header.as_ref()) => {}
                        Ok(_) => return Ok(None),
                        Err(error) => return Err(planned.err().unwrap_or(error)),
                    }
                }
                steps.extend(planned?);
                if is_torn && !steps.is_empty() {
                    // Services and what stands beside the routes may be old ones.
                    steps.extend(self.repaired(&state, None)?);
                }
                let commit = self.write_steps(&mut state, steps, &mut attempt)?;
                attempt.contended |= commit.is_none() && !unasked;
                Ok(commit.map(|commit| (commit, state)))
            });
            let outcome = match outcome {
                Ok(Some((commit, state))) => {
                    self.seen().commit(updates, state);
                    return Ok(commit);
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if std::mem::take(&mut unasked) && outcome.is_ok() {
                continue;
            }
            if outcome.is_err() || Instant::now() >= deadline {
                let overtaken = || {
                    let message = format!(
                        "other writers kept changing the table below {} for {:?}",
                        self.keys.private(),
                        self.conflict_timeout
                    );
                    Error::new(ErrorKind::Conflict, message)
                };
                let lost = attempt.lost.take();
                let error = outcome.err().or(lost).unwrap_or_else(overtaken);
                // What is stored now is not known: the next read asks.
                self.seen().heard = None;
                return Err(with_partial(error, attempt.stored));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Whether it is ours to commit now. A writer that was overtaken takes the turn, which is
    /// quick, and the others let it commit, which may not be.
    fn has_turn(&self, state: &mut TableKeys, attempt: &mut Attempt) -> Result<bool> {
        if let Some(turn) = state.turn_of_another(&self.writer) {
            let (known, since) = attempt
                .waited
                .get_or_insert_with(|| (turn.into(), Instant::now()));
            if known != turn {
                (*known, *since) = (turn.into(), Instant::now());
            }
            if since.elapsed() < MAX_RESERVATION {
                return Ok(false);
            }
            log::warn!("another writer has not used its turn to commit; going on without it");
        }
        if attempt.contended {
            let claim = state.take_turn(Some(&self.writer));
            match self.store.transact(&claim)? {
                Some(version) => state.set_version(Some(version)),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Writes steps in as few transactions as they fit in. `None` if another writer was first.
    fn write_steps(
        &self,
        state: &mut TableKeys,
        steps: Vec<Step>,
        attempt: &mut Attempt,
    ) -> Result<Option<Commit>> {
        if steps.is_empty() && attempt.contended {
            if let Some(version) = self.store.transact(&state.take_turn(None))? {
                state.set_version(Some(version));
            }
        }
        self.check_values(&steps)?;
        let mut steps = steps.into_iter().peekable();
        let mut visible = None;
        while steps.peek().is_some() {
            let mut specs = Vec::new();
            let mut transaction = Transaction::new();
            let mut bytes = state.header_bytes();
            while let Some(step) = steps.next_if(|step| {
                transaction.operations() == 0
                    || bytes + step.transaction.bytes() <= self.store.max_bytes()
            }) {
                bytes += step.transaction.bytes();
                transaction.then(step.transaction);
                specs.extend(step.specs);
            }
            let last = steps.peek().is_none();
            let seal = state.seal(&self.writer, last, &mut transaction)?;
            let version = match self.transact(&transaction, &seal, attempt)? {
                Made::Now(version) => Some(version),
                Made::Before => None,
                Made::Not => return Ok(None),
            };
            visible = version.is_some().then(Instant::now);
            attempt.stored.extend(specs);
            match version {
                Some(version) => state.set_version(Some(version)),
                // What others have made of it since is read when it is asked for.
                None if last => state.set_version(None),
                None => return Ok(None),
            }
        }
        Ok(Some(Commit {
            visible,
            ..state.commit()
        }))
    }

    /// Fails if Traefik would not read one of these keys.
    fn check_values(&self, steps: &[Step]) -> Result<()> {
        if self.store.has_empty_values() {
            return Ok(());
        }
        let mut set = steps.iter().flat_map(|step| &step.transaction.set);
        match set.find(|(key, value)| value.is_empty() && key.starts_with(self.keys.traefik())) {
            None => Ok(()),
            Some((key, _)) => Err(Error::invalid(format!(
                "{key} would be empty, and Traefik reads no empty value from this store"
            ))),
        }
    }

    /// Makes a transaction. If its answer is lost, or the store sent it twice and answers for the
    /// second, the header shows what became of it.
    fn transact(
        &self,
        transaction: &Transaction,
        seal: &str,
        attempt: &mut Attempt,
    ) -> Result<Made> {
        let was_early = Instant::now() < attempt.deadline;
        let unknown = match self.store.transact(transaction) {
            Ok(Some(version)) => return Ok(Made::Now(version)),
            Ok(None) => None,
            // To ask a store that has been silent for so long would be a second wait.
            Err(error) if was_early && Instant::now() >= attempt.deadline => return Err(error),
            Err(error) if *error.stored() == Stored::Unknown => {
                log::debug!("the answer to a transaction was lost: {error}");
                Some(error)
            }
            Err(error) => return Err(error),
        };
        let header = match (self.store.get(&self.keys.header()), unknown.clone()) {
            (Ok(header), _) => header,
            (Err(_), Some(unknown)) => return Err(unknown),
            (Err(error), None) => return Err(error),
        };
        let version = header.as_ref().map_or(0, |header| header.version);
        if let Some(header) = header {
            if transaction.set.get(&self.keys.header()) == Some(&header.value) {
                return Ok(Made::Now(header.version));
            }
            if TableKeys::header_has(&header.value, seal) {
                return Ok(Made::Before);
            }
        }
        // If it is still on its way, the next one has the same expectation: only one is made. Once
        // another writer has committed, it can't be made any more.
        let expected = transaction
            .expect
            .as_ref()
            .and_then(|(_, header)| Some(header.as_ref()?.version))
            .unwrap_or(0);
        attempt.lost = unknown.filter(|_| version == expected);
        Ok(Made::Not)
    }
}

/// What a handle knew of the table before a commit.
struct Known {
    /// `None` if it has not opened it.
    header: Option<Header>,
    version: u64,
    /// Whether the store has an earlier one now.
    is_behind: bool,
}

/// How long other writers wait for one that has reserved the next commit.
const MAX_RESERVATION: Duration = Duration::from_secs(3);

/// What a commit has met with so far.
struct Attempt {
    /// When to stop trying.
    deadline: Instant,
    /// Routes of a batch in parts that are stored.
    stored: BTreeSet<RouteSpec>,
    /// Whether others have committed first.
    contended: bool,
    /// The writer that has reserved the next commit, and since when this one waits.
    waited: Option<(String, Instant)>,
    /// The error of a transaction that may still be made.
    lost: Option<Error>,
}

impl Attempt {
    fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            stored: BTreeSet::new(),
            contended: false,
            waited: None,
            lost: None,
        }
    }
}

/// What became of a transaction.
enum Made {
    /// It was made, and the header has this version.
    Now(u64),
    /// It was made, and another writer has committed since.
    Before,
    Not,
}

impl<S: fmt::Debug> fmt::Debug for KvBackend<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvBackend")
            .field("store", &self.store)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// What to write, given the table as it is stored and the routes that are stored already.
type Plan<'a> = dyn FnMut(&mut TableKeys, &BTreeSet<RouteSpec>) -> Result<Vec<Step>> + 'a;

fn with_partial(error: Error, stored: BTreeSet<RouteSpec>) -> Error {
    if stored.is_empty() || *error.stored() == Stored::Unknown {
        return error;
    }
    let count = stored.len();
    error
        .context(format!(
            "stored {count} routes of a batch that needs several transactions"
        ))
        .with_stored(Stored::Some(
            stored.iter().map(ToString::to_string).collect(),
        ))
}

impl<S: KvStore> Backend for KvBackend<S> {
    fn provider(&self) -> &str {
        self.store.provider()
    }

    fn static_config(&self) -> Result<Value> {
        self.store.static_config(self.keys.traefik())
    }

    fn is_read_at_once(&self) -> bool {
        self.store.is_read_at_once()
    }

    fn open(&self, setup: &Setup, edit: &mut Edit<'_>) -> Result<Commit> {
        let setup = &Setup {
            // With half of a change, Traefik would refuse routes that the change leaves as they are.
            knows_parents: (setup.knows_parents).map(|knows| knows && self.store.is_read_at_once()),
            ..setup.clone()
        };
        self.keys.check()?;
        self.store
            .check(&[self.keys.traefik(), &self.keys.private_tree()])?;
        let interval = self.store.heartbeat()?;
        let mut serving = self.serving();
        let joins = setup.serves && serving.presence.is_none();
        if joins {
            let (alive, known) = (
                self.keys.serving(&self.writer),
                self.keys.program(&self.writer),
            );
            let store = Arc::<S>::clone(&self.store);
            serving.presence = Some(Presence::announce(store, alive, known)?);
            serving.attached = !setup.started;
        }
        let commit = self.open_as(setup, edit, &mut serving);
        if commit.is_err() && joins {
            serving.presence = None;
        }
        let commit = commit?;
        let beating = interval
            .map(|interval| Heartbeat::start(Arc::clone(&self.store), self.keys.clone(), interval));
        *self.heart() = beating;
        self.seen().opened = true;
        serving.explicit.add(setup);
        Ok(commit)
    }

    fn read(&self) -> Result<Table> {
        let is_young = |heard: &Instant| heard.elapsed() < self.max_age;
        let from_memory = {
            let seen = self.seen();
            let known = seen.heard.filter(is_young).and(seen.known.clone());
            known.filter(|known| known.header.is_some())
        };
        match from_memory {
            Some(known) => Ok(known.table),
            None => self.readers.ask(|| self.ask()),
        }
    }

    fn inspect(&self) -> Result<Option<Contents>> {
        self.contents()
    }

    fn diagnose(&self) -> Vec<Finding> {
        self.findings()
    }

    fn commit(&self, edit: &mut Edit<'_>) -> Result<Commit> {
        let serving = &mut *self.serving();
        serving.before = None;
        self.write(&mut |state, stored| {
            let changes = edit(state.table(), stored);
            if !changes.is_empty() {
                serving.explicit.check(state.head())?;
            }
            self.apply(state, &changes)
        })
    }

    fn repair(&self) -> Result<()> {
        let serving = self.serving();
        self.write_over(true, &mut |state, _| match state.is_gone() {
            true => Ok(Vec::new()),
            false => {
                serving.explicit.check(state.head())?;
                let mut steps = state.apply(&[])?;
                steps.extend(self.repaired(state, None)?);
                Ok(steps)
            }
        })
        .map(drop)
    }

    fn last_commit(&self) -> Result<Option<Commit>> {
        match self.store.get(&self.keys.header())? {
            Some(header) => Ok(Some(Header::parse(&header.value)?.commit())),
            // The table is gone.
            None => Ok(Some(Commit::new("", 0))),
        }
    }

    fn wait(&self, timeout: Duration) -> Result<()> {
        let version = {
            let seen = self.seen();
            let header = seen.known.as_ref().and_then(|known| known.header.as_ref());
            header.map_or(0, |header| header.version)
        };
        self.store.wait(&self.keys.header(), version, timeout)
    }

    fn revert(&self) -> Result<bool> {
        let before = std::mem::take(&mut *self.serving()).before;
        *self.heart() = None;
        let writing = self.writing();
        let Seen { known, .. } = self.seen().forget();
        drop(writing);
        let Some(before) = before else {
            return Ok(true);
        };
        if !before.others && self.is_served_by_others()? {
            // A Router that has come since may rely on what it has found.
            return Ok(false);
        }
        let made = known.and_then(|known| known.header);
        // With the old keys the old generation would come back.
        if before.made.is_past() && self.put_back(&before, made.as_ref())? {
            return Ok(!before.incomplete);
        }
        self.write(&mut |state, _| match state.is_gone() {
            true => Ok(Vec::new()),
            false => state.take_back(&before.header, &before.made),
        })?;
        Ok(!before.routes && !before.incomplete)
    }

    fn is_served(&self) -> Result<bool> {
        self.is_served_by_others()
    }

    fn close(&self) -> Result<()> {
        let attached = std::mem::take(&mut *self.serving()).attached;
        *self.heart() = None;
        let _writing = self.writing();
        self.seen().opened = false;
        if attached || self.is_served_by_others()? {
            return Ok(());
        }
        let known = self.seen().state.take();
        let (state, _) = self.refresh(known)?;
        if state.table().is_empty() && state.head().temporary {
            let mut removal = state.removal()?;
            for step in self.repaired(&state, None)? {
                removal.delete.extend(step.transaction.delete);
            }
            // Nobody serves; who was killed has left this.
            removal.delete_trees.insert(self.keys.program(""));
            self.store.transact(&removal)?;
            self.seen().forget_table();
        }
        Ok(())
    }
}

impl<S: KvStore> KvBackend<S> {
    /// The steps of changes, and of what is to be written again of routes that they leave as they are.
    /// Of several changes to one routespec the last one counts.
    fn apply(&self, state: &mut TableKeys, changes: &[Change]) -> Result<Vec<Step>> {
        let last: HashMap<&RouteSpec, &Change> =
            changes.iter().map(|one| (one.spec(), one)).collect();
        let (new, same): (Vec<_>, Vec<_>) = last
            .into_values()
            .cloned()
            .partition(|change| state.table().is_changed_by(change));
        let mut steps = state.apply(&new)?;
        if !same.is_empty() {
            let specs: Vec<_> = same.iter().map(Change::spec).collect();
            steps.extend(self.repaired(state, Some(&specs))?);
        }
        Ok(steps)
    }

    fn open_as(&self, setup: &Setup, edit: &mut Edit<'_>, serving: &mut Serving) -> Result<Commit> {
        if setup.alone {
            self.wait_until_alone()?;
        }
        let (mut before, mut first, mut routes) = (None, None, false);
        let commit = self.write(&mut |state, stored| {
            self.check_setup(setup, state)?;
            if !state.is_gone() {
                serving.explicit.check(state.head())?;
            }
            if stored.is_empty() {
                first = Some((state.head().clone(), state.head_entry().cloned()));
            }
            let is_gone = state.is_gone();
            let mut steps = state.set_up(setup)?;
            if is_gone {
                // What a table has left that was here before.
                steps.extend(self.repaired(state, None)?);
            }
            let legacy = legacy::read(&self.keys, &*self.store)?;
            let unknown = legacy.iter().map(|(route, _)| route);
            let unknown = unknown.filter(|route| state.table().get(&route.spec).is_none());
            let adopted: Vec<_> = unknown.map(|route| Change::from(route.clone())).collect();
            steps.extend(state.apply(&adopted)?);
            steps.extend(legacy.into_iter().map(|(_, gone)| Step::of(gone)));
            let changes = edit(state.table(), stored);
            routes |= !changes.is_empty();
            steps.extend(self.apply(state, &changes)?);
            // What is stored of a batch in parts was not there before.
            if setup.serves && !steps.is_empty() && stored.is_empty() {
                before = Some(self.snapshot()?);
            }
            Ok(steps)
        })?;
        let made = self.seen().last.clone();
        if let (Some(keys), Some((header, read)), Some(made)) = (before, first, made) {
            let after = self.snapshot()?;
            let is_next =
                |earlier: &Before| earlier.after.get(&self.keys.header()) == read.as_ref();
            serving.before = Some(match serving.before.take() {
                Some(earlier) if is_next(&earlier) => Before {
                    after,
                    made,
                    routes: earlier.routes || routes,
                    ..earlier
                },
                earlier => Before {
                    keys,
                    after,
                    others: self.is_served_by_others()?,
                    incomplete: earlier.is_some(),
                    header,
                    made,
                    routes,
                },
            });
        }
        Ok(commit)
    }
}
