//! A table as keys: which keys stand for it, and what a change does to them. Does no I/O.

mod repair;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::flatten::{flatten, flatten_fields};
use super::step::Step;
use super::store::{Entry, Transaction};
use crate::backend::record::{Header, parse_line};
use crate::backend::{Commit, Contents, Setup};
use crate::config::dynamic::{
    Place, entries, has_default_certificate, marker, parent, router, service,
};
use crate::config::text::json_line;
use crate::error::{Error, ErrorKind, Result};
use crate::route::{
    Change, Group, Layout, Parent, Route, RouteSpec, Table, Target, fallback_name, marker_name,
    parent_name, router_name, service_name,
};

/// The keys of a router that say where it gets its requests from; it has one of them.
const ENTRYPOINT: &str = "entryPoints/0";
const PARENT: &str = "parentRefs/0";
/// The key of a router at the entrypoint that serves TLS.
const TLS: &str = "tls";
/// The way in which [`Layout`] lays tables out; another number than that of a stored table means
/// that its routers stand elsewhere.
const LAYOUT: u8 = 2;

/// How many commits the header remembers.
const RECENT: usize = 16;

/// Where the keys of a table are.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    traefik: String,
    private: String,
}

impl Keys {
    pub(super) fn new(traefik: &str, private: &str) -> Self {
        let bare = |prefix: &str| prefix.trim_matches('/').to_string();
        Self {
            traefik: bare(traefik),
            private: bare(private),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        for (option, prefix) in [
            ("traefik_prefix", &self.traefik),
            ("jupyterhub_prefix", &self.private),
        ] {
            if prefix.split('/').any(str::is_empty) || prefix.chars().any(char::is_control) {
                return refuse(format!(
                    "`{option}` {prefix:?} has an empty part or a control character"
                ));
            }
        }
        // Traefik watches all keys that begin with its root, whether a slash follows or not.
        if self.private.starts_with(&self.traefik) {
            return refuse(format!(
                "`jupyterhub_prefix` {:?} begins with `traefik_prefix` {:?}, so that Traefik would \
                 reload for keys that are not its own; choose another one",
                self.private, self.traefik
            ));
        }
        Ok(())
    }

    pub(super) fn traefik(&self) -> &str {
        &self.traefik
    }

    pub(super) fn private(&self) -> &str {
        &self.private
    }

    /// What keeps the names of this table apart from those of others.
    pub(super) fn namespace(&self) -> &str {
        if self.private == "jupyterhub" {
            ""
        } else {
            &self.private
        }
    }

    pub(super) fn private_tree(&self) -> String {
        format!("{}/", self.private)
    }

    /// All that is in `http.routers`.
    pub(super) fn routers(&self) -> String {
        self.http("routers", "")
    }

    pub(super) fn default_certificate(&self) -> String {
        format!("{}/tls/stores/default/", self.traefik)
    }

    /// Where jupyterhub-traefik-proxy keeps its routes.
    pub(super) fn legacy_tree(&self) -> String {
        format!("{}/routes/", self.private)
    }

    /// All that only we read.
    pub(super) fn own_tree(&self) -> String {
        format!("{}/traefik-router/", self.private)
    }

    pub(super) fn header(&self) -> String {
        format!("{}header", self.own_tree())
    }

    /// A key that stands for nothing.
    pub(super) fn scratch(&self) -> String {
        format!("{}scratch", self.own_tree())
    }

    /// Those that have begun to serve the table, and have not said that they have ended.
    pub(super) fn program(&self, writer: &str) -> String {
        format!("{}programs/{writer}", self.own_tree())
    }

    /// Those of them that are alive.
    pub(super) fn serving(&self, writer: &str) -> String {
        format!("{}serving/{writer}", self.own_tree())
    }

    fn route(&self, router: &str) -> String {
        format!("{}routes/{router}", self.own_tree())
    }

    /// Shows to a writer that finds a torn table which routers are parents, or stand in for what is left.
    fn parent(&self, router: &str) -> String {
        format!("{}parents/{router}", self.own_tree())
    }

    pub(super) fn http(&self, part: &str, name: &str) -> String {
        format!("{}/http/{part}/{name}", self.traefik)
    }
}

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
    /// How many routes use a service.
    users: HashMap<String, usize>,
    /// The keys of new services, which are set before a router leads to them.
    new_services: HashMap<String, BTreeMap<String, String>>,
    /// Services that no router uses any more, to be deleted.
    stale_services: Transaction,
    /// The routers of the parents that may be there, if a writer ended while it laid routers out.
    torn: Option<Vec<String>>,
}

/// What a commit does behind one gate.
#[derive(Default)]
struct GatePlan {
    /// First of all, routes that are new or changed.
    own: Vec<Step>,
    /// The gate itself, the parents behind it, and the routes that come or go.
    step: Step,
}

/// What a commit does behind gates: those that it opens up first, then those that there are.
#[derive(Default)]
struct GatePlans {
    opened: BTreeMap<Group, GatePlan>,
    there: BTreeMap<Group, GatePlan>,
}

impl GatePlans {
    /// The steps for the routers that stand behind this gate now.
    fn of(&mut self, gate: &Group) -> &mut GatePlan {
        let plans = match self.opened.contains_key(gate) {
            true => &mut self.opened,
            false => &mut self.there,
        };
        plans.entry(Group::clone(gate)).or_default()
    }
}

impl TableKeys {
    /// Reads what is below [`Keys::own_tree`].
    pub(super) fn parse(keys: &Keys, tree: &BTreeMap<String, Entry>) -> Result<Self> {
        let at = |key: &str, error: Error| error.context(format!("key {key}"));
        let header_key = keys.header();
        let stored = tree.get(&header_key).cloned();
        let mut header = match &stored {
            None => {
                // Another table may have been here, which a Traefik still shows.
                let unique = crate::random::hex::<8>()?;
                Header::new(keys.namespace(), marker_name(&unique))
            }
            Some(entry) => Header::parse(&entry.value).map_err(|error| at(&header_key, error))?,
        };
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
                .entry(service_name(keys.namespace(), &route.target))
                .or_default() += 1;
        }
        Ok(Self {
            // A table that was laid out in another way is laid out anew with the next commit.
            layout: match header.layout {
                LAYOUT => Layout::of(&table, header.nested()),
                _ => Layout::default(),
            },
            new_services: HashMap::new(),
            stale_services: Transaction::new(),
            torn,
            keys: keys.clone(),
            stored,
            header,
            table,
            users,
        })
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
        let mut changed = BTreeMap::new();
        for change in changes {
            let spec = change.spec();
            let is_new = self.table.get(spec).is_none();
            let mut transaction = self.change(change)?;
            if is_new && matches!(change, Change::Set(_)) {
                let router = router_name(self.keys.namespace(), spec);
                let mut place = Transaction::new();
                self.place(&router, None, false, &mut place);
                place.fresh = place.set.keys().cloned().collect();
                transaction.then(place);
            }
            changed.insert(spec.clone(), transaction);
        }
        self.lay_out(changed)
    }

    /// Gives each router its place after a change of the table. New routes are at the entrypoint until then.
    ///
    /// The steps may need several transactions, and no request goes astray between two of them. A router at
    /// the entrypoint matches what it should, so a router is there while its gate changes. One transaction
    /// changes a gate and the routers behind it.
    fn lay_out(&mut self, mut changed: BTreeMap<RouteSpec, Transaction>) -> Result<Vec<Step>> {
        let next = Layout::of(&self.table, self.header.nested());
        let last = std::mem::replace(&mut self.layout, next);
        let mut steps = self.mend(&mut changed);
        let mut plans = self.opened(&last);
        self.move_routes(&last, &mut plans);
        self.move_parents(&last, &mut plans)?;
        let mut beside = Vec::new();
        for (spec, transaction) in changed {
            let is_there = self.table.get(&spec).is_some();
            let layout = if is_there { &self.layout } else { &last };
            let step = Step {
                specs: vec![spec],
                transaction,
            };
            match layout.gate(&step.specs[0]) {
                None => beside.push(step),
                Some(gate) if is_there => {
                    let there = plans.there.entry(Group::clone(gate));
                    there.or_default().own.push(step);
                }
                Some(gate) => plans.of(gate).step.then(step),
            }
        }
        steps.extend(plans.opened.into_values().map(|work| work.step));
        steps.append(&mut beside);
        for work in plans.there.into_values() {
            steps.extend(work.own);
            steps.push(work.step);
        }
        self.set_services(&mut steps);
        // Services last: until then a router may still lead to them.
        let mut left: BTreeMap<String, Transaction> = BTreeMap::new();
        for key in std::mem::take(&mut self.stale_services).delete {
            let service = left.entry(self.entry_of(&key).into()).or_default();
            service.delete.insert(key);
        }
        steps.extend(left.into_values().map(Step::of));
        steps.retain(|step| step.transaction.operations() > 0);
        Ok(steps)
    }

    /// After a writer that ended while it laid routers out: all of them begin at the entrypoint, and
    /// then the parents that may be there are taken down.
    fn mend(&mut self, changed: &mut BTreeMap<RouteSpec, Transaction>) -> Vec<Step> {
        let Some(parents) = self.torn.take() else {
            return Vec::new();
        };
        let mut steps = Vec::new();
        for route in &self.table {
            let router = router_name(self.keys.namespace(), &route.spec);
            let mut step = Step::default();
            let own = changed.get_mut(&route.spec);
            let transaction = own.unwrap_or(&mut step.transaction);
            self.place(&router, None, true, transaction);
            steps.push(step);
        }
        for router in parents {
            let mut step = Step::default();
            self.delete_parent(&router, &mut step.transaction);
            steps.push(step);
        }
        steps
    }

    /// The gates that are opened: those of the last layout that are no more, those that a route or a parent
    /// leaves, and those that get a route which, at the entrypoint, would take requests of the routes there.
    fn opened(&self, last: &Layout) -> GatePlans {
        let stays = |spec: &&RouteSpec| self.table.get(spec).is_some();
        let moved = last.moved(&self.layout);
        let routes = moved.iter().copied().filter(stays);
        let routes = routes.filter_map(|spec| {
            let gate = last.gate(spec)?;
            (self.layout.gate(spec) != Some(gate)).then_some(gate)
        });
        let new = moved.iter().filter(|spec| last.place(spec).is_none());
        let new = new.filter_map(|spec| {
            let gate = self.layout.gate(spec)?;
            let mut below = self.table.below(spec);
            below
                .any(|other| last.gate(other) == Some(gate))
                .then_some(gate)
        });
        let parents = last.parents().keys().filter_map(|group| {
            let gate = last.gate_of(group);
            let leaves = match self.layout.parents().contains_key(group) {
                true => self.layout.gate_of(group) != gate,
                false => group == gate,
            };
            leaves.then_some(gate)
        });
        let opened = routes.chain(new).chain(parents).map(Group::clone);
        GatePlans {
            opened: opened.map(|gate| (gate, GatePlan::default())).collect(),
            there: BTreeMap::new(),
        }
    }

    /// Moves routes to the entrypoint from behind gates that are opened, and behind those that are
    /// there.
    fn move_routes(&self, last: &Layout, plans: &mut GatePlans) {
        let opened =
            |(_, parent): &&(RouteSpec, Group)| plans.opened.contains_key(last.gate_of(parent));
        let opened = last.places().iter().filter(opened);
        let moved: BTreeSet<&RouteSpec> = last
            .moved(&self.layout)
            .into_iter()
            .chain(opened.map(|(spec, _)| spec))
            .filter(|spec| self.table.get(spec).is_some())
            .collect();
        for spec in moved {
            let router = router_name(self.keys.namespace(), spec);
            let out = last.gate(spec).and_then(|gate| plans.opened.get_mut(gate));
            if let Some(work) = out {
                self.place(&router, None, true, &mut work.step.transaction);
            }
            if let Some(gate) = self.layout.gate(spec) {
                let there = plans.there.entry(Group::clone(gate)).or_default();
                let place = self.layout.place(spec);
                self.place(&router, place, true, &mut there.step.transaction);
            }
        }
    }

    /// Takes down parents and sets up others.
    fn move_parents(&self, last: &Layout, plans: &mut GatePlans) -> Result<()> {
        let namespace = self.keys.namespace();
        for (group, parent) in last.parents() {
            let gate = last.gate_of(group);
            let next = self.layout.parents().get(group);
            let next = next.filter(|_| !plans.opened.contains_key(gate));
            if next == Some(parent) {
                continue;
            }
            let transaction = &mut plans.of(gate).step.transaction;
            if next.is_none() {
                self.delete_parent(&parent_name(namespace, group), transaction);
            }
            if parent.fallback.is_some() && next.is_none_or(|next| next.fallback.is_none()) {
                self.delete_parent(&fallback_name(namespace, group), transaction);
            }
        }
        for (group, parent) in self.layout.parents() {
            let before = last.parents().get(group);
            let before = before.filter(|_| !plans.opened.contains_key(last.gate_of(group)));
            if before != Some(parent) {
                let gate = Group::clone(self.layout.gate_of(group));
                let there = plans.there.entry(gate).or_default();
                self.set_parent(group, parent, &mut there.step.transaction);
            }
        }
        Ok(())
    }

    /// Sets each new service with the first router that leads to it.
    fn set_services(&mut self, steps: &mut [Step]) {
        let mut come = std::mem::take(&mut self.new_services);
        for set in steps.iter_mut().map(|step| &mut step.transaction.set) {
            let led = set.iter().filter(|(key, _)| key.ends_with("/service"));
            let new: Vec<_> = led
                .filter_map(|(_, service)| come.remove(service))
                .collect();
            set.extend(new.into_iter().flatten());
        }
    }

    /// Has a router get its requests from the entrypoint, or from a parent.
    fn place(&self, router: &str, parent: Option<&Group>, moved: bool, into: &mut Transaction) {
        let router = self.keys.http("routers", router);
        let place = Place::new(self.keys.namespace(), self.header.entrance(), parent);
        let mut next = Transaction::new();
        flatten_fields(&router, place.fields(), &mut next.set);
        if moved {
            let others: &[_] = match place {
                Place::Entrypoint(_) => &[PARENT],
                Place::Below(_) if self.header.tls => &[ENTRYPOINT, TLS],
                Place::Below(_) => &[ENTRYPOINT],
            };
            let others = others.iter().map(|other| format!("{router}/{other}"));
            next.delete.extend(others);
        }
        into.then(next);
    }

    fn set_parent(&self, group: &Group, this: &Parent, into: &mut Transaction) {
        let mut next = Transaction::new();
        let (namespace, entrance) = (self.keys.namespace(), self.header.entrance());
        for (router, place) in parent(namespace, entrance, group, this) {
            let key = self.keys.http("routers", &router.name);
            flatten_fields(&key, router.fields_at(&place), &mut next.set);
            next.set
                .insert(self.keys.parent(&router.name), group.to_string());
        }
        into.then(next);
    }

    fn delete_parent(&self, name: &str, from: &mut Transaction) {
        self.delete_router(name, from);
        from.delete.insert(self.keys.parent(name));
    }

    fn delete_router(&self, name: &str, from: &mut Transaction) {
        let router = self.keys.http("routers", name);
        let parts = ["rule", "priority", "service", ENTRYPOINT, PARENT];
        let tls = self.header.tls.then_some(TLS);
        for part in parts.into_iter().chain(tls) {
            from.delete.insert(format!("{router}/{part}"));
        }
    }

    /// Makes a change to all but the router's place.
    fn change(&mut self, change: &Change) -> Result<Transaction> {
        let mut transaction = Transaction::new();
        let old = self.table.get(change.spec()).cloned();
        if let Change::Set(route) = change {
            let service = service_name(self.keys.namespace(), &route.target);
            let config = router(self.keys.namespace(), &route.spec, &service);
            let key = self.keys.http("routers", &config.name);
            flatten_fields(&key, config.fields(), &mut transaction.set);
            self.use_service(&service, &route.target)?;
            transaction
                .set
                .insert(self.keys.route(&config.name), json_line(&**route));
        } else if let Some(old) = &old {
            let name = router_name(self.keys.namespace(), &old.spec);
            self.delete_router(&name, &mut transaction);
            transaction.delete.insert(self.keys.route(&name));
        }
        if let Some(old) = old {
            self.leave_service(&old.target)?;
        }
        self.table.apply(change);
        Ok(transaction)
    }

    fn use_service(&mut self, name: &str, target: &Target) -> Result<()> {
        let users = self.users.entry(name.into()).or_default();
        *users += 1;
        if *users == 1 {
            let key = self.keys.http("services", name);
            let mut keys = BTreeMap::new();
            flatten(&key, &service(target, &self.header.service), &mut keys)?;
            self.stale_services
                .delete
                .retain(|key| !keys.contains_key(key));
            self.new_services.insert(name.into(), keys);
        }
        Ok(())
    }

    fn leave_service(&mut self, target: &Target) -> Result<()> {
        let name = service_name(self.keys.namespace(), target);
        let users = self.users.entry(name.clone()).or_default();
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.users.remove(&name);
            self.new_services.remove(&name);
            let mut gone = BTreeMap::new();
            flatten(
                &self.keys.http("services", &name),
                &service(target, &self.header.service),
                &mut gone,
            )?;
            self.stale_services.delete.extend(gone.into_keys());
        }
        Ok(())
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
        if (&self.header.entrypoint, self.header.tls) != (&before.entrypoint, before.tls) {
            steps.extend(self.replace_entrance(before.tls));
        }
        steps.extend(self.lay_out(BTreeMap::new())?);
        Ok(steps)
    }

    /// Gives the routers at the entrypoint another one, or another way to serve TLS.
    fn replace_entrance(&self, had_tls: bool) -> Vec<Step> {
        let namespace = self.keys.namespace();
        let below = |spec: &RouteSpec| self.layout.place(spec).is_some();
        let routes = self.table.iter().filter(|route| !below(&route.spec));
        let routes = routes.map(|route| router_name(namespace, &route.spec));
        let parents = self.layout.parents().iter();
        let gates = parents.filter(|(_, parent)| parent.above.is_none());
        let gates = gates.map(|(group, _)| parent_name(namespace, group));
        let entrance = |name: String| {
            let mut step = Step::default();
            self.place(&name, None, false, &mut step.transaction);
            if had_tls && !self.header.tls {
                let router = self.keys.http("routers", &name);
                step.transaction.delete.insert(format!("{router}/{TLS}"));
            }
            step
        };
        routes.chain(gates).map(entrance).collect()
    }

    /// Gives every service another configuration beside its server.
    fn replace_services(&self, old: &Value) -> Result<Vec<Step>> {
        let more = &self.header.service;
        let mut done = HashSet::new();
        let mut steps = Vec::new();
        for route in &self.table {
            let name = service_name(self.keys.namespace(), &route.target);
            let key = self.keys.http("services", &name);
            if !done.insert(name) {
                continue;
            }
            let (mut gone, mut transaction) = (BTreeMap::new(), Transaction::new());
            flatten(&key, &service(&route.target, old), &mut gone)?;
            let value = service(&route.target, more);
            flatten(&key, &value, &mut transaction.set)?;
            gone.retain(|key, _| !transaction.set.contains_key(key));
            transaction.delete = gone.into_keys().collect();
            steps.push(Step::of(transaction));
        }
        Ok(steps)
    }

    /// The keys of what stands beside the routes and the marker.
    fn config_keys(&self) -> Result<BTreeMap<String, String>> {
        let mut keys = BTreeMap::new();
        flatten(&self.keys.traefik, &self.header.config(), &mut keys)?;
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
        self.header.turn = (!last).then(|| seal.clone());
        // A writer that finds the table so, since another one ended here, does not know where each router stands.
        self.header.layout = if last { LAYOUT } else { 0 };
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
