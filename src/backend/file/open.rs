//! Opening a file, and putting back what that has changed.

use std::path::Path;

use serde_json::Value;

use super::FileBackend;
use super::neighbours::Neighbours;
use super::opened::{
    Before, Opened, SERVING, STARTED, leave, pem_of, put_back, remove_certificate,
};
use super::state::State;
use crate::atomic;
use crate::backend::{Commit, Edit, Setup};
use crate::config::dynamic::{Certificate, Own, has_default_certificate};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{Lock, Share};
use crate::route::{Change, Table};

impl FileBackend {
    /// [`Backend::open`](crate::Backend::open).
    pub(super) fn open_kept(&self, setup: &Setup, edit: &mut Edit<'_>) -> Result<Commit> {
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

    /// [`Backend::revert`](crate::Backend::revert).
    pub(super) fn undo_open(&self) -> Result<bool> {
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

    /// [`Backend::close`](crate::Backend::close).
    pub(super) fn give_up(&self) -> Result<()> {
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
                let before = Before {
                    text,
                    pem: old_pem,
                    header: before,
                    others,
                    shared,
                    incomplete: false,
                    routes: has_changes,
                    written,
                    made,
                };
                opened.keep(before, read);
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
                    "{} exists already, this program did not write it, and the certificate has to be there; move it \
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
