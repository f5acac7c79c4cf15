//! Routes in a key-value store that several Traefiks watch and several programs write.

mod diagnose;
mod etcd;
mod flatten;
mod heartbeat;
mod keys;
mod legacy;
mod memory;
mod open;
mod presence;
mod read;
mod readers;
#[cfg(feature = "redis")]
mod redis;
mod seen;
mod step;
mod store;
mod table_keys;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::keys::Keys;
use self::presence::Presence;
use self::readers::Readers;
use self::seen::Seen;
use super::record::{Explicit, Header};
use super::{Backend, Commit, Contents, Edit, Setup};
use crate::config::MAX_WAIT;
use crate::error::Result;
use crate::finding::Finding;
use crate::route::Table;
use crate::sync::unpoisoned;
use crate::threads::Repeated;

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
    heartbeat: Mutex<Option<Repeated>>,
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

    /// The prefix of the keys that Traefik reads (its `rootKey`), with or without slashes around it. It is stored with
    /// the table: changes with another one are refused. Defaults to `traefik`.
    pub fn traefik_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.keys = Keys::new(prefix.as_ref(), self.keys.private());
        self
    }

    /// The prefix of the keys that only this crate reads, with or without slashes around it. No key of this crate may
    /// begin with the text of the other prefix: `/traefik-hub/` beside `/traefik/` is refused, and `/jupyterhub/`
    /// beside `/jupyterhub/traefik/`, since Traefik watches all keys that begin with that text. Tables with different
    /// prefixes do not touch each other. Defaults to `jupyterhub`.
    pub fn jupyterhub_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.keys = Keys::new(self.keys.traefik(), prefix.as_ref());
        self
    }

    /// For how long to try again when other writers keep committing first. Defaults to 10 seconds.
    ///
    /// No attempt begins after this time, and an attempt ends at the first request that gets no answer. So on an etcd
    /// that stops answering, a change is stored or fails within
    /// max(`conflict_timeout`, [`Etcd::timeout`]) + `Etcd::timeout`. If the answer to a transaction is lost before
    /// `conflict_timeout`, the store is asked once whether the transaction was made; later the error says
    /// [`Stored::Unknown`](crate::Stored::Unknown).
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

    fn heart(&self) -> MutexGuard<'_, Option<Repeated>> {
        unpoisoned(self.heartbeat.lock())
    }

    fn serving(&self) -> MutexGuard<'_, Serving> {
        unpoisoned(self.serving.lock())
    }
}

impl<S: fmt::Debug> fmt::Debug for KvBackend<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvBackend")
            .field("store", &self.store)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
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
        let beat = |every| heartbeat::start(Arc::clone(&self.store), self.keys.clone(), every);
        let beating = self.store.heartbeat()?.map(beat).transpose()?;
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
            let changes = edit(state.table(), stored)?;
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
        state.check_root()?;
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
