//! What the tests, benchmarks and fuzz targets are made of. It knows Traefik and etcd, and nothing of
//! `traefik-router`.

#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps ends with the error's own text"
)]

mod ca;
pub mod client;
mod connection;
mod echo;
mod ensure;
pub mod etcd;
mod folder;
mod pebble;
pub mod pem;
pub mod ports;
pub mod process;
mod provenance;
mod proxy;
mod random;
pub mod redis;
pub mod server;
pub mod terminal;
pub mod tools;
pub mod traefik;
mod wait;

pub use ca::Ca;
pub use connection::Connection;
pub use echo::Echo;
pub use ensure::ensure;
pub use folder::{Folder, names_in};
pub use pebble::Pebble;
pub use process::Process;
pub use provenance::provenance;
pub use proxy::{Mood, Proxy};
pub use random::Random;
pub use server::Server;
pub use traefik::Traefik;
pub use wait::eventually;
