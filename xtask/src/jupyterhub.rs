//! `cargo xtask jupyterhub`: runs `tests/jupyterhub`.

use crate::{ProgramOptions, Result, cargo_run, succeeds, tools};

pub(crate) fn run(options: &ProgramOptions) -> Result {
    if !options.asks_for_help() {
        tools::show("traefik", &tools::traefik()?);
        tools::show("jupyterhub", &tools::jupyterhub()?);
        tools::show("chp", &tools::configurable_http_proxy()?);
    }
    let mut suite = cargo_run(&["--package", "jupyterhub-suite", "--"]);
    succeeds(suite.args(&options.options), "JupyterHub's suite")
}
