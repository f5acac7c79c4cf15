//! A table as keys: which keys stand for it, and what a change does to them. Does no I/O.

mod repair;
mod services;
mod steps;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::flatten::flatten;
use super::keys::Keys;
use super::step::Step;
use super::store::{Entry, Transaction};
use crate::backend::record::{Header, parse_line};
use crate::backend::{Commit, Contents, Setup};
use crate::config::dynamic::{entries, has_default_certificate, marker};
use crate::config::text::json_line;
use crate::error::{Error, Result};
use crate::route::{Change, Layout, Route, Table, marker_name, service_name};

/// The way in which [`Layout`] lays tables out; another number than that of a stored table means
/// that its routers stand elsewhere.
const LAYOUT: u8 = 2;

/// How many commits the header remembers.
const RECENT: usize = 16;

/// A table with its header, as they are stored.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) header: Option<Entry>,
    pub(super) table: Table,
}

/// The table as it is stored, and as changes leave it.
pub(super) struct TableKeys {
    keys: Keys,
    /// The header as it is stored.
    stored: Option<Entry>,
    header: Header,
    table: Table,
    layout: Layout,
    /// How large a transaction may be; see [`KvStore::max_bytes`](super::KvStore::max_bytes).
    max_bytes: usize,
    /// How many routes use a service.
    users: HashMap<String, usize>,
    /// The routers of the parents that may be there, if a writer ended while it laid routers out.
    torn: Option<Vec<String>>,
}

impl TableKeys {
    /// Reads what is below [`Keys::own_tree`].
    pub(super) fn parse(
        keys: &Keys,
        tree: &BTreeMap<String, Entry>,
        max_bytes: usize,
    ) -> Result<Self> {
        let at = |key: &str, error: Error| error.context(format!("key {key}"));
        let header_key = keys.header();
        let stored = tree.get(&header_key).cloned();
        let mut header = match &stored {
            None => {
                // Another table may have been here, which a Traefik still shows.
                let unique = crate::random::hex::<8>().map_err(Error::internal)?;
                Header::new(keys.namespace(), marker_name(&unique))
            }
            Some(entry) => Header::parse(&entry.value).map_err(|error| at(&header_key, error))?,
        };
        if header.root.is_empty() {
            header.root = keys.traefik().into();
        }
        let routes = keys.route("");
        let table = tree
            .iter()
            .filter(|(key, _)| key.starts_with(&routes))
            .map(|(key, entry)| parse_line::<Route>(&entry.value).map_err(|error| at(key, error)))
            .collect::<Result<Table>>()?;
        header.forget_unasked(&table);
        let torn = (stored.is_some() && header.layout != LAYOUT).then(|| {
            let parents = keys.parent("");
            let names = tree.keys().filter_map(|key| key.strip_prefix(&parents));
            names.map(Into::into).collect()
        });
        let mut users = HashMap::new();
        for route in &table {
            *users
                .entry(service_name(keys.namespace(), route))
                .or_default() += 1;
        }
        Ok(Self {
            // A table that was laid out in another way is laid out anew with the next commit.
            layout: match header.layout {
                LAYOUT => Layout::of(&table, header.nested()),
                _ => Layout::default(),
            },
            torn,
            max_bytes,
            keys: keys.clone(),
            stored,
            header,
            table,
            users,
        })
    }

    /// Fails if the table is served below another prefix: what we would write there, no Traefik of it reads.
    pub(super) fn check_root(&self) -> Result<()> {
        let (stored, ours) = (&self.header.root, self.keys.traefik());
        if stored == ours {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the table below {} is for Traefiks that read {stored:?}, and `traefik_prefix` is {ours:?}: give \
             that prefix, or another `jupyterhub_prefix` for another table",
            self.keys.private()
        )))
    }

    pub(super) fn version(&self) -> u64 {
        self.stored.as_ref().map_or(0, |header| header.version)
    }

    /// Whether this is the table with this header. A store that was restored may come to the same
    /// version again.
    pub(super) fn is_at(&self, header: Option<&Entry>) -> bool {
        self.stored.as_ref() == header
    }

    /// What was made of it is stored, with this version; or, with none, is to be read again.
    pub(super) fn set_version(&mut self, version: Option<u64>) {
        self.stored = version.map(|version| Entry::new(json_line(&self.header), version));
    }

    fn expect(&self) -> Option<(String, Option<Entry>)> {
        Some((self.keys.header(), self.stored.clone()))
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            header: self.stored.clone(),
            table: self.table.clone(),
        }
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// What a store with this table holds.
    pub(super) fn contents(&self) -> Contents {
        self.header.contents(self.table.clone())
    }

    pub(super) fn commit(&self) -> Commit {
        self.header.commit()
    }

    /// About how much the header adds to each transaction.
    pub(super) fn header_bytes(&self) -> usize {
        json_line(&self.header).len() + 512
    }

    /// Makes changes, one to a routespec, and says what they do to the keys.
    pub(super) fn apply(&mut self, changes: &[Change]) -> Result<Vec<Step>> {
        let mut table = self.table.clone();
        for change in changes {
            table.apply(change);
        }
        let changed = changes.iter().map(Change::spec).collect();
        let header = self.header.clone();
        self.become_table(table, &changed, header.entrance())
    }

    /// Whether a writer ended while it wrote the table in several transactions.
    pub(super) fn is_torn(&self) -> bool {
        self.torn.is_some()
    }

    /// Whether the table is not there.
    pub(super) fn is_gone(&self) -> bool {
        self.stored.is_none()
    }

    /// Whether this key is one of those that stand beside the routes.
    pub(super) fn has_config(&self, key: &str) -> bool {
        self.config_keys().is_ok_and(|keys| keys.contains_key(key))
    }

    /// Whether the table has a default certificate once it is set up so.
    pub(super) fn keeps_certificate(&self, setup: &Setup) -> bool {
        let mut header = self.header.clone();
        header.set_up(setup, false).is_ok() && has_default_certificate(&header.base)
    }

    /// The header as it is stored.
    pub(super) fn head_entry(&self) -> Option<&Entry> {
        self.stored.as_ref()
    }

    pub(super) fn head(&self) -> &Header {
        &self.header
    }

    /// Begins a table that is gone anew, as it was but for its routes. Its marker is a new one: a
    /// Traefik may still show a later generation of the old one.
    pub(super) fn begin_as(&mut self, last: &Header) -> Result<Vec<Step>> {
        self.header = Header {
            layout: LAYOUT,
            turn: None,
            marker: std::mem::take(&mut self.header.marker),
            root: std::mem::take(&mut self.header.root),
            ..last.clone()
        };
        let mut transaction = Transaction::new();
        transaction.set = self.config_keys()?;
        Ok(vec![Step::of(transaction)])
    }

    /// Makes the next generation greater than that of the later table, which the store has lost.
    pub(super) fn follow(&mut self, later: &Header) -> Step {
        self.header.generation = self.header.generation.max(later.generation);
        Step::default()
    }

    /// Takes over a setup; see [`Backend::open`](crate::Backend::open).
    pub(super) fn set_up(&mut self, setup: &Setup) -> Result<Vec<Step>> {
        let has_parents = !self.layout.parents().is_empty();
        self.change_header(|header| header.set_up(setup, has_parents))
    }

    /// Takes back what a setup has made of the header.
    pub(super) fn take_back(&mut self, before: &Header, made: &Header) -> Result<Vec<Step>> {
        self.change_header(|header| {
            header.take_back(before, made);
            Ok(())
        })
    }

    fn change_header(
        &mut self,
        change: impl FnOnce(&mut Header) -> Result<()>,
    ) -> Result<Vec<Step>> {
        let before = self.header.clone();
        let old_keys = match self.is_gone() {
            true => BTreeMap::new(),
            false => self.config_keys()?,
        };
        change(&mut self.header)?;
        if self.header == before && !self.is_gone() {
            return Ok(Vec::new());
        }
        entries(&self.header.base)?;
        let mut transaction = Transaction::new();
        transaction.set = self.config_keys()?;
        let gone = old_keys.into_keys();
        let gone = gone.filter(|key| !transaction.set.contains_key(key));
        transaction.delete = gone.collect();
        let mut steps = vec![Step::of(transaction)];
        if self.header.service != before.service {
            steps.extend(self.replace_services(&before.service)?);
        }
        steps.extend(self.become_table(self.table.clone(), &BTreeSet::new(), before.entrance())?);
        Ok(steps)
    }

    /// The keys of what stands beside the routes and the marker.
    fn config_keys(&self) -> Result<BTreeMap<String, String>> {
        let mut keys = BTreeMap::new();
        flatten(self.keys.traefik(), &self.header.config(), &mut keys)?;
        Ok(keys)
    }

    /// Completes a transaction with the next generation, and with the condition that no other writer
    /// has committed since. Returns what marks it.
    /// Unless it is the `last` of several, the turn stays with the writer.
    pub(super) fn seal(
        &mut self,
        writer: &str,
        last: bool,
        transaction: &mut Transaction,
    ) -> Result<String> {
        self.header.advance();
        let seal = format!("{writer}:{}", self.header.generation);
        match last {
            true => (self.header.turn, self.header.layout) = (None, LAYOUT),
            false => hold(&mut self.header, &seal),
        }
        self.header.recent.insert(0, seal.clone());
        self.header.recent.truncate(RECENT);
        let marker_key = self.keys.http("middlewares", &self.header.marker);
        flatten(
            &marker_key,
            &marker(self.header.generation),
            &mut transaction.set,
        )?;
        transaction
            .set
            .insert(self.keys.header(), json_line(&self.header));
        transaction.expect = self.expect();
        Ok(seal)
    }

    /// Whose turn it is, if that is another writer than this one.
    pub(super) fn turn_of_another(&self, writer: &str) -> Option<&str> {
        let turn = self.header.turn.as_deref()?;
        (turn.split(':').next() != Some(writer)).then_some(turn)
    }

    /// Takes the turn, or gives it back. Traefik hears nothing of it.
    pub(super) fn take_turn(&mut self, writer: Option<&str>) -> Transaction {
        self.header.turn = writer.map(|writer| format!("{writer}:{}", self.version()));
        let mut transaction = Transaction::new();
        transaction
            .set
            .insert(self.keys.header(), json_line(&self.header));
        transaction.expect = self.expect();
        transaction
    }

    /// This header's text, while a writer makes several transactions that are no commits.
    pub(super) fn held(header: &str, writer: &str) -> Result<String> {
        let mut header = Header::parse(header)?;
        let seal = format!("{writer}:{}", header.generation);
        hold(&mut header, &seal);
        Ok(json_line(&header))
    }

    /// The keys of the marker, given the header's text.
    pub(super) fn marker_of(keys: &Keys, header: &str) -> Result<BTreeMap<String, String>> {
        let header = Header::parse(header)?;
        let mut marker_keys = BTreeMap::new();
        let key = keys.http("middlewares", &header.marker);
        flatten(&key, &marker(header.generation), &mut marker_keys)?;
        Ok(marker_keys)
    }

    /// Whether the header's text knows of the commit with this seal.
    pub(super) fn header_has(text: &str, seal: &str) -> bool {
        parse_line::<Header>(text).is_ok_and(|header| header.recent.iter().any(|one| one == seal))
    }

    /// Removes the last keys of an empty table.
    pub(super) fn removal(&self) -> Result<Transaction> {
        let marker = self.keys.http("middlewares", &self.header.marker);
        let mut transaction = Transaction::new();
        transaction.delete.insert(self.keys.header());
        transaction.delete.extend(self.config_keys()?.into_keys());
        transaction.delete_trees.insert(format!("{marker}/"));
        transaction.expect = self.expect();
        Ok(transaction)
    }
}

/// Has other writers wait until all parts are written. A writer that finds the table so, since this one ended before
/// that, does not know where each router stands.
fn hold(header: &mut Header, seal: &str) {
    header.turn = Some(seal.into());
    header.layout = 0;
}
