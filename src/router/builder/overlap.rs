//! Where several tables that one Traefik reads take requests or the API from each other.

use std::collections::{HashMap, HashSet};

use crate::backend::Contents;
use crate::config::dynamic::{generation_path, is_api_name};
use crate::finding::Finding;
use crate::route::{RouteSpec, priority, rule};
use crate::traefik::RouterInfo;

const OVERLAP: &str = "overlap";

/// Routers of others that are for the requests of one of our routes, and do not come after it.
pub(super) fn overlapping(
    theirs: &[&RouterInfo],
    contents: &Contents,
    url: &str,
) -> Option<Finding> {
    let specs = contents.routes.iter().map(|route| &route.spec);
    let by_rule: HashMap<_, _> = specs.map(|spec| (rule(spec), spec)).collect();
    let taken = |router: &RouterInfo| {
        let specs = match by_rule.get(&router.rule) {
            Some(spec) => vec![(*spec).clone()],
            // Below others it has only a part of the rule.
            None if !router.parent_refs.is_empty() => Vec::new(),
            None => plain_specs(&router.rule),
        };
        let mut routes = specs.iter().filter_map(|spec| contents.routes.get(spec));
        let own = u64::try_from(router.priority).unwrap_or_default();
        let route = routes.find(|route| priority(&route.spec) <= own)?;
        Some(format!(
            "{} (priority {own}, for {})",
            router.name, route.spec
        ))
    };
    let overlaps: Vec<_> = theirs.iter().filter_map(|router| taken(router)).collect();
    let first = overlaps.first()?;
    let message = format!(
        "{url} has {} for the same host and path as a route: {first}",
        match overlaps.len() {
            1 => "a router of others".into(),
            count => format!("{count} routers of others"),
        }
    );
    Some(Finding::warning(OVERLAP, message).advice(
        "it takes the requests of that route, or they take each other's: confine each table to a host \
         (`host`), or take one of the two away",
    ))
}

/// A route of another table within a route of ours, with one of ours within one of theirs. Where all routes of one
/// table are within the other's, as an application's below a hub, nothing is wrong. Nor is it where one table is for a
/// host and the other for any: a host's routes come first.
pub(super) fn interleaved(
    theirs: &[&RouterInfo],
    contents: &Contents,
    url: &str,
) -> Option<Finding> {
    let others: Vec<_> = theirs
        .iter()
        .filter_map(|router| table_spec(router))
        .collect();
    let ours: Vec<_> = contents.routes.iter().map(|route| &route.spec).collect();
    let (inner, outer) = within(others.iter(), ours.iter().copied())?;
    let (own, around) = within(ours.into_iter(), others.iter())?;
    let message = format!(
        "{url} has routes of another table among these: its {inner} is within {outer}, and {own} is within its \
         {around}"
    );
    Some(Finding::warning(OVERLAP, message).advice(
        "each table takes requests of the other's routes: confine each to a host (`host`), or give each its \
         own paths",
    ))
}

/// The routespec of a router as this crate writes it.
fn table_spec(router: &RouterInfo) -> Option<RouteSpec> {
    let spec = plain_specs(&router.rule).into_iter().next()?;
    let is_route =
        router.rule == rule(&spec) && u64::try_from(router.priority) == Ok(priority(&spec));
    is_route.then_some(spec)
}

/// A routespec that is within one of others, and that one.
fn within<'a>(
    mut specs: impl Iterator<Item = &'a RouteSpec>,
    others: impl Iterator<Item = &'a RouteSpec>,
) -> Option<(&'a str, &'a str)> {
    let others: HashSet<_> = others.map(RouteSpec::as_str).collect();
    specs.find_map(|spec| {
        let text = spec.as_str();
        // No host has a slash.
        let above = text.match_indices('/').map(|(at, _)| &text[..=at]);
        let mut above = above.filter(|above| above.len() < text.len());
        Some((text, above.find(|above| others.contains(above))?))
    })
}

/// A router of Traefik's API that one table has stored and others need as well.
pub(super) fn shared_api(
    routers: &[RouterInfo],
    contents: &Contents,
    provider: &str,
    url: &str,
) -> Option<Finding> {
    let marker = &contents.commit.as_ref()?.marker;
    let is_others = |router: &RouterInfo| {
        router
            .rule
            .starts_with(&format!("Path(\"{}", generation_path("")))
            && !router.rule.contains(marker)
    };
    if !routers.iter().any(is_others) {
        return None;
    }
    let is_theirs = |router: &RouterInfo| {
        let (name, from) = router.name.split_once('@').unwrap_or_default();
        is_api_name(name) && from == provider && contents.config["http"]["routers"][name].is_null()
    };
    let whose = match (contents.has_api_router, routers.iter().any(is_theirs)) {
        (true, _) => "this table has the router of the API",
        (false, true) => "another table has the router of the API",
        (false, false) => return None,
    };
    let message =
        format!("{url} serves several tables, and {whose}, which disappears with that table");
    Some(Finding::warning("shared-api", message).advice(
        "set the API up in Traefik's own configuration: without that router no change of any table can be \
         confirmed",
    ))
}

/// The routespecs that a rule is about, if it has no matchers but hosts and paths.
fn plain_specs(rule: &str) -> Vec<RouteSpec> {
    let (mut hosts, mut paths) = (Vec::new(), Vec::new());
    for matcher in rule.split(')').filter(|part| part.contains('(')) {
        let Some((name, literal)) = matcher.rsplit_once('(') else {
            continue;
        };
        let literal = literal.trim_matches(['`', '"']);
        let name = name.rsplit([' ', '(', '&', '|']).next();
        match name {
            Some("Host") => hosts.push(literal),
            Some("Path" | "PathPrefix") => paths.push(literal),
            _ => return Vec::new(),
        }
    }
    if hosts.is_empty() && paths.is_empty() {
        return Vec::new();
    }
    for matched in [&mut hosts, &mut paths] {
        if matched.is_empty() {
            matched.push("");
        }
    }
    let specs = hosts.iter().flat_map(|host| {
        let spec = move |path: &&str| RouteSpec::new(format!("{host}/{}", path.trim_matches('/')));
        paths.iter().filter_map(move |path| spec(path).ok())
    });
    specs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_rules_are_understood() {
        for (rule, specs) in [
            ("Host(`Hub.x`)", &["hub.x/"] as &[_]),
            ("PathPrefix(`/`)", &["/"]),
            (
                "Host(\"a.x\") && (PathPrefix(\"/u/\") || Path(\"/u\"))",
                &["a.x/u/", "a.x/u/"],
            ),
            (
                "(Host(`a.x`)||Host(`b.x`))&&PathPrefix(`/u`)",
                &["a.x/u/", "b.x/u/"],
            ),
            ("Host(`a.x`) && Method(`GET`)", &[]),
            ("!Host(`a.x`)", &[]),
            ("HostRegexp(`.+`) && Path(`/u`)", &[]),
            ("", &[]),
        ] {
            let found = plain_specs(rule);
            let found: Vec<_> = found.iter().map(RouteSpec::as_str).collect();
            assert_eq!(found, specs, "{rule}");
        }
    }

    #[test]
    fn tables_interleave_both_ways() {
        let specs = |specs: &[&str]| -> Vec<RouteSpec> {
            specs
                .iter()
                .map(|spec| RouteSpec::new(spec).unwrap())
                .collect()
        };
        for (ours, theirs, found) in [
            (
                &["/", "/user/a/"] as &[_],
                &["/user/"] as &[_],
                [true, true],
            ),
            (&["/"], &["/app/"], [true, false]),
            (&["/app/x/"], &["/", "/app/"], [false, true]),
            (
                &["/", "/user/a/"],
                &["h.x/user/", "*.x/user/"],
                [false, false],
            ),
            (&["h.x/", "h.x/user/a/"], &["h.x/user/"], [true, true]),
            (&["/a/"], &["/ab/", "/a/"], [false, false]),
        ] {
            let [ours, theirs] = [ours, theirs].map(specs);
            let both = [
                within(theirs.iter(), ours.iter()),
                within(ours.iter(), theirs.iter()),
            ];
            assert_eq!(both.map(|one| one.is_some()), found, "{ours:?} {theirs:?}");
        }
    }
}
