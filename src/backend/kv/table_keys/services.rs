//! The keys of services, which several routes may use.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::TableKeys;
use crate::backend::kv::Transaction;
use crate::backend::kv::flatten::flatten;
use crate::backend::kv::step::Step;
use crate::config::dynamic::service;
use crate::error::Result;
use crate::route::{Route, RouteSpec, Table, service_name};

/// What sets each service that a change begins to use, by name, and what deletes each that it no longer uses.
#[derive(Default)]
pub(super) struct Services {
    new: HashMap<String, Transaction>,
    pub(super) unused: Vec<Transaction>,
}

impl Services {
    pub(super) fn bytes(&self) -> usize {
        let all = self.new.values().chain(&self.unused);
        all.map(Transaction::bytes).sum()
    }

    /// Sets each new service with the first router that leads to it.
    pub(super) fn set_with(&mut self, transaction: &mut Transaction) {
        let led = transaction.set.iter();
        let led = led.filter(|(key, _)| key.ends_with("/service"));
        let new: Vec<_> = led
            .filter_map(|(_, service)| self.new.remove(service))
            .collect();
        new.into_iter()
            .for_each(|service| transaction.then(service));
    }
}

impl TableKeys {
    /// The keys of a route's service.
    pub(super) fn keys_of_service(
        &self,
        route: &Route,
        into: &mut BTreeMap<String, String>,
    ) -> Result<()> {
        let name = service_name(self.keys.namespace(), route);
        let config = service(route, &self.header.service);
        if route.has_special_service() {
            into.insert(self.keys.service(&name), route.target.to_string());
        }
        flatten(&self.keys.http("services", &name), &config, into)
    }

    /// Counts how many routes use each service once the table is this one.
    pub(super) fn change_services(
        &mut self,
        table: &Table,
        changed: &BTreeSet<&RouteSpec>,
    ) -> Result<Services> {
        let mut touched: BTreeMap<String, (bool, &Route)> = BTreeMap::new();
        let mut services = Services::default();
        let last = self.table.clone();
        for spec in changed {
            let [old, new] = [&last, table].map(|table| table.get(spec));
            for (route, is_new) in [(new, true), (old, false)] {
                let Some(route) = route else { continue };
                let name = service_name(self.keys.namespace(), route);
                let users = self.users.entry(name.clone()).or_default();
                touched.entry(name).or_insert((*users > 0, route));
                match is_new {
                    true => *users += 1,
                    false => *users -= 1,
                }
            }
            if let (Some(old), Some(new)) = (old, new) {
                services.new.extend(self.changed_own_service(old, new)?);
            }
        }
        for (name, (was_used, route)) in touched {
            let is_used = self.users.get(&name).is_some_and(|users| *users > 0);
            if was_used && is_used {
                continue;
            }
            let mut transaction = Transaction::new();
            self.keys_of_service(route, &mut transaction.set)?;
            if is_used {
                services.new.insert(name, transaction);
            } else {
                self.users.remove(&name);
                let keys = std::mem::take(&mut transaction.set);
                transaction.delete = keys.into_keys().collect();
                services.unused.push(transaction);
            }
        }
        Ok(services)
    }

    /// What changes a service whose name stays.
    fn changed_own_service(
        &self,
        old: &Route,
        new: &Route,
    ) -> Result<Option<(String, Transaction)>> {
        if !old.has_own_service() || !new.has_own_service() {
            return Ok(None);
        }
        let [mut before, mut now] = [BTreeMap::new(), BTreeMap::new()];
        self.keys_of_service(old, &mut before)?;
        self.keys_of_service(new, &mut now)?;
        let mut transaction = Transaction::new();
        transaction.replace(before, now, true);
        let name = service_name(self.keys.namespace(), new);
        Ok(Some((name, transaction)))
    }

    /// Gives every service another configuration beside its server.
    pub(super) fn replace_services(&self, old: &Value) -> Result<Vec<Step>> {
        let mut done = HashSet::new();
        let mut steps = Vec::new();
        for route in &self.table {
            let name = service_name(self.keys.namespace(), route);
            let key = self.keys.http("services", &name);
            if !done.insert(name) {
                continue;
            }
            let [mut before, mut now] = [BTreeMap::new(), BTreeMap::new()];
            flatten(&key, &service(route, old), &mut before)?;
            self.keys_of_service(route, &mut now)?;
            let mut transaction = Transaction::new();
            transaction.replace(before, now, true);
            steps.push(Step::of(transaction));
        }
        Ok(steps)
    }
}
