//! Locks and threads. The program compiles this file too.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{LockResult, PoisonError};

/// The guard of a lock, even if another thread has panicked while it held the lock: a panic leaves no
/// invalid state behind the locks of this crate.
pub(crate) fn unpoisoned<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

/// Runs `job` on a thread of its own. What it returns comes by the channel, which nobody has to wait for.
pub(crate) fn in_background<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Receiver<T> {
    let (tell, told) = channel();
    // Without a thread the sender is dropped, and the receiver learns of it.
    let run = move || drop(tell.send(job()));
    drop(std::thread::Builder::new().spawn(run));
    told
}
