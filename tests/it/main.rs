//! Tests against real programs.

// A test that fails says so by a panic.
#![allow(clippy::unwrap_used)]
// Measurements are printed.
#![allow(clippy::print_stdout)]

mod etcd_client;
mod etcd_server;
