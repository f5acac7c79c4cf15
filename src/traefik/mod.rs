//! Traefik itself: its API, and its process.

mod api;
pub(crate) mod process;

pub use api::{Api, EntryPoint, Middleware, RouterInfo, Service, Version};
