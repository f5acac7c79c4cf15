//! Routes and changes of them, as text and as JSON.

use serde_json::{Map, Value, json};
use traefik_router::{Route, RouteEvent};

use super::output::{GREEN, Output, RED, YELLOW, shown};

pub(super) fn as_json(route: &Route) -> Value {
    let mut all = settings(route);
    all.insert("routespec".into(), route.spec.as_str().into());
    all.insert("target".into(), route.target.as_str().into());
    all.insert("data".into(), route.data.clone());
    all.into()
}

/// What a route asks for beside its target.
pub(super) fn settings(route: &Route) -> Map<String, Value> {
    let servers = route.servers();
    let is_plain = servers.len() == 1 && servers[0].weight == 1;
    let of_map = |map: Value| Some(map).filter(|map| *map != json!({}));
    let set = [
        ("servers", (!is_plain).then(|| json!(servers))),
        (
            "middlewares",
            Some(json!(route.middlewares())).filter(|names| *names != json!([])),
        ),
        ("service", of_map(route.service_settings())),
        ("router", of_map(route.router_settings())),
        (
            "own_service",
            route.has_own_service().then_some(true.into()),
        ),
        ("strip_prefix", route.strips_prefix().then_some(true.into())),
    ];
    let set = set.into_iter();
    set.filter_map(|(name, value)| Some((name.into(), value?)))
        .collect()
}

/// A change on one line: what a route is, or was before and is now.
pub(super) fn change_line(output: &Output, event: &RouteEvent) -> String {
    let (mark, style, what) = match event {
        RouteEvent::Added(route) => ("+", GREEN, all_of(route)),
        RouteEvent::Changed { from, to } => {
            ("~", YELLOW, format!("{} → {}", all_of(from), all_of(to)))
        }
        RouteEvent::Deleted(route) => ("-", RED, all_of(route)),
        // There is no other in this version.
        _ => ("?", YELLOW, String::new()),
    };
    let line = shown(&format!("{mark} {}  {what}", event.spec()));
    output.styled(&line, style)
}

/// The same for programs.
pub(super) fn change_json(event: &RouteEvent) -> Value {
    let (change, from, to) = match event {
        RouteEvent::Added(route) => ("added", None, Some(route)),
        RouteEvent::Changed { from, to } => ("changed", Some(from), Some(to)),
        RouteEvent::Deleted(route) => ("deleted", Some(route), None),
        _ => ("unknown", None, None),
    };
    let route = |route: Option<&std::sync::Arc<Route>>| route.map(|route| as_json(route));
    json!({"change": change, "routespec": event.spec(), "from": route(from), "to": route(to)})
}

/// The target of a route, its settings and its data, as far as it has some.
fn all_of(route: &Route) -> String {
    let mut all = route.target.to_string();
    let set = settings(route);
    if !set.is_empty() {
        all.push_str(&format!(" {}", Value::from(set)));
    }
    if !route.data.is_null() {
        all.push_str(&format!(" data {}", route.data));
    }
    all
}
