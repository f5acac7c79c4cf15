//! What the tests are made of: the program under test, and what it proxies to.

// These are shared with the library's tests, which use more of them.
#[allow(dead_code)]
#[path = "../../it/support/client.rs"]
pub(crate) mod client;
#[allow(dead_code)]
#[path = "../../it/support/echo.rs"]
pub(crate) mod echo;
#[allow(dead_code)]
#[path = "../../it/support/ports.rs"]
pub(crate) mod ports;
pub(crate) mod proxy;

use std::time::{Duration, Instant};

pub(crate) use echo::Echo;
pub(crate) use proxy::Proxy;

/// Waits until `done`; panics with `what` after a generous bound.
#[track_caller]
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "not in 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
