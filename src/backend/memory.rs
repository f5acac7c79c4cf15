//! Routes in memory, which a Router sends to its Traefiks.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use serde_json::{Value, json};

use super::document::{Document, Pushed, table_of};
use super::lines::Lines;
use super::record::Header;
use super::{Backend, Commit, Contents, Edit, Setup};
use crate::config::defaults::{spell_out, spell_out_service};
use crate::config::dynamic::entries;
use crate::config::text::Json;
use crate::error::{Error, ErrorKind, Result};
use crate::route::{Table, marker_name};
use crate::sync::unpoisoned;

/// A [`Backend`] that keeps its routes in the memory of your program. The Router sends (*pushes*) them to
/// Traefik's REST provider: nothing is written to a disk, and no database is needed to serve several
/// Traefiks. It takes about half the time and the CPU of a file.
///
/// The routes in memory end with your program, but external Traefiks keep serving them.
/// [`Builder::attach`](crate::Builder::attach) gets the table back from the Traefiks that have it. If they
/// have ended, too, the routes are lost.
///
/// The data of all routes can be read through Traefik's API.
///
/// Clones share one table. Only one Router at a time pushes it; another one is refused with
/// [`InUse`](ErrorKind::InUse). [`guide::push`](crate::guide::push) has more.
pub struct MemoryBackend {
    shared: Arc<Mutex<Shared>>,
    handle: Mutex<Handle>,
}

struct Shared {
    header: Header,
    lines: Lines<Json>,
    /// What was last asked for.
    document: Option<Document>,
    /// How large the last one was.
    bytes: usize,
    /// Whether a Router delivers the table.
    is_served: bool,
}

/// What one clone has done.
#[derive(Default)]
struct Handle {
    serves: bool,
    /// The table as it was before this handle opened it, and the generation that it has made of it.
    before: Option<(Header, Table, u64)>,
}

impl MemoryBackend {
    /// An empty table, whose name is the empty one; see [`named`](Self::named).
    pub fn new() -> Self {
        Self::named("")
    }

    /// An empty table of this name, which distinguishes it from the tables of other programs:
    /// [`Builder::attach`](crate::Builder::attach) takes back a table of the same name only. It does so even
    /// if a program that has pushed that table still runs, so give each program a name of its own.
    pub fn named(name: impl AsRef<str>) -> Self {
        let shared = Shared {
            header: Header::new(name.as_ref(), String::new()),
            lines: Lines::new(Json),
            document: None,
            bytes: 0,
            is_served: false,
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
            handle: Mutex::default(),
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        unpoisoned(self.shared.lock())
    }

    fn handle(&self) -> MutexGuard<'_, Handle> {
        unpoisoned(self.handle.lock())
    }
}

impl Handle {
    fn stop_serving(&mut self, shared: &mut Shared) {
        let serves = std::mem::take(&mut self.serves);
        shared.is_served &= !serves;
    }
}

impl Shared {
    fn table(&self) -> &Table {
        self.lines.routes()
    }

    /// Becomes this table, under this header.
    fn replace(&mut self, header: Header, table: Table) {
        self.header = header;
        self.lines.set_routes(table, &self.header);
        self.document = None;
    }

    /// The commit that was just made.
    fn new_commit(&self) -> Commit {
        Commit {
            visible: Some(Instant::now()),
            ..self.header.commit()
        }
    }

    fn advance(&mut self) {
        self.header.advance();
        self.document = None;
    }
}

impl Clone for MemoryBackend {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            handle: Mutex::default(),
        }
    }
}

impl Drop for MemoryBackend {
    fn drop(&mut self) {
        let (shared, handle) = (&mut *self.shared(), &mut *self.handle());
        handle.stop_serving(shared);
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").finish_non_exhaustive()
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for MemoryBackend {
    fn provider(&self) -> &str {
        "rest"
    }

    fn static_config(&self) -> Result<Value> {
        Ok(json!({"providers": {"rest": {}}}))
    }

    fn pushed(&self) -> Option<&dyn Pushed> {
        Some(self)
    }

    fn open(&self, setup: &Setup, edit: &mut Edit<'_>) -> Result<Commit> {
        let (shared, handle) = (&mut *self.shared(), &mut *self.handle());
        if setup.serves && !handle.serves && shared.is_served {
            return Err(in_use());
        }
        let before = shared.header.clone();
        let mut header = before.clone();
        header.set_up(&spelt_out(setup), shared.lines.has_parents())?;
        if header.marker.is_empty() {
            // A Traefik that shows this marker has it from this program.
            let unique = crate::random::hex::<8>().map_err(Error::internal)?;
            header.marker = marker_name(&unique);
        }
        entries(&header.base)?;
        let changes = edit(shared.table(), &BTreeSet::new())?;
        if handle.before.is_none() {
            handle.before = Some((before.clone(), shared.table().clone(), 0));
        }
        if header != before {
            shared.replace(header, shared.table().clone());
        }
        let is_changed = shared.lines.apply(&changes, &shared.header);
        let writes = is_changed || shared.header != before || before.generation == 0;
        if writes {
            shared.advance();
        }
        if let Some((_, _, made)) = &mut handle.before {
            *made = shared.header.generation;
        }
        handle.serves |= setup.serves;
        shared.is_served |= setup.serves;
        Ok(match writes {
            true => shared.new_commit(),
            false => shared.header.commit(),
        })
    }

    fn revert(&self) -> Result<bool> {
        let (shared, handle) = (&mut *self.shared(), &mut *self.handle());
        handle.stop_serving(shared);
        match handle.before.take() {
            Some((header, table, made)) if made == shared.header.generation => {
                shared.replace(header, table);
                Ok(true)
            }
            Some(_) => Ok(false),
            None => Ok(true),
        }
    }

    fn read(&self) -> Result<Table> {
        Ok(self.shared().table().clone())
    }

    fn inspect(&self) -> Result<Option<Contents>> {
        let shared = self.shared();
        Ok(Some(shared.header.contents(shared.table().clone())))
    }

    fn commit(&self, edit: &mut Edit<'_>) -> Result<Commit> {
        let shared = &mut *self.shared();
        let changes = edit(shared.table(), &BTreeSet::new())?;
        if shared.lines.apply(&changes, &shared.header) {
            shared.advance();
            return Ok(shared.new_commit());
        }
        Ok(shared.header.commit())
    }

    fn last_commit(&self) -> Result<Option<Commit>> {
        Ok(Some(self.shared().header.commit()))
    }

    fn is_served(&self) -> Result<bool> {
        Ok(self.shared().is_served && !self.handle().serves)
    }

    fn close(&self) -> Result<()> {
        let (shared, handle) = (&mut *self.shared(), &mut *self.handle());
        handle.stop_serving(shared);
        Ok(())
    }
}

impl Pushed for MemoryBackend {
    fn document(&self) -> Result<Document> {
        let shared = &mut *self.shared();
        if let Some(document) = &shared.document {
            return Ok(document.clone());
        }
        let document = Document::of(&shared.header, &shared.lines, shared.bytes);
        shared.bytes = document.body.len();
        shared.document = Some(document.clone());
        Ok(document)
    }

    fn renew(&self, others: &[String]) -> Result<Commit> {
        let (shared, handle) = (&mut *self.shared(), &mut *self.handle());
        let last = shared.header.generation;
        let others = others.iter().filter_map(|records| table_of(records).ok()?);
        let latest = others.map(|(header, _)| header.generation).max();
        shared.header.generation = last.max(latest.unwrap_or_default());
        shared.advance();
        if let Some((_, _, made)) = handle.before.as_mut().filter(|(_, _, made)| *made == last) {
            *made = shared.header.generation;
        }
        Ok(shared.new_commit())
    }

    fn is_later_than(&self, records: &str) -> Result<bool> {
        let header = &self.shared().header;
        let is_earlier = |(found, _): (Header, Table)| {
            found.namespace == header.namespace && found.generation < header.generation
        };
        let found = table_of(records);
        Ok(found.is_ok_and(|found| found.is_none_or(is_earlier)))
    }

    fn resume(&self, found: &[String], replace: bool) -> Result<()> {
        let (shared, handle) = (&mut *self.shared(), &mut *self.handle());
        if shared.is_served && !handle.serves {
            return Err(in_use());
        }
        let mut latest: Option<(Header, Table)> = None;
        let mut generation = shared.header.generation;
        for records in found {
            let (header, table) = match table_of(records) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(_) if replace => continue,
                Err(error) => {
                    let what = "another program has pushed a table that can't be read; set \
                                `replace_pushed_table` to replace it";
                    return Err(error.context(what));
                }
            };
            generation = generation.max(header.generation);
            if header.namespace != shared.header.namespace {
                if replace {
                    continue;
                }
                return Err(theirs(format!(
                    "it is the table {:?}, and this one is {:?}",
                    header.namespace, shared.header.namespace
                )));
            }
            let known = latest.as_ref().map(|(known, _)| known.generation);
            if known < Some(header.generation) {
                latest = Some((header, table));
            }
        }
        let ours = &shared.header;
        let (header, table) = match latest {
            Some((header, table)) if header.marker == ours.marker => {
                match header.generation > ours.generation {
                    true => (header, table),
                    false => (ours.clone(), shared.table().clone()),
                }
            }
            // The other program's marker stays its own.
            Some((header, table)) if shared.table().is_empty() => {
                let marker = ours.marker.clone();
                (Header { marker, ..header }, table)
            }
            Some(_) if !replace => {
                return Err(theirs("this program has routes of its own".into()));
            }
            _ => (ours.clone(), shared.table().clone()),
        };
        let before = (ours.clone(), shared.table().clone(), generation);
        handle.before.get_or_insert(before);
        // The next one is later than what any of them shows, even if a clock was set back.
        let header = Header {
            generation,
            ..header
        };
        shared.replace(header, table);
        Ok(())
    }
}

/// A setup without what Traefik fills in only where it reads a file or keys.
fn spelt_out(setup: &Setup) -> Setup {
    let mut setup = setup.clone();
    if let Some(extra) = &mut setup.extra {
        spell_out(extra);
    }
    if let Some(service) = &mut setup.service {
        spell_out_service(service);
    }
    setup
}

fn in_use() -> Error {
    Error::new(
        ErrorKind::InUse,
        "another Router of this program delivers this table; stop it first, or give this one a \
         `MemoryBackend` of its own",
    )
}

fn theirs(why: String) -> Error {
    let message = format!("another program has pushed a table, and {why}");
    Error::new(ErrorKind::InUse, message)
}
