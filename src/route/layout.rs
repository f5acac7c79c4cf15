//! Where routers stand in Traefik: side by side, or below parents that match by how a request's path
//! begins.
//!
//! Traefik tries routers that stand side by side one after the other, so that with thousands of
//! them it does little else. Below parents it tries a few at each level. A request that matches a
//! parent is never tried on that parent's neighbours. So a parent at the top, a *gate*, matches
//! what some router below it matches and nothing else, and has the priority of the last of them.
//! Behind a gate parents match by how a path begins; where a shorter path of the same gate takes
//! what the others leave, one more router below the parent leads there.

mod stem;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::stem::{Stem, covering, homes, leave_at_top, shared};
use super::path::canonical;
use super::rule::{prefix_rule, priority, union_rule};
use super::{Route, RouteSpec, Table};

/// Whether routers are nested: whether a parent router stands for a group of routes (`parentRefs`, since Traefik 3.6).
/// Routes are in one group if they have the same host, the same directory, and names that begin alike.
///
/// Requests reach the same servers either way, with one exception: if the priority of a hand-written router is between
/// the priorities of two routes of a group, Traefik tries that router before the whole group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Nested {
    /// If a host has 200 routes or more, or if there are 200 routes or more without a host. With fewer routes
    /// nesting gains nothing that can be measured. Routes whose names begin with a reserved character such as `@` are
    /// not nested.
    #[default]
    Auto,
    /// Also with few routes. This makes more routers than any table needs.
    Always,
    /// Not at all.
    Never,
}

impl Nested {
    fn limits(self) -> Option<Limits> {
        match self {
            Self::Auto => Some(Limits {
                routes: 200,
                home: 64,
                gate: 512,
                level: 64,
                parent: 4,
            }),
            Self::Always => Some(Limits {
                routes: 0,
                home: 4,
                gate: 8,
                level: 1,
                parent: 2,
            }),
            Self::Never => None,
        }
    }
}

/// When parents pay.
#[derive(Clone, Copy)]
struct Limits {
    /// From how many routes on there are any.
    routes: usize,
    /// How many routes may stand in or below a directory that is laid out with the one above.
    home: usize,
    /// How many routes a gate may name. Each time one of them is added or deleted, the gate's rule is stored
    /// again, and Traefik parses it.
    gate: usize,
    /// How many routes may stand side by side.
    level: usize,
    /// From how many routes on below it there is one.
    parent: usize,
}

/// How long a gate's rule may be, more or less: it is read, and on etcd sent, at each change.
const GATE_BYTES: usize = 16 << 10;

/// What the routes below a parent have in common, as a text that people can read.
pub(crate) type Group = Arc<str>;

/// The parents of a table's routers. It follows from the table alone.
#[derive(Default)]
pub(crate) struct Layout {
    parents: BTreeMap<Group, Parent>,
    /// In the order of their routespecs.
    places: Vec<(RouteSpec, Group)>,
    /// The parents whose fallback is a route's target.
    covered: BTreeMap<RouteSpec, Vec<Group>>,
}

/// A router that others stand below.
#[derive(Clone, PartialEq)]
pub(crate) struct Parent {
    /// The parent that this one stands below.
    pub(crate) above: Option<Group>,
    pub(crate) rule: String,
    pub(crate) priority: u64,
    /// The route that takes requests which no route below this one is for.
    pub(crate) fallback: Option<Arc<Route>>,
}

/// The gate itself and the parents behind it, and the routes behind it.
#[derive(Default)]
pub(crate) struct Behind<'a> {
    pub(crate) parents: Vec<&'a Group>,
    pub(crate) routes: Vec<&'a RouteSpec>,
}

/// What routes are placed below.
struct Above<'a, 't> {
    parent: &'a Group,
    /// How long its prefix is; 0 for a gate.
    prefix: usize,
    /// The route of its gate that covers it, if one does.
    fallback: Option<&'t Arc<Route>>,
}

impl Layout {
    pub(crate) fn of(table: &Table, nested: Nested) -> Self {
        let mut layout = Self::default();
        let Some(limits) = nested.limits() else {
            return layout;
        };
        let routes: Vec<_> = table.iter().collect();
        for routes in routes.chunk_by(|a, b| a.spec.host() == b.spec.host()) {
            if routes.len() >= limits.routes {
                let mut stems: Vec<_> = routes.iter().filter_map(|route| Stem::of(route)).collect();
                stems.sort_by(|a, b| a.bytes.cmp(&b.bytes));
                let host = routes[0].spec.host().unwrap_or_default();
                for (home, mut stems) in homes(&stems, limits.home) {
                    leave_at_top(&mut stems);
                    if stems.len() > limits.level {
                        layout.add_gates(host, home, &stems, limits);
                    }
                }
            }
        }
        // They come nearly in this order.
        layout.places.sort_by(|a, b| a.0.cmp(&b.0));
        layout
    }

    /// Places routes below gates. Where they are too many for one, it is halves of what the next
    /// byte can be that have one each, since these stay when routes come and go.
    fn add_gates(&mut self, host: &str, home: &[u8], stems: &[&Stem<'_>], limits: Limits) {
        let name =
            |text: &[u8], range: &str| Group::from(host.to_string() + &canonical(text) + range);
        let mut groups = vec![(name(home, ""), stems)];
        while let Some((group, stems)) = groups.pop() {
            let bytes: usize = stems.iter().map(|stem| stem.in_rule).sum();
            if stems.len() <= limits.gate && bytes <= GATE_BYTES {
                if stems.len() >= limits.parent {
                    self.add_gate(group, stems, limits);
                }
                continue;
            }
            let at = shared(stems);
            let more = &stems[stems.partition_point(|stem| stem.bytes.len() == at)..];
            let (Some(first), Some(last)) = (more.first(), more.last()) else {
                continue;
            };
            let (low, high) = (first.bytes[at], last.bytes[at]);
            let Some(bit) = (low ^ high).checked_ilog2() else {
                groups.push((group, more));
                continue;
            };
            let middle = high >> bit << bit;
            let halves = more.split_at(more.partition_point(|stem| stem.bytes[at] < middle));
            let (start, rest) = (middle - (1 << bit), (1 << bit) - 1);
            let text = &first.bytes[..at];
            // The lower one is next, so that routes are placed nearly in the order of their paths.
            groups.push((name(text, &range(middle, middle + rest)), halves.1));
            groups.push((name(text, &range(start, start + rest)), halves.0));
        }
    }

    fn add_gate(&mut self, group: Group, stems: &[&Stem<'_>], limits: Limits) {
        let specs: Vec<_> = stems.iter().map(|stem| &stem.route.spec).collect();
        let gate = Parent {
            above: None,
            rule: union_rule(&specs, &stems[0].bytes[..shared(stems)]),
            priority: specs
                .iter()
                .map(|spec| priority(spec))
                .min()
                .unwrap_or_default(),
            fallback: None,
        };
        self.parents.insert(Arc::clone(&group), gate);
        let top = Above {
            parent: &group,
            prefix: 0,
            fallback: None,
        };
        self.split(stems, stems, &top, limits);
    }

    /// Places routes below a parent, or below parents of their own there.
    fn split<'t>(
        &mut self,
        gate: &[&Stem<'t>],
        stems: &[&Stem<'t>],
        above: &Above<'_, 't>,
        limits: Limits,
    ) {
        let at = shared(stems);
        for group in stems.chunk_by(|a, b| a.bytes.get(at) == b.bytes.get(at)) {
            let pays = stems.len() > limits.level && group.len() >= limits.parent;
            match group[0].bytes.get(..=at).filter(|_| pays) {
                Some(prefix) => {
                    let host = group[0].route.spec.host();
                    let (rule, priority) = prefix_rule(host, prefix);
                    let fallback = covering(gate, prefix, above.prefix).or(above.fallback);
                    let this = Parent {
                        above: Some(Arc::clone(above.parent)),
                        rule,
                        priority,
                        fallback: fallback.cloned(),
                    };
                    let host = host.unwrap_or_default().to_string();
                    let name = Group::from(host + &canonical(prefix));
                    self.parents.insert(Arc::clone(&name), this);
                    if let Some(route) = fallback {
                        let covered = self.covered.entry(route.spec.clone());
                        covered.or_default().push(Arc::clone(&name));
                    }
                    let next = Above {
                        parent: &name,
                        prefix: prefix.len(),
                        fallback,
                    };
                    self.split(gate, group, &next, limits);
                }
                None => {
                    let specs = group.iter().map(|stem| stem.route.spec.clone());
                    self.places
                        .extend(specs.map(|spec| (spec, Arc::clone(above.parent))));
                }
            }
        }
    }

    /// Becomes the layout of the table in which a route that was there is this one now. Returns the
    /// parents that this changes.
    pub(crate) fn retarget(&mut self, route: &Arc<Route>) -> Vec<Group> {
        let mut changed = Vec::new();
        for group in self.covered.get(&route.spec).into_iter().flatten() {
            let parent = self.parents.get_mut(group);
            if let Some(parent) = parent.filter(|parent| parent.fallback.as_ref() != Some(route)) {
                parent.fallback = Some(Arc::clone(route));
                changed.push(Arc::clone(group));
            }
        }
        changed
    }

    pub(crate) fn parents(&self) -> &BTreeMap<Group, Parent> {
        &self.parents
    }

    /// The parent that a route stands below.
    pub(crate) fn place(&self, spec: &RouteSpec) -> Option<&Group> {
        let at = self.places.binary_search_by(|(other, _)| other.cmp(spec));
        at.ok().map(|at| &self.places[at].1)
    }

    /// The gate that a route stands behind.
    pub(crate) fn gate(&self, spec: &RouteSpec) -> Option<&Group> {
        self.place(spec).map(|parent| self.gate_of(parent))
    }

    /// The gate that a router stands behind if it stands below this parent, or is it.
    pub(crate) fn gate_of<'a>(&'a self, parent: &'a Group) -> &'a Group {
        let above = |group: &&'a Group| self.parents.get(*group)?.above.as_ref();
        std::iter::successors(Some(parent), above)
            .last()
            .unwrap_or(parent)
    }

    /// The gates that are the same in both, with the same parents and routes behind them.
    pub(crate) fn common(&self, other: &Self) -> Self {
        let mut changed: BTreeSet<&Group> = BTreeSet::new();
        for (one, two) in [(self, other), (other, self)] {
            let is_new =
                |(group, parent): &(&Group, &Parent)| two.parents.get(*group) != Some(*parent);
            let new = one.parents.iter().filter(is_new);
            changed.extend(new.map(|(group, _)| one.gate_of(group)));
        }
        // Two sets of routes may have one rule.
        let moved = self.moved(other).into_iter();
        changed.extend(
            moved
                .flat_map(|spec| [self.gate(spec), other.gate(spec)])
                .flatten(),
        );
        let is_same = |group: &Group| !changed.contains(self.gate_of(group));
        let parents = self.parents.iter().filter(|(group, _)| is_same(group));
        let places = self.places.iter().filter(|(_, group)| is_same(group));
        Self {
            parents: parents
                .map(|(group, parent)| (Arc::clone(group), parent.clone()))
                .collect(),
            places: places.cloned().collect(),
            covered: BTreeMap::new(),
        }
    }

    /// What stands behind each gate that `other` does not have.
    pub(crate) fn beside(&self, other: &Self) -> BTreeMap<&Group, Behind<'_>> {
        let mut gates: BTreeMap<&Group, Behind<'_>> = BTreeMap::new();
        for group in self.parents.keys() {
            gates
                .entry(self.gate_of(group))
                .or_default()
                .parents
                .push(group);
        }
        for (spec, group) in &self.places {
            gates
                .entry(self.gate_of(group))
                .or_default()
                .routes
                .push(spec);
        }
        gates.retain(|gate, _| !other.parents.contains_key(*gate));
        gates
    }

    /// The routes that stand elsewhere in `next`, or no longer are in it.
    pub(crate) fn moved<'a>(&'a self, next: &'a Self) -> Vec<&'a RouteSpec> {
        let mut moved = Vec::new();
        let (mut old, mut new) = (self.places.iter().peekable(), next.places.iter().peekable());
        while let (Some((a, from)), Some((b, to))) = (old.peek(), new.peek()) {
            let order = a.cmp(b);
            if order.is_ne() || from != to {
                moved.push(if order.is_gt() { b } else { a });
            }
            old.next_if(|_| order.is_le());
            new.next_if(|_| order.is_ge());
        }
        moved.extend(old.chain(new).map(|(spec, _)| spec));
        moved
    }
}

/// What a byte is one of, as letters or digits if some are.
fn range(low: u8, high: u8) -> String {
    if low == high {
        return canonical(&[low]);
    }
    let mut letters = (low..=high).filter(u8::is_ascii_alphanumeric);
    let first = letters.next();
    let last = letters.next_back().or(first);
    let [first, last] = [first.unwrap_or(low), last.unwrap_or(high)].map(|byte| canonical(&[byte]));
    format!("[{first}-{last}]")
}
