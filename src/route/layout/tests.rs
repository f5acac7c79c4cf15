//! That parents change no destination, and how many there are.

use std::collections::HashMap;

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
    let route = |(n, (spec, way))| asking(way, Route::new(spec, format!("http://t{n}")).unwrap());
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
        !bounds.values().any(between) && !table.iter().any(|route| priority(&route.spec) == *one)
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
