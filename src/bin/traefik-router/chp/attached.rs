//! Attaching to external Traefiks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use traefik_router::backend::Contents;
use traefik_router::traefik::{Api, Version};
use traefik_router::{Backend as _, Builder, Error, ErrorKind, Router};

use super::activity::Counters;
use super::config::{HEALTHY, PAGES};
use super::routes::socket_of;
use super::stored_config::{Attached, Known, confined};
use crate::failure::Failure;
use crate::needs::METRICS;
use crate::settings::{ChpOptions, Resolved};
use crate::store::Store;

/// How often to try while Traefik or the store does not answer.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// The first versions with `statusRewrites` and with `errorRequestHeaders`.
const REWRITES: [u32; 3] = [3, 4, 0];
const WITHHOLDING: [u32; 3] = [3, 6, 15];

/// For how long another program that was killed may still seem to serve what is stored.
const KILLED: Duration = Duration::from_secs(12);

/// What attaching needs to know beside the settings.
pub(super) struct Attaching<'a> {
    pub(super) options: &'a ChpOptions,
    pub(super) resolved: &'a Resolved,
    /// The APIs of the Traefiks.
    pub(super) apis: Vec<Api>,
    /// Set to have it end.
    pub(super) cancelled: &'a Arc<AtomicBool>,
}

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
type Versions = [(String, Option<Version>)];

/// Attaches once the Traefiks and the store answer, and does what there is to do first; says where their counters
/// are, too. They keep the routes that they have.
///
/// # Errors
/// Says which option is wrong, or why the Traefiks do not serve the table. What was stored for the Traefiks is then
/// taken back.
pub(super) fn attach(
    attaching: Attaching<'_>,
    first: impl FnOnce(&Router) -> std::result::Result<(), Failure>,
) -> std::result::Result<(Router, Vec<Counters>), Failure> {
    let mut had_api = None;
    let attached = attach_to(&attaching, &mut had_api).and_then(|router| {
        first(&router)?;
        Ok(router)
    });
    // A Router that has failed is gone, so that others know that it serves no more.
    let router = attached.inspect_err(|_| {
        let builder = attaching.resolved.builder();
        if had_api == Some(false)
            && let Err(error) = builder.and_then(Builder::remove_api_router)
        {
            log::error!("the router for Traefik's API stays: {error}");
        }
    })?;
    let counters = attaching
        .apis
        .into_iter()
        .map(|api| Counters::new(api, METRICS));
    Ok((router, counters.collect()))
}

/// Attaches once the Traefiks and the store answer. Says whether there was a router for Traefik's API before,
/// once one may be stored.
fn attach_to(
    attaching: &Attaching<'_>,
    had_api: &mut Option<bool>,
) -> std::result::Result<Router, Failure> {
    let options = attaching.options;
    let begun = Instant::now();
    let (mut is_waiting, mut has_waited) = (false, false);
    let mut versions: Vec<_> = attaching.apis.iter().map(version).collect();
    let router = loop {
        match try_attach(attaching, &versions) {
            Ok((router, stored)) => {
                had_api.get_or_insert(stored.has_api_router);
                // An API whose router was just stored says its version now.
                let silent = |versions: &Versions| {
                    versions.iter().filter(|(_, given)| given.is_none()).count()
                };
                let before = silent(&versions);
                if before == 0 {
                    break router;
                }
                versions = attaching.apis.iter().map(version).collect();
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
                    log::warn!(
                        "{error}; if that program was killed, this is known within {KILLED:?}: waiting"
                    );
                }
                has_waited = true;
            }
            Err(Refusal::Failed(error)) => return Err(error.into()),
            Err(Refusal::Option(error)) => return Err(Failure::usage(error)),
            Err(Refusal::Differs(error)) => return Err(Failure::failed(error)),
        }
        std::thread::sleep(TRY_AGAIN);
        if attaching.cancelled.load(Ordering::Relaxed) {
            let message = "a signal ended the program before it had attached";
            return Err(Failure::failed(message));
        }
        versions = attaching.apis.iter().map(version).collect();
    };
    warn_of_older(options, &versions);
    if options
        .error_target
        .as_deref()
        .and_then(socket_of)
        .is_some()
    {
        log::warn!(
            "--error-target: external Traefiks can't reach a Unix socket of this machine, and send their own error pages"
        );
    }
    Ok(router)
}

/// Also returns what was stored before.
fn try_attach(
    attaching: &Attaching<'_>,
    versions: &Versions,
) -> std::result::Result<(Router, Contents), Refusal> {
    let Attaching {
        options,
        resolved,
        cancelled,
        ..
    } = attaching;
    let backend = resolved.store.open()?;
    let is_shared = backend.is_served()?;
    let stored = backend.inspect()?.unwrap_or_default();
    let host = resolved.settings.host.as_deref();
    let known = known(versions, &stored, &resolved.store, host);
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
        .cancelled_by(Arc::clone(cancelled))
        .extra_dynamic_config(config.dynamic_config)
        .entrypoint_middleware(config.middleware);
    Ok((builder.attach()?, stored))
}

fn version(api: &Api) -> (String, Option<Version>) {
    (api.url().into(), api.version().ok())
}

/// What all of these know. While one has not said its version it may be an older one: then nothing is begun
/// that would harm it, and what is stored already stays.
fn known(versions: &Versions, stored: &Contents, store: &Store, host: Option<&str>) -> Known {
    let given: Vec<_> = versions.iter().flat_map(|(_, version)| version).collect();
    let all_answered = given.len() == versions.len();
    let all_since = |first| given.iter().all(|version| version.is_since(first));
    let is_stored = |place: &str| stored.extra.pointer(place).is_some();
    let named = |name: &str| host.map_or_else(|| name.into(), |host| confined(name, host));
    let health = format!("/http/routers/{}", named(HEALTHY));
    let pages = format!("/http/services/{}", named(PAGES));
    Known {
        // An older one passes over it in what is pushed, and would refuse a store with it as a whole.
        rewrites: all_since(REWRITES) && (all_answered || store.is_pushed() || is_stored(&health)),
        withholding: all_since(WITHHOLDING) && (all_answered || is_stored(&pages)),
        empty_values: store.has_empty_values(),
    }
}

fn warn_of_older(options: &ChpOptions, versions: &Versions) {
    let pages = options.error_target.as_ref().map(|_| WITHHOLDING);
    for (first, what) in [
        (Some(REWRITES), "/_chp_healthz may not answer"),
        (pages, "error pages may be Traefik's own"),
    ] {
        let Some(first @ [major, minor, patch]) = first else {
            continue;
        };
        let needed = format!("{major}.{minor}.{patch} is needed");
        for (url, version) in versions {
            match version {
                Some(version) if version.is_since(first) => {}
                Some(Version { version, .. }) => {
                    log::warn!("{what}: Traefik at {url} is {version}, and {needed}");
                }
                None => {
                    log::warn!("{what}: Traefik at {url} does not say its version, and {needed}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn silent_traefik_may_be_older() {
        let versions = |given: &[Option<&str>]| -> Vec<_> {
            let version = |text: &str| serde_json::from_value(json!({"Version": text})).unwrap();
            let versions = given
                .iter()
                .map(|given| (String::new(), given.map(version)));
            versions.collect()
        };
        let stored = Contents::default();
        let file = Store::parse("toml:rules.toml").unwrap();
        for (given, expected) in [
            (&[Some("3.7.0")][..], true),
            (&[Some("3.7.0"), Some("3.5.0")], false),
            (&[Some("3.7.0"), None], false),
            (&[None], false),
        ] {
            let known = known(&versions(given), &stored, &file, None);
            assert_eq!(known.withholding, expected, "{given:?}");
        }
        let mut stored = Contents::default();
        stored.extra = json!({"http": {"routers": {HEALTHY: {}}}});
        let known = known(&versions(&[Some("3.7.0"), None]), &stored, &file, None);
        assert!(known.rewrites && !known.withholding);
        // Health is asked for while one is away.
        let pushed = super::known(
            &versions(&[Some("3.7.0"), None]),
            &Contents::default(),
            &Store::pushed(),
            None,
        );
        assert!(pushed.rewrites && !pushed.withholding);
    }
}
