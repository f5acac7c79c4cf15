//! Where the dynamic configuration is kept.
//!
//! A [`Backend`] stores a table of routes in a form that Traefik reads, and tells Traefik where.
//! [`FileBackend`] keeps it in a TOML or YAML file, [`KvBackend`] in a key-value store such as
//! etcd. [`MemoryBackend`] keeps it in memory, and a Router sends it to Traefik.
//! Whoever writes another one runs [`conformance::check`] on it.

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

/// Says what to change: given the table as it is stored, and those of the routes in its earlier
/// answers that are stored already (only where a batch needs several transactions). A change that
/// leaves the table as it is asks the backend to check what Traefik reads of that route. An error
/// refuses the commit: then nothing is written.
pub type Edit<'a> = dyn FnMut(&Table, &BTreeSet<RouteSpec>) -> Result<Vec<Change>> + 'a;

/// A store of routes that Traefik watches, or whose content a Router sends to Traefik.
///
/// All methods may be called from many threads at once, and other processes may write to the same
/// store at any time. What others wrote there stays.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// What Traefik calls the provider that reads this store: the part of a name behind the `@`.
    fn provider(&self) -> &str;

    /// The static configuration that makes Traefik read this store, as Traefik documents it:
    /// `{"providers": {"file": {"filename": …}}}`.
    ///
    /// # Errors
    /// If Traefik has no way to name the store's place.
    fn static_config(&self) -> Result<Value>;

    /// How to get what a Router has to send to its Traefiks. `None` where Traefik reads the store by
    /// itself, which is the default.
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
    /// [commit](Self::commit). What `setup` leaves open stays as it is stored, and where nothing is
    /// to be changed nothing is written. To be called before the first commit, and before Traefik
    /// starts; it may be called again.
    ///
    /// # Errors
    /// As [`commit`](Self::commit); and [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if the
    /// setup would take something from others who use the store, and whatever `edit` returns. Then the store is
    /// as it was.
    fn open(&self, setup: &Setup, edit: &mut Edit<'_>) -> Result<Commit>;

    /// Puts the store back to what it was before this handle has [opened](Self::open) it, if it has
    /// committed nothing since. Says whether it did: where others have written meanwhile the store
    /// stays as it is. Defaults to `false`.
    ///
    /// # Errors
    /// If the store can't be read or written.
    fn revert(&self) -> Result<bool> {
        Ok(false)
    }

    /// All routes, as they are stored now.
    ///
    /// # Errors
    /// If the store can't be read, or holds what we can't understand.
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
    /// shows secrets to others. Writes nothing. Defaults to no findings.
    fn diagnose(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// Changes the routes: `edit` sees the table as it is stored and answers with the changes to
    /// make. They are stored together, with a new generation: a reader of the store sees all of
    /// them or none. `edit` is called again if another program wrote in between; then its last
    /// answer counts.
    ///
    /// For a change to what the table says already, the backend compares what Traefik reads of that
    /// route with the table. What differs, as after an edit by hand, is written again. If nothing
    /// differs, and there are no other changes, nothing is written and the generation is the stored
    /// one.
    ///
    /// # Errors
    /// [`Error::stored`](crate::Error::stored) says what of the changes is in the store. An error of `edit` is
    /// returned as it is.
    fn commit(&self, edit: &mut Edit<'_>) -> Result<Commit>;

    /// Compares everything that Traefik reads of this table with the table, and writes again what
    /// differs. Takes over a store that was put back to an earlier state. Until then reads and changes
    /// fail with [`Conflict`](crate::ErrorKind::Conflict) on a handle that has seen a later state.
    /// Defaults to nothing.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    fn repair(&self) -> Result<()> {
        Ok(())
    }

    /// The last commit, as it is stored now. `None` means that the store does not say; then a Traefik
    /// that shows a later generation than a commit's has loaded that commit. Defaults to what
    /// [`inspect`](Self::inspect) finds.
    ///
    /// # Errors
    /// If the store can't be read.
    fn last_commit(&self) -> Result<Option<Commit>> {
        Ok(self.inspect()?.and_then(|contents| contents.commit))
    }

    /// Waits until the table may be another one than this handle has last read or written, at most
    /// for `timeout`. Defaults to a short sleep.
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

    /// Ends what this handle has [opened](Self::open). The last one removes what only Traefiks that
    /// were started need, and if there are no routes, the table, and the store itself where nothing
    /// else is left in it. Routes stay.
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
    /// The generation. A Traefik that shows this or a greater one has loaded the commit.
    pub generation: u64,
    /// What keeps the names of this table's routers and services apart from those of other tables
    /// that the same Traefik reads. May be empty.
    pub namespace: String,
    /// The entrypoint that the table's routes are served on; empty if the store does not say.
    pub entrypoint: String,
    /// Since when readers of the store can see it. Traefik begins to load it then, and is first asked
    /// shortly before it has probably loaded it. `None` if nothing was written, or if the time is not
    /// known: then Traefik is asked at once.
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
