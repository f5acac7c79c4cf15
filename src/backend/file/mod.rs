//! Routes in a TOML or YAML file that Traefik's file provider watches.

mod diagnose;
mod locked;
mod neighbours;
mod open;
mod opened;
mod state;
mod table_file;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, RwLock};
use std::time::Duration;

use serde_json::{Value, json};

use self::opened::{Opened, SERVING};
use self::state::State;
use super::{Backend, Commit, Contents, Edit, Setup};
use crate::atomic::{self, FileId};
use crate::config::MAX_WAIT;
use crate::error::Result;
use crate::finding::Finding;
use crate::lock::{Lock, Share};
use crate::route::{Change, RouteSpec, Table};
use crate::sync::unpoisoned;

/// A [`Backend`] that keeps the routes in a file, `.toml`, `.yaml` or `.yml` (the latter two with
/// the feature `yaml`).
///
/// - **Whole.** Each commit writes a new file beside the old one, flushes it to the disk and
///   renames it over the old one; readers see the old table or the new one, also after a crash or
///   a power cut. Symbolic links stay.
/// - **Private.** Owner, group, mode and, on Linux, the POSIX ACL stay. If they can't be kept, the change
///   fails and the file stays as it was. So run the program as the owner of the file: only root can give a new file
///   to another user. A new file has mode 0600 and no ACL, even if its folder has a default ACL,
///   since it holds the hash of the API's password. The private key of the certificate of a
///   started Traefik is in a file beside it, `rules.toml.pem`, for which the same holds.
/// - **Shared.** A lock on a file beside it, `rules.toml.lock`, lets one writer write at a time, in this
///   process and others. Each reads the file again before it changes anything, if another one has written.
/// - **Not alone.** Hand-written routers, middlewares and everything else stay as they are,
///   comments and order included. The entries of this crate are between two comment lines that say so.
///
/// If the file does not exist when Traefik starts, Traefik never reads it. [`open`](Backend::open) creates it.
pub struct FileBackend {
    path: PathBuf,
    lock_timeout: Duration,
    directory: bool,
    durable: bool,
    /// Held by the one thread that waits for the lock or has it.
    turn: Mutex<()>,
    state: Mutex<Option<State>>,
    /// What readers see without waiting for a writer.
    seen: RwLock<Option<(FileId, Table)>>,
    opened: Mutex<Opened>,
}

impl FileBackend {
    /// Routes kept in the file at `path`, which need not exist yet; its folder must.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            lock_timeout: Duration::from_secs(10),
            directory: false,
            durable: true,
            turn: Mutex::new(()),
            state: Mutex::new(None),
            seen: RwLock::new(None),
            opened: Mutex::default(),
        }
    }

    /// How long to wait until another writer releases the file's lock. Defaults to 10 seconds.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout.min(MAX_WAIT);
        self
    }

    /// Whether a started Traefik watches the file's whole folder, so that hand-written configuration
    /// can be in other files of it. One broken file in the folder makes Traefik reject
    /// all of them. Defaults to `false`.
    pub fn directory(mut self, directory: bool) -> Self {
        self.directory = directory;
        self
    }

    /// Whether a change is on the disk when a call returns, and so survives a loss of power. If not,
    /// it survives only the end of the program, and a call saves two waits for the disk. Either way, a program that
    /// reads the file sees the old one or the new one, whole. Defaults to `true`.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        unpoisoned(self.opened.lock())
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        unpoisoned(self.state.lock())
    }
}

impl fmt::Debug for FileBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is in the file holds a password's hash.
        f.debug_struct("FileBackend")
            .field("path", &self.path)
            .field("lock_timeout", &self.lock_timeout)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Backend for FileBackend {
    fn provider(&self) -> &str {
        "file"
    }

    fn static_config(&self) -> Result<Value> {
        let path = atomic::resolve(&self.path)?;
        let file = match path.parent().filter(|_| self.directory) {
            Some(folder) => json!({"directory": atomic::utf8(folder)?, "watch": true}),
            None => json!({"filename": atomic::utf8(&path)?, "watch": true}),
        };
        Ok(json!({"providers": {"file": file}}))
    }

    fn open(&self, setup: &Setup, edit: &mut Edit<'_>) -> Result<Commit> {
        self.open_kept(setup, edit)
    }

    fn read(&self) -> Result<Table> {
        if let Some((id, table)) = &*unpoisoned(self.seen.read()) {
            if FileId::of(&self.path)?.is_none_or(|now| now == *id) {
                return Ok(table.clone());
            }
        }
        let path = atomic::resolve(&self.path)?;
        let mut state = self.state();
        Ok(self.refresh(&mut state, path)?.file.routes().clone())
    }

    fn inspect(&self) -> Result<Option<Contents>> {
        let state = self.load(atomic::resolve(&self.path)?)?;
        let contents = state.id().map(|_| state.file.contents());
        contents
            .transpose()
            .map_err(|error| error.context(state.path.display()))
    }

    fn diagnose(&self) -> Vec<Finding> {
        self.findings()
    }

    fn commit(&self, edit: &mut Edit<'_>) -> Result<Commit> {
        let opened = &mut *self.opened();
        opened.before = None;
        self.kept(|state, lock, stored| {
            let changes = edit(state.file.routes(), stored)?;
            if !changes.is_empty() {
                let explicit = opened.explicit.check(&state.file.header);
                explicit.map_err(|error| error.context(state.path.display()))?;
            }
            let routes = state.file.routes();
            let is_needed = opened.restore_certificate(&state.path)?
                || changes.iter().any(|change| routes.is_changed_by(change))
                || !changes.is_empty() && state.is_edited()
                || state.file.inherited;
            self.write(state, lock, &changes, stored, is_needed)
        })
    }

    fn repair(&self) -> Result<()> {
        let opened = &mut *self.opened();
        let repaired = self.kept(|state, lock, stored| {
            let explicit = opened.explicit.check(&state.file.header);
            explicit.map_err(|error| error.context(state.path.display()))?;
            let is_needed = opened.restore_certificate(&state.path)?
                || state.is_edited()
                || state.file.inherited;
            self.write(state, lock, &[], stored, is_needed)
        });
        repaired.map(drop)
    }

    fn last_commit(&self) -> Result<Option<Commit>> {
        let path = atomic::resolve(&self.path)?;
        let mut state = self.state();
        let state = self.refresh(&mut state, path)?;
        Ok(Some(state.file.header.commit()))
    }

    fn copy_of(&self, commit: &Commit) -> Option<String> {
        let path = atomic::resolve(&self.path).ok()?;
        // Each deletion asks for it.
        let copy = neighbours::copy(&path, &commit.marker, 1)?;
        Some(copy.display().to_string())
    }

    fn revert(&self) -> Result<bool> {
        self.undo_open()
    }

    fn is_served(&self) -> Result<bool> {
        Share::is_held(&atomic::resolve(&self.path)?, SERVING)
    }

    fn close(&self) -> Result<()> {
        self.give_up()
    }
}

impl FileBackend {
    /// Makes changes and writes the file, if there is a need to; `None`, with nothing written, if the
    /// file is not what was read.
    fn write(
        &self,
        state: &mut State,
        lock: &Lock,
        changes: &[Change],
        stored: &mut BTreeSet<RouteSpec>,
        is_needed: bool,
    ) -> Result<Option<Commit>> {
        if !is_needed {
            return Ok(Some(state.file.header.commit()));
        }
        // While readers share the table, a change would copy all of it.
        *unpoisoned(self.seen.write()) = None;
        let applied = state.file.apply(changes);
        applied.map_err(|error| error.context(state.path.display()))?;
        state.advance();
        let Some(visible) = state.save(lock, self.durable)? else {
            return Ok(None);
        };
        stored.extend(changes.iter().map(|change| change.spec().clone()));
        Ok(Some(Commit {
            visible: Some(visible),
            ..state.file.header.commit()
        }))
    }
}
