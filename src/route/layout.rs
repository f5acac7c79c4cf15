//! Where routers stand in Traefik: side by side, or below others that tell requests apart by how
//! their path begins.
//!
//! Traefik tries routers that stand side by side one after the other, so that with thousands of
//! them it does little else. Below parents it tries a few at each level. A request that matches a
//! parent is never tried on that parent's neighbours; so each parent has one more router below it,
//! for whatever the other ones leave: it leads to where that request would have gone without the
//! parent. Where there is no such route, there is no parent either.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rule::{Piece, pieces};
use super::spec::is_unreserved;
use super::{Route, RouteSpec, Table};

/// Whether routers stand below others in Traefik (its `parentRefs`, since Traefik 3.6).
///
/// Only routes without a host are laid out so, and only where another route without a host, such
/// as `/`, takes what is left of a group. Among the routes of a table, what requests reach is the
/// same in either layout. Not so beside routers of others on the same entrypoint whose rule and
/// priority lie between those of our routes, such as one for `/user/` that was written by hand: a
/// parent may come after it, or take what was its own. So this is for tables that have their
/// entrypoint for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Nested {
    /// From 200 routes on: below that it gains nothing that can be measured.
    Auto,
    /// Wherever two routes can be told apart: more routers than any table needs.
    Always,
    /// Never.
    #[default]
    Never,
}

impl Nested {
    fn limits(self) -> Option<Limits> {
        match self {
            Self::Auto => Some(Limits {
                routes: 200,
                level: 64,
                parent: 4,
            }),
            Self::Always => Some(Limits {
                routes: 0,
                level: 1,
                parent: 2,
            }),
            Self::Never => None,
        }
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When parents pay.
#[derive(Clone, Copy)]
struct Limits {
    /// From how many routes on there are any.
    routes: usize,
    /// How many routes may stand side by side.
    level: usize,
    /// From how many routes on below it there is one.
    parent: usize,
}

/// How a path begins, in the bytes that Traefik compares.
pub(crate) type Prefix = Arc<[u8]>;

/// The parents of a table's routers. It follows from the table alone.
#[derive(Default)]
pub(crate) struct Layout {
    parents: BTreeMap<Prefix, Parent>,
    places: HashMap<RouteSpec, Prefix>,
}

/// A router that others stand below.
#[derive(Clone, PartialEq)]
pub(crate) struct Parent {
    /// The parent that this one stands below.
    pub(crate) above: Option<Prefix>,
    /// Where requests go that no route below this one is for.
    pub(crate) fallback: Arc<Route>,
}

/// The part of a route's path that has only one form, without the slash at its end.
struct Stem<'t> {
    bytes: Cow<'t, [u8]>,
    spec: &'t RouteSpec,
}

impl Layout {
    pub(crate) fn of(table: &Table, nested: Nested) -> Self {
        let mut layout = Self::default();
        let Some(limits) = nested.limits() else {
            return layout;
        };
        let routes = table.iter().take_while(|route| route.spec.host().is_none());
        let mut stems: Vec<_> = routes.map(|route| Stem::of(&route.spec)).collect();
        if stems.len() >= limits.routes {
            stems.sort_by(|a, b| a.bytes.cmp(&b.bytes));
            layout.split(table, &stems, None, limits);
        }
        layout
    }

    /// Places routes below `parent`, or below parents of their own there.
    fn split(
        &mut self,
        table: &Table,
        stems: &[Stem<'_>],
        parent: Option<&Prefix>,
        limits: Limits,
    ) {
        let (Some(first), Some(last)) = (stems.first(), stems.last()) else {
            return;
        };
        let shared = shared(&first.bytes, &last.bytes);
        for group in stems.chunk_by(|a, b| a.bytes.get(shared) == b.bytes.get(shared)) {
            let prefix = group[0].bytes.get(..=shared);
            let fallback = prefix.and_then(|prefix| covering(table, prefix));
            let pays = stems.len() > limits.level && group.len() >= limits.parent;
            match (prefix, fallback) {
                (Some(prefix), Some(fallback)) if pays => {
                    let prefix = Prefix::from(prefix);
                    let above = parent.cloned();
                    let fallback = Arc::clone(fallback);
                    let this = Parent { above, fallback };
                    self.parents.insert(Arc::clone(&prefix), this);
                    self.split(table, group, Some(&prefix), limits);
                }
                _ => {
                    for stem in group {
                        let place = parent.map(|parent| (stem.spec.clone(), Arc::clone(parent)));
                        self.places.extend(place);
                    }
                }
            }
        }
    }

    pub(crate) fn parents(&self) -> &BTreeMap<Prefix, Parent> {
        &self.parents
    }

    /// The parent that a route stands below.
    pub(crate) fn place(&self, spec: &RouteSpec) -> Option<&Prefix> {
        self.places.get(spec)
    }

    /// The routes that stand elsewhere in `next`, or no longer are in it.
    pub(crate) fn moved<'a>(&'a self, next: &'a Self) -> impl Iterator<Item = &'a RouteSpec> {
        let other = |(spec, place): &(&RouteSpec, &Prefix)| next.place(spec) != Some(*place);
        let new = |(spec, _): &(&RouteSpec, &Prefix)| self.place(spec).is_none();
        let gone = self.places.iter().filter(other);
        let come = next.places.iter().filter(new);
        gone.chain(come).map(|(spec, _)| spec)
    }
}

impl<'t> Stem<'t> {
    fn of(spec: &'t RouteSpec) -> Self {
        let path = spec.path();
        let bare = path.strip_suffix('/').unwrap_or(path).as_bytes();
        let is_plain = |byte: &u8| *byte == b'/' || is_unreserved(*byte);
        let bytes = if bare.iter().all(is_plain) {
            Cow::Borrowed(bare)
        } else {
            let byte = |piece: &Piece| match piece {
                Piece::Byte(byte) => Some(*byte),
                _ => None,
            };
            let mut bytes: Vec<u8> = pieces(path).iter().map_while(byte).collect();
            bytes.truncate(bytes.strip_suffix(b"/").map_or(bytes.len(), <[u8]>::len));
            Cow::Owned(bytes)
        };
        Self { bytes, spec }
    }
}

/// How many bytes two texts begin with that are the same.
fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The route without a host that takes every path with this beginning unless another one has a
/// longer path.
fn covering<'t>(table: &'t Table, prefix: &[u8]) -> Option<&'t Arc<Route>> {
    let slashes = (0..prefix.len()).rev().filter(|&at| prefix[at] == b'/');
    let mut paths = slashes.map(|slash| canonical(&prefix[..=slash]));
    paths.find_map(|path| table.get_text(&path))
}

/// A path, or the beginning of one, as a routespec has it.
pub(crate) fn canonical(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for &byte in path {
        if byte == b'/' || is_unreserved(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::route::{prefix_rule, priority};

    fn table<'a>(specs: impl IntoIterator<Item = &'a str>) -> Table {
        let route = |spec| Route::new(spec, "http://t", ()).unwrap();
        specs.into_iter().map(route).collect()
    }

    /// Where a request goes that has this path, in canonical form, if Traefik chooses among the
    /// routers of each level by their priorities.
    fn resolve(table: &Table, layout: &Layout, path: &str) -> Option<RouteSpec> {
        let bytes = path.as_bytes();
        let mut above: Option<Prefix> = None;
        loop {
            let matches = |route: &&Arc<Route>| {
                let own = route.spec.path();
                path.starts_with(own) || path == own.trim_end_matches('/')
            };
            let here = |route: &&Arc<Route>| layout.place(&route.spec) == above.as_ref();
            let route = table.iter().filter(here).filter(matches);
            let route = route.max_by_key(|route| priority(&route.spec));
            let parents = layout.parents().iter();
            let parent = parents
                .filter(|(prefix, parent)| parent.above == above && bytes.starts_with(prefix))
                .max_by_key(|(prefix, _)| prefix_rule(prefix).1);
            let ahead = |(prefix, _): &(&Prefix, &Parent)| {
                route.is_none_or(|route| prefix_rule(prefix).1 > priority(&route.spec))
            };
            match parent.filter(ahead) {
                Some((prefix, _)) => above = Some(Arc::clone(prefix)),
                None => {
                    let rest = above.and_then(|above| layout.parents().get(&above));
                    let rest = rest.map(|parent| &parent.fallback);
                    return route.or(rest).map(|route| route.spec.clone());
                }
            }
        }
    }

    fn any_path() -> impl Strategy<Value = String> {
        let segment = prop::sample::select(vec!["a", "b", "ab", "abc", "ba", "c~", "a%20b", "x@y"]);
        prop::collection::vec(segment, 0..4).prop_map(|parts| format!("/{}", parts.join("/")))
    }

    proptest! {
        #[test]
        fn every_request_goes_where_it_went(
            specs in prop::collection::btree_set(any_path(), 0..60),
            paths in prop::collection::vec(any_path(), 20),
        ) {
            let table = table(specs.iter().map(String::as_str));
            let layout = Layout::of(&table, Nested::Always);
            for path in paths.iter().filter(|path| !path.contains(['%', '@'])) {
                let flat = table.resolve("h", path).unwrap().map(|route| route.spec.clone());
                prop_assert_eq!(resolve(&table, &layout, path), flat, "{} in {:?}", path, specs);
            }
        }
    }

    #[test]
    fn parents_tell_routes_apart_by_a_few_at_each_level() {
        let mut specs: Vec<_> = (0..10_000).map(|n| format!("/user/n{n}/")).collect();
        let lacking = table(specs.iter().map(String::as_str));
        let layout = Layout::of(&lacking, Nested::Auto);
        assert!(
            layout.parents().is_empty(),
            "there is no route for the rest"
        );
        specs.extend(["/".into(), "h/user/n1/".into(), "/user/@x/".into()]);
        let table = table(specs.iter().map(String::as_str));
        let layout = Layout::of(&table, Nested::Auto);
        let mut below: HashMap<Option<&Prefix>, usize> = HashMap::new();
        for route in table.iter().filter(|route| route.spec.host().is_none()) {
            *below.entry(layout.place(&route.spec)).or_default() += 1;
        }
        for parent in layout.parents().values() {
            *below.entry(parent.above.as_ref()).or_default() += 1;
        }
        assert!(below.values().all(|&count| count <= 64), "{below:?}");
        assert!(layout.parents().len() < 1_200);
        let host = RouteSpec::new("h/user/n1/").unwrap();
        assert_eq!(layout.place(&host), None);
        assert!(Layout::of(&table, Nested::Never).parents().is_empty());
    }

    #[test]
    fn a_small_table_has_no_parents() {
        let specs: Vec<_> = (0..198).map(|n| format!("/user/n{n}/")).collect();
        let specs = specs.iter().map(String::as_str).chain(["/"]);
        let layout = Layout::of(&table(specs), Nested::Auto);
        assert!(layout.parents().is_empty() && layout.places.is_empty());
    }
}
