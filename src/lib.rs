//! Change a running Traefik's routes from blocking Rust, and know when they are served.

mod atomic;
pub mod backend;
mod config;
mod error;
pub mod etcd;
mod http;
pub mod route;
mod router;
pub mod traefik;

pub use backend::{Backend, FileBackend, KvBackend, MemoryBackend};
pub use error::{Error, ErrorKind, Result, Stored};
pub use http::Tls;
pub use route::{Change, Route, RouteSpec, Table, Target, priority, rule};
pub use router::{Applied, Builder, ProcessStatus, Router, Status, Watch};
