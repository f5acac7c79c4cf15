//! Change a running Traefik's routes from blocking Rust, and know when they are served.

mod error;
pub mod etcd;
mod http;
pub mod route;

pub use error::{Error, ErrorKind, Result, Stored};
pub use http::Tls;
pub use route::{Change, Route, RouteSpec, Table, Target, priority, rule};
