//! The domain: routes, the rules that Traefik matches them by, and the table that holds them.
//! Nothing in here does any I/O.

mod layout;
mod names;
mod path;
mod rule;
mod spec;
mod table;
mod target;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use layout::Nested;
pub use rule::{priority, rule};
pub use spec::RouteSpec;
pub use table::Table;
pub use target::Target;

pub(crate) use layout::{Behind, Group, Layout, Parent};
pub(crate) use names::{
    fallback_name, is_like_a_name, marker_name, parent_name, router_name, service_name, slug,
};
pub(crate) use table::Effect;

#[cfg(test)]
pub(crate) use tests::evaluate::matches;

use crate::error::{Error, ErrorKind, Result};

/// A route: requests that `spec` matches go to `target`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Route {
    /// Which requests.
    pub spec: RouteSpec,
    /// Where they go.
    pub target: Target,
    /// Any JSON that the caller wants back with the route; Traefik never sees it.
    pub data: Value,
}

impl Route {
    /// A route without data.
    ///
    /// # Errors
    /// [`InvalidRoute`](crate::ErrorKind::InvalidRoute) as [`RouteSpec::new`] and [`Target::new`].
    pub fn new(spec: impl AsRef<str>, target: impl AsRef<str>) -> Result<Self> {
        Ok(Self {
            spec: RouteSpec::new(spec)?,
            target: Target::new(target)?,
            data: Value::Null,
        })
    }

    /// What the caller wants back with the route. Defaults to `null`.
    pub fn data(mut self, data: impl Into<Value>) -> Self {
        self.data = data.into();
        self
    }

    /// Whether the route can be stored and read back.
    pub(crate) fn check(&self) -> Result<()> {
        if depth(&self.data) > MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::InvalidRoute,
                format!(
                    "the data of {} is nested more than {MAX_DEPTH} levels deep",
                    self.spec
                ),
            ));
        }
        Ok(())
    }
}

/// JSON is read with a limit of 128 levels, a few of which are ours.
const MAX_DEPTH: usize = 100;

/// How deep a value is nested, as far as that matters here.
fn depth(value: &Value) -> usize {
    let mut deepest = 0;
    let mut left = vec![(value, 1)];
    while let Some((value, depth)) = left.pop() {
        deepest = deepest.max(depth);
        match value {
            Value::Array(items) => left.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => left.extend(map.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    deepest
}

/// One step of a [`Router::apply`](crate::Router::apply).
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

#[cfg(test)]
mod tests {
    pub(crate) mod evaluate;
}
