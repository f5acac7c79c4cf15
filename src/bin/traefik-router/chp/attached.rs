//! Attaching to Traefiks that others run.

use std::time::{Duration, Instant};

use traefik_router::backend::Contents;
use traefik_router::traefik::Api;
use traefik_router::{Backend as _, Error, ErrorKind, Route, Router};

use super::activity::Counters;
use super::config::{Attached, HEALTHY, Known, PAGES, confined};
use super::routes::socket_of;
use crate::needs::METRICS;
use crate::settings::{ChpOptions, Resolved};

/// How often to try while Traefik or the store does not answer.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// The first versions with `statusRewrites` and with `errorRequestHeaders`.
const REWRITES: [u32; 3] = [3, 4, 0];
const WITHHOLDING: [u32; 3] = [3, 6, 15];

/// For how long another program that was killed may still seem to serve what is stored.
const KILLED: Duration = Duration::from_secs(12);

/// Why attaching has failed.
enum Refusal {
    /// An option is wrong.
    Option(String),
    /// Another program serves with other options.
    Differs(String),
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A Traefik and its version, if it answers.
type Versions = [(String, Option<String>)];

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
    let begun = Instant::now();
    let (mut is_waiting, mut has_waited) = (false, false);
    let mut versions: Vec<_> = apis.iter().map(version).collect();
    let router = loop {
        match try_attach(options, resolved, &versions) {
            Ok(router) => {
                // An API whose router was just stored says its version now.
                let silent = |versions: &Versions| {
                    versions.iter().filter(|(_, told)| told.is_none()).count()
                };
                let before = silent(&versions);
                if before == 0 {
                    break router;
                }
                versions = apis.iter().map(version).collect();
                if silent(&versions) >= before {
                    break router;
                }
                continue;
            }
            Err(Refusal::Failed(error)) if error.kind() == ErrorKind::Unavailable => {
                if !is_waiting {
                    log::warn!("{error}; this is tried again until it works");
                }
                is_waiting = true;
            }
            Err(Refusal::Differs(error)) if begun.elapsed() < KILLED => {
                if !has_waited {
                    log::warn!("{error}; it may have been killed, which shows within {KILLED:?}");
                }
                has_waited = true;
            }
            Err(Refusal::Failed(error)) => return Err(error.to_string()),
            Err(Refusal::Option(error) | Refusal::Differs(error)) => return Err(error),
        }
        std::thread::sleep(TRY_AGAIN);
        versions = apis.iter().map(version).collect();
    };
    warn_of_older(options, &versions);
    if options
        .error_target
        .as_deref()
        .and_then(socket_of)
        .is_some()
    {
        log::warn!(
            "--error-target: Traefiks elsewhere reach no Unix socket here; the pages are their own"
        );
    }
    let applied = router.apply(default.into_iter().map(Into::into));
    applied.map_err(|error| error.to_string())?;
    let counters = apis.into_iter().map(|api| Counters::new(api, METRICS));
    Ok((router, counters.collect()))
}

fn try_attach(
    options: &ChpOptions,
    resolved: &Resolved,
    versions: &Versions,
) -> std::result::Result<Router, Refusal> {
    let backend = resolved.store.open()?;
    let is_shared = backend.is_served()?;
    let stored = backend.inspect()?.unwrap_or_default();
    let host = resolved.settings.host.as_deref();
    let known = known(versions, &stored, resolved.store.is_pushed(), host);
    let config = Attached::new(options, known, host).map_err(Refusal::Option)?;
    let mut builder = resolved.builder()?;
    if is_shared {
        let checked = config.check_shared(options, &stored);
        checked.map_err(Refusal::Differs)?;
    } else {
        builder = builder.extra_service_config(config.service_config);
    }
    let builder = builder
        .enable_setup_dynamic_config(true)
        .metrics_router(true)
        .extra_dynamic_config(config.dynamic_config)
        .entrypoint_middleware(config.middleware);
    Ok(builder.attach()?)
}

fn version(api: &Api) -> (String, Option<String>) {
    let version = api.version().ok().map(|answer| answer.version);
    (api.url().into(), version)
}

/// What all of these know. While one has not said its version it may be an older one: then nothing is begun
/// that would harm it, and what is stored already stays.
fn known(versions: &Versions, stored: &Contents, is_pushed: bool, host: Option<&str>) -> Known {
    let told: Vec<_> = versions
        .iter()
        .filter_map(|(_, version)| version.as_deref())
        .collect();
    let all_told = told.len() == versions.len();
    let all_since = |first| told.iter().all(|version| is_since(version, first));
    let is_stored = |place: &str| stored.extra.pointer(place).is_some();
    let named = |name: &str| host.map_or_else(|| name.into(), |host| confined(name, host));
    let health = format!("/http/routers/{}", named(HEALTHY));
    let pages = format!("/http/services/{}", named(PAGES));
    Known {
        // An older one passes over it in what is pushed, and would refuse a store with it as a whole.
        rewrites: all_since(REWRITES) && (all_told || is_pushed || is_stored(&health)),
        withholding: all_since(WITHHOLDING) && (all_told || is_stored(&pages)),
    }
}

fn warn_of_older(options: &ChpOptions, versions: &Versions) {
    let pages = options.error_target.as_ref().map(|_| WITHHOLDING);
    for (first, what) in [
        (Some(REWRITES), "there may be no health check"),
        (pages, "error pages may be Traefik's own"),
    ] {
        let Some(first @ [major, minor, patch]) = first else {
            continue;
        };
        let needed = format!("{major}.{minor}.{patch} is needed");
        for (url, version) in versions {
            match version {
                Some(version) if is_since(version, first) => {}
                Some(version) => log::warn!("{what}: Traefik at {url} is {version}, and {needed}"),
                None => {
                    log::warn!("{what}: Traefik at {url} does not say its version, and {needed}");
                }
            }
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
    fn silent_traefik_may_be_older() {
        let versions = |told: &[Option<&str>]| -> Vec<_> {
            let version = |version: &Option<&str>| (String::new(), version.map(Into::into));
            told.iter().map(version).collect()
        };
        let stored = Contents::default();
        for (told, expected) in [
            (&[Some("3.7.0")][..], true),
            (&[Some("3.7.0"), Some("3.5.0")], false),
            (&[Some("3.7.0"), None], false),
            (&[None], false),
        ] {
            let known = known(&versions(told), &stored, false, None);
            assert_eq!(known.withholding, expected, "{told:?}");
        }
        let mut stored = Contents::default();
        stored.extra = serde_json::json!({"http": {"routers": {HEALTHY: {}}}});
        let known = known(&versions(&[Some("3.7.0"), None]), &stored, false, None);
        assert!(known.rewrites && !known.withholding);
        // Health is asked for while one is away.
        let pushed = super::known(
            &versions(&[Some("3.7.0"), None]),
            &Contents::default(),
            true,
            None,
        );
        assert!(pushed.rewrites && !pushed.withholding);
    }

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
