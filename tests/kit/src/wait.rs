//! Waiting for what comes about by itself.

use std::time::{Duration, Instant};

/// Waits until `done`; panics with `what` after a generous bound.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "not in 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
