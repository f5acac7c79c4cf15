//! Changes that others make to the table.

use std::time::{Duration, Instant};

use super::Router;
use crate::error::Result;
use crate::route::{Change, Table};

/// Follows the table; made by [`Router::watch`].
#[derive(Debug)]
pub struct Watch<'r> {
    router: &'r Router,
    known: Table,
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

    /// The changes since the last call, whoever made them; waits for some, and returns none if
    /// there are none within `timeout`. Several changes to one routespec come as one.
    ///
    /// # Errors
    /// If the store can't be read. The next call starts from the same place.
    pub fn next(&mut self, timeout: Duration) -> Result<Vec<Change>> {
        let deadline = Instant::now() + timeout;
        loop {
            let now = self.router.get_all_routes()?;
            let changes = self.known.changes_to(&now);
            if !changes.is_empty() {
                self.known = now;
                return Ok(changes);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            self.router.backend.wait(left)?;
        }
    }
}
