//! `traefik-router setup`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use traefik_router::Backend as _;

use super::output::{Output, Progress};
use crate::failure::Failure;
use crate::settings::{API, Resolved, SERVING};

pub(super) const HELP: &str = "\
Examples:
  traefik-router setup --backend etcd:http://etcd:2379 --api-url http://traefik:8099 --api-password-file password
  traefik-router setup --backend etcd:http://etcd:2379 --remove

Stores nothing if the API already answers. Never replaces or removes a hand-written router.";

#[derive(Args)]
pub(crate) struct SetupOptions {
    /// Also store a router for Traefik's metrics, at /metrics, which `chp` reads.
    #[arg(long, conflicts_with = "remove")]
    chp: bool,
    /// Remove the router from the store.
    #[arg(long, conflicts_with_all = API.split(' ').chain(SERVING.split(' ')).chain([
        "api_entrypoint", "entrypoint", "public_url", "nested_routers",
    ]))]
    remove: bool,
}

pub(super) fn run(options: &SetupOptions, resolved: &Resolved) -> Result<ExitCode, Failure> {
    if resolved.store.is_pushed() {
        return Err(Failure::usage(
            "--backend push: Traefik has the router from the file that `traefik-router config dynamic` prints",
        ));
    }
    match options.remove {
        true => remove(resolved)?,
        false => store(resolved, options.chp)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn store(resolved: &Resolved, chp: bool) -> Result<(), Failure> {
    if resolved.settings.api_url.is_empty() {
        return Err(Failure::usage(
            "give the URL of Traefik's API: --api-url URL",
        ));
    }
    let routers = || -> traefik_router::Result<_> {
        let stored = resolved.store.open()?.inspect()?.unwrap_or_default();
        let routers = stored.config["http"]["routers"].as_object();
        let mut routers = routers.into_iter().flatten();
        let has_metrics = routers.any(|(_, router)| router["service"] == "prometheus@internal");
        Ok((stored.has_api_router, has_metrics))
    };
    let before = routers().map_err(|error| Failure::before_change(&error));
    let (had_api, had_metrics) = before?;
    let progress = Progress::show("waiting for Traefik");
    let builder = resolved.builder()?.enable_setup_dynamic_config(true);
    let attached = builder.metrics_router(chp).attach();
    drop(progress);
    drop(attached.map_err(|error| Failure::before_change(&error))?);
    let (has_api, has_metrics) = routers()?;
    let (is_new, adds_metrics) = (has_api && !had_api, has_metrics && !had_metrics);
    report(
        "stored",
        is_new || adds_metrics,
        resolved.json,
        match (is_new, adds_metrics) {
            (true, _) => "stored a router for Traefik's API, which answers now",
            (false, true) => "stored a router for Traefik's metrics beside that of its API",
            (false, false) => "Traefik's API answers already; nothing was stored for it",
        },
    )
}

fn remove(resolved: &Resolved) -> Result<(), Failure> {
    let removed = resolved.builder()?.remove_api_router();
    let removed = removed.map_err(|error| Failure::before_change(&error))?;
    report(
        "removed",
        removed,
        resolved.json,
        match removed {
            true => "removed the router for Traefik's API",
            false => "there is no router for Traefik's API that `setup` has stored",
        },
    )
}

fn report(what: &str, is_done: bool, json: bool, text: &str) -> Result<(), Failure> {
    let output = Output::new();
    match json {
        true => output.json(&json!({ what: is_done }))?,
        false => output.report(text)?,
    }
    Ok(())
}
