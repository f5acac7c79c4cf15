//! Locks. The program compiles this file too.

use std::sync::{LockResult, PoisonError};

/// The guard of a lock, even if another thread has panicked while it held the lock: a panic leaves no
/// invalid state behind the locks of this crate.
pub(crate) fn unpoisoned<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}
