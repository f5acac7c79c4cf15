//! Whether Traefik serves the routers of a commit that it has loaded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::pending::{Pending, in_time};
use super::schedule::PollSchedule;
use crate::config::dynamic::{router, service};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::route::{Route, RouteSpec, is_zero_duration, service_name};
use crate::traefik::{Api, RouterInfo, Service};

/// Waits until the routers of a loaded commit are as it wants them. Returns the errors of routes whose
/// routers Traefik refuses, or has in another way.
pub(super) fn await_routers(api: &Api, pending: &Pending<'_>) -> Result<HashMap<RouteSpec, Error>> {
    let (mut polls, begun) = (PollSchedule::new(Duration::ZERO), Instant::now());
    let copy = match &*pending.expected.deleted {
        [] => None,
        _ => pending.serving.store.copy_of(pending.commit),
    };
    loop {
        // A connection may have died since. A Traefik that has ended is reported as such.
        let look = || Shown::at(&in_time(api, pending.time_left()), pending);
        let shown = look().or_else(|_| {
            pending.check_process()?;
            look()
        })?;
        let mut wrong = wrong_routers(api, pending, &shown);
        if let Some(copy) = &copy {
            wrong.extend(kept_routers(api, pending, copy)?);
        }
        let is_over = pending.time_left().is_zero();
        // Traefik refuses half a router, and reads the other half later.
        let may_change = |(_, error): &(&RouteSpec, Error)| {
            error.kind() == ErrorKind::NotLoaded || !pending.is_read_at_once()
        };
        if !is_over && wrong.iter().any(may_change) {
            pending.retain_current(&mut wrong);
        }
        if is_over || !wrong.iter().any(may_change) {
            let wrong = wrong.into_iter();
            return Ok(wrong.map(|(spec, error)| (spec.clone(), error)).collect());
        }
        pending.check_process()?;
        std::thread::sleep(polls.next_pause(begun.elapsed()));
    }
}

/// What a Traefik shows of a commit.
#[derive(Default)]
struct Shown {
    /// The routers to look at: those of a commit, or perhaps only those that Traefik refuses.
    routers: Vec<RouterInfo>,
    /// Their services, by name, where Traefik may have read a part of them. They are asked for last: what is
    /// shown later is as complete.
    services: Option<HashMap<String, Service>>,
}

impl Shown {
    fn at(api: &Api, pending: &Pending<'_>) -> Result<Self> {
        let (routers, services) = match &*pending.expected.set {
            [] => return Ok(Self::default()),
            [route] => {
                let router = api.router(&pending.router_name(&route.spec))?;
                let service = || api.service(&pending.service_name(route));
                let service = (!pending.is_read_at_once()).then(service).transpose()?;
                let service = service.map(|service| service.into_iter().collect::<Vec<_>>());
                (router.into_iter().collect(), service)
            }
            _ => {
                let routers = match pending.needs_each() {
                    true => api.routers()?,
                    false => api.refused_routers()?,
                };
                let services = (!pending.is_read_at_once()).then(|| api.services());
                (routers, services.transpose()?)
            }
        };
        let by_name = |all: Vec<Service>| all.into_iter().map(|one| (one.name.clone(), one));
        Ok(Self {
            routers,
            services: services.map(|all| by_name(all).collect()),
        })
    }

    /// Whether Traefik may have read a part alone of a route's router, or of its service. What it shows beyond
    /// what the route asks for is the table's.
    fn is_part(&self, pending: &Pending<'_>, shown: &RouterInfo, route: &Route) -> bool {
        let Some(services) = &self.services else {
            return false;
        };
        let wanted = router(&pending.commit.namespace, route, "", true);
        let config = service(route, &Value::Null);
        let is_whole = |service: &Service| has_all(&service.load_balancer, &config["loadBalancer"]);
        let full = |name: &String| match name.contains('@') {
            true => name.clone(),
            false => format!("{name}@{}", pending.provider),
        };
        let middlewares: Vec<_> = wanted.middlewares.iter().map(full).collect();
        let settings = json!({"tls": shown.tls, "observability": shown.observability});
        shown.rule != wanted.rule
            || !shown.middlewares.ends_with(&middlewares)
            || u64::try_from(shown.priority) != Ok(wanted.priority)
            || !has_all(&settings, &route.router_settings())
            || !services
                .get(&pending.service_name(route))
                .is_some_and(is_whole)
    }
}

/// Whether all of a configuration is shown. Traefik writes durations in its own way, leaves out what is false, zero or
/// empty, and has one of several headers whose names differ in case alone.
fn has_all(shown: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(map) => map
            .iter()
            .all(|(key, wanted)| has_all(named(shown, key), wanted)),
        Value::Array(list) => {
            shown.as_array().map_or(0, Vec::len) == list.len()
                && (list.iter().enumerate()).all(|(n, wanted)| has_all(&shown[n], wanted))
        }
        _ if [json!(false), json!(0), json!("")].contains(wanted) => true,
        Value::String(text) => shown.is_string() || is_zero_duration(text),
        wanted => shown == wanted,
    }
}

/// The value of this key, or of one that differs in case alone.
fn named<'v>(map: &'v Value, key: &str) -> &'v Value {
    let entries = map.as_object().into_iter().flatten();
    let mut others = entries.filter(|(name, _)| name.eq_ignore_ascii_case(key));
    let found = map.get(key).or_else(|| Some(others.next()?.1));
    found.unwrap_or(&Value::Null)
}

/// The routes of a commit whose routers are refused, or are not as it wants them.
fn wrong_routers<'a>(
    api: &Api,
    pending: &'a Pending<'_>,
    shown: &Shown,
) -> Vec<(&'a RouteSpec, Error)> {
    let Pending {
        commit, expected, ..
    } = *pending;
    let routers = &shown.routers;
    let each = pending.needs_each();
    // Thousands of names cost more than the answer that nothing is refused.
    if !each && routers.is_empty() {
        return Vec::new();
    }
    let by_name: HashMap<&str, &RouterInfo> =
        (routers.iter()).map(|info| (&*info.name, info)).collect();
    let check = |route: &'a Arc<Route>| {
        let name = pending.router_name(&route.spec);
        let is_wrong = |what: String| {
            let message = format!(
                "stored, but Traefik at {} does not serve the route {}: its router {name} {what}",
                api.url(),
                route.spec
            );
            Error::new(ErrorKind::NotLoaded, message).with_stored(Stored::All)
        };
        let service = service_name(&commit.namespace, route);
        let error = match by_name.get(&*name) {
            Some(info) if info.status == "disabled" => refusal(api, &route.spec, info),
            Some(info) if info.service != service => is_wrong(format!(
                "leads to the service {} instead of {service}",
                info.service
            )),
            Some(info) if !is_at(info, &commit.entrypoint) => is_wrong(format!(
                "is on the entrypoint {} instead of {}",
                info.entry_points.join(", "),
                commit.entrypoint
            )),
            Some(info) if shown.is_part(pending, info, route) => {
                is_wrong("or its service is not all there".into())
            }
            Some(_) => return None,
            None if each => is_wrong("is not there".into()),
            None => return None,
        };
        Some((&route.spec, error))
    };
    expected.set.iter().filter_map(check).collect()
}

/// The routes that a commit has deleted and that Traefik still has, from a copy of the table.
fn kept_routers<'a>(
    api: &Api,
    pending: &'a Pending<'_>,
    copy: &str,
) -> Result<Vec<(&'a RouteSpec, Error)>> {
    let deleted = &pending.expected.deleted;
    let routers = match &**deleted {
        [spec] => Vec::from_iter(api.router(&pending.router_name(spec))?),
        _ => api.routers()?,
    };
    let names: HashSet<_> = routers.iter().map(|router| &*router.name).collect();
    let kept = |spec| {
        let name = pending.router_name(spec);
        if !names.contains(&*name) {
            return None;
        }
        let message = format!(
            "stored, but Traefik at {} still has the router {name} of the deleted route {spec}: {copy} has a copy of the \
             table; move it out of the folder that Traefik watches, or let its name end in .bak",
            api.url()
        );
        let error = Error::new(ErrorKind::NotLoaded, message);
        Some((spec, error.with_stored(Stored::All)))
    };
    Ok(deleted.iter().filter_map(kept).collect())
}

/// Whether a router is on this entrypoint, or below another one, which is.
fn is_at(router: &RouterInfo, entrypoint: &str) -> bool {
    let on = &router.entry_points;
    entrypoint.is_empty() || on.is_empty() || on.len() == 1 && on[0] == entrypoint
}

fn refusal(api: &Api, spec: &RouteSpec, router: &RouterInfo) -> Error {
    let url = api.url();
    let words = router.error.join("; ");
    let message = format!("stored, but Traefik at {url} refuses the route {spec}: {words}");
    Error::new(ErrorKind::Refused, message).with_stored(Stored::All)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lacking_parts_are_seen() {
        let wanted = json!({
            "servers": [{"url": "http://a"}, {"url": "http://b", "weight": 2}],
            "sticky": {"cookie": {"name": "stuck", "secure": false}},
            "healthCheck": {
                "path": "/", "interval": "90s", "timeout": "0s", "headers": {"X-A": "1", "x-a": "2"},
            },
        });
        let whole = json!({
            "servers": [{"url": "http://a"}, {"url": "http://b", "weight": 2}],
            "sticky": {"cookie": {"name": "stuck", "path": "/"}},
            "healthCheck": {
                "path": "/", "interval": "1m30s", "mode": "http", "headers": {"x-a": "2"},
            },
        });
        assert!(has_all(&whole, &wanted));
        for lacking in [
            "/servers/1",
            "/servers/1/weight",
            "/sticky",
            "/sticky/cookie/name",
            "/healthCheck/interval",
            "/healthCheck/headers/x-a",
        ] {
            let mut part = whole.clone();
            *part.pointer_mut(lacking).unwrap() = Value::Null;
            assert!(!has_all(&part, &wanted), "{lacking}");
        }
        let mut more = whole;
        let servers = more["servers"].as_array_mut().unwrap();
        servers.push(json!({"url": "http://c"}));
        assert!(!has_all(&more, &wanted));
    }
}
