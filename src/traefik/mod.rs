//! Traefik itself: its API, its entrypoint for routes, and its process.

mod api;
pub(crate) mod entrypoint;
mod output;
pub(crate) mod process;
pub(crate) mod version;
mod watchdog;

pub(crate) use api::RestContent;
pub use api::{Api, EntryPoint, Middleware, RouterInfo, Service, Version};
