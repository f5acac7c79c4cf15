//! Reading the table, and noticing that the store went back.

use std::collections::BTreeMap;

use super::KvBackend;
use super::seen::Question;
use super::store::{Entry, KvStore};
use super::table_keys::TableKeys;
use crate::error::{Error, ErrorKind, Result};
use crate::route::Table;

impl<S: KvStore> KvBackend<S> {
    /// The table as it is stored now, given what a writer knows of it, and whether that is an
    /// earlier state than this handle has seen.
    pub(super) fn refresh(&self, known: Option<TableKeys>) -> Result<(TableKeys, bool)> {
        let question = Question::begin(&self.seen());
        let header = self.store.get(&self.keys.header())?;
        let state = match known.filter(|state| state.is_at(header.as_ref())) {
            Some(state) => state,
            None => self.read_state()?,
        };
        self.seen().learn(&question, &state);
        let is_behind = question.is_behind(state.version());
        Ok((state, is_behind))
    }

    pub(super) fn read_state(&self) -> Result<TableKeys> {
        let tree = self.store.read_tree(&self.keys.own_tree())?;
        self.parse(&tree)
    }

    /// The table that these keys stand for, which are below [`Keys::own_tree`].
    pub(super) fn parse(&self, tree: &BTreeMap<String, Entry>) -> Result<TableKeys> {
        TableKeys::parse(&self.keys, tree, self.store.max_bytes())
    }

    /// The table as it is stored now, for readers.
    pub(super) fn ask(&self) -> Result<Table> {
        let (question, expected, known) = {
            let seen = self.seen();
            let expected = seen.routes && seen.opened;
            (Question::begin(&seen), expected, seen.known.clone())
        };
        let header = self.store.get(&self.keys.header())?;
        let snapshot = match known.filter(|known| known.header == header) {
            Some(known) => {
                let mut seen = self.seen();
                if seen.updates == question.updates {
                    seen.heard = Some(question.begun);
                }
                known
            }
            None => {
                let state = self.read_state()?;
                let snapshot = state.snapshot();
                let mut seen = self.seen();
                if seen.learn(&question, &state) {
                    seen.state = Some(state);
                }
                snapshot
            }
        };
        let version = snapshot.header.map_or(0, |header| header.version);
        if question.is_behind(version) {
            return Err(self.went_back());
        }
        // A table whose last Router has ended in good order is an empty one.
        if version == 0
            && expected
            && (self.store).is_behind(&self.keys.header(), question.version)?
        {
            return Err(Error::new(
                ErrorKind::Store,
                format!(
                    "the table below {} is gone: the store was restored to before it was there; \
                     the next change begins a new one, so set all routes anew",
                    self.keys.private()
                ),
            ));
        }
        Ok(snapshot.table)
    }

    pub(super) fn went_back(&self) -> Error {
        let message = format!(
            "the store went back: the table below {} is an earlier one than this program has seen, as \
             after a restore from a backup. Set all routes anew, or repair the table to go on \
             with those that are stored; every Traefik then loads them",
            self.keys.private()
        );
        Error::new(ErrorKind::Conflict, message)
    }
}
