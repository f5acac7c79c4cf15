//! What a table becomes in a document that Traefik loads as a whole: a line for each router, service and
//! record. Lines are kept, so that a change writes only those anew that it changes. Does no I/O.

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use super::record::Header;
use crate::config::defaults::spell_out_service;
use crate::config::dynamic::{Place, RouterConfig, parent, prefix_stripper, router, service};
use crate::config::text::{Entries, json_line};
use crate::route::{
    Change, Effect, Group, Layout, Parent, Route, RouteSpec, Table, router_name, service_name,
};

/// A table and its lines, each as `E` writes it.
pub(super) struct Lines<E> {
    entries: E,
    routes: Table,
    of_routes: BTreeMap<RouteSpec, RouteLines>,
    layout: Layout,
    /// Each parent of the layout, and the router for what its others leave: names and lines.
    parents: BTreeMap<Group, Vec<(String, String)>>,
    /// The routes whose router has no line yet.
    unwritten: Vec<RouteSpec>,
    /// Each service's line, and how many routes use it.
    services: BTreeMap<String, (usize, String)>,
}

struct RouteLines {
    route: Arc<Route>,
    /// Empty until it is written.
    router: String,
    /// Of the middleware of its own, if it has one.
    middleware: Option<String>,
    record: String,
    service: String,
}

impl<E: Entries> Lines<E> {
    pub(super) fn new(entries: E) -> Self {
        Self {
            entries,
            routes: Table::new(),
            of_routes: BTreeMap::new(),
            layout: Layout::default(),
            parents: BTreeMap::new(),
            unwritten: Vec::new(),
            services: BTreeMap::new(),
        }
    }

    pub(super) fn routes(&self) -> &Table {
        &self.routes
    }

    /// Whether some routers stand below others.
    pub(super) fn has_parents(&self) -> bool {
        !self.layout.parents().is_empty()
    }

    /// The names of the routers that others stand below, or that take what these leave.
    pub(super) fn parent_names(&self) -> impl Iterator<Item = &str> {
        self.parents.values().flatten().map(|(name, _)| &**name)
    }

    pub(super) fn has_service(&self, name: &str) -> bool {
        self.services.contains_key(name)
    }

    pub(super) fn routers(&self) -> impl Iterator<Item = &str> + Clone {
        let parents = self.parents.values().flatten().map(|(_, line)| &**line);
        parents.chain(self.of_routes.values().map(|lines| &*lines.router))
    }

    pub(super) fn services(&self) -> impl Iterator<Item = &str> + Clone {
        self.services.values().map(|(_, line)| &**line)
    }

    /// The middlewares of routes that have one of their own.
    pub(super) fn middlewares(&self) -> impl Iterator<Item = &str> + Clone {
        let lines = self.of_routes.values();
        lines.filter_map(|lines| lines.middleware.as_deref())
    }

    /// What we keep of each route for ourselves.
    pub(super) fn records(&self) -> impl Iterator<Item = &str> {
        self.of_routes.values().map(|lines| &*lines.record)
    }

    /// Becomes this table, with all lines written anew.
    pub(super) fn set_routes(&mut self, routes: Table, header: &Header) {
        self.of_routes.clear();
        self.layout = Layout::default();
        self.parents.clear();
        self.services.clear();
        for route in &routes {
            self.set(&Change::Set(route.clone()), header);
        }
        self.routes = routes;
        self.lay_out(header);
    }

    /// Makes changes; says whether they change the table.
    pub(super) fn apply(&mut self, changes: &[Change], header: &Header) -> bool {
        let (mut stay, mut same) = (true, true);
        for change in changes {
            let old = self.set(change, header);
            stay &= !old.is_some_and(|old| moves(&old, change));
            let effect = self.routes.apply(change);
            stay &= !matches!(effect, Effect::Added | Effect::Deleted);
            same &= effect == Effect::None;
        }
        if stay {
            self.retarget(changes, header);
        } else {
            self.lay_out(header);
        }
        !same
    }

    /// Lays the routers out anew. Those whose place is another one now are written again, and so are
    /// the parents that are.
    fn lay_out(&mut self, header: &Header) {
        let next = Layout::of(&self.routes, header.nested());
        let last = std::mem::replace(&mut self.layout, next);
        for spec in last.moved(&self.layout) {
            if let Some(lines) = self.of_routes.get_mut(spec) {
                lines.router.clear();
                self.unwritten.push(spec.clone());
            }
        }
        let now = self.layout.parents();
        self.parents.retain(|group, _| now.contains_key(group));
        let is_new =
            |(group, parent): &(&Group, &Parent)| last.parents().get(*group) != Some(*parent);
        let new = now.iter().filter(is_new);
        let new = new.map(|(group, _)| Group::clone(group)).collect();
        self.write_routers(new, header);
    }

    /// What [`lay_out`](Self::lay_out) comes to where no route has come or gone.
    fn retarget(&mut self, changes: &[Change], header: &Header) {
        let set = changes.iter().filter_map(|change| match change {
            Change::Set(route) => Some(route),
            Change::Delete(_) => None,
        });
        let parents = set.flat_map(|route| self.layout.retarget(route)).collect();
        self.write_routers(parents, header);
    }

    /// Writes these parents, and the routers that have no line.
    fn write_routers(&mut self, parents: Vec<Group>, header: &Header) {
        let (namespace, entrance) = (&header.namespace, header.entrance());
        let line = |router: &RouterConfig<'_>, place: &Place<'_>| {
            (self.entries).map_entry(&router.name, router.fields_at(place))
        };
        let mut places = HashMap::new();
        for spec in std::mem::take(&mut self.unwritten) {
            let lines = self.of_routes.get_mut(&spec);
            let Some(lines) = lines.filter(|lines| lines.router.is_empty()) else {
                continue;
            };
            let group = self.layout.place(&spec);
            let place =
                (places.entry(group)).or_insert_with(|| Place::new(namespace, entrance, group));
            let router = router(namespace, &lines.route, &lines.service, E::HAS_DEFAULTS);
            lines.router = line(&router, place);
        }
        for group in parents {
            if let Some(this) = self.layout.parents().get(&group) {
                let routers = parent(namespace, entrance, &group, this);
                let named = routers.map(|(router, place)| {
                    let line = line(&router, &place);
                    (router.name, line)
                });
                let lines = named.collect();
                self.parents.insert(group, lines);
            }
        }
    }

    /// Writes the lines of one change, but the router's. Returns the route that was there.
    fn set(&mut self, change: &Change, header: &Header) -> Option<Arc<Route>> {
        let old = match change {
            Change::Set(route) => {
                let lines = self.lines_of(route, header);
                self.unwritten.push(route.spec.clone());
                self.of_routes.insert(route.spec.clone(), lines)
            }
            Change::Delete(spec) => self.of_routes.remove(spec),
        };
        let old = old?;
        if let Some((users, _)) = self.services.get_mut(&old.service) {
            *users -= 1;
            if *users == 0 {
                self.services.remove(&old.service);
            }
        }
        Some(old.route)
    }

    fn lines_of(&mut self, route: &Arc<Route>, header: &Header) -> RouteLines {
        let name = service_name(&header.namespace, route);
        let line = || {
            let mut value = service(route, &header.service);
            if !E::HAS_DEFAULTS && route.service_map().is_some() {
                spell_out_service(&mut value["loadBalancer"]);
            }
            self.entries.entry(&name, &value)
        };
        match self.services.entry(name.clone()) {
            Entry::Vacant(new) => drop(new.insert((1, line()))),
            Entry::Occupied(mut known) => {
                let (users, old) = known.get_mut();
                *users += 1;
                // Its name does not depend on its servers.
                if route.has_own_service() {
                    *old = line();
                }
            }
        }
        RouteLines {
            route: Arc::clone(route),
            router: String::new(),
            middleware: prefix_stripper(route).map(|stripper| {
                let name = router_name(&header.namespace, &route.spec);
                self.entries.entry(&name, &stripper)
            }),
            record: self.entries.record(json_line(&**route)),
            service: name,
        }
    }
}

/// Whether a route stands at the top, and would not any more after a change, or the other way round.
fn moves(old: &Route, change: &Change) -> bool {
    match change {
        Change::Set(route) => old.stands_at_top() != route.stands_at_top(),
        Change::Delete(_) => false,
    }
}
