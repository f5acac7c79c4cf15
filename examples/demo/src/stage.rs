//! What the demo needs around the crate: requests, and lines of text.

use std::time::Instant;

use kit::client::name_at;
use kit::terminal::{bold, dim, green, human, println};
use kit::{ensure, ports};
use traefik_router::Applied;

use crate::Result;

/// What a request lands at that no route takes.
pub(crate) const NOBODY: &str = "404";

/// An address that Traefik is to listen on.
pub(crate) struct Proxy {
    pub(crate) url: String,
    port: u16,
}

impl Proxy {
    pub(crate) fn new() -> Self {
        let port = ports::free();
        let url = format!("http://127.0.0.1:{port}");
        Self { url, port }
    }

    /// Sends one request, and fails unless it lands at the backend of this name. There is no
    /// second try: a route is served when the call that added it returns.
    pub(crate) fn expect(&self, path: &str, name: &str) -> Result {
        self.reaches(path, name)?;
        let outcome = match name {
            NOBODY => dim("404, no route"),
            _ => green(&format!("reaches {name}")),
        };
        step("GET", path, &outcome);
        Ok(())
    }

    /// The same without a line of text.
    pub(crate) fn reaches(&self, path: &str, name: &str) -> Result {
        let landed = name_at(self.port, path)?;
        let otherwise = format!("GET {path} should give {name}, not {landed}");
        ensure(landed == name, &otherwise)
    }

    pub(crate) fn listens(&self) -> bool {
        ports::is_open(self.port)
    }
}

pub(crate) fn title(text: &str) {
    println!("\n{}", bold(text));
}

pub(crate) fn step(verb: &str, what: &str, outcome: &str) {
    println!("{}", format!("  {verb:<8} {what:<50} {outcome}").trim_end());
}

pub(crate) fn served(verb: &str, what: &str, applied: &Applied) {
    let outcome = match applied.served_after {
        Some(time) => format!("served after {}", human(time)),
        None => "stored".into(),
    };
    step(verb, what, &outcome);
}

pub(crate) fn ready(start: Instant) -> String {
    format!("ready after {}", human(start.elapsed()))
}
