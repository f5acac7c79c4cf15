//! Opening a table for a Router, and putting back what that has changed.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::flatten::unflatten;
use super::step::Step;
use super::store::{Entry, KvStore, PER_OPERATION, Transaction};
use super::table_keys::TableKeys;
use super::{Before, KvBackend, Serving, legacy, presence};
use crate::backend::{Commit, Edit, Setup};
use crate::config::dynamic::{ApiAccess, api_routers, has_default_certificate};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::route::Change;

impl<S: KvStore> KvBackend<S> {
    /// Fails if the store has what a setup may not be stored beside.
    fn check_setup(&self, setup: &Setup, state: &TableKeys) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        let lets_in = |api: &&ApiAccess| api.is_let_in_by(&state.head().base);
        let api = setup.api.as_ref().filter(|api| !lets_in(api));
        if let Some(api) = api.filter(|_| !setup.replace_api) {
            let tree = self.store.read_tree(&self.keys.routers())?;
            let pairs = tree.iter().map(|(key, entry)| (&**key, &*entry.value));
            let config = unflatten(self.keys.traefik(), pairs);
            if let Some(name) = api_routers(&config, &api.entrypoint).first() {
                return refuse(format!(
                    "the store has a router for Traefik's API, {name}, and Traefik does not serve it"
                ));
            }
        }
        if setup.certificate_elsewhere {
            let stored = self.store.read_tree(&self.keys.default_certificate())?;
            // What an older version of this crate made up goes.
            let stays = |key: &&String| !state.has_config(key) || state.keeps_certificate(setup);
            if let Some(key) = stored.keys().find(stays) {
                return refuse(format!(
                    "the store sets a default certificate ({key}), and Traefik takes none if it is \
                     given two (ssl): remove one of them"
                ));
            }
        }
        let adds_one = setup.extra.as_ref().is_some_and(has_default_certificate)
            && !has_default_certificate(&state.head().base);
        if adds_one && self.is_served_by_others()? {
            return Err(Error::new(
                ErrorKind::InUse,
                "extra_dynamic_config sets a default certificate, and another program serves the table, \
                 whose Traefik may have one of its own; Traefik takes none if it is given two",
            ));
        }
        Ok(())
    }

    /// Fails if another program serves the table, and has begun to before us. One that was killed is
    /// still thought to for a while.
    fn wait_until_alone(&self) -> Result<()> {
        let longest = presence::TTL + 2 * presence::SILENCE;
        let deadline = Instant::now() + longest;
        let mut silent_since: HashMap<String, Instant> = HashMap::new();
        let mut is_first = true;
        loop {
            let known = self.store.read_tree(&self.keys.program(""))?;
            let alive = self.store.read_tree(&self.keys.serving(""))?;
            let ours = known.get(&self.keys.program(&self.writer));
            let since = ours.map_or(u64::MAX, |ours| ours.version);
            // One whose other key was lost is alive all the same.
            let is_unknown = |key: &String| {
                let name = key.strip_prefix(&self.keys.serving("")).unwrap_or_default();
                name != self.writer && !known.contains_key(&self.keys.program(name))
            };
            let mut waits = alive.keys().any(is_unknown);
            for (key, entry) in known.iter().filter(|(_, entry)| entry.version < since) {
                let name = key.strip_prefix(&self.keys.program("")).unwrap_or_default();
                if alive.contains_key(&self.keys.serving(name)) {
                    silent_since.remove(name);
                    waits = true;
                    continue;
                }
                // Its key may be gone for a moment, as after an outage of the store.
                let silent = silent_since.entry(name.into()).or_insert_with(Instant::now);
                if silent.elapsed() < presence::SILENCE {
                    waits = true;
                    continue;
                }
                let mut gone = Transaction::new();
                gone.delete.insert(key.clone());
                gone.expect = Some((key.clone(), Some(entry.clone())));
                self.store.transact(&gone)?;
            }
            if !waits {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::new(
                    ErrorKind::InUse,
                    format!(
                        "another program serves the routes below {}, and to begin without them \
                         would take them from it",
                        self.keys.private()
                    ),
                ));
            }
            if std::mem::take(&mut is_first) {
                log::info!(
                    "waiting for up to {} s: another program serves the routes below {}, or was killed \
                     a moment ago",
                    longest.as_secs(),
                    self.keys.private()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(super) fn is_served_by_others(&self) -> Result<bool> {
        let serving = self.store.read_tree(&self.keys.serving(""))?;
        let ours = self.keys.serving(&self.writer);
        Ok(serving.keys().any(|key| *key != ours))
    }

    /// All keys that [`Backend::open`] may write.
    fn snapshot(&self) -> Result<BTreeMap<String, Entry>> {
        let trees = [
            format!("{}/", self.keys.traefik()),
            self.keys.own_tree(),
            self.keys.legacy_tree(),
        ];
        let mut all = BTreeMap::new();
        for tree in trees {
            all.extend(self.store.read_tree(&tree)?);
        }
        let programs = [self.keys.serving(""), self.keys.program("")];
        all.retain(|key, _| !programs.iter().any(|tree| key.starts_with(tree)));
        Ok(all)
    }

    /// Makes the store what it was, if the table is still what we have made of it. What others have
    /// written beside it stays.
    pub(super) fn put_back(&self, before: &Before, made: Option<&Entry>) -> Result<bool> {
        let Before {
            keys: before,
            after,
            ..
        } = before;
        let mut now = self.snapshot()?;
        let header_key = self.keys.header();
        if now.get(&header_key) != made {
            return Ok(false);
        }
        let is_ours = |key: &String| before.get(key) != after.get(key);
        now.retain(|key, entry| is_ours(key) && after.get(key) == Some(entry));
        let set = before.iter().filter(|(key, _)| is_ours(key));
        let set = set.filter(|(key, old)| match now.get(*key) {
            Some(now) => now.value != old.value,
            // We have deleted it.
            None => !after.contains_key(*key),
        });
        let set = set.map(|(key, old)| (key, Some(&old.value)));
        let deleted = now.keys().filter(|key| !before.contains_key(*key));
        let all = set.chain(deleted.map(|key| (key, None)));
        // The header goes last. Until then each part writes one that no other writer has read, and expects that of
        // the part before.
        let (header, rest): (Vec<_>, Vec<_>) = all.partition(|(key, _)| **key == header_key);
        let held = made.map(|made| TableKeys::held(&made.value, &self.writer));
        let held = held.transpose()?;
        let bytes_of = |key: &str, value: usize| key.len() + value + PER_OPERATION;
        let held_bytes = bytes_of(&header_key, held.as_ref().map_or(0, String::len));
        let mut expect = made.cloned();
        let (mut part, mut bytes) = (Transaction::new(), held_bytes);
        for (key, value) in rest.into_iter().chain(header) {
            let more = bytes_of(key, value.map_or(0, String::len));
            if part.operations() > 0 && bytes + more > self.store.max_bytes() {
                let mut full = std::mem::take(&mut part);
                full.expect = Some((header_key.clone(), expect));
                let header = held.clone().map(|held| (header_key.clone(), held));
                full.set.extend(header);
                let Some(version) = self.store.transact(&full)? else {
                    return Ok(false);
                };
                expect = held.clone().map(|held| Entry::new(held, version));
                bytes = held_bytes;
            }
            bytes += more;
            match value {
                Some(value) => drop(part.set.insert(key.clone(), value.clone())),
                None => drop(part.delete.insert(key.clone())),
            }
        }
        part.expect = Some((header_key, expect));
        Ok(self.store.transact(&part)?.is_some())
    }

    pub(super) fn open_as(
        &self,
        setup: &Setup,
        edit: &mut Edit<'_>,
        serving: &mut Serving,
    ) -> Result<Commit> {
        if setup.alone {
            self.wait_until_alone()?;
        }
        let (mut before, mut first, mut routes) = (None, None, false);
        let commit = self.write(&mut |state, stored| {
            self.check_setup(setup, state)?;
            if !state.is_gone() {
                serving.explicit.check(state.head())?;
            }
            if stored.is_empty() {
                first = Some((state.head().clone(), state.head_entry().cloned()));
            }
            let is_gone = state.is_gone();
            let mut steps = state.set_up(setup)?;
            if is_gone {
                // What a table has left that was here before.
                steps.extend(self.repaired(state, None)?);
            }
            let legacy = legacy::read(&self.keys, &*self.store)?;
            let unknown = legacy.iter().map(|(route, _)| route);
            let unknown = unknown.filter(|route| state.table().get(&route.spec).is_none());
            let adopted: Vec<_> = unknown.map(|route| Change::from(route.clone())).collect();
            steps.extend(state.apply(&adopted)?);
            steps.extend(legacy.into_iter().map(|(_, gone)| Step::of(gone)));
            let changes = edit(state.table(), stored)?;
            routes |= !changes.is_empty();
            steps.extend(self.apply(state, &changes)?);
            // What is stored of a batch in parts was not there before.
            if setup.serves && !steps.is_empty() && stored.is_empty() {
                before = Some(self.snapshot()?);
            }
            Ok(steps)
        })?;
        let made = self.seen().last.clone();
        if let (Some(keys), Some((header, read)), Some(made)) = (before, first, made) {
            // The commit is made, and can't be taken back without these.
            let unsure = |error: Error| error.with_stored(Stored::Unknown);
            let after = self.snapshot().map_err(unsure)?;
            let others = self.is_served_by_others().map_err(unsure)?;
            let is_next =
                |earlier: &Before| earlier.after.get(&self.keys.header()) == read.as_ref();
            serving.before = Some(match serving.before.take() {
                Some(earlier) if is_next(&earlier) => Before {
                    after,
                    made,
                    routes: earlier.routes || routes,
                    ..earlier
                },
                earlier => Before {
                    keys,
                    after,
                    others,
                    incomplete: earlier.is_some(),
                    header,
                    made,
                    routes,
                },
            });
        }
        Ok(commit)
    }
}
