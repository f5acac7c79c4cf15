//! What the tests are made of: the program under test, and what it proxies to.

// These are shared with the library's tests, which use more of them.
#[allow(dead_code)]
#[path = "../../it/support/client.rs"]
pub(crate) mod client;
#[allow(dead_code)]
#[path = "../../it/support/echo.rs"]
pub(crate) mod echo;
#[path = "../../it/support/pem.rs"]
pub(crate) mod pem;
#[allow(dead_code)]
#[path = "../../it/support/ports.rs"]
pub(crate) mod ports;
pub(crate) mod proxy;
#[path = "../../it/support/wait.rs"]
mod wait;

pub(crate) use echo::Echo;
pub(crate) use proxy::Proxy;
pub(crate) use wait::eventually;
