//! Where routes are kept.
//!
//! A [`Backend`] keeps a table of routes. Traefik reads it from a [`FileBackend`], a TOML or YAML file, or from a
//! [`KvBackend`], a key-value store such as etcd. A Router sends the table of a [`MemoryBackend`] to Traefik.
//! If you write another backend, test it by [`conformance::check`].

pub mod conformance;
mod contents;
mod document;
mod file;
mod kv;
mod lines;
mod memory;
mod record;

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use crate::config::dynamic::Setup;
pub use contents::Contents;
pub use document::{Document, Pushed};
pub use file::FileBackend;
#[cfg(feature = "redis")]
pub use kv::Redis;
pub use kv::{Entry, Etcd, KvBackend, KvStore, MemoryStore, Transaction};
pub use memory::MemoryBackend;

use crate::error::Result;
use crate::finding::Finding;
use crate::route::{Change, RouteSpec, Table};

/// A function that returns the changes to make. Its first argument is the stored table. Its second one has the
/// routespecs that an earlier transaction of the same call has stored; it is empty unless the changes need several
/// transactions. A change to a route that is stored already makes the backend check the entries that Traefik reads of
/// that route. An error refuses the commit: then nothing is written.
pub type Edit<'a> = dyn FnMut(&Table, &BTreeSet<RouteSpec>) -> Result<Vec<Change>> + 'a;

/// A store of routes that Traefik watches, or whose content a Router sends to Traefik.
///
/// All methods may be called from many threads at once, and other processes may write to the same
/// store at any time. A backend keeps the entries of others: hand-written ones and those of other programs.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// What Traefik calls the provider that reads this store: the part of a name behind the `@`.
    fn provider(&self) -> &str;

    /// The static configuration that makes Traefik read this store, as Traefik documents it:
    /// `{"providers": {"file": {"filename": …}}}`.
    ///
    /// # Errors
    /// If Traefik has no setting that can name the store.
    fn static_config(&self) -> Result<Value>;

    /// How to get what a Router has to send to its Traefiks. `None`, the default, if Traefik reads the store by
    /// itself.
    fn pushed(&self) -> Option<&dyn Pushed> {
        None
    }

    /// Whether Traefik reads all of a commit or nothing of it; see
    /// [`KvStore::is_read_at_once`]. Defaults to `true`.
    fn is_read_at_once(&self) -> bool {
        true
    }

    /// Makes the store ready for Traefik to read, stores what `setup` sets, takes over the routes that
    /// jupyterhub-traefik-proxy left, and makes the changes of `edit`, all in one
    /// [commit](Self::commit). Options that `setup` does not set stay as they are stored. If there is nothing to
    /// change, nothing is written. A Router calls it before the first commit, and before Traefik starts. It may be
    /// called again.
    ///
    /// # Errors
    /// As [`commit`](Self::commit); and [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if the
    /// setup would remove something that another program needs; and the error of `edit`, if it returns one. The store
    /// is then as it was.
    fn open(&self, setup: &Setup, edit: &mut Edit<'_>) -> Result<Commit>;

    /// Restores the store to what it was before this handle [opened](Self::open) it, if this handle has committed
    /// nothing since. Returns `false`, and changes nothing, if another program has written meanwhile. Defaults to
    /// `false`.
    ///
    /// # Errors
    /// If the store can't be read or written.
    fn revert(&self) -> Result<bool> {
        Ok(false)
    }

    /// All routes, as they are stored now.
    ///
    /// # Errors
    /// If the store can't be read, or has damaged entries.
    fn read(&self) -> Result<Table>;

    /// What the store holds, for programs that only look: unlike [`open`](Self::open) this writes nothing
    /// and creates nothing. `None` if the store is not there yet. Defaults to what
    /// [`read`](Self::read) returns.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn inspect(&self) -> Result<Option<Contents>> {
        Ok(Some(Contents::new(self.read()?)))
    }

    /// Findings about the store itself: what keeps a Router or Traefik from working with it, and what
    /// shows secrets to others. It changes no routes. Defaults to no findings.
    fn diagnose(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// Changes the routes: `edit` gets the stored table and returns the changes to make. They are stored together,
    /// with a new generation: a reader of the store sees all of them or none. `edit` is called again if another
    /// program wrote in between; then its last result counts.
    ///
    /// If a change sets a route that is stored already, the backend compares the entries that Traefik reads of that
    /// route with the table. Entries that differ, as after an edit by hand, are written again. If none
    /// differs, and there are no other changes, nothing is written and the generation is the stored one.
    ///
    /// # Errors
    /// [`Error::stored`](crate::Error::stored) says what of the changes is in the store. An error of `edit` is
    /// returned as it is.
    fn commit(&self, edit: &mut Edit<'_>) -> Result<Commit>;

    /// Compares everything that Traefik reads of this table with the table, and writes again what
    /// differs. Accepts a store that was restored to an earlier state. Until then reads and changes
    /// fail with [`Conflict`](crate::ErrorKind::Conflict) on a handle that has seen a later state.
    /// Defaults to nothing.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    fn repair(&self) -> Result<()> {
        Ok(())
    }

    /// The last commit, as it is stored now. `None` if the store does not have it; then a Traefik
    /// that shows a later generation than a commit's counts as having loaded that commit. Defaults to what
    /// [`inspect`](Self::inspect) finds.
    ///
    /// # Errors
    /// If the store can't be read.
    fn last_commit(&self) -> Result<Option<Commit>> {
        Ok(self.inspect()?.and_then(|contents| contents.commit))
    }

    /// Where Traefik may read the table of this commit a second time, such as a copy of the file in its folder. Then
    /// it may serve a deleted route from there, and a Router asks it for that. Defaults to `None`.
    fn copy_of(&self, _commit: &Commit) -> Option<String> {
        None
    }

    /// Waits for a change by another writer, at most for `timeout`. It may return early without a change. Defaults to
    /// a short sleep.
    ///
    /// # Errors
    /// If the store can't be read.
    fn wait(&self, timeout: Duration) -> Result<()> {
        std::thread::sleep(timeout.min(Duration::from_millis(50)));
        Ok(())
    }

    /// Whether a Router that was started or attached serves from this store. Defaults to `false`.
    ///
    /// # Errors
    /// If the store can't be read.
    fn is_served(&self) -> Result<bool> {
        Ok(false)
    }

    /// Ends what this handle has [opened](Self::open). It removes two things:
    ///
    /// - what only started Traefiks need, unless another handle still serves with such a Traefik;
    /// - a table that a [`start`](crate::Builder::start) has created, if it has no routes and no other handle serves
    ///   from the store; with it a file that was created for it, if nothing else is in the file.
    ///
    /// It never removes routes.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    fn close(&self) -> Result<()>;
}

impl<B: Backend + ?Sized> Backend for Box<B> {
    fn provider(&self) -> &str {
        (**self).provider()
    }

    fn static_config(&self) -> Result<Value> {
        (**self).static_config()
    }

    fn pushed(&self) -> Option<&dyn Pushed> {
        (**self).pushed()
    }

    fn is_read_at_once(&self) -> bool {
        (**self).is_read_at_once()
    }

    fn open(&self, setup: &Setup, edit: &mut Edit<'_>) -> Result<Commit> {
        (**self).open(setup, edit)
    }

    fn revert(&self) -> Result<bool> {
        (**self).revert()
    }

    fn is_served(&self) -> Result<bool> {
        (**self).is_served()
    }

    fn read(&self) -> Result<Table> {
        (**self).read()
    }

    fn inspect(&self) -> Result<Option<Contents>> {
        (**self).inspect()
    }

    fn diagnose(&self) -> Vec<Finding> {
        (**self).diagnose()
    }

    fn commit(&self, edit: &mut Edit<'_>) -> Result<Commit> {
        (**self).commit(edit)
    }

    fn repair(&self) -> Result<()> {
        (**self).repair()
    }

    fn last_commit(&self) -> Result<Option<Commit>> {
        (**self).last_commit()
    }

    fn copy_of(&self, commit: &Commit) -> Option<String> {
        (**self).copy_of(commit)
    }

    fn wait(&self, timeout: Duration) -> Result<()> {
        (**self).wait(timeout)
    }

    fn close(&self) -> Result<()> {
        (**self).close()
    }
}

/// What to look for in Traefik to see that a commit is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Commit {
    /// The name of the middleware that carries the generation, without its provider.
    pub marker: String,
    /// The generation. A Traefik that shows it has loaded the commit. A greater one proves that only if the store has
    /// reached it ([`Backend::last_commit`]); otherwise Traefik shows a state from before the store was restored.
    pub generation: u64,
    /// A part of the names of this table's routers and services, which distinguishes them from those of other tables
    /// that the same Traefik reads. May be empty.
    pub namespace: String,
    /// The entrypoint that the table's routes are served on; empty if the store does not have it.
    pub entrypoint: String,
    /// When readers of the store could first see the commit. The Router uses this time to decide when to ask Traefik
    /// first. `None` if nothing was written, or if the time is not known: then it asks at once.
    pub visible: Option<Instant>,
}

impl Commit {
    /// What Traefik calls the marker: by this name it is in Traefik's API.
    pub fn marker_at(&self, provider: &str) -> String {
        format!("{}@{provider}", self.marker)
    }

    /// The commit of this generation.
    pub fn new(marker: impl Into<String>, generation: u64) -> Self {
        Self {
            marker: marker.into(),
            generation,
            namespace: String::new(),
            entrypoint: String::new(),
            visible: None,
        }
    }
}
