//! A table as keys: which keys stand for it, and what a change does to them. Does no I/O.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use super::flatten::flatten;
use super::{Entry, Step, Transaction};
use crate::backend::record::{Header, parse_line};
use crate::backend::{Commit, Contents, Setup};
use crate::config::dynamic::{Place, entries, marker, parent, router, service};
use crate::config::text::json_line;
use crate::error::{Error, ErrorKind, Result};
use crate::route::{
    Change, Layout, Parent, Prefix, Route, RouteSpec, Table, Target, canonical, fallback_name,
    marker_name, parent_name, parent_names, router_name, service_name,
};

/// The keys of a router that say where it gets its requests from; it has one of them.
const ENTRYPOINT: &str = "entryPoints/0";
const PARENT: &str = "parentRefs/0";
/// The way in which [`Layout`] lays tables out; another number than that of a stored table means
/// that its routers stand elsewhere.
const LAYOUT: u8 = 1;

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
                    "{option} {prefix:?} has an empty part or a control character"
                ));
            }
        }
        // Traefik watches all keys that begin with its root, whether a slash follows or not.
        if self.private.starts_with(&self.traefik) {
            return refuse(format!(
                "jupyterhub_prefix {:?} begins with traefik_prefix {:?}, so that Traefik would \
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

    fn route(&self, router: &str) -> String {
        format!("{}routes/{router}", self.own_tree())
    }

    pub(super) fn http(&self, part: &str, name: &str) -> String {
        format!("{}/http/{part}/{name}", self.traefik)
    }
}

/// How far below the entrypoint a router stands: the longer the parent's prefix, the further.
fn depth(parent: Option<&Prefix>) -> usize {
    parent.map_or(0, |prefix| prefix.len())
}

/// The route whose path is a parent's prefix.
fn as_long_as(prefix: &Prefix) -> Option<RouteSpec> {
    RouteSpec::new(canonical(prefix) + "/").ok()
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
    /// Services that nobody uses any more, to be deleted.
    left: Transaction,
    /// Whether a writer ended while it laid the routers out.
    torn: bool,
}

impl TableKeys {
    /// Reads what is below [`Keys::own_tree`].
    pub(super) fn parse(keys: &Keys, tree: &BTreeMap<String, Entry>) -> Result<Self> {
        let at = |key: &str, error: Error| error.context(format!("key {key}"));
        let header_key = keys.header();
        let stored = tree.get(&header_key).cloned();
        let header = match &stored {
            None => Header::new(keys.namespace(), marker_name(keys.namespace())),
            Some(entry) => parse_line(&entry.value).map_err(|error| at(&header_key, error))?,
        };
        let routes = keys.route("");
        let table = tree
            .iter()
            .filter(|(key, _)| key.starts_with(&routes))
            .map(|(key, entry)| parse_line::<Route>(&entry.value).map_err(|error| at(key, error)))
            .collect::<Result<Table>>()?;
        let mut users = HashMap::new();
        for route in &table {
            *users
                .entry(service_name(keys.namespace(), &route.target))
                .or_default() += 1;
        }
        Ok(Self {
            // A table that was laid out in another way is laid out anew with the next commit.
            layout: match header.layout {
                LAYOUT => Layout::of(&table, header.nested),
                _ => Layout::default(),
            },
            left: Transaction::new(),
            torn: stored.is_some() && header.layout != LAYOUT,
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

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// What a store with this table holds.
    pub(super) fn contents(&self) -> Contents {
        self.header.contents(self.table.clone())
    }

    pub(super) fn generation(&self) -> u64 {
        self.header.generation
    }

    pub(super) fn commit(&self, follows: Option<u64>) -> Commit {
        self.header.commit(follows)
    }

    /// About how much the header adds to each transaction.
    pub(super) fn header_bytes(&self) -> usize {
        json_line(&self.header).len() + 512
    }

    /// Makes changes, and says what they do to the keys. Of several to one routespec the last one
    /// counts.
    pub(super) fn apply(&mut self, changes: &[Change]) -> Result<Vec<Step>> {
        let numbered = changes.iter().enumerate();
        let last: HashMap<&RouteSpec, usize> = numbered.map(|(n, one)| (one.spec(), n)).collect();
        let (mut steps, mut fresh) = (Vec::new(), HashSet::new());
        for (n, change) in changes.iter().enumerate() {
            if last.get(change.spec()) == Some(&n) {
                if self.table.get(change.spec()).is_none() {
                    fresh.insert(change.spec());
                }
                steps.push(Step {
                    spec: Some(change.spec().clone()),
                    transaction: self.change(change)?,
                });
            }
        }
        self.lay_out(steps, &fresh)
    }

    /// Gives each router its place, given the steps that have changed the table, and the routes
    /// that are new.
    ///
    /// The steps come in an order in which no request goes astray, should they not fit in one
    /// transaction. What goes below a parent does so beginning with the shortest paths: a route
    /// that is left above would take the requests of those below it. What comes out begins with the
    /// longest ones. The route as long as a parent has the parent's priority; the two move together.
    fn lay_out(&mut self, changed: Vec<Step>, fresh: &HashSet<&RouteSpec>) -> Result<Vec<Step>> {
        let next = Layout::of(&self.table, self.header.nested);
        let last = std::mem::replace(&mut self.layout, next);
        let torn = std::mem::take(&mut self.torn);
        let own_spec = |step: Step| step.spec.map(|spec| (spec, step.transaction));
        let mut routes: BTreeMap<RouteSpec, Transaction> =
            changed.into_iter().filter_map(own_spec).collect();
        let all = self.table.iter().map(|route| &route.spec).filter(|_| torn);
        for spec in last.moved(&self.layout).chain(all) {
            if self.table.get(spec).is_some() && !routes.contains_key(spec) {
                routes.insert(spec.clone(), Transaction::new());
            }
        }
        for (spec, transaction) in &mut routes {
            if self.table.get(spec).is_some() {
                let name = router_name(self.keys.namespace(), spec);
                let places = [&last, &self.layout].map(|layout| layout.place(spec));
                let moved = (torn || places[0] != places[1]) && !fresh.contains(spec);
                self.place(&name, places[1], moved, transaction);
            }
        }
        let (mut inward, mut led, mut outward) = (Vec::new(), Vec::new(), Vec::new());
        for (prefix, parent) in self.layout.parents() {
            let path = canonical(prefix);
            let Some(before) = last.parents().get(prefix) else {
                let mut transaction = self.set_parent(prefix, parent)?;
                if routes.contains_key(&parent.fallback.spec) {
                    self.set_service(&parent.fallback.target, &mut transaction)?;
                }
                let spec = as_long_as(prefix).filter(|spec| routes.contains_key(spec));
                if let Some(own) = spec.as_ref().and_then(|spec| routes.remove(spec)) {
                    transaction.then(own);
                }
                inward.push((path, Step { spec, transaction }));
                continue;
            };
            let namespace = self.keys.namespace();
            if before.above != parent.above {
                let mut step = Step::default();
                let name = parent_name(namespace, prefix);
                let above = parent.above.as_ref();
                self.place(&name, above, true, &mut step.transaction);
                if depth(before.above.as_ref()) < depth(above) {
                    inward.push((path, step));
                } else {
                    outward.push((path, step));
                }
            }
            if before.fallback.target != parent.fallback.target {
                let mut step = Step::default();
                let router = fallback_name(namespace, prefix);
                let key = format!("{}/service", self.keys.http("routers", &router));
                let service = service_name(namespace, &parent.fallback.target);
                step.transaction.set.insert(key, service);
                led.push(step);
            }
        }
        let gone = last.parents().keys();
        for prefix in gone.filter(|prefix| !self.layout.parents().contains_key(*prefix)) {
            let spec = as_long_as(prefix).filter(|spec| routes.contains_key(spec));
            let own = spec.as_ref().and_then(|spec| routes.remove(spec));
            let mut transaction = own.unwrap_or_default();
            let namespace = self.keys.namespace();
            for name in parent_names(namespace, prefix) {
                self.delete_router(&name, &mut transaction);
            }
            outward.push((canonical(prefix), Step { spec, transaction }));
        }
        for (spec, transaction) in routes {
            let depths = [&last, &self.layout].map(|layout| depth(layout.place(&spec)));
            let list = if self.table.get(&spec).is_some() && depths[0] <= depths[1] {
                &mut inward
            } else {
                &mut outward
            };
            let path = spec.path().trim_end_matches('/').to_string();
            let spec = Some(spec);
            list.push((path, Step { spec, transaction }));
        }
        inward.sort_by(|(a, _), (b, _)| a.cmp(b));
        outward.sort_by(|(a, _), (b, _)| b.cmp(a));
        // Services last: until then somebody may still be led to them.
        let left = Step {
            spec: None,
            transaction: std::mem::take(&mut self.left),
        };
        let inward = inward.into_iter().map(|(_, step)| step);
        let outward = outward.into_iter().map(|(_, step)| step);
        let all = inward.chain(led).chain(outward).chain([left]);
        Ok(all
            .filter(|step| step.transaction.operations() > 0)
            .collect())
    }

    fn set_service(&self, target: &Target, into: &mut Transaction) -> Result<()> {
        let name = service_name(self.keys.namespace(), target);
        let key = self.keys.http("services", &name);
        flatten(&key, &service(target, &self.header.service), &mut into.set)
    }

    /// Has a router get its requests from the entrypoint, or from a parent.
    fn place(&self, router: &str, parent: Option<&Prefix>, moved: bool, into: &mut Transaction) {
        let router = self.keys.http("routers", router);
        let place = Place::new(self.keys.namespace(), &self.header.entrypoint, parent);
        let (key, value, other) = match place {
            Place::Entrypoint(entrypoint) => (ENTRYPOINT, entrypoint.to_string(), PARENT),
            Place::Below(parent) => (PARENT, parent, ENTRYPOINT),
        };
        let mut next = Transaction::new();
        next.set.insert(format!("{router}/{key}"), value);
        if moved {
            next.delete.insert(format!("{router}/{other}"));
        }
        into.then(next);
    }

    fn set_parent(&self, prefix: &Prefix, this: &Parent) -> Result<Transaction> {
        let mut transaction = Transaction::new();
        let (namespace, entrypoint) = (self.keys.namespace(), &self.header.entrypoint);
        let routers = parent(namespace, entrypoint, prefix, this);
        for (name, value) in &routers {
            let router = self.keys.http("routers", name);
            flatten(&router, value, &mut transaction.set)?;
        }
        Ok(transaction)
    }

    fn delete_router(&self, name: &str, from: &mut Transaction) {
        let router = self.keys.http("routers", name);
        for part in ["rule", "priority", "service", ENTRYPOINT, PARENT] {
            from.delete.insert(format!("{router}/{part}"));
        }
    }

    /// Makes a change to all but the router's place.
    fn change(&mut self, change: &Change) -> Result<Transaction> {
        let mut transaction = Transaction::new();
        let old = self.table.get(change.spec()).cloned();
        if let Change::Set(route) = change {
            let config = router(self.keys.namespace(), route);
            flatten(
                &self.keys.http("routers", &config.name),
                &config.value(),
                &mut transaction.set,
            )?;
            self.use_service(&config.service, &route.target, &mut transaction)?;
            transaction
                .set
                .insert(self.keys.route(&config.name), json_line(&**route));
        } else if let Some(old) = &old {
            let config = router(self.keys.namespace(), old);
            self.delete_router(&config.name, &mut transaction);
            transaction.delete.insert(self.keys.route(&config.name));
        }
        if let Some(old) = old {
            self.leave_service(&old.target)?;
        }
        self.table.apply(change);
        Ok(transaction)
    }

    fn use_service(&mut self, name: &str, target: &Target, into: &mut Transaction) -> Result<()> {
        let users = self.users.entry(name.into()).or_default();
        *users += 1;
        if *users == 1 {
            let mut next = Transaction::new();
            self.set_service(target, &mut next)?;
            self.left.delete.retain(|key| !next.set.contains_key(key));
            into.then(next);
        }
        Ok(())
    }

    fn leave_service(&mut self, target: &Target) -> Result<()> {
        let name = service_name(self.keys.namespace(), target);
        let users = self.users.entry(name.clone()).or_default();
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.users.remove(&name);
            let mut gone = BTreeMap::new();
            flatten(
                &self.keys.http("services", &name),
                &service(target, &self.header.service),
                &mut gone,
            )?;
            self.left.delete.extend(gone.into_keys());
        }
        Ok(())
    }

    /// Whether there is nothing of what this setup has stored.
    pub(super) fn lacks(&self, setup: &Setup) -> bool {
        let is_empty = |base: &Value| base.as_object().is_none_or(serde_json::Map::is_empty);
        self.stored.is_none()
            || is_empty(&self.header.base)
                && setup.base.as_ref().is_some_and(|base| !is_empty(base))
    }

    /// Stores a setup; see [`Backend::open`](crate::Backend::open). `certificate` says whether a
    /// default one is stored, ours or another's.
    pub(super) fn set_up(&mut self, setup: &Setup, certificate: bool) -> Result<Vec<Step>> {
        let ours = self.header.base.pointer("/tls/stores/default").is_some();
        let base = setup.base_over(&self.header.base, certificate && !ours);
        entries(&base)?;
        let mut steps = self.replace_base(base)?;
        if let Some(service) = &setup.service {
            if *service != self.header.service {
                steps.extend(self.replace_services(service)?);
            }
        }
        if self.header.entrypoint != setup.entrypoint {
            self.header.entrypoint.clone_from(&setup.entrypoint);
            let below = |spec: &RouteSpec| self.layout.place(spec).is_some();
            for route in self.table.iter().filter(|route| !below(&route.spec)) {
                let name = router_name(self.keys.namespace(), &route.spec);
                let mut transaction = Transaction::new();
                self.place(&name, None, false, &mut transaction);
                steps.push(Step {
                    spec: Some(route.spec.clone()),
                    transaction,
                });
            }
            let parents = self.layout.parents().iter();
            for (prefix, parent) in parents.filter(|(_, parent)| parent.above.is_none()) {
                steps.push(Step {
                    spec: None,
                    transaction: self.set_parent(prefix, parent)?,
                });
            }
        }
        self.header.nested = setup.nested.unwrap_or(self.header.nested);
        steps.extend(self.lay_out(Vec::new(), &HashSet::new())?);
        Ok(steps)
    }

    /// Gives every service another configuration beside its server.
    fn replace_services(&mut self, more: &Value) -> Result<Vec<Step>> {
        let old = std::mem::replace(&mut self.header.service, more.clone());
        let mut done = HashSet::new();
        let mut steps = Vec::new();
        for route in &self.table {
            let name = service_name(self.keys.namespace(), &route.target);
            let key = self.keys.http("services", &name);
            if !done.insert(name) {
                continue;
            }
            let (mut gone, mut transaction) = (BTreeMap::new(), Transaction::new());
            flatten(&key, &service(&route.target, &old), &mut gone)?;
            let value = service(&route.target, more);
            flatten(&key, &value, &mut transaction.set)?;
            gone.retain(|key, _| !transaction.set.contains_key(key));
            transaction.delete = gone.into_keys().collect();
            steps.push(Step {
                spec: Some(route.spec.clone()),
                transaction,
            });
        }
        Ok(steps)
    }

    /// Takes our setup out again.
    pub(super) fn tear_down(&mut self) -> Result<Vec<Step>> {
        self.replace_base(json!({}))
    }

    fn replace_base(&mut self, base: Value) -> Result<Vec<Step>> {
        let old = self.base_keys(&self.header.base)?;
        let new = self.base_keys(&base)?;
        self.header.base = base;
        let mut transaction = Transaction::new();
        transaction.delete = old
            .into_keys()
            .filter(|key| !new.contains_key(key))
            .collect();
        transaction.set = new;
        Ok(vec![Step {
            spec: None,
            transaction,
        }])
    }

    fn base_keys(&self, base: &Value) -> Result<BTreeMap<String, String>> {
        let mut keys = BTreeMap::new();
        if base.as_object().is_some_and(|base| !base.is_empty()) {
            flatten(&self.keys.traefik, base, &mut keys)?;
        }
        Ok(keys)
    }

    /// Completes a transaction with the next generation, and with the condition that nobody else
    /// has committed since. Returns what tells it from all others.
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
        // Whoever finds it so, after a writer that ended here, can't tell where each router stands.
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
        let header: Header = parse_line(header)?;
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
    pub(super) fn removal(&self) -> Transaction {
        let marker = self.keys.http("middlewares", &self.header.marker);
        let mut transaction = Transaction::new();
        transaction.delete.insert(self.keys.header());
        transaction.delete_trees.insert(format!("{marker}/"));
        transaction.expect = self.expect();
        transaction
    }
}
