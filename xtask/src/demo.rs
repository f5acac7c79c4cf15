//! `cargo xtask demo`: runs `examples/demo`.

use crate::{Result, cargo_run, succeeds, tools};

/// Show what the crate does: a real Traefik, real requests
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Show what two Traefiks with their routes in etcd do instead
    #[arg(long)]
    etcd: bool,
}

pub(crate) fn run(options: &Options) -> Result {
    tools::show("traefik", &tools::traefik()?);
    let mut demo = cargo_run(&["--package", "traefik-router", "--example", "demo"]);
    if options.etcd {
        tools::show("etcd", &tools::etcd_3_5()?);
        demo.args(["--", "--etcd"]);
    }
    succeeds(&mut demo, "the demo")
}
