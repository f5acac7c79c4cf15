//! Integration tests against the real Traefik.
// A test that unwraps ends with the error's own text; children speak to their parents by printing.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

mod adopting;
mod api;
mod data;
mod errors;
mod files;
mod hostile;
mod life;
mod processes;
mod protocols;
mod routing;
