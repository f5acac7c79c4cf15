//! One transaction of a commit.

use super::store::Transaction;
use crate::route::RouteSpec;

/// The changes of one transaction.
#[derive(Default)]
pub(super) struct Step {
    /// The routes that are stored, or deleted, with them.
    pub(super) specs: Vec<RouteSpec>,
    pub(super) transaction: Transaction,
}

impl Step {
    /// Changes that store no route.
    pub(super) fn of(transaction: Transaction) -> Self {
        Self {
            specs: Vec::new(),
            transaction,
        }
    }
}
