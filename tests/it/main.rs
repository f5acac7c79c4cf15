//! Integration tests against the real Traefik and the real etcd.

// A test that unwraps ends with the error's own text; children speak to their parents by printing,
// and measurements are printed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

mod adopting;
mod api;
mod conformance;
mod copies;
mod data;
mod errors;
mod etcd_backend;
mod etcd_client;
mod faults;
mod files;
mod guests;
mod hostile;
mod hosts;
mod life;
mod nesting;
mod ownership;
mod processes;
mod protocols;
mod pushing;
mod recipes;
#[cfg(feature = "redis")]
mod redis_backend;
mod regressions;
mod repairs;
mod reviving;
mod routing;
#[cfg(feature = "tls")]
mod secrets;
mod settings;
mod tls_options;
