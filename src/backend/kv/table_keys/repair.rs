//! What the store has of a table, compared with what the table says.

use std::collections::{BTreeMap, BTreeSet};

use super::TableKeys;
use crate::backend::kv::flatten::{flatten, flatten_fields};
use crate::backend::kv::{KvBackend, KvStore, Step, Transaction};
use crate::config::dynamic::{Place, marker, router, service};
use crate::config::text::json_line;
use crate::error::Result;
use crate::route::{Group, Route, RouteSpec, Target, router_name, service_name};

/// To read the keys of one route costs about as much as to read those of so many at once.
const ROUTES_A_LOOK: usize = 25;

impl<S: KvStore> KvBackend<S> {
    /// The steps that write again what the store does not have as the table says: of these routes, or
    /// without any, of the table as a whole.
    pub(in crate::backend::kv) fn repaired(
        &self,
        state: &TableKeys,
        specs: Option<&[&RouteSpec]>,
    ) -> Result<Vec<Step>> {
        let is_few = |specs: &&[&RouteSpec]| {
            specs.len() <= 1 || specs.len() * ROUTES_A_LOOK <= state.table.len()
        };
        let mut stored = BTreeMap::new();
        let mut read = |tree: &str| -> Result<()> {
            let tree = self.store.read_tree(tree)?.into_iter();
            stored.extend(tree.map(|(key, entry)| (key, entry.value)));
            Ok(())
        };
        let Some(specs) = specs.filter(is_few) else {
            read(&format!("{}/", state.keys.traefik))?;
            read(&state.keys.own_tree())?;
            let expected = state.all_keys()?;
            return Ok(state.differences(&stored, &expected, &state.stale(&stored, &expected)));
        };
        let mut expected = BTreeMap::new();
        let mut entries = BTreeSet::new();
        for spec in specs {
            let name = router_name(state.keys.namespace(), spec);
            entries.insert(state.keys.http("routers", &name));
            entries.insert(state.keys.route(&name));
            if let Some(route) = state.table.get(spec) {
                state.keys_of(route, &mut expected)?;
                state.keys_of_parents(state.layout.place(spec), &mut expected)?;
            }
        }
        entries.extend(expected.keys().map(|key| state.entry_of(key).to_string()));
        for entry in &entries {
            // A router or service is a map, and a record one key.
            read(&match entry.starts_with(&state.keys.own_tree()) {
                true => entry.clone(),
                false => format!("{entry}/"),
            })?;
        }
        Ok(state.differences(&stored, &expected, &entries))
    }
}

impl TableKeys {
    /// All keys that stand for the table but its header.
    fn all_keys(&self) -> Result<BTreeMap<String, String>> {
        let mut keys = self.config_keys()?;
        let marker_key = self.keys.http("middlewares", &self.header.marker);
        flatten(&marker_key, &marker(self.header.generation), &mut keys)?;
        for route in &self.table {
            self.keys_of(route, &mut keys)?;
        }
        for group in self.layout.parents().keys() {
            self.keys_of_parents(Some(group), &mut keys)?;
        }
        Ok(keys)
    }

    /// The keys of a route: its record, its router and its service.
    fn keys_of(&self, route: &Route, into: &mut BTreeMap<String, String>) -> Result<()> {
        let namespace = self.keys.namespace();
        let service = service_name(namespace, &route.target);
        let config = router(namespace, &route.spec, &service);
        let place = self.layout.place(&route.spec);
        let place = Place::new(namespace, self.header.entrance(), place);
        let key = self.keys.http("routers", &config.name);
        flatten_fields(&key, config.fields_at(&place), into);
        into.insert(self.keys.route(&config.name), json_line(route));
        self.keys_of_service(&route.target, into)
    }

    fn keys_of_service(&self, target: &Target, into: &mut BTreeMap<String, String>) -> Result<()> {
        let name = service_name(self.keys.namespace(), target);
        let config = service(target, &self.header.service);
        flatten(&self.keys.http("services", &name), &config, into)
    }

    /// The keys of a parent and of those that it stands below.
    fn keys_of_parents<'a>(
        &'a self,
        mut group: Option<&'a Group>,
        into: &mut BTreeMap<String, String>,
    ) -> Result<()> {
        while let Some((name, parent)) = group.and_then(|name| {
            let parent = self.layout.parents().get(name);
            Some((name, parent?))
        }) {
            let mut routers = Transaction::new();
            self.set_parent(name, parent, &mut routers);
            into.extend(routers.set);
            if let Some(target) = &parent.fallback {
                self.keys_of_service(target, into)?;
            }
            group = parent.above.as_ref();
        }
        Ok(())
    }

    /// The router, service, middleware or record that a key belongs to; of a deeper key elsewhere the
    /// key itself.
    pub(super) fn entry_of<'k>(&self, key: &'k str) -> &'k str {
        let http = self.keys.http("", "");
        let http = http.trim_end_matches('/');
        let Some(rest) = key
            .strip_prefix(http)
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            return key;
        };
        let end = rest.match_indices('/').nth(1).map(|(at, _)| at);
        end.map_or(key, |end| &key[..key.len() - rest.len() + end])
    }

    /// The entries that are there and are ours: those that are expected, and those that nobody knows
    /// any more. A router's name alone does not tell whose it is. The service that it leads to does,
    /// whose name is made of our namespace and its server.
    fn stale(
        &self,
        stored: &BTreeMap<String, String>,
        expected: &BTreeMap<String, String>,
    ) -> BTreeSet<String> {
        let mut ours: BTreeSet<String> = (expected.keys())
            .map(|key| self.entry_of(key).to_string())
            .collect();
        let (routes, parents) = (self.keys.route(""), self.keys.parent(""));
        let entries: BTreeSet<&str> = stored.keys().map(|key| self.entry_of(key)).collect();
        let (routers, services) = (
            self.keys.http("routers", ""),
            self.keys.http("services", ""),
        );
        for entry in &entries {
            let is_service = |name: &str| {
                let url = stored.get(&format!("{entry}/loadBalancer/servers/0/url"));
                let target = url.and_then(|url| Target::new(url).ok());
                target.is_some_and(|target| service_name(self.keys.namespace(), &target) == name)
            };
            if entry.strip_prefix(&*services).is_some_and(is_service) {
                ours.insert((*entry).into());
            } else if let Some(name) = entry.strip_prefix(&*parents) {
                ours.extend([(*entry).into(), self.keys.http("routers", name)]);
            } else if let Some(name) = entry.strip_prefix(&*routes) {
                ours.extend([(*entry).into(), self.keys.http("routers", name)]);
            }
        }
        for entry in entries.iter().filter(|entry| entry.starts_with(&routers)) {
            let service = stored.get(&format!("{entry}/service"));
            let service = service.map(|name| self.keys.http("services", name));
            if service.is_some_and(|service| ours.contains(&service)) {
                ours.insert((*entry).into());
            }
        }
        ours
    }

    /// What to write so that these entries are as expected.
    fn differences(
        &self,
        stored: &BTreeMap<String, String>,
        expected: &BTreeMap<String, String>,
        entries: &BTreeSet<String>,
    ) -> Vec<Step> {
        let mut changes: BTreeMap<&str, Transaction> = BTreeMap::new();
        let is_wrong = |(key, value): &(&String, &String)| stored.get(*key) != Some(*value);
        for (key, value) in expected.iter().filter(is_wrong) {
            let change = changes.entry(self.entry_of(key)).or_default();
            change.set.insert(key.clone(), value.clone());
        }
        for key in stored.keys().filter(|key| !expected.contains_key(*key)) {
            let entry = self.entry_of(key);
            if entries.contains(entry) {
                let change = changes.entry(entry).or_default();
                change.delete.insert(key.clone());
            }
        }
        // A router leads to its service only once that is there.
        let services = self.keys.http("services", "");
        let (services, others): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|(entry, _)| entry.starts_with(&services));
        let steps = services.into_iter().chain(others);
        steps.map(|(_, change)| Step::of(change)).collect()
    }
}
