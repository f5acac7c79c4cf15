//! A change of the table.

use std::sync::Arc;

use super::{Route, RouteSpec};
use crate::error::Result;

/// One step of a [`Router::apply`](crate::Router::apply).
#[must_use = "`Router::apply` makes it"]
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Add the route, or replace the one that has the same routespec.
    Set(Arc<Route>),
    /// Delete the route of this routespec, if there is one.
    Delete(RouteSpec),
}

impl Change {
    /// Adds a route without data, or replaces the one that has the same routespec. For a route with
    /// data there is `Route::new(spec, target)?.data(data).into()`.
    ///
    /// # Errors
    /// As [`Route::new`].
    pub fn set(spec: impl AsRef<str>, target: impl AsRef<str>) -> Result<Self> {
        Ok(Route::new(spec, target)?.into())
    }

    /// Deletes a route; not an error if there is none.
    ///
    /// # Errors
    /// As [`RouteSpec::new`].
    pub fn delete(spec: impl AsRef<str>) -> Result<Self> {
        Ok(Self::Delete(RouteSpec::new(spec)?))
    }

    /// The routespec that this change is about.
    pub fn spec(&self) -> &RouteSpec {
        match self {
            Self::Set(route) => &route.spec,
            Self::Delete(spec) => spec,
        }
    }
}

impl From<Route> for Change {
    fn from(route: Route) -> Self {
        Self::Set(Arc::new(route))
    }
}
