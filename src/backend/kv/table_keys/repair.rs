//! What the store has of a table, compared with what the table says.

use std::collections::{BTreeMap, BTreeSet};

use super::TableKeys;
use crate::backend::kv::flatten::flatten;
use crate::backend::kv::step::Step;
use crate::backend::kv::{KvBackend, KvStore, Transaction};
use crate::config::dynamic::marker;
use crate::error::Result;
use crate::route::{
    Group, Route, RouteSpec, Target, is_like_a_name, router_name, target_service_name,
};

/// Reading the keys of one route costs about as much as reading those of so many in one request.
const ROUTES_PER_REQUEST: usize = 25;

impl<S: KvStore> KvBackend<S> {
    /// The steps that write again what the store does not have as the table says: of these routes, or
    /// without any, of the table as a whole.
    pub(in crate::backend::kv) fn repaired(
        &self,
        state: &TableKeys,
        specs: Option<&[&RouteSpec]>,
    ) -> Result<Vec<Step>> {
        let mut stored = BTreeMap::new();
        let mut read = |tree: &str| -> Result<()> {
            let tree = self.store.read_tree(tree)?.into_iter();
            stored.extend(tree.map(|(key, entry)| (key, entry.value)));
            Ok(())
        };
        let whole = [format!("{}/", state.keys.traefik()), state.keys.own_tree()];
        let Some(specs) = specs else {
            whole.iter().try_for_each(|tree| read(tree))?;
            let expected = state.all_keys()?;
            let ours = state.our_entries(&stored, &expected);
            return Ok(state.differences(&stored, &expected, &ours));
        };
        let (mut expected, mut entries) = (BTreeMap::new(), BTreeSet::new());
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
        if specs.len() > 1 && specs.len() * ROUTES_PER_REQUEST > state.table.len() {
            whole.iter().try_for_each(|tree| read(tree))?;
        } else {
            for entry in &entries {
                // A router or service is a map, and a record one key.
                read(&match entry.starts_with(&state.keys.own_tree()) {
                    true => entry.clone(),
                    false => format!("{entry}/"),
                })?;
            }
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

    /// The keys of a route and its service.
    fn keys_of(&self, route: &Route, into: &mut BTreeMap<String, String>) -> Result<()> {
        into.extend(self.route_keys(self.view(), &route.spec));
        self.keys_of_service(route, into)
    }

    /// The keys of a parent and of those that it stands below.
    fn keys_of_parents(
        &self,
        group: Option<&Group>,
        into: &mut BTreeMap<String, String>,
    ) -> Result<()> {
        let parents = self.layout.parents();
        let mut next = group.and_then(|group| parents.get_key_value(group));
        while let Some((group, parent)) = next {
            into.extend(self.parent_keys(self.view(), group));
            if let Some(route) = &parent.fallback {
                self.keys_of_service(route, into)?;
            }
            next = parent
                .above
                .as_ref()
                .and_then(|above| parents.get_key_value(above));
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

    /// Our entries in the store: those that are expected, and leftovers without a record. A leftover
    /// router is ours if it has a name like ours and leads to our service. A service is ours if
    /// its name is the one that we give to its server, or one of our keys says so.
    fn our_entries(
        &self,
        stored: &BTreeMap<String, String>,
        expected: &BTreeMap<String, String>,
    ) -> BTreeSet<String> {
        let mut ours: BTreeSet<String> = (expected.keys())
            .map(|key| self.entry_of(key).to_string())
            .collect();
        let (routes, parents) = (self.keys.route(""), self.keys.parent(""));
        let named = self.keys.service("");
        let entries: BTreeSet<&str> = stored.keys().map(|key| self.entry_of(key)).collect();
        let (routers, services) = (
            self.keys.http("routers", ""),
            self.keys.http("services", ""),
        );
        for entry in &entries {
            let is_service = |name: &str| {
                let url = stored.get(&format!("{entry}/loadBalancer/servers/0/url"));
                let target = url.and_then(|url| Target::new(url).ok());
                let namespace = self.keys.namespace();
                target.is_some_and(|target| target_service_name(namespace, &target) == name)
            };
            if entry.strip_prefix(&*services).is_some_and(is_service) {
                ours.insert((*entry).into());
            } else if let Some(name) = entry.strip_prefix(&*named) {
                ours.extend([(*entry).into(), self.keys.http("services", name)]);
            } else if let Some(name) = entry.strip_prefix(&*parents) {
                ours.extend([(*entry).into(), self.keys.http("routers", name)]);
            } else if let Some(name) = entry.strip_prefix(&*routes) {
                let [router, middleware] =
                    ["routers", "middlewares"].map(|part| self.keys.http(part, name));
                ours.extend([(*entry).into(), router, middleware]);
            }
        }
        let like_ours = |entry: &&&str| entry.strip_prefix(&*routers).is_some_and(is_like_a_name);
        for entry in entries.iter().filter(like_ours) {
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
        // A router leads to its service once that is there, and until it goes.
        let services = self.keys.http("services", "");
        let (services, others): (BTreeMap<_, _>, BTreeMap<_, _>) = changes
            .into_iter()
            .partition(|(entry, _)| entry.starts_with(&services));
        let mut steps = Vec::new();
        let mut gone = Vec::new();
        for (_, mut change) in services {
            let mut deletion = Transaction::new();
            deletion.delete = std::mem::take(&mut change.delete);
            gone.push(deletion);
            steps.push(change);
        }
        steps.extend(others.into_values());
        steps.extend(gone);
        let steps = steps.into_iter().filter(|step| step.operations() > 0);
        steps.map(Step::of).collect()
    }
}
