//! Attaching to Traefiks that others run.

use std::time::Duration;

use traefik_router::traefik::Api;
use traefik_router::{Backend as _, ErrorKind, Result, Route, Router};

use super::activity::Counters;
use super::config::{Attached, Known, TRANSPORT, shared_service_config};
use crate::needs::METRICS;
use crate::settings::{ChpOptions, Resolved};

/// How often to try while Traefik or the store does not answer.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// The first versions with `statusRewrites` and with `errorRequestHeaders`.
const REWRITES: [u32; 3] = [3, 4, 0];
const WITHHOLDING: [u32; 3] = [3, 6, 15];

/// Attaches once the Traefiks and the store answer; says where their counters are, too. They keep the routes
/// that they have.
///
/// # Errors
/// Says which option is wrong, or why the Traefiks do not serve the table.
pub(super) fn attach(
    options: &ChpOptions,
    resolved: &Resolved,
    default: Vec<Route>,
) -> std::result::Result<(Router, Vec<Counters>), String> {
    let apis = resolved.apis().map_err(|error| error.to_string())?;
    let mut is_waiting = false;
    let (router, versions) = loop {
        let versions = versions(&apis);
        match try_attach(options, resolved, &versions) {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                if !is_waiting {
                    log::warn!("{error}; this is tried again until it works");
                }
                is_waiting = true;
                std::thread::sleep(TRY_AGAIN);
            }
            Err(error) => return Err(error.to_string()),
            Ok(attached) => break (attached?, versions),
        }
    };
    warn_of_older(options, &versions);
    let applied = router.apply(default.into_iter().map(Into::into));
    applied.map_err(|error| error.to_string())?;
    let counters = apis.into_iter().map(|api| Counters::new(api, METRICS));
    Ok((router, counters.collect()))
}

/// The inner error is an option's.
fn try_attach(
    options: &ChpOptions,
    resolved: &Resolved,
    versions: &[(String, String)],
) -> Result<std::result::Result<Router, String>> {
    let backend = resolved.store.open()?;
    let is_shared = backend.is_served()?;
    let stored = backend.inspect()?.filter(|_| is_shared);
    let config = stored.map_or(Ok(()), |stored| {
        shared_service_config(options, &stored.service, TRANSPORT)
    });
    let config = config.and_then(|()| Attached::new(options, known(versions)));
    let config = match config {
        Ok(config) => config,
        Err(error) => return Ok(Err(error)),
    };
    let mut builder = resolved
        .builder()?
        .enable_setup_dynamic_config(true)
        .metrics_router(true)
        .extra_dynamic_config(config.dynamic_config)
        .entrypoint_middleware(config.middleware);
    if !is_shared {
        builder = builder.extra_service_config(config.service_config);
    }
    builder.attach().map(Ok)
}

/// The URL and the version of each Traefik that answers.
fn versions(apis: &[Api]) -> Vec<(String, String)> {
    let version = |api: &Api| Some((api.url().into(), api.version().ok()?.version));
    apis.iter().filter_map(version).collect()
}

/// What all of these know.
fn known(versions: &[(String, String)]) -> Known {
    let all_since = |first| versions.iter().all(|(_, version)| is_since(version, first));
    Known {
        rewrites: all_since(REWRITES),
        withholding: all_since(WITHHOLDING),
    }
}

fn warn_of_older(options: &ChpOptions, versions: &[(String, String)]) {
    let pages = options.error_target.as_ref().map(|_| WITHHOLDING);
    for (first, what) in [
        (Some(REWRITES), "there is no health check"),
        (pages, "error pages are Traefik's own"),
    ] {
        let is_older = |version: &str| first.is_some_and(|first| !is_since(version, first));
        let older = versions.iter().find(|(_, version)| is_older(version));
        if let (Some((url, version)), Some([major, minor, patch])) = (older, first) {
            log::warn!(
                "{what}: Traefik at {url} is {version}, and {major}.{minor}.{patch} is needed"
            );
        }
    }
}

/// Whether a version is this one or a later one. One that was built by hand may have any.
fn is_since(version: &str, first: [u32; 3]) -> bool {
    let numbers = version.trim_start_matches('v').split('.');
    let numbers: Vec<_> = numbers.map(str::parse::<u32>).collect();
    match *numbers {
        [Ok(major), Ok(minor), Ok(patch)] => [major, minor, patch] >= first,
        // A release candidate.
        [Ok(major), Ok(minor), Err(_), ..] => [major, minor] > [first[0], first[1]],
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (version, expected) in [
            ("3.6.15", true),
            ("v3.7.0", true),
            ("3.10.1", true),
            ("3.6.14", false),
            ("3.5.20", false),
            ("3.7.0-rc.3", true),
            ("3.6.15-rc1", false),
            ("dev", true),
        ] {
            assert_eq!(is_since(version, WITHHOLDING), expected, "{version}");
        }
    }
}
