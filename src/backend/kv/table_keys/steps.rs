//! What changes of a table do to its keys, in one transaction or in several.

use std::collections::{BTreeMap, BTreeSet};

use super::TableKeys;
use crate::backend::kv::Transaction;
use crate::backend::kv::flatten::flatten_fields;
use crate::backend::kv::step::Step;
use crate::config::dynamic::{Entrance, Place, parent, prefix_stripper, router};
use crate::config::text::json_line;
use crate::error::Result;
use crate::route::{Behind, Group, Layout, Route, RouteSpec, Table, service_name};

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

/// A table, and where its routers stand.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    table: &'a Table,
    layout: &'a Layout,
    entrance: Entrance<'a>,
}

impl TableKeys {
    /// Becomes a table in which the routes of the `changed` routespecs are other ones. `entrance` is where
    /// routers have stood until now that stand below no other.
    ///
    /// Where one transaction has room for all of it, that is the difference between the two tables. Where not,
    /// no request goes astray between two transactions, since a router at the entrypoint matches what it
    /// should. Gates that change are taken down first, then routes change, then the new gates are set up. One
    /// transaction takes down or sets up a gate and moves all routes behind it.
    pub(super) fn become_table(
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

    pub(super) fn view(&self) -> View<'_> {
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
    pub(super) fn route_keys(&self, view: View<'_>, spec: &RouteSpec) -> BTreeMap<String, String> {
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
    pub(super) fn parent_keys(&self, view: View<'_>, group: &Group) -> BTreeMap<String, String> {
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
}
