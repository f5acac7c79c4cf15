//! Routes in a TOML or YAML file that Traefik's file provider watches.

#[cfg(test)]
mod crash;
mod diagnose;
mod lock;
mod table_file;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::lock::Lock;
use self::table_file::TableFile;
use super::record::Header;
use super::{Backend, Commit, Contents, Edit, Setup};
use crate::atomic::{self, FileId, Known};
use crate::config::FOREVER;
use crate::config::text::Syntax;
use crate::error::Result;
use crate::finding::Finding;
use crate::random;
use crate::route::{Table, slug};

/// A [`Backend`] that keeps the routes in a file, `.toml`, `.yaml` or `.yml` (the latter two with
/// the feature `yaml`).
///
/// - **Whole.** Each commit writes a new file beside the old one, flushes it to the disk and
///   renames it over the old one; readers see the old table or the new one, also after a crash or
///   a power cut. Mode, owner and symbolic links stay. A new file has mode 0600, since it holds
///   the hash of the API's password and may hold a private key.
/// - **Shared.** A lock on a file beside it, `rules.toml.lock`, keeps writers apart, in this
///   process and others; each re-reads what another one wrote before it changes anything.
/// - **Not alone.** Routers, middlewares and whatever else somebody wrote by hand stays as it is,
///   comments and order included. What we write stands between two comment lines that say so.
///
/// The file has to exist before Traefik starts, or Traefik never looks at it again;
/// [`open`](Backend::open) creates it.
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
}

/// The file as it was last read or written.
struct State {
    /// The file's own place, behind all symbolic links.
    path: PathBuf,
    /// `None` where the file was not there, or may differ from `file`.
    known: Option<Known>,
    file: TableFile,
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
        }
    }

    /// How long to wait for another writer to let go of the file. Defaults to 10 seconds.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout.min(FOREVER);
        self
    }

    /// Tells a Traefik that we start to watch the file's whole folder, so that hand-written
    /// configuration can stand in files of its own. One broken file in it makes Traefik reject
    /// all of them. Defaults to `false`.
    pub fn directory(mut self, directory: bool) -> Self {
        self.directory = directory;
        self
    }

    /// Whether a change is on the disk when a call returns, and so outlasts a loss of power. If not,
    /// it outlasts this program only, and a call saves two waits for the disk. Whoever reads the file
    /// sees the old one or the new one, whole, in either case. Defaults to `true`.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `job` on the file as it is now, with nobody else writing to it.
    fn locked<T>(&self, job: impl FnOnce(&mut State, Lock) -> Result<T>) -> Result<T> {
        // Before anything is written, the lock included.
        Syntax::of(&self.path)?;
        let path = atomic::resolve(&self.path)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = Lock::acquire(&path, self.lock_timeout)?;
        // Whoever reads must not wait for the lock.
        let mut state = self.state();
        let state = self.refresh(&mut state, path)?;
        let before = state.id();
        let done = job(state, lock);
        if done.is_err() {
            // What is in memory may be ahead of the file now.
            state.known = None;
        }
        if state.id() != before {
            self.publish(state);
        }
        done
    }

    /// Reads the file again if it is not what we last saw.
    fn refresh<'a>(&self, slot: &'a mut Option<State>, path: PathBuf) -> Result<&'a mut State> {
        let current = FileId::of(&path)?;
        drop(slot.take_if(|state| state.path != path));
        let state = match slot {
            Some(state) => state,
            None => {
                let state = slot.insert(self.load(path)?);
                self.publish(state);
                return Ok(state);
            }
        };
        match state.id() {
            Some(_) if current.is_none() => log::warn!(
                "{} is gone; the next change writes it again",
                path.display()
            ),
            Some(id) if Some(id) == current => {}
            _ => {
                // Until the file can be read again, what was known of it stays.
                let mut fresh = self.load(path)?;
                let inherited = fresh.file.inherit(&state.file.header);
                inherited.map_err(|error| error.context(fresh.path.display()))?;
                self.publish(&fresh);
                *state = fresh;
            }
        }
        Ok(state)
    }

    fn load(&self, path: PathBuf) -> Result<State> {
        let syntax = Syntax::of(&self.path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Other files may have the same name, and Traefik may load several.
        let namespace = random::hex::<5>()?;
        let marker = format!("traefik-router-generation-{}-{namespace}", slug(&name));
        let mut fresh = Header::new(&namespace, marker);
        let (known, file) = match atomic::read(&path)? {
            None => {
                fresh.created = true;
                (None, TableFile::empty(syntax, fresh))
            }
            Some((text, known)) => {
                let file = TableFile::parse(syntax, &text, &fresh)
                    .map_err(|error| error.context(path.display()))?;
                (Some(known), file)
            }
        };
        Ok(State { path, known, file })
    }

    fn publish(&self, state: &State) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        *seen = state.id().map(|id| (id, state.file.routes.clone()));
    }
}

impl fmt::Debug for FileBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is in the file holds a password's hash, and may hold a private key.
        f.debug_struct("FileBackend")
            .field("path", &self.path)
            .field("lock_timeout", &self.lock_timeout)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl State {
    fn id(&self) -> Option<FileId> {
        self.known.as_ref().map(|(id, _)| *id)
    }

    /// Writes the file; since when readers see it.
    fn save(&mut self, durable: bool) -> Result<Instant> {
        let text = self.file.render();
        let text = text.map_err(|error| error.context(self.path.display()))?;
        let (known, visible) = atomic::replace(&self.path, text, durable)?;
        self.known = Some(known);
        self.file.inherited = false;
        Ok(visible)
    }
}

impl Backend for FileBackend {
    fn provider(&self) -> &str {
        "file"
    }

    fn static_config(&self) -> Result<Value> {
        let path = atomic::resolve(&self.path)?;
        let file = if self.directory {
            json!({"directory": path.parent(), "watch": true})
        } else {
            json!({"filename": path, "watch": true})
        };
        Ok(json!({"providers": {"file": file}}))
    }

    fn open(&self, setup: &Setup) -> Result<Commit> {
        self.locked(|state, _lock| {
            atomic::remove_stale_temps(&state.path);
            state
                .file
                .set_up(setup)
                .map_err(|error| error.context(state.path.display()))?;
            state.file.header.advance();
            state.save(self.durable)?;
            Ok(state.file.header.commit(None))
        })
    }

    fn read(&self) -> Result<Table> {
        if let Some((id, table)) = &*self.seen.read().unwrap_or_else(PoisonError::into_inner) {
            if FileId::of(&self.path)?.is_none_or(|now| now == *id) {
                return Ok(table.clone());
            }
        }
        let path = atomic::resolve(&self.path)?;
        let mut state = self.state();
        Ok(self.refresh(&mut state, path)?.file.routes.clone())
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
        self.locked(|state, _lock| {
            let changes = edit(&state.file.routes, &BTreeSet::new());
            let before = state.file.header.generation;
            let mut visible = None;
            if !changes.is_empty() || state.file.inherited {
                // Or else the change would be made on a copy of the whole table.
                *self.seen.write().unwrap_or_else(PoisonError::into_inner) = None;
                state
                    .file
                    .apply(&changes)
                    .map_err(|error| error.context(state.path.display()))?;
                state.file.header.advance();
                visible = Some(state.save(self.durable)?);
            }
            let follows = visible.map(|_| before);
            let commit = state.file.header.commit(follows);
            Ok(Commit { visible, ..commit })
        })
    }

    fn close(&self) -> Result<()> {
        self.locked(|state, lock| {
            let failed = |error| atomic::failed("remove", &state.path, error);
            state.file.tear_down();
            let created = state.file.header.created;
            let text = if state.file.routes.is_empty() {
                state.file.foreign()
            } else {
                state.file.header.advance();
                state.file.render()?
            };
            if !text.trim().is_empty() || !created {
                atomic::replace(&state.path, text, self.durable)?;
            } else if state.known.is_some() {
                atomic::remove(&state.path).map_err(failed)?;
            }
            lock.remove().map_err(failed)?;
            // What was written is read again by whoever opens it next.
            state.known = None;
            Ok(())
        })
    }
}
