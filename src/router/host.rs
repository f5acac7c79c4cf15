//! A table that is confined to one host.

use std::borrow::Cow;
use std::sync::Arc;

use super::Applied;
use crate::error::{Error, ErrorKind, Result};
use crate::route::{Change, Route, RouteSpec, Table};

/// The host that all routes of a table are for, if they are confined to one. The store has it in each routespec,
/// and callers leave it out.
#[derive(Debug, Clone, Default)]
pub(super) struct Host(Option<Box<str>>);

impl Host {
    pub(super) fn new(name: &str) -> Result<Self> {
        let refused = |why: &str| Error::invalid(format!("`host` {name:?} is no host: {why}"));
        let spec = RouteSpec::new(name).map_err(|error| refused(&error.to_string()))?;
        if spec.is_wildcard() {
            return Err(refused("a wildcard stands for many"));
        }
        match (spec.host(), spec.path()) {
            (Some(host), "/") => Ok(Self(Some(host.into()))),
            _ => Err(refused("give its name alone, as in \"hub.example.org\"")),
        }
    }

    /// Fails if a table that is stored has routes that are not for this host.
    pub(super) fn check(&self, table: &Table) -> Result<()> {
        let Some(host) = self.0.as_deref() else {
            return Ok(());
        };
        match table.outside_of(host) {
            None => Ok(()),
            Some(other) => Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "the table has the route {other}, and this Router confines it to the host {host:?} \
                     (`host`): give each table a store of its own, or delete the route without `host`"
                ),
            )),
        }
    }

    /// A routespec as it is stored.
    pub(super) fn stored<'s>(&self, spec: &'s RouteSpec) -> Result<Cow<'s, RouteSpec>> {
        match (self.0.as_deref(), spec.host()) {
            (Some(host), None) => Ok(Cow::Owned(spec.at_host(host))),
            (Some(host), Some(other)) if host != other => {
                let advice = spec.likely_mistake().map(|mistake| format!("; {mistake}"));
                Err(Error::new(
                    ErrorKind::InvalidRoute,
                    format!(
                        "routespec {spec:?} is not for the host {host:?}, to which its table is confined \
                         (`host`){}",
                        advice.unwrap_or_default()
                    ),
                ))
            }
            _ => Ok(Cow::Borrowed(spec)),
        }
    }

    /// A change as it is stored.
    pub(super) fn stored_change(&self, change: Change) -> Result<Change> {
        Ok(match change {
            Change::Set(route) => Change::Set(self.stored_route(&route)?),
            Change::Delete(spec) => Change::Delete(self.stored(&spec)?.into_owned()),
        })
    }

    /// A table as it is stored.
    pub(super) fn stored_table(&self, table: Table) -> Result<Table> {
        match &self.0 {
            None => Ok(table),
            Some(_) => table.iter().map(|route| self.stored_route(route)).collect(),
        }
    }

    fn stored_route(&self, route: &Arc<Route>) -> Result<Arc<Route>> {
        Ok(at(route, self.stored(&route.spec)?))
    }

    /// A route that is stored, as callers write it.
    pub(super) fn shown_route(&self, route: &Arc<Route>) -> Arc<Route> {
        at(route, self.shown(&route.spec))
    }

    /// A table that is stored, as callers write it.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(super) fn shown_table(&self, table: Table) -> Result<Table> {
        self.check(&table)?;
        Ok(match &self.0 {
            None => table,
            Some(_) => table.iter().map(|route| self.shown_route(route)).collect(),
        })
    }

    /// What a call has changed, as callers write it.
    pub(super) fn shown_applied(&self, mut applied: Applied) -> Applied {
        let lists = [
            &mut applied.added,
            &mut applied.changed,
            &mut applied.deleted,
        ];
        for spec in lists.into_iter().flatten() {
            if let Cow::Owned(shown) = self.shown(spec) {
                *spec = shown;
            }
        }
        applied
    }

    fn shown<'s>(&self, spec: &'s RouteSpec) -> Cow<'s, RouteSpec> {
        match &self.0 {
            None => Cow::Borrowed(spec),
            Some(_) => Cow::Owned(spec.at_host("")),
        }
    }
}

/// A route with this routespec; the same one if that is its own.
fn at(route: &Arc<Route>, spec: Cow<'_, RouteSpec>) -> Arc<Route> {
    match spec {
        Cow::Borrowed(_) => Arc::clone(route),
        Cow::Owned(spec) => Arc::new(route.at(spec)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_a_single_name() {
        for name in [
            "hub.example.org",
            "Hub.Example.org.",
            "[::1]",
            "10.0.0.1",
            "hub",
        ] {
            Host::new(name).unwrap();
        }
        for name in [
            "",
            "/",
            "/hub/",
            "hub/x",
            "hub:80",
            "*.example.org",
            "http://hub",
        ] {
            let error = Host::new(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name}");
            assert!(error.to_string().contains("`host`"), "{error}");
        }
    }

    #[test]
    fn other_hosts_are_found_anywhere() {
        let host = Host::new("m.x").unwrap();
        let table = |specs: &[&str]| -> Table {
            let routes = specs
                .iter()
                .map(|spec| Route::new(spec, "http://t").unwrap());
            routes.collect()
        };
        host.check(&table(&[])).unwrap();
        host.check(&table(&["m.x/", "m.x/a/", "m.x/~/"])).unwrap();
        for other in ["/", "/m.x/", "*.x/", "a.x/", "m.x.y/", "m.xx/", "z/"] {
            let error = host.check(&table(&["m.x/", other, "m.x/~/"])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{other}");
            assert!(
                error.to_string().contains(&format!("route {other},")),
                "{error}"
            );
        }
    }
}
