//! The file under its lock, read again where others have written.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use super::FileBackend;
use super::state::State;
use super::table_file::TableFile;
use crate::atomic::{self, FileId};
use crate::backend::Commit;
use crate::backend::record::Header;
use crate::config::text::Syntax;
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::lock::Lock;
use crate::random;
use crate::route::{RouteSpec, slug};
use crate::sync::unpoisoned;

impl FileBackend {
    /// Runs `job` on the file as it is now, with nobody else writing to it.
    pub(super) fn locked<T>(&self, job: impl FnOnce(&mut State, Lock) -> Result<T>) -> Result<T> {
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
    pub(super) fn kept(
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
            });
            let error = match commit {
                Ok(Some(commit)) => return Ok(commit),
                Ok(None) if Instant::now() < deadline => continue,
                Ok(None) => {
                    let message = format!(
                        "{}: its lock was removed, or the file written by others, again and again \
                         for {:?}",
                        self.path.display(),
                        self.lock_timeout
                    );
                    Error::new(ErrorKind::Conflict, message)
                }
                Err(error) => error,
            };
            // Others may have replaced what an earlier round has written.
            return Err(match (stored.is_empty(), error.stored()) {
                (false, Stored::Nothing) => error.with_stored(Stored::Unknown),
                _ => error,
            });
        }
    }

    /// Reads the file again if it is not what we last saw.
    pub(super) fn refresh<'a>(
        &self,
        slot: &'a mut Option<State>,
        path: PathBuf,
    ) -> Result<&'a mut State> {
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

    pub(super) fn load(&self, path: PathBuf) -> Result<State> {
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
