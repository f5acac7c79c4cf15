//! `cargo xtask soak`: runs `tests/soak`.

use crate::{ProgramOptions, Result, cargo_run, succeeds, tools};

pub(crate) fn run(options: &ProgramOptions) -> Result {
    if !options.asks_for_help() {
        tools::show("traefik", &tools::traefik()?);
        tools::show("etcd", &tools::etcd_3_5()?);
    }
    let mut soak = cargo_run(&["--package", "soak", "--"]);
    succeeds(soak.args(&options.options), "the soak")
}
