//! `traefik-router chp` from outside, as JupyterHub sees it.

// A test that unwraps ends with the error's own text; a failed one shows the program's log.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

mod activity;
mod attached;
mod container;
mod ending;
mod etcd;
mod hosts;
mod kubernetes;
mod life;
mod monitor;
mod names;
mod options;
mod pages;
mod rest;
mod secrets;
mod server;
mod tls;
