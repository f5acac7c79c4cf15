//! Routes of a table that is confined to one host: they are stored with it, and written and shown without it.

use std::sync::Arc;

use traefik_router::{Result, Route, RouteSpec, Table};

use crate::settings::Resolved;

/// A routespec as it is stored.
pub(super) fn stored_spec(resolved: &Resolved, spec: RouteSpec) -> Result<RouteSpec> {
    match (&resolved.settings.host, spec.host()) {
        (Some(host), None) => RouteSpec::new(format!("{host}{}", spec.path())),
        _ => Ok(spec),
    }
}

/// A route as it is shown.
pub(super) fn shown(resolved: &Resolved, route: &Arc<Route>) -> Result<Arc<Route>> {
    let host = resolved.settings.host.as_deref();
    if host.is_none() || route.spec.host() != host {
        return Ok(Arc::clone(route));
    }
    let mut shown = Route::clone(route);
    shown.spec = RouteSpec::new(route.spec.path())?;
    Ok(Arc::new(shown))
}

/// A table as it is shown.
pub(super) fn shown_table(resolved: &Resolved, table: &Table) -> Result<Table> {
    table.iter().map(|route| shown(resolved, route)).collect()
}
