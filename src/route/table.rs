//! The routing table: routes by routespec, and which of them serves a request.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::spec::{canonical_host, canonical_segment};
use super::{Change, Route, RouteSpec};
use crate::error::{Error, ErrorKind, Result};

/// A snapshot of all routes, in the order of their routespecs. Cloning is cheap, and a snapshot
/// does not change when the store does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table(Arc<BTreeMap<RouteSpec, Arc<Route>>>);

impl Table {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of routes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The route with exactly this routespec.
    pub fn get(&self, spec: &RouteSpec) -> Option<&Arc<Route>> {
        self.0.get(spec)
    }

    /// All routes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Route>> {
        self.0.values()
    }

    /// The route that Traefik will choose for a request: one for the request's host before one for a wildcard
    /// that matches it, that one before one for any host, and of those the one with the longest path.
    ///
    /// `host` is what the request's `Host` header says, with or without a port. `path` is the path
    /// of its URL, encoded; a query is ignored. As Traefik does, this cleans `//`, `.` and `..`
    /// first. Routers that were written by hand do not count.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) if no request can have this path.
    pub fn resolve(&self, host: &str, path: &str) -> Result<Option<&Arc<Route>>> {
        let mut prefixes = request_prefixes(path).map_err(|why| {
            Error::new(
                ErrorKind::InvalidRoute,
                format!("no request has the path {path:?}: {why}"),
            )
        })?;
        let header = host;
        let host = request_host(header);
        let longest = |host: &str, path: &mut String| {
            let mut text = format!("{host}{path}");
            loop {
                if let Some(route) = self.0.get(text.as_str()) {
                    return Some(route);
                }
                text.pop();
                let slash = text.rfind('/')?;
                text.truncate(slash + 1);
            }
        };
        if !host.is_empty() {
            if let Some(route) = longest(&host, &mut prefixes) {
                return Ok(Some(route));
            }
        }
        // They come first in the order of routespecs.
        if self.0.keys().next().is_some_and(RouteSpec::is_wildcard) {
            let route = request_domain(header)
                .and_then(|domain| longest(&format!("*.{domain}"), &mut prefixes));
            if route.is_some() {
                return Ok(route);
            }
        }
        Ok(longest("", &mut prefixes))
    }

    /// A routespec of this table that is not for this host.
    pub(crate) fn outside_of(&self, host: &str) -> Option<&RouteSpec> {
        // In order, the routespecs of a host are side by side.
        let mut ends = self
            .0
            .keys()
            .next()
            .into_iter()
            .chain(self.0.keys().next_back());
        ends.find(|spec| spec.host() != Some(host))
    }

    /// The routes of this host.
    pub(crate) fn of_host<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Arc<Route>> {
        let from = format!("{host}/");
        let from = (Bound::Included(from.as_str()), Bound::Unbounded);
        let routes = self.0.range::<str, _>(from).map(|(_, route)| route);
        routes.take_while(move |route| route.spec.host() == Some(host))
    }

    /// Whether Traefik would serve each route as it asks, beside the others: the routes of one host must not differ in
    /// their TLS options. A change after which some do is refused.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute), which names two routes.
    pub fn check(&self) -> Result<()> {
        let mut pairs = self.iter().skip(1).zip(self.iter());
        // The routes of a host are side by side.
        let clash = pairs.find_map(|(route, before)| route.clash_with(before));
        clash.map_or(Ok(()), Err)
    }

    /// Makes one change; says what it did.
    pub(crate) fn apply(&mut self, change: &Change) -> Effect {
        match change {
            Change::Set(route) => match self.0.get(&route.spec) {
                Some(old) if old == route => Effect::None,
                old => {
                    let effect = if old.is_some() {
                        Effect::Changed
                    } else {
                        Effect::Added
                    };
                    Arc::make_mut(&mut self.0).insert(route.spec.clone(), Arc::clone(route));
                    effect
                }
            },
            Change::Delete(spec) if self.0.contains_key(spec) => {
                Arc::make_mut(&mut self.0).remove(spec);
                Effect::Deleted
            }
            Change::Delete(_) => Effect::None,
        }
    }

    /// Whether this change would make a difference.
    pub(crate) fn is_changed_by(&self, change: &Change) -> bool {
        match change {
            Change::Set(route) => self.get(&route.spec) != Some(route),
            Change::Delete(spec) => self.get(spec).is_some(),
        }
    }

    /// The changes that turn this table into `desired`.
    pub(crate) fn changes_to(&self, desired: &Self) -> Vec<Change> {
        let stale = self.0.keys().filter(|spec| !desired.0.contains_key(*spec));
        let lacking = desired
            .iter()
            .filter(|route| self.get(&route.spec) != Some(route));
        stale
            .map(|spec| Change::Delete(spec.clone()))
            .chain(lacking.map(|route| Change::Set(Arc::clone(route))))
            .collect()
    }
}

/// What a change did to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    Added,
    Changed,
    Deleted,
}

impl FromIterator<Arc<Route>> for Table {
    /// Of several routes with the same routespec the last one stays.
    fn from_iter<I: IntoIterator<Item = Arc<Route>>>(routes: I) -> Self {
        let pairs = routes.into_iter().map(|route| (route.spec.clone(), route));
        Self(Arc::new(pairs.collect()))
    }
}

impl FromIterator<Route> for Table {
    fn from_iter<I: IntoIterator<Item = Route>>(routes: I) -> Self {
        routes.into_iter().map(Arc::new).collect()
    }
}

impl<'a> IntoIterator for &'a Table {
    type Item = &'a Arc<Route>;
    type IntoIter = std::collections::btree_map::Values<'a, RouteSpec, Arc<Route>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.values()
    }
}

/// The host of a `Host` header as a routespec has it, empty if none can. Traefik takes a port off as
/// Go does, which leaves a name that it can't split as it is; it compares IPv6 addresses as text, with
/// or without brackets.
fn request_host(header: &str) -> String {
    let host = without_port(header);
    if !host.contains(':') {
        return canonical_host(host).unwrap_or_default();
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let address = format!("[{}]", bare.unwrap_or(host).to_ascii_lowercase());
    let canonical = canonical_host(&address).unwrap_or_default();
    if canonical == address {
        canonical
    } else {
        String::new()
    }
}

fn without_port(header: &str) -> &str {
    let split = match header.rsplit_once(':') {
        Some((host, port)) if !port.contains(['[', ']']) => match host.strip_prefix('[') {
            Some(inside) => inside.strip_suffix(']'),
            None => Some(host).filter(|host| !host.contains(':')),
        },
        _ => None,
    };
    split.unwrap_or(header)
}

/// The host of a `Host` header without its first label, which may be anything. `None` if no route can be for the rest.
fn request_domain(header: &str) -> Option<String> {
    let host = without_port(header);
    let inside = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let address = inside.filter(|inside| inside.contains(':'));
    let host = address.unwrap_or(host);
    let (_, domain) = host.strip_suffix('.').unwrap_or(host).split_once('.')?;
    let domain = domain.to_ascii_lowercase();
    let is_host = canonical_host(&domain).is_ok_and(|canonical| canonical == domain);
    is_host.then_some(domain)
}

/// The canonical text of the routespec for exactly this request path.
fn request_prefixes(path: &str) -> Result<String, String> {
    let path = path.split(['?', '#']).next().unwrap_or(path);
    if !path.starts_with('/') {
        return Err("it does not begin with '/'".into());
    }
    let mut segments: Vec<String> = Vec::new();
    for segment in path.split('/') {
        let mut text = String::new();
        canonical_segment(segment, &mut text)?;
        match &*text {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(text),
        }
    }
    let mut canonical = segments
        .iter()
        .fold(String::new(), |all, one| all + "/" + one);
    canonical.push('/');
    Ok(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(specs: &[&str]) -> Table {
        specs
            .iter()
            .map(|spec| Route::new(spec, "http://t").unwrap())
            .collect()
    }

    #[test]
    fn longest_prefix_matches() {
        let table = table(&[
            "/",
            "/a/",
            "/a/b/",
            "/a@b/",
            "h.x/",
            "h.x/a/",
            "i.x/only/",
            "[::1]/v6/",
            "*.y/",
            "*.y/a/",
            "*.z.y/a/",
            "h.y/b/",
        ]);
        for (host, path, expected) in [
            ("other", "/", "/"),
            ("other", "/a", "/a/"),
            ("other", "/a/", "/a/"),
            ("other", "/ab", "/"),
            ("other", "/a/b/c/d?x=/a", "/a/b/"),
            ("other", "/a//b", "/a/b/"),
            ("other", "/x/../a/./b", "/a/b/"),
            ("other", "/a%40b/z", "/a@b/"),
            ("other", "/a%2Fb/z", "/"),
            ("H.X.:8000", "/a/b", "h.x/a/"),
            ("h.x", "/zzz", "h.x/"),
            ("i.x", "/a/b", "/a/b/"),
            ("i.x", "/only", "i.x/only/"),
            ("[::1]:80", "/v6/x", "[::1]/v6/"),
            ("::1", "/v6/x", "[::1]/v6/"),
            ("[0:0:0:0:0:0:0:1]", "/v6/x", "/"),
            ("", "/a", "/a/"),
            ("h.y", "/a/b", "*.y/a/"),
            ("h.y", "/b", "h.y/b/"),
            ("H.Y.:80", "/c", "*.y/"),
            ("a!b.y", "/", "*.y/"),
            (".y", "/", "*.y/"),
            ("y", "/", "/"),
            ("a.z.y", "/a", "*.z.y/a/"),
            ("a.z.y", "/", "/"),
            ("[h.y]", "/", "/"),
            ("h.y/a", "/", "/"),
        ] {
            let found = table.resolve(host, path).unwrap().unwrap();
            assert_eq!(found.spec.as_str(), expected, "{host:?} {path:?}");
        }
        assert_eq!(Table::new().resolve("h", "/").unwrap(), None);
        assert!(table.resolve("h", "no-slash").is_err());
        assert!(table.resolve("h", "/%zz").is_err());
    }

    #[test]
    fn changes_lead_to_desired_table() {
        let mut now = table(&["/a/", "/b/", "/c/"]);
        let mut desired = table(&["/b/", "/d/"]);
        assert_eq!(
            desired.apply(&Change::set("/c/", "http://new").unwrap()),
            Effect::Added
        );
        let effects: Vec<_> = now
            .clone()
            .changes_to(&desired)
            .iter()
            .map(|change| now.apply(change))
            .collect();
        assert_eq!(effects, [Effect::Deleted, Effect::Changed, Effect::Added]);
        assert_eq!(now, desired);
        assert!(now.changes_to(&desired).is_empty());
    }
}
