//! Changes that others make to the table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Router;
use crate::config::MAX_WAIT;
use crate::error::Result;
use crate::route::{Change, Route, RouteSpec, Table};

/// Follows the table; made by [`Router::watch`].
#[derive(Debug)]
pub struct Watch<'r> {
    router: &'r Router,
    known: Table,
}

/// What happened to a route, as [`Watch::next`] reports it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RouteEvent {
    /// The table has this route; it had none of this routespec before.
    Added(Arc<Route>),
    /// The target, the data or the settings of a route are different now.
    Changed {
        /// The route before.
        from: Arc<Route>,
        /// The route now.
        to: Arc<Route>,
    },
    /// The table has no route of this routespec any more. This is the route that it had.
    Deleted(Arc<Route>),
}

impl RouteEvent {
    /// The routespec of the route.
    pub fn spec(&self) -> &RouteSpec {
        match self {
            Self::Added(route) | Self::Changed { to: route, .. } | Self::Deleted(route) => {
                &route.spec
            }
        }
    }

    /// What a change does to a table, if anything.
    fn of(change: Change, table: &Table) -> Option<Self> {
        let from = table.get(change.spec()).cloned();
        match (from, change) {
            (None, Change::Set(to)) => Some(Self::Added(to)),
            (Some(from), Change::Set(to)) => Some(Self::Changed { from, to }),
            (from, Change::Delete(_)) => from.map(Self::Deleted),
        }
    }
}

impl Router {
    /// Follows the table from here on: changes by this Router, by others, by other programs.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn watch(&self) -> Result<Watch<'_>> {
        Ok(Watch {
            router: self,
            known: self.get_all_routes()?,
        })
    }
}

impl Watch<'_> {
    /// The table up to the changes that were returned last.
    pub fn table(&self) -> &Table {
        &self.known
    }

    /// What happened since the last call, by any Router or program. Waits until something happens, and
    /// returns nothing if nothing does within `timeout`. Deletions come first; each routespec comes
    /// once, however often it was changed.
    ///
    /// # Errors
    /// If the store can't be read. The next call starts from the same place.
    pub fn next(&mut self, timeout: Duration) -> Result<Vec<RouteEvent>> {
        let deadline = Instant::now() + timeout.min(MAX_WAIT);
        loop {
            let now = self.router.get_all_routes()?;
            let changes = self.known.changes_to(&now).into_iter();
            let events: Vec<_> = changes
                .filter_map(|change| RouteEvent::of(change, &self.known))
                .collect();
            if !events.is_empty() {
                self.known = now;
                return Ok(events);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            self.router.backend.wait(left)?;
        }
    }
}
