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
    Entrance, Place, entries, has_default_certificate, marker, parent, prefix_stripper, router,
    service,
};
use crate::config::text::json_line;
use crate::error::{Error, ErrorKind, Result};
use crate::route::{
    Behind, Change, Group, Layout, Route, RouteSpec, Table, marker_name, service_name,
};

/// All keys that a parent may have.
const PARENT_KEYS: [&str; 7] = [
    "rule",
    "priority",
    "service",
    "entryPoints/0",
    "parentRefs/0",
    "tls",
    "middlewares/0",
];
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

    /// Shows the same of a service whose name does not follow from its only server.
    fn service(&self, service: &str) -> String {
        format!("{}services/{service}", self.own_tree())
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
    /// How large a transaction may be; see [`KvStore::max_bytes`](super::KvStore::max_bytes).
    max_bytes: usize,
    /// How many routes use a service.
    users: HashMap<String, usize>,
    /// The routers of the parents that may be there, if a writer ended while it laid routers out.
    torn: Option<Vec<String>>,
}

/// A table, and where its routers stand.
#[derive(Clone, Copy)]
struct View<'a> {
    table: &'a Table,
    layout: &'a Layout,
    entrance: Entrance<'a>,
}

/// What sets each service that a change begins to use, by name, and what deletes each that it no longer uses.
#[derive(Default)]
struct Services {
    new: HashMap<String, Transaction>,
    unused: Vec<Transaction>,
}

impl Services {
    fn bytes(&self) -> usize {
        let all = self.new.values().chain(&self.unused);
        all.map(Transaction::bytes).sum()
    }

    /// Sets each new service with the first router that leads to it.
    fn set_with(&mut self, transaction: &mut Transaction) {
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

    /// Becomes a table in which the routes of the `changed` routespecs are other ones. `entrance` is where
    /// routers have stood until now that stand below no other.
    ///
    /// Where one transaction has room for all of it, that is the difference between the two tables. Where not,
    /// no request goes astray between two transactions, since a router at the entrypoint matches what it
    /// should. Gates that change are taken down first, then routes change, then the new gates are set up. One
    /// transaction takes down or sets up a gate and moves all routes behind it.
    fn become_table(
        &mut self,
        table: Table,
        changed: &BTreeSet<&RouteSpec>,
        entrance: Entrance<'_>,
    ) -> Result<Vec<Step>> {
        let mut steps = self.mend(entrance);
        let mut services = self.change_services(&table, changed)?;
        let layout = Layout::of(&table, self.header.nested());
        let last_layout = std::mem::replace(&mut self.layout, layout);
        let last_table = std::mem::replace(&mut self.table, table);
        let from = View {
            table: &last_table,
            layout: &last_layout,
            entrance,
        };
        let whole = self.whole(from, changed);
        let bytes = self.header_bytes() + whole.transaction.bytes() + services.bytes();
        match bytes <= self.max_bytes {
            true => steps.push(whole),
            false => steps.extend(self.parts(from, changed)),
        }
        for step in &mut steps {
            services.set_with(&mut step.transaction);
        }
        // Until then a router may still lead to them.
        steps.extend(services.unused.into_iter().map(Step::of));
        steps.retain(|step| step.transaction.operations() > 0);
        Ok(steps)
    }

    fn view(&self) -> View<'_> {
        View {
            table: &self.table,
            layout: &self.layout,
            entrance: self.header.entrance(),
        }
    }

    /// The difference as one step.
    fn whole(&self, from: View<'_>, changed: &BTreeSet<&RouteSpec>) -> Step {
        let to = self.view();
        let mut specs = changed.clone();
        match from.entrance == to.entrance {
            true => specs.extend(from.layout.moved(to.layout)),
            false => specs.extend(from.table.iter().map(|route| &route.spec)),
        }
        let mut transaction = Transaction::new();
        for spec in specs {
            self.replace_route(from, to, spec, &mut transaction);
        }
        let now = to.layout.parents();
        let gone = from.layout.parents().keys();
        let gone = gone.filter(|group| !now.contains_key(*group));
        for group in gone.chain(now.keys()) {
            self.replace_parent(from, to, group, &mut transaction);
        }
        Step {
            specs: changed.iter().copied().cloned().collect(),
            transaction,
        }
    }

    /// The difference in steps of which each may be a transaction of its own.
    fn parts(&self, from: View<'_>, changed: &BTreeSet<&RouteSpec>) -> Vec<Step> {
        let to = self.view();
        let flat = from.layout.common(to.layout);
        let open = View {
            layout: &flat,
            ..from
        };
        let opened = View {
            layout: &flat,
            ..to
        };
        let move_all = |from: View<'_>, to: View<'_>, gates: BTreeMap<&Group, Behind<'_>>| {
            let step = |behind: Behind<'_>| {
                let mut transaction = Transaction::new();
                for spec in behind.routes {
                    self.replace_route(from, to, spec, &mut transaction);
                }
                for group in behind.parents {
                    self.replace_parent(from, to, group, &mut transaction);
                }
                Step::of(transaction)
            };
            gates.into_values().map(step).collect::<Vec<_>>()
        };
        let mut steps = move_all(from, open, from.layout.beside(&flat));
        let mut specs = changed.clone();
        if from.entrance != to.entrance {
            specs.extend(from.table.iter().map(|route| &route.spec));
            let parents = flat.parents().keys();
            steps.extend(parents.map(|group| {
                let mut transaction = Transaction::new();
                self.replace_parent(open, opened, group, &mut transaction);
                Step::of(transaction)
            }));
        }
        steps.extend(specs.into_iter().map(|spec| {
            let stored = changed.get(spec).map(|spec| RouteSpec::clone(spec));
            let mut step = Step {
                specs: stored.into_iter().collect(),
                transaction: Transaction::new(),
            };
            self.replace_route(open, opened, spec, &mut step.transaction);
            step
        }));
        steps.extend(move_all(opened, to, to.layout.beside(&flat)));
        steps
    }

    /// After a writer that ended while it laid routers out: all of them begin at the entrypoint, and
    /// then the parents that may be there are taken down.
    fn mend(&mut self, entrance: Entrance<'_>) -> Vec<Step> {
        let Some(parents) = self.torn.take() else {
            return Vec::new();
        };
        let mut steps = Vec::new();
        let place = Place::Entrypoint(entrance);
        let other = Entrance {
            tls: !entrance.tls,
            middleware: if entrance.middleware.is_empty() {
                "-"
            } else {
                ""
            },
            ..entrance
        };
        let elsewhere = [Place::Below(String::new()), Place::Entrypoint(other)];
        // A parent may have what its others leave to a route.
        let mut parts: BTreeSet<_> = PARENT_KEYS.map(|part| format!("/{part}")).into();
        for route in &self.table {
            let mut transaction = Transaction::new();
            let name = self.router_keys(route, &place, &mut transaction.set);
            let key = self.keys.http("routers", &name);
            let mut others = BTreeMap::new();
            for place in &elsewhere {
                self.router_keys(route, place, &mut others);
            }
            others.retain(|key, _| !transaction.set.contains_key(key));
            let all = transaction.set.keys().chain(others.keys());
            parts.extend(all.map(|one| one[key.len()..].to_owned()));
            transaction.delete = others.into_keys().collect();
            steps.push(Step::of(transaction));
        }
        for name in parents {
            let key = self.keys.http("routers", &name);
            let mut transaction = Transaction::new();
            let keys = parts.iter().map(|part| format!("{key}{part}"));
            transaction.delete = keys.chain([self.keys.parent(&name)]).collect();
            steps.push(Step::of(transaction));
        }
        steps
    }

    /// Makes the keys of a route those that it has in another view. All keys of a changed route are written,
    /// since another program may have changed some of them.
    fn replace_route(
        &self,
        from: View<'_>,
        to: View<'_>,
        spec: &RouteSpec,
        into: &mut Transaction,
    ) {
        let is_changed = from.table.get(spec) != to.table.get(spec);
        let [old, new] = [from, to].map(|view| self.route_keys(view, spec));
        into.replace(old, new, is_changed);
    }

    /// Makes the keys of a parent those that it has in another view.
    fn replace_parent(&self, from: View<'_>, to: View<'_>, group: &Group, into: &mut Transaction) {
        let [old, new] = [from, to].map(|view| view.layout.parents().get(group));
        if old != new || from.entrance != to.entrance {
            let [old, new] = [from, to].map(|view| self.parent_keys(view, group));
            into.replace(old, new, false);
        }
    }

    /// The keys of a route: its record, its router, and the middleware that it may have of its own.
    fn route_keys(&self, view: View<'_>, spec: &RouteSpec) -> BTreeMap<String, String> {
        let mut keys = BTreeMap::new();
        if let Some(route) = view.table.get(spec) {
            let namespace = self.keys.namespace();
            let place = Place::new(namespace, view.entrance, view.layout.place(spec));
            let name = self.router_keys(route, &place, &mut keys);
            keys.insert(self.keys.route(&name), json_line(&**route));
            let stripper = prefix_stripper(route).unwrap_or_default();
            for (field, text) in stripper["replacePathRegex"]
                .as_object()
                .into_iter()
                .flatten()
            {
                let key = self.keys.http("middlewares", &name);
                let text = text.as_str().unwrap_or_default();
                keys.insert(format!("{key}/replacePathRegex/{field}"), text.into());
            }
        }
        keys
    }

    /// The keys of a route's router. Returns its name.
    fn router_keys(
        &self,
        route: &Route,
        place: &Place<'_>,
        into: &mut BTreeMap<String, String>,
    ) -> String {
        let namespace = self.keys.namespace();
        let service = service_name(namespace, route);
        let router = router(namespace, route, &service, true);
        let key = self.keys.http("routers", &router.name);
        flatten_fields(&key, router.fields_at(place), into);
        router.name
    }

    /// The keys of a parent, and of the router for what its others leave.
    fn parent_keys(&self, view: View<'_>, group: &Group) -> BTreeMap<String, String> {
        let mut keys = BTreeMap::new();
        let this = view.layout.parents().get(group);
        let routers = this.map(|this| parent(self.keys.namespace(), view.entrance, group, this));
        for (router, place) in routers.into_iter().flatten() {
            let key = self.keys.http("routers", &router.name);
            flatten_fields(&key, router.fields_at(&place), &mut keys);
            keys.insert(self.keys.parent(&router.name), group.to_string());
        }
        keys
    }

    /// The keys of a route's service.
    fn keys_of_service(&self, route: &Route, into: &mut BTreeMap<String, String>) -> Result<()> {
        let name = service_name(self.keys.namespace(), route);
        let config = service(route, &self.header.service);
        if route.has_special_service() {
            into.insert(self.keys.service(&name), route.target.to_string());
        }
        flatten(&self.keys.http("services", &name), &config, into)
    }

    /// Counts how many routes use each service once the table is this one.
    fn change_services(
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

    /// Gives every service another configuration beside its server.
    fn replace_services(&self, old: &Value) -> Result<Vec<Step>> {
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
