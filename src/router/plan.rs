//! What the requests of a commit change in the table (pure).

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::Applied;
use crate::error::Error;
use crate::route::{Change, Effect, Route, RouteSpec, Table};

/// What a caller asks for.
#[derive(Debug)]
pub(super) enum Request {
    Changes(Vec<Change>),
    Reconcile(Table),
    /// The table as it is stored.
    Repair,
}

/// What Traefik serves after a commit.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// The routes whose routers must be there afterwards.
    pub(super) set: Vec<Arc<Route>>,
    /// The routes whose routers must not be there afterwards.
    pub(super) deleted: Vec<RouteSpec>,
    /// Whether an earlier commit stored some of them. The generation proves nothing about these, so each
    /// router is checked.
    pub(super) stored_before: bool,
    /// The number of routes in the table after it, if that is known.
    pub(super) routes: Option<usize>,
}

/// The changes that the requests make to the table.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    pub(super) expected: Expected,
    /// What each request changes.
    pub(super) applied: Vec<Applied>,
    /// The requests that change nothing, since Traefik would not serve the routes as they ask.
    pub(super) refused: HashMap<usize, Error>,
}

impl Plan {
    pub(super) fn of<'r>(requests: impl Iterator<Item = &'r Request>, table: &Table) -> Self {
        let mut plan = Self::default();
        let mut overlay = Overlay {
            table,
            changed: HashMap::new(),
        };
        for (n, request) in requests.enumerate() {
            if let Some(error) = overlay.clash(request) {
                plan.refused.insert(n, error);
                plan.applied.push(Applied::default());
                continue;
            }
            let applied = match request {
                Request::Changes(changes) => plan.add(changes, &mut overlay),
                Request::Reconcile(desired) => {
                    let changes = overlay.to_table().changes_to(desired);
                    let applied = plan.add(&changes, &mut overlay);
                    let set = changes
                        .iter()
                        .filter(|change| matches!(change, Change::Set(_)));
                    plan.expected.stored_before |= set.count() < desired.len();
                    overlay.expect(desired);
                    applied
                }
                Request::Repair => {
                    plan.expected.stored_before = true;
                    overlay.expect(&overlay.to_table());
                    Applied::default()
                }
            };
            plan.applied.push(applied);
        }
        let added: usize = plan.applied.iter().map(|one| one.added.len()).sum();
        let deleted: usize = plan.applied.iter().map(|one| one.deleted.len()).sum();
        plan.expected.routes = Some(table.len() + added - deleted);
        for (spec, route) in overlay.changed {
            match route {
                Some(route) => plan.expected.set.push(route),
                None => plan.expected.deleted.push(spec),
            }
        }
        plan
    }

    /// This plan, made anew after those of an `earlier` one's routes were `stored`.
    pub(super) fn after(mut self, earlier: Self, stored: &BTreeSet<RouteSpec>) -> Self {
        if stored.is_empty() {
            return self;
        }
        let known = self.expected.set.iter().map(|route| route.spec.clone());
        let known: HashSet<_> = known.collect();
        let further = earlier.expected.set.into_iter();
        let further =
            further.filter(|one| !known.contains(&one.spec) && stored.contains(&one.spec));
        self.expected.set.extend(further);
        for (now, before) in self.applied.iter_mut().zip(earlier.applied) {
            let said: HashSet<_> = [&now.added, &now.changed, &now.deleted]
                .into_iter()
                .flatten()
                .cloned()
                .collect();
            let done = |specs: Vec<RouteSpec>| {
                specs
                    .into_iter()
                    .filter(|spec| !said.contains(spec) && stored.contains(spec))
                    .collect::<Vec<_>>()
            };
            now.added.extend(done(before.added));
            now.changed.extend(done(before.changed));
            now.deleted.extend(done(before.deleted));
        }
        self
    }

    fn add(&mut self, changes: &[Change], overlay: &mut Overlay<'_>) -> Applied {
        let mut applied = Applied::default();
        // Of several changes to one routespec only the last one counts.
        let mut seen = HashSet::with_capacity(changes.len());
        let last = changes.iter().rev();
        let last: Vec<_> = last.filter(|change| seen.insert(change.spec())).collect();
        overlay.changed.reserve(last.len());
        for change in last.into_iter().rev() {
            let spec = change.spec().clone();
            match overlay.apply(change) {
                Effect::None => self.expected.stored_before |= matches!(change, Change::Set(_)),
                Effect::Added => applied.added.push(spec),
                Effect::Changed => applied.changed.push(spec),
                Effect::Deleted => applied.deleted.push(spec),
            }
            self.changes.push(change.clone());
        }
        applied
    }
}

/// A table with changes over it, without copying the table.
struct Overlay<'t> {
    table: &'t Table,
    changed: HashMap<RouteSpec, Option<Arc<Route>>>,
}

impl Overlay<'_> {
    fn apply(&mut self, change: &Change) -> Effect {
        let spec = change.spec();
        let old = match self.changed.get(spec) {
            Some(route) => route.as_ref(),
            None => self.table.get(spec),
        };
        let new = match change {
            Change::Set(route) => Some(route),
            Change::Delete(_) => None,
        };
        let effect = match (old, new) {
            (None, None) => Effect::None,
            (Some(old), Some(new)) if old == new => Effect::None,
            (Some(_), Some(_)) => Effect::Changed,
            (None, Some(_)) => Effect::Added,
            (Some(_), None) => Effect::Deleted,
        };
        self.changed.insert(spec.clone(), new.cloned());
        effect
    }

    /// Why Traefik would not serve the routes as they ask after this request.
    fn clash(&self, request: &Request) -> Option<Error> {
        let changes = match request {
            Request::Changes(changes) => changes,
            Request::Reconcile(desired) => return desired.check().err(),
            Request::Repair => return None,
        };
        let hosts = changes.iter().filter_map(|change| change.spec().host());
        let hosts: HashSet<&str> = hosts.collect();
        if hosts.is_empty() {
            return None;
        }
        let last: HashMap<_, _> = changes
            .iter()
            .map(|change| (change.spec(), change))
            .collect();
        // Those that stay agree with each other.
        let stays = |route: &&Arc<Route>| !last.contains_key(&route.spec);
        let added = LazyCell::new(|| {
            let added = self.changed.values().flatten().filter(stays);
            let added = added.filter_map(|route| Some((route.spec.host()?, route)));
            added.collect::<HashMap<_, _>>()
        });
        let mut known: HashMap<&str, &Arc<Route>> = HashMap::new();
        for host in hosts {
            let mut kept = self.table.of_host(host).filter_map(|route| {
                let changed = self.changed.get(&route.spec);
                changed.map_or(Some(route), Option::as_ref)
            });
            let first = kept.find(stays).or_else(|| added.get(host).copied());
            known.extend(first.map(|route| (host, route)));
        }
        last.into_values().find_map(|change| {
            let Change::Set(route) = change else {
                return None;
            };
            let first = known.entry(route.spec.host()?).or_insert(route);
            route.clash_with(first)
        })
    }

    /// Counts routes that are in the table already as set.
    fn expect(&mut self, table: &Table) {
        for route in table {
            let changed = self.changed.entry(route.spec.clone());
            changed.or_insert_with(|| Some(Arc::clone(route)));
        }
    }

    fn to_table(&self) -> Table {
        let mut table = self.table.clone();
        for (spec, route) in &self.changed {
            let change = match route {
                Some(route) => Change::Set(Arc::clone(route)),
                None => Change::Delete(spec.clone()),
            };
            table.apply(&change);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resulting_routes_are_counted() {
        let add = |spec: &str, target: &str| Change::set(spec, target).unwrap();
        let mut table = Table::new();
        for spec in ["/a/", "/b/", "/c/"] {
            table.apply(&add(spec, "http://t"));
        }
        for (changes, expected) in [
            (vec![], 3),
            (vec![add("/d/", "http://t"), add("/a/", "http://other")], 4),
            (
                vec![
                    Change::delete("/a/").unwrap(),
                    Change::delete("/x/").unwrap(),
                ],
                2,
            ),
            (
                vec![add("/d/", "http://t"), Change::delete("/d/").unwrap()],
                3,
            ),
        ] {
            let request = |changes: &[Change]| Request::Changes(changes.to_vec());
            // In one request, and in one each.
            let each: Vec<_> = changes.chunks(1).map(request).collect();
            for requests in [vec![request(&changes)], each] {
                let plan = Plan::of(requests.iter(), &table);
                assert_eq!(plan.expected.routes, Some(expected), "{changes:?}");
            }
        }
    }
}
