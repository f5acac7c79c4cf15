//! Routes in memory: for tests, and to measure what the rest costs.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::record::Header;
use super::{Backend, Commit, Contents, Edit, Setup};
use crate::error::Result;
use crate::route::Table;
use crate::sync::unpoisoned;

/// A [`Backend`] that no Traefik can read. Clones share one table.
#[derive(Clone)]
pub struct MemoryBackend(Arc<Mutex<(Header, Table)>>);

impl MemoryBackend {
    /// An empty table.
    pub fn new() -> Self {
        let header = Header::new("", "traefik-router-generation".into());
        Self(Arc::new(Mutex::new((header, Table::new()))))
    }

    fn state(&self) -> MutexGuard<'_, (Header, Table)> {
        unpoisoned(self.0.lock())
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
        "memory"
    }

    fn static_config(&self) -> Result<Value> {
        Ok(json!({}))
    }

    fn open(&self, setup: &Setup, edit: &mut Edit<'_>) -> Result<Commit> {
        let (header, table) = &mut *self.state();
        let before = header.clone();
        header.set_up(setup, false)?;
        let changes = edit(table, &BTreeSet::new());
        if table.apply_all(&changes) || *header != before || header.generation == 0 {
            header.advance();
        }
        Ok(header.commit())
    }

    fn read(&self) -> Result<Table> {
        Ok(self.state().1.clone())
    }

    fn inspect(&self) -> Result<Option<Contents>> {
        let (header, table) = &*self.state();
        Ok(Some(header.contents(table.clone())))
    }

    fn commit(&self, edit: &mut Edit<'_>) -> Result<Commit> {
        let (header, table) = &mut *self.state();
        let changes = edit(table, &BTreeSet::new());
        if table.apply_all(&changes) {
            header.advance();
        }
        Ok(header.commit())
    }

    fn last_commit(&self) -> Result<Option<Commit>> {
        Ok(Some(self.state().0.commit()))
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}
