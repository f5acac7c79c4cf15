//! `cargo xtask compare`: runs `benches/compare`.

use crate::{ProgramOptions, Result, cargo_run, succeeds, tools};

pub(crate) fn run(options: &ProgramOptions) -> Result {
    let mut compare = cargo_run(&["--package", "compare"]);
    if !options.asks_for_help() {
        get_tools(options)?;
        // Figures of a debug build say nothing.
        compare.arg("--release");
    }
    succeeds(compare.arg("--").args(&options.options), "the comparison")
}

fn get_tools(options: &ProgramOptions) -> Result {
    tools::show("traefik", &tools::traefik()?);
    if options.has("--serving") {
        tools::show("chp", &tools::configurable_http_proxy()?);
        tools::show("wrk", &tools::wrk()?);
        return Ok(());
    }
    tools::show("etcd", &tools::etcd_3_5()?);
    if !options.has("--no-peer") {
        tools::show("peer", &tools::peer()?);
    }
    Ok(())
}
