//! Where routers stand in Traefik: side by side, or below parents that match by how a request's path
//! begins.
//!
//! Traefik tries routers that stand side by side one after the other, so that with thousands of
//! them it does little else. Below parents it tries a few at each level. A request that matches a
//! parent is never tried on that parent's neighbours. So a parent at the top, a *gate*, matches
//! what some router below it matches and nothing else, and has the priority of the last of them.
//! Behind a gate parents match by how a path begins; where a shorter path of the same gate takes
//! what the others leave, one more router below the parent leads there.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::path::{Piece, UNKNOWN, canonical, is_unreserved, pieces};
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

/// A route, with the part of its path that has only one form, without the slash at its end.
struct Stem<'t> {
    bytes: Cow<'t, [u8]>,
    /// How long the last directory is that it stands in, with its slash.
    directory: usize,
    /// How much longer a gate's rule is with it, more or less.
    in_rule: usize,
    route: &'t Arc<Route>,
}

impl<'t> Stem<'t> {
    /// None for a path with [`UNKNOWN`].
    fn of(route: &'t Arc<Route>) -> Option<Self> {
        let path = route.spec.path();
        let bare = path.strip_suffix('/').unwrap_or(path).as_bytes();
        let is_plain = |byte: &&u8| **byte == b'/' || is_unreserved(**byte);
        let others = bare.len() - bare.iter().filter(is_plain).count();
        let bytes = if others == 0 {
            Cow::Borrowed(bare)
        } else if path.contains(UNKNOWN) {
            return None;
        } else {
            let byte = |piece: &Piece| match piece {
                Piece::Byte(byte) => Some(*byte),
                _ => None,
            };
            let mut bytes: Vec<u8> = pieces(path).iter().map_while(byte).collect();
            bytes.truncate(bytes.strip_suffix(b"/").map_or(bytes.len(), <[u8]>::len));
            Cow::Owned(bytes)
        };
        let slash = bytes.iter().rposition(|byte| *byte == b'/');
        Some(Self {
            directory: slash.map_or(0, |slash| slash + 1),
            bytes,
            // What can be encoded or not takes two alternatives.
            in_rule: path.len() + others * 15,
            route,
        })
    }

    /// The last directory that it stands in.
    fn directory(&self) -> &[u8] {
        &self.bytes[..self.directory]
    }

    /// The directories that it stands in, with their slashes, beginning with `/`.
    fn directories(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.bytes.iter().enumerate();
        let slashes = bytes.filter(|(_, byte)| **byte == b'/');
        slashes.map(|(slash, _)| &self.bytes[..=slash])
    }
}

/// The routes by the last directory that more than `least` routes stand in or below.
fn homes<'s, 't>(stems: &'s [Stem<'t>], least: usize) -> BTreeMap<&'s [u8], Vec<&'s Stem<'t>>> {
    let is_beside = |a: &Stem<'_>, b: &Stem<'_>| a.directory() == b.directory();
    let runs: Vec<_> = stems.chunk_by(is_beside).collect();
    let mut counts: HashMap<&[u8], usize> = HashMap::new();
    for run in &runs {
        for directory in run[0].directories() {
            *counts.entry(directory).or_default() += run.len();
        }
    }
    let mut homes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for run in &runs {
        let directories = run[0].directories();
        let large = directories.take_while(|directory| counts[directory] > least);
        if let Some(home) = large.last() {
            homes.entry(home).or_default().extend(*run);
        }
    }
    homes
}

/// Takes out the routes that stand at the top, of those with one home. A gate has the priority of its shortest
/// route, and a route at the top may come before that. So a longer one that it would take requests from stands
/// at the top as well. These are few: where they are many, they have a home of their own.
fn leave_at_top(stems: &mut Vec<&Stem<'_>>) {
    let at_top = stems.iter().filter(|stem| stem.route.stands_at_top());
    let at_top: HashSet<_> = at_top.map(|stem| stem.bytes.clone()).collect();
    if at_top.is_empty() {
        return;
    }
    let is_below = |stem: &Stem<'_>| {
        let mut above = stem
            .directories()
            .map(|directory| &directory[..directory.len() - 1]);
        above.any(|path| at_top.contains(path))
    };
    stems.retain(|stem| !at_top.contains(&stem.bytes) && !is_below(stem));
}

/// How many bytes all of them begin with that are the same.
fn shared(sorted: &[&Stem<'_>]) -> usize {
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else {
        return 0;
    };
    let pairs = first.bytes.iter().zip(&*last.bytes);
    pairs.take_while(|(a, b)| a == b).count()
}

/// The route of a gate that takes every path with this beginning unless another one has a longer
/// path. Its own path ends behind the first `least` bytes of the prefix.
fn covering<'t>(gate: &[&Stem<'t>], prefix: &[u8], least: usize) -> Option<&'t Arc<Route>> {
    let slashes = (least..prefix.len()).rev().filter(|&at| prefix[at] == b'/');
    let mut routes = slashes.filter_map(|slash| {
        let bytes = &prefix[..slash];
        let path = canonical(&prefix[..=slash]);
        let first = gate.partition_point(|stem| *stem.bytes < *bytes);
        let same = gate[first..]
            .iter()
            .take_while(|stem| *stem.bytes == *bytes);
        let mut routes = same.map(|stem| stem.route);
        routes.find(|route| route.spec.path() == path)
    });
    routes.next()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::route::{asking, matches, rule};

    /// Each route with a target of its own.
    fn table<'a>(specs: impl IntoIterator<Item = &'a str>) -> Table {
        table_of(specs.into_iter().map(|spec| (spec, 0)))
    }

    /// The same, with ways in which routes ask for more.
    fn table_of<'a>(specs: impl IntoIterator<Item = (&'a str, u8)>) -> Table {
        let numbered = specs.into_iter().enumerate();
        let route =
            |(n, (spec, way))| asking(way, Route::new(spec, format!("http://t{n}")).unwrap());
        numbered.map(route).collect()
    }

    /// A router as Traefik has it.
    #[derive(Debug, Clone)]
    struct Router {
        above: Option<Group>,
        rule: String,
        priority: u64,
        leads: Leads,
    }

    #[derive(Debug, Clone)]
    enum Leads {
        To(String),
        Down(Group),
    }

    fn routers(table: &Table, layout: &Layout) -> Vec<Router> {
        let mut routers = Vec::new();
        for (group, parent) in layout.parents() {
            routers.push(Router {
                above: parent.above.clone(),
                rule: parent.rule.clone(),
                priority: parent.priority,
                leads: Leads::Down(Arc::clone(group)),
            });
            routers.extend(parent.fallback.iter().map(|route| Router {
                above: Some(Arc::clone(group)),
                rule: "PathPrefix(\"/\")".into(),
                priority: 1,
                leads: Leads::To(route.target.to_string()),
            }));
        }
        routers.extend(table.iter().map(|route| Router {
            above: layout.place(&route.spec).cloned(),
            rule: rule(&route.spec),
            priority: priority(&route.spec),
            leads: Leads::To(route.target.to_string()),
        }));
        routers
    }

    /// Where a request goes: at each level to the router with the highest priority that matches.
    fn resolve(routers: &[Router], host: &str, path: &str) -> Option<String> {
        let mut above = None;
        loop {
            let here = routers.iter().filter(|router| router.above == above);
            let matching = here.filter(|router| matches(&router.rule, host, path.as_bytes()));
            match &matching.max_by_key(|router| router.priority)?.leads {
                Leads::To(target) => return Some(target.clone()),
                Leads::Down(group) => above = Some(Arc::clone(group)),
            }
        }
    }

    /// Routers that others might have, of those whose priority lies between those of no two
    /// routes behind one gate, and is none of a route.
    fn apart(table: &Table, layout: &Layout, foreign: Vec<(String, u64)>) -> Vec<Router> {
        let mut bounds: HashMap<&Group, (u64, u64)> = HashMap::new();
        for route in table {
            if let Some(parent) = layout.place(&route.spec) {
                let own = priority(&route.spec);
                let bounds = bounds.entry(layout.gate_of(parent)).or_insert((own, own));
                *bounds = (bounds.0.min(own), bounds.1.max(own));
            }
        }
        let is_apart = |one: &u64| {
            let between = |(low, high): &(u64, u64)| low < one && one < high;
            !bounds.values().any(between)
                && !table.iter().any(|route| priority(&route.spec) == *one)
        };
        let foreign = foreign
            .into_iter()
            .filter(|(_, priority)| is_apart(priority));
        foreign
            .map(|(path, priority)| Router {
                above: None,
                rule: format!("PathPrefix(\"{path}\")"),
                // Of several equal ones the name decides.
                priority,
                leads: Leads::To(format!("{path} {priority}")),
            })
            .collect()
    }

    fn any_path() -> impl Strategy<Value = String> {
        let segments = [
            "a", "b", "ab", "abc", "ba", "c~", "a%20b", "x@y", "x@z", "é", "è", "\u{fffd}",
        ];
        let segment = prop::sample::select(segments.to_vec());
        prop::collection::vec(segment, 0..4).prop_map(|parts| format!("/{}", parts.join("/")))
    }

    fn any_spec() -> impl Strategy<Value = String> {
        let host = prop::sample::select(vec!["", "", "", "h.x", "*.x"]);
        (host, any_path()).prop_map(|(host, path)| host.to_string() + &path)
    }

    proptest! {
        #[test]
        fn nesting_keeps_every_destination(
            specs in prop::collection::btree_map(any_spec(), 0..7_u8, 0..80),
            paths in prop::collection::vec((any_path(), "/?[a%]?"), 8),
            foreign in prop::collection::btree_map(10..60_u64, "/(a|b|ab|x@|a/b|a/ab)?/?", 0..4),
        ) {
            let table = table_of(specs.iter().map(|(spec, way)| (&**spec, *way)));
            let layout = Layout::of(&table, Nested::Always);
            let stands_at_top = |route: &&Arc<Route>| route.stands_at_top();
            for route in table.iter().filter(stands_at_top) {
                prop_assert_eq!(layout.place(&route.spec), None);
            }
            let flat = Layout::default();
            let foreign = foreign.into_iter().map(|(priority, path)| (path, priority)).collect();
            let foreign = apart(&table, &layout, foreign);
            let [flat, tree] = [&flat, &layout].map(|layout| [&*routers(&table, layout), &*foreign].concat());
            for (path, more) in &paths {
                let path = path.clone() + more.trim_end_matches('%');
                for host in ["h.x", "g.x", "other"] {
                    let [flat, tree] = [&flat, &tree].map(|routers| resolve(routers, host, &path));
                    prop_assert_eq!(tree, flat, "{}{} in {:?} {:?}", host, path, specs, foreign);
                }
            }
        }
    }

    /// How many routers stand side by side at the most, and the number of gates.
    fn widths(table: &Table, layout: &Layout) -> (usize, usize) {
        let mut below: HashMap<Option<&Group>, usize> = HashMap::new();
        for route in table {
            *below.entry(layout.place(&route.spec)).or_default() += 1;
        }
        for parent in layout.parents().values() {
            *below.entry(parent.above.as_ref()).or_default() += 1;
        }
        let gates = layout
            .parents()
            .values()
            .filter(|parent| parent.above.is_none());
        (
            below.values().copied().max().unwrap_or_default(),
            gates.count(),
        )
    }

    #[test]
    fn every_level_has_few_routers() {
        let specs: Vec<_> = (0..10_000).map(|n| format!("/user/n{n}/")).collect();
        let others = ["/", "/user/", "h/user/n1/", "/user/@x/", "/hub/"];
        let table = table(specs.iter().map(String::as_str).chain(others));
        let layout = Layout::of(&table, Nested::Auto);
        let (width, gates) = widths(&table, &layout);
        assert!(width <= 64 && (20..50).contains(&gates), "{width} {gates}");
        assert!(layout.parents().len() < 1_200);
        for spec in others {
            assert_eq!(layout.place(&RouteSpec::new(spec).unwrap()), None);
        }
        assert!(Layout::of(&table, Nested::Never).parents().is_empty());
    }

    #[test]
    fn any_names_need_few_gates() {
        let name = |n: usize| match n % 4 {
            0 => format!("/user/student-{n}/"),
            1 => format!("/user/{:x}@example.org/", n * 2_654_435_761),
            2 => format!("/user/{}/lab/", n.to_string().repeat(n % 7 + 1)),
            _ => format!("hub.example.org/user/{}/", "a".repeat(n % 100 + 1)),
        };
        let specs: Vec<_> = (0..20_000).map(name).collect();
        let table = table(specs.iter().map(String::as_str));
        let layout = Layout::of(&table, Nested::Auto);
        let (width, gates) = widths(&table, &layout);
        assert!(width < 600 && gates < 500, "{width} {gates}");
        let longest = layout
            .parents()
            .values()
            .map(|parent| parent.rule.len())
            .max();
        assert!(longest < Some(GATE_BYTES * 2), "{longest:?}");
    }

    #[test]
    fn gates_follow_routes_behind_them() {
        let specs = (0..200).map(|n| format!("/user/{}{n}/", ["al", "zoe"][n % 2]));
        let specs: Vec<_> = specs.chain(["/".into(), "/user/".into()]).collect();
        let table = table(specs.iter().map(String::as_str));
        let layout = Layout::of(&table, Nested::Auto);
        let (name, gate) = layout
            .parents()
            .iter()
            .find(|(_, parent)| parent.above.is_none())
            .unwrap();
        assert_eq!(&**name, "/user/");
        assert_eq!(
            gate.priority,
            priority(&RouteSpec::new("/user/al0/").unwrap())
        );
        let begins = r#"PathPrefix("/user/") && PathRegexp("^/user/(?:al0|al10|"#;
        assert!(gate.rule.starts_with(begins), "{}", gate.rule);
        assert_eq!(
            [range(0x60, 0x6f), range(0x60, 0x61), range(b'a', b'a')],
            ["[a-o]", "[a-a]", "a"]
        );
    }

    #[test]
    fn special_routes_leave_most_nested() {
        let specs: Vec<_> = (0..2_000).map(|n| format!("/user/n{n}/")).collect();
        let more: Vec<_> = (0..20).map(|n| format!("/user/n7/{n}/")).collect();
        let all = specs.iter().chain(&more).map(String::as_str);
        let all: Vec<_> = all.chain(["/", "/user/"]).collect();
        let at_top = |way| {
            let special = ["/", "/user/", "/user/n7/"];
            let way = |spec| if special.contains(spec) { way } else { 1 };
            let table = table_of(all.iter().map(|spec| (*spec, way(spec))));
            let layout = Layout::of(&table, Nested::Auto);
            let is_at_top = |spec: &&&str| layout.place(&RouteSpec::new(spec).unwrap()).is_none();
            all.iter().filter(is_at_top).count()
        };
        let (plain, special) = (at_top(1), at_top(2));
        assert!(plain < 20, "{plain}");
        // One that was nested, and those below it.
        assert_eq!(special, plain + 1 + more.len());
    }

    #[test]
    fn small_table_has_no_parents() {
        let specs: Vec<_> = (0..198).map(|n| format!("/user/n{n}/")).collect();
        let specs = specs.iter().map(String::as_str).chain(["/"]);
        let layout = Layout::of(&table(specs), Nested::Auto);
        assert!(layout.parents().is_empty() && layout.places.is_empty());
    }
}
