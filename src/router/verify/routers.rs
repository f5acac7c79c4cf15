//! Whether Traefik serves the routers of a commit that it has loaded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::pending::Pending;
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::route::{Route, RouteSpec, service_name};
use crate::traefik::{Api, RouterInfo};

/// Waits until the routers of a loaded commit are as it wants them. Returns the errors of routes whose
/// routers Traefik refuses, or has in another way.
pub(super) fn await_routers(api: &Api, pending: &Pending<'_>) -> Result<HashMap<RouteSpec, Error>> {
    let mut pause = Duration::from_millis(1);
    loop {
        // A connection may have died since. A Traefik that has ended is reported as such.
        let routers = routers(api, pending).or_else(|_| {
            pending.check_process()?;
            routers(api, pending)
        })?;
        let mut wrong = wrong_routers(api, pending, &routers);
        let is_over = pending.time_left().is_zero();
        let may_change = |(_, error): &(&Route, Error)| error.kind() == ErrorKind::NotLoaded;
        if !is_over && wrong.iter().any(may_change) {
            pending.retain_current(&mut wrong);
        }
        if is_over || !wrong.iter().any(may_change) {
            let wrong = wrong.into_iter();
            return Ok(wrong
                .map(|(route, error)| (route.spec.clone(), error))
                .collect());
        }
        pending.check_process()?;
        std::thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_millis(100));
    }
}

/// The routers to look at: those of a commit, or perhaps only those that Traefik refuses.
fn routers(api: &Api, pending: &Pending<'_>) -> Result<Vec<RouterInfo>> {
    match &*pending.expected.set {
        [] => Ok(Vec::new()),
        [route] => {
            let name = pending.router_name(&route.spec);
            Ok(api.router(&name)?.into_iter().collect())
        }
        _ if pending.expected.stored_before => api.routers(),
        _ => api.refused_routers(),
    }
}

/// The routes of a commit whose routers are refused, or are not as it wants them.
fn wrong_routers<'a>(
    api: &Api,
    pending: &'a Pending<'_>,
    routers: &[RouterInfo],
) -> Vec<(&'a Route, Error)> {
    let Pending {
        commit, expected, ..
    } = *pending;
    let each = expected.stored_before || expected.set.len() == 1;
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
            Some(_) => return None,
            None if each => is_wrong("is not there".into()),
            None => return None,
        };
        Some((&**route, error))
    };
    expected.set.iter().filter_map(check).collect()
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
