//! Routes in a TOML or YAML file that Traefik's file provider watches.

mod diagnose;
mod table_file;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::table_file::TableFile;
use super::record::{Explicit, Header};
use super::{Backend, Commit, Contents, Edit, Setup};
use crate::atomic::{self, FileId, Known};
use crate::config::MAX_WAIT;
use crate::config::dynamic::{Certificate, Own, api_routers, has_default_certificate};
use crate::config::text::Syntax;
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::finding::Finding;
use crate::lock::{Lock, Share};
use crate::random;
use crate::route::{Change, RouteSpec, Table, slug};
use crate::sync::unpoisoned;

/// A [`Backend`] that keeps the routes in a file, `.toml`, `.yaml` or `.yml` (the latter two with
/// the feature `yaml`).
///
/// - **Whole.** Each commit writes a new file beside the old one, flushes it to the disk and
///   renames it over the old one; readers see the old table or the new one, also after a crash or
///   a power cut. Symbolic links stay.
/// - **Private.** Owner, group, mode and, on Linux, the POSIX ACL stay. If they can't be kept, the change
///   fails and the file is as it was: only root can give a file to another user, so run the program as
///   the file's owner. A new file has mode 0600 and no ACL, also in a folder that gives an ACL to new
///   files, since it holds the hash of the API's password. The private key of the certificate of a
///   Traefik that was started is in a file beside it, `rules.toml.pem`, for which the same holds.
/// - **Shared.** A lock on a file beside it, `rules.toml.lock`, keeps writers apart, in this
///   process and others; each re-reads what another one wrote before it changes anything.
/// - **Not alone.** Routers, middlewares and all else that was written by hand stays as it is,
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
    opened: Mutex<Opened>,
}

/// What `open` has changed, for `revert` and `close` to undo or to leave as other Routers need it.
#[derive(Default)]
struct Opened {
    explicit: Explicit,
    /// Held while this Router serves from the file.
    share: Option<Share>,
    /// Held while it does so with a Traefik that it has started.
    started: Option<Share>,
    /// The certificate that we have last found or written for it.
    pem: Option<String>,
    before: Option<Before>,
}

impl Opened {
    /// Writes the certificate of a Traefik that we have started again, if others have removed it. Returns
    /// whether it has: Traefik reads it only when it loads the file at `path`.
    fn restore_certificate(&self, path: &Path) -> Result<bool> {
        let Some(pem) = self.pem.as_ref().filter(|_| self.started.is_some()) else {
            return Ok(false);
        };
        let file = pem_of(path);
        let is_gone = FileId::of(&file)?.is_none();
        if is_gone {
            log::warn!("{} is gone; it is written again", file.display());
            put_back(&file, Some(pem.clone()))?;
        }
        Ok(is_gone)
    }
}

/// What was there before [`Backend::open`], to be put back by [`Backend::revert`].
struct Before {
    text: Option<String>,
    pem: Option<String>,
    header: Header,
    /// Whether other Routers served from the file then, and whether some had started a Traefik.
    others: bool,
    shared: bool,
    /// Whether others have written between two calls of `open`: then only the last one is undone.
    incomplete: bool,
    /// Whether `open` has changed routes.
    routes: bool,
    /// The file and the header that `open` has written.
    written: FileId,
    made: Header,
}

/// The endings of the files by which Routers know of each other: of those that serve from a file, and of
/// those among them that have started a Traefik.
const SERVING: &str = ".serving";
const STARTED: &str = ".started";

/// The file as it was last read or written.
struct State {
    /// The file's own place, behind all symbolic links.
    path: PathBuf,
    /// `None` where the file was not there, or may differ from `file`.
    known: Option<Known>,
    file: TableFile,
    /// The latest generation that was seen of this table. The file may be an older one that was put
    /// back, and Traefik may still show a later generation.
    latest: u64,
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

    /// How long to wait for another writer to let go of the file. Defaults to 10 seconds.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout.min(MAX_WAIT);
        self
    }

    /// Has a Traefik that we start watch the file's whole folder, so that hand-written configuration
    /// can stand in files of its own. One broken file in it makes Traefik reject
    /// all of them. Defaults to `false`.
    pub fn directory(mut self, directory: bool) -> Self {
        self.directory = directory;
        self
    }

    /// Whether a change is on the disk when a call returns, and so outlasts a loss of power. If not,
    /// it outlasts this program only, and a call saves two waits for the disk. A program that reads the
    /// file sees the old one or the new one, whole, in either case. Defaults to `true`.
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

    /// Runs `job` on the file as it is now, with nobody else writing to it.
    fn locked<T>(&self, job: impl FnOnce(&mut State, Lock) -> Result<T>) -> Result<T> {
        // Before anything is written, the lock included.
        Syntax::of(&self.path)?;
        let path = atomic::resolve(&self.path)?;
        let _turn = unpoisoned(self.turn.lock());
        let lock = Lock::acquire(&path, self.lock_timeout)?;
        // Readers must not wait for the lock.
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

    /// Repeats `job` until no other writer has written between its read and its write. That can happen
    /// where the lock's file was removed under a writer. `job` returns `None` if it has found that out
    /// before it wrote. It gets the routes that it has stored in earlier rounds.
    fn kept(
        &self,
        mut job: impl FnMut(&mut State, &Lock, &mut BTreeSet<RouteSpec>) -> Result<Option<Commit>>,
    ) -> Result<Commit> {
        let deadline = Instant::now() + self.lock_timeout;
        let mut stored = BTreeSet::new();
        loop {
            let commit = self.locked(|state, lock| {
                let commit = job(state, &lock, &mut stored)?;
                if commit.is_none() {
                    state.known = None;
                }
                Ok(commit.filter(|commit| commit.visible.is_none() || lock.is_met()))
            })?;
            match commit {
                Some(commit) => return Ok(commit),
                None if Instant::now() < deadline => {}
                None => {
                    let message = format!(
                        "{}: its lock was removed, or the file written by others, again and again \
                         for {:?}",
                        self.path.display(),
                        self.lock_timeout
                    );
                    let stored = match stored.is_empty() {
                        true => Stored::Nothing,
                        false => Stored::Unknown,
                    };
                    return Err(Error::new(ErrorKind::Conflict, message).with_stored(stored));
                }
            }
        }
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
            Some(_) if current.is_none() => {
                state.file.inherited = true;
                log::warn!(
                    "{} is gone; the next change writes it again",
                    path.display()
                );
            }
            Some(id) if Some(id) == current => {}
            _ => {
                // Until the file can be read again, what was known of it stays.
                let mut fresh = self.load(path)?;
                let inherited = fresh.file.inherit(&state.file.header);
                inherited.map_err(|error| error.context(fresh.path.display()))?;
                let known = &state.file.header;
                if fresh.file.header.marker == known.marker {
                    fresh.latest = state.latest.max(known.generation);
                }
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
        let namespace = random::hex::<5>().map_err(Error::internal)?;
        let marker = format!("traefik-router-generation-{}-{namespace}", slug(&name));
        let mut fresh = Header::new(&namespace, marker);
        let (known, file) = match atomic::read(&path)? {
            None => {
                fresh.created = true;
                (None, TableFile::new(syntax, fresh, String::new())?)
            }
            Some((text, known)) => {
                let file = TableFile::parse(syntax, &text, &fresh)
                    .map_err(|error| error.context(path.display()))?;
                (Some(known), file)
            }
        };
        Ok(State {
            path,
            known,
            file,
            latest: 0,
        })
    }

    fn publish(&self, state: &State) {
        let mut seen = unpoisoned(self.seen.write());
        *seen = state.id().map(|id| (id, state.file.routes().clone()));
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

impl State {
    fn id(&self) -> Option<FileId> {
        self.known.as_ref().map(|(id, _)| *id)
    }

    /// Starts the next commit.
    fn advance(&mut self) {
        let header = &mut self.file.header;
        header.generation = header.generation.max(self.latest);
        header.advance();
    }

    /// Whether the file has our table, and not as we have written it.
    fn is_edited(&self) -> bool {
        self.file.header.generation > 0 && !self.file.is_written
    }

    /// Writes the file; since when readers see it. `None`, with nothing written, if the lock file
    /// was replaced or the file is not what was read.
    fn save(&mut self, lock: &Lock, durable: bool) -> Result<Option<Instant>> {
        let id = self.id();
        let text = self.file.render();
        let text = text.map_err(|error| error.context(self.path.display()))?;
        let path = &self.path;
        let is_as_read = || match FileId::of(path) {
            Ok(now) => now.is_none() || now == id,
            Err(_) => false,
        };
        let is_wanted = || lock.is_met() && is_as_read();
        let Some((known, visible)) = atomic::replace_if(path, text, durable, &is_wanted)? else {
            return Ok(None);
        };
        self.known = Some(known);
        self.file.inherited = false;
        self.file.is_written = true;
        Ok(Some(visible))
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
        let opened = &mut *self.opened();
        let commit = self.kept(|state, lock, stored| {
            let joins = setup.serves && opened.share.is_none();
            if joins {
                opened.share = Some(Share::join(&state.path, SERVING)?);
            }
            if joins && setup.started {
                opened.started = Some(Share::join(&state.path, STARTED)?);
            }
            let mut specs = Vec::new();
            let done = self.open_locked(state, lock, opened, setup, &mut |table| {
                let changes = edit(table, stored)?;
                specs = changes.iter().map(|change| change.spec().clone()).collect();
                Ok(changes)
            });
            if matches!(&done, Ok(Some(_))) {
                stored.extend(specs);
            }
            if done.is_err() && joins && opened.before.is_none() {
                // What is refused leaves nothing behind.
                leave(opened.started.take(), None)?;
                leave(opened.share.take(), Some(lock))?;
            }
            done
        })?;
        opened.explicit.add(setup);
        Ok(commit)
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

    fn revert(&self) -> Result<bool> {
        let opened = std::mem::take(&mut *self.opened());
        let Some(share) = opened.share else {
            return Ok(opened.before.is_none());
        };
        self.locked(|state, lock| {
            let (mut reverted, alone) = (true, share.is_alone()?);
            let started = opened.started.as_ref().map_or(Ok(true), Share::is_alone)?;
            if let Some(before) = opened.before {
                // A Router that has joined since may rely on what it has found.
                let own_is_needed = !started && !before.shared;
                // With the old text the old generation would come back.
                let untouched = state.id() == Some(before.written) && before.made.is_past();
                if !alone && !before.others {
                    reverted = false;
                } else if untouched && !own_is_needed {
                    put_back(&state.path, before.text)?;
                    reverted = !before.incomplete;
                } else {
                    let mut made = before.made;
                    if own_is_needed {
                        made.own = Value::Null;
                    }
                    let taken_back = state.file.take_back(&before.header, &made);
                    taken_back.map_err(|error| error.context(state.path.display()))?;
                    state.advance();
                    atomic::replace(&state.path, state.file.render()?, self.durable)?;
                    reverted = !before.routes && !before.incomplete && !own_is_needed;
                }
                if opened.pem.is_some() && started {
                    put_back(&pem_of(&state.path), before.pem)?;
                }
            }
            state.known = None;
            leave(opened.started, None)?;
            leave(Some(share), Some(&lock))?;
            Ok(reverted)
        })
    }

    fn is_served(&self) -> Result<bool> {
        Share::is_held(&atomic::resolve(&self.path)?, SERVING)
    }

    fn close(&self) -> Result<()> {
        let opened = std::mem::take(&mut *self.opened());
        self.locked(|state, lock| {
            let join = |share: Option<Share>, ending| match share {
                Some(share) => Ok(share),
                None => Share::join(&state.path, ending),
            };
            let attached = opened.share.is_some() && opened.started.is_none();
            let started = join(opened.started, STARTED)?;
            let share = join(opened.share, SERVING)?;
            // What started Traefiks need goes with the last one; the table only where nobody serves it.
            let mut changed = false;
            if started.is_alone()? {
                changed = state.file.tear_down();
                remove_certificate(&pem_of(&state.path))?;
            }
            let header = &state.file.header;
            let goes = share.is_alone()?
                && !attached
                && header.temporary
                && state.file.routes().is_empty();
            let created = header.created;
            let text = match goes {
                true => state.file.foreign(),
                false => {
                    if changed {
                        state.advance();
                    }
                    state.file.render()?
                }
            };
            if goes && text.trim().is_empty() && created {
                put_back(&state.path, None)?;
            } else if (goes || changed) && state.known.is_some() {
                atomic::replace(&state.path, text, self.durable)?;
            }
            // The next one to open it reads again what was written.
            state.known = None;
            leave(Some(started), None)?;
            leave(Some(share), Some(&lock))
        })
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
        // Or else the change would be made on a copy of the whole table.
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

    fn open_locked(
        &self,
        state: &mut State,
        lock: &Lock,
        opened: &mut Opened,
        setup: &Setup,
        edit: &mut dyn FnMut(&Table) -> Result<Vec<Change>>,
    ) -> Result<Option<Commit>> {
        let others = match &opened.share {
            Some(share) => !share.is_alone()?,
            None => false,
        };
        if setup.alone && others {
            return Err(Error::new(
                ErrorKind::InUse,
                format!(
                    "another program serves routes from {}, and to begin without them would take \
                     them from it",
                    state.path.display()
                ),
            ));
        }
        let at = |error: Error| error.context(state.path.display());
        opened.explicit.check(&state.file.header).map_err(at)?;
        let (before, read) = (state.file.header.clone(), state.id());
        // What others rely on is not to be replaced.
        let setup = &Setup {
            replace_api: setup.replace_api && !(others && setup.started),
            ..setup.clone()
        };
        let shared = match &opened.started {
            Some(started) => !started.is_alone()?,
            None => false,
        };
        if setup.serves && !setup.started {
            let started = Share::join(&state.path, STARTED)?;
            if started.is_alone()? {
                // A killed program has left this.
                state.file.tear_down();
            }
            leave(Some(started), None)?;
        }
        let pem_file = pem_of(&state.path);
        let pem = (setup.own.as_ref()).map(|own| self.certificate(own, &pem_file, opened, shared));
        let pem = pem.transpose()?.flatten();
        if let Some(own) = setup.own.as_ref().filter(|_| self.directory) {
            let neighbours = Neighbours::of(&state.path, &own.api.entrypoint);
            neighbours.check(own)?;
            state.file.ending = format!("-{}", state.file.header.namespace);
            state.file.has_neighbours_certificate |= neighbours.certificate.is_some();
        }
        let pem_path = match &setup.own {
            Some(_) => atomic::utf8(&pem_file)?,
            None => String::new(),
        };
        state.file.set_up(setup, &pem_path, shared).map_err(at)?;
        atomic::remove_stale_temps(&state.path);
        let pem = pem.filter(|_| has_default_certificate(&state.file.header.own));
        let fresh = before.generation == 0;
        if fresh {
            state.file.header.created &= setup.started;
        }
        let changes = edit(state.file.routes())?;
        let routes = state.file.routes();
        let has_changes = changes.iter().any(|change| routes.is_changed_by(change));
        state.file.apply(&changes).map_err(at)?;
        let text = atomic::read(&state.path)?.map(|(text, _)| text);
        let old_pem = atomic::read(&pem_file)?.map(|(text, _)| text);
        if let Some(pem) = &pem {
            put_back(&pem_file, Some(pem.clone()))?;
        }
        let renewed = pem.is_some() && pem != old_pem;
        let is_written = state.file.is_written && !state.file.inherited && !fresh && !renewed;
        let mut visible = None;
        if !is_written || state.file.header != before || has_changes {
            state.advance();
            let saved = state.save(lock, self.durable);
            if !matches!(saved, Ok(Some(_))) && pem.is_some() {
                put_back(&pem_file, old_pem.clone())?;
            }
            visible = saved?;
            if visible.is_none() {
                return Ok(None);
            }
            if let (Some(written), true) = (state.id(), setup.serves) {
                let made = state.file.header.clone();
                opened.before = Some(match opened.before.take() {
                    Some(first) if read == Some(first.written) => Before {
                        routes: first.routes || has_changes,
                        written,
                        made,
                        ..first
                    },
                    first => Before {
                        text,
                        pem: old_pem,
                        header: before,
                        others,
                        shared,
                        incomplete: first.is_some(),
                        routes: has_changes,
                        written,
                        made,
                    },
                });
            }
        }
        if setup.own.is_some() {
            opened.pem = atomic::read(&pem_file)?.map(|(text, _)| text);
        }
        Ok(Some(Commit {
            visible,
            ..state.file.header.commit()
        }))
    }

    /// The certificate to write for a Traefik that we start; `None` if it is there.
    fn certificate(
        &self,
        own: &Own,
        file: &Path,
        opened: &Opened,
        shared: bool,
    ) -> Result<Option<String>> {
        let there = atomic::read(file)?.map(|(text, _)| text);
        if there
            .as_ref()
            .is_some_and(|there| !Certificate::is_ours(there))
        {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "{} is there already and not ours, and the certificate has to be there; move it \
                     away",
                    file.display()
                ),
            ));
        }
        let ours = &own.certificate.pem;
        Ok(match there {
            Some(there) if there == *ours => None,
            Some(_) if shared && own.certificate.made_up => None,
            Some(there) if shared && opened.pem.as_ref() != Some(&there) => {
                return Err(Error::new(
                    ErrorKind::InUse,
                    format!(
                        "another program serves this file with a Traefik that it has started, and \
                         with another certificate ({}); a file has one for all: give both the same \
                         (ssl), or keep the routes in etcd",
                        file.display()
                    ),
                ));
            }
            _ => Some(ours.clone()),
        })
    }
}

/// Gives up a share, and with it the files that are locked, where nobody else has one.
fn leave(share: Option<Share>, lock: Option<&Lock>) -> Result<()> {
    let failed = |error| Error::new(ErrorKind::Store, "can't remove a lock").with_source(error);
    if let Some(share) = share {
        if share.is_alone()? {
            share.remove().map_err(failed)?;
            return lock.map_or(Ok(()), |lock| lock.remove().map_err(failed));
        }
    }
    Ok(())
}

/// Makes a file what it was.
fn put_back(path: &Path, text: Option<String>) -> Result<()> {
    match text {
        Some(text) => atomic::replace(path, &text, true).map(drop),
        None => match atomic::remove(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(atomic::failed("remove", path, error))
            }
            _ => Ok(()),
        },
    }
}

/// Removes the certificate that we have written, if it is there.
fn remove_certificate(file: &Path) -> Result<()> {
    match atomic::read(file)? {
        Some((text, _)) if Certificate::is_ours(&text) => put_back(file, None),
        _ => Ok(()),
    }
}

/// The file of the certificate that belongs to the file at `path`.
fn pem_of(path: &Path) -> PathBuf {
    atomic::beside(path, ".pem")
}

/// What other files of the same folder set that Traefik takes from one file alone.
#[derive(Default)]
struct Neighbours {
    /// The file that sets a default certificate: Traefik takes the first one that it finds.
    certificate: Option<PathBuf>,
    /// The file that has a router for the API on our entrypoint.
    api: Option<PathBuf>,
}

impl Neighbours {
    fn of(path: &Path, api_entrypoint: &str) -> Self {
        let mut found = Self::default();
        let folder = path.parent().into_iter().flat_map(std::fs::read_dir);
        let others = folder.flatten().flatten().map(|entry| entry.path());
        for other in others.filter(|other| other != path) {
            let text = Syntax::of(&other).and_then(|syntax| Ok((syntax, atomic::read(&other)?)));
            let Ok((syntax, Some((text, _)))) = text else {
                continue;
            };
            let Ok(config) = syntax.parse(&text).map(|tree| tree.to_value()) else {
                continue;
            };
            if has_default_certificate(&config) {
                found.certificate = Some(other.clone());
            }
            if !api_routers(&config, api_entrypoint).is_empty() {
                found.api = Some(other);
            }
        }
        found
    }

    /// Fails if a Traefik that is started on this folder would take theirs for ours.
    fn check(&self, own: &Own) -> Result<()> {
        let refuse = |file: &Path, what: &str| {
            let message = format!("{} in the same folder {what}", file.display());
            Err(Error::new(ErrorKind::InUse, message))
        };
        if let Some(file) = &self.api {
            return refuse(
                file,
                "has a router for Traefik's API on this entrypoint; choose another \
                 traefik_api_entrypoint",
            );
        }
        match &self.certificate {
            Some(file) if !own.certificate.made_up => refuse(
                file,
                "sets the default certificate, and Traefik takes one of the two (ssl)",
            ),
            _ => Ok(()),
        }
    }
}
