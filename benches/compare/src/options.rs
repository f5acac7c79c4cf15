//! The command line.

use clap::{Args, Parser, Subcommand};

use crate::ours;
use crate::server::{REDIS, REDIS_LIST};

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask compare",
    args_conflicts_with_subcommands = true
)]
/// Measure Traefik alone, the crate and jupyterhub-traefik-proxy side by side
///
/// Writes target/compare.json, .md and .svg; with --serving target/serving.json, .md and .svg.
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
}

#[derive(Args)]
pub(crate) struct Options {
    /// Take fewer samples of fewer tables: within five minutes
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measure how many requests are served, with the routes as a flat table and as a tree, beside
    /// configurable-http-proxy
    #[arg(long, conflicts_with_all = ["backends", "no_peer", "only"])]
    pub(crate) serving: bool,
    /// The sizes of the tables, such as 0,100
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    pub(crate) routes: Option<Vec<usize>>,
    /// The backends to measure
    #[arg(
        long = "backend",
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "toml,yaml,push,etcd",
        value_parser = ["toml", "yaml", "etcd", REDIS, REDIS_LIST, ours::PUSH, ours::UNFLUSHED]
    )]
    pub(crate) backends: Vec<String>,
    /// Leave jupyterhub-traefik-proxy out
    #[arg(long)]
    pub(crate) no_peer: bool,
    /// Measure one case only
    #[arg(
        long,
        value_name = "CASE",
        value_parser = ["add", "change", "delete", "apply", "concurrent", "reads"]
    )]
    only: Option<String>,
}

impl Options {
    pub(crate) fn wants(&self, case: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == case)
    }
}

/// What runs in a process of its own: this program starts itself with it.
#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Part {
    /// The library
    #[command(hide = true)]
    Ours(ours::Setup),
    /// The server that all routes lead to
    #[command(hide = true)]
    Target { port: u16 },
}
