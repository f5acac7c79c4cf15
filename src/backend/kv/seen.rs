//! What a [`KvBackend`](super::KvBackend) knows of its store.

use std::time::Instant;

use super::table_keys::{Snapshot, TableKeys};
use crate::backend::record::Header;

/// What this handle knows of the store.
#[derive(Default)]
pub(super) struct Seen {
    /// The table as it was last read or written. A commit takes it, and puts it back at its end.
    pub(super) state: Option<TableKeys>,
    /// The same table for readers. It stays during a commit.
    pub(super) known: Option<Snapshot>,
    /// How often this has changed. An answer counts only if this has not changed since its question.
    pub(super) updates: u64,
    /// Whether this handle has opened the store.
    pub(super) opened: bool,
    /// The header as it was when the table was last there.
    pub(super) last: Option<Header>,
    /// Whether there were routes when the table was last there.
    pub(super) routes: bool,
    /// The version that it had then.
    pub(super) version: u64,
    /// When the state was last read from the store, or written to it.
    pub(super) heard: Option<Instant>,
    /// Whether the state is an earlier one than that of `last`: the store was put back.
    pub(super) is_behind: bool,
}

/// When a question to the store began, and what was known then.
pub(super) struct Question {
    pub(super) begun: Instant,
    pub(super) version: u64,
    pub(super) updates: u64,
}

impl Question {
    pub(super) fn begin(seen: &Seen) -> Self {
        Self {
            begun: Instant::now(),
            version: seen.version,
            updates: seen.updates,
        }
    }

    /// Whether this version is an earlier one than was known. A key's version grows with each change
    /// of it, and only a store that was put back has an earlier one.
    pub(super) fn is_behind(&self, version: u64) -> bool {
        version != 0 && version < self.version
    }
}

impl Seen {
    /// Keeps the answer to a question, unless a later one is here. Whether it was kept.
    pub(super) fn learn(&mut self, question: &Question, state: &TableKeys) -> bool {
        if self.updates != question.updates {
            return false;
        }
        self.updates += 1;
        self.heard = Some(question.begun);
        self.known = Some(state.snapshot());
        self.is_behind = question.is_behind(state.version());
        if state.version() != 0 && !self.is_behind {
            self.keep(state);
        }
        true
    }

    /// Keeps the table after a commit that began with `updates`. A later commit of another program, which
    /// a reader has found in the meantime, stays.
    pub(super) fn commit(&mut self, updates: u64, state: TableKeys) {
        let is_later = self.version > state.version() && state.version() != 0;
        if self.updates != updates && !self.is_behind && is_later {
            return;
        }
        self.updates += 1;
        self.heard = Some(Instant::now());
        self.known = Some(state.snapshot());
        self.is_behind = false;
        self.keep(&state);
        self.state = Some(state);
    }

    /// Resets this, and returns what it was.
    pub(super) fn forget(&mut self) -> Self {
        let updates = self.updates + 1;
        let fresh = Self {
            updates,
            ..Self::default()
        };
        std::mem::replace(self, fresh)
    }

    pub(super) fn forget_table(&mut self) {
        self.updates += 1;
        (self.state, self.known) = (None, None);
    }

    pub(super) fn keep(&mut self, state: &TableKeys) {
        self.routes = !state.table().is_empty();
        self.version = state.version();
        self.last = Some(state.head().clone());
    }
}
