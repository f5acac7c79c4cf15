//! What is looked at all the time: whether Traefik runs, and which routes are used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use traefik_router::Router;

use super::activity;
use super::metrics::Metrics;
use super::relay;
use super::routes::Routes;
use crate::failure::Failure;

/// How often to look whether Traefik runs.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// How often Traefik is started again within [`TRIES_WITHIN`], and how often in a row without serving,
/// before we give up.
const TRIES: usize = 6;
const TRIES_WITHIN: Duration = Duration::from_secs(60);
/// How often to look whether the certificate was renewed.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(2);

/// Starts Traefik again whenever it has ended, until it ends too often or does not serve.
pub(super) fn watch_over(
    routes: &Arc<Routes>,
    metrics: &Arc<Metrics>,
    ended: &Arc<AtomicBool>,
    give_up: impl FnOnce(Failure) + Send + 'static,
) {
    let (routes, metrics, ended) = (Arc::clone(routes), Arc::clone(metrics), Arc::clone(ended));
    std::thread::spawn(move || {
        let mut tries: Vec<Instant> = Vec::new();
        // A failed start can take more than 10 s, so that six of them may not fit into a minute.
        let mut failures = 0;
        let mut renewed = Instant::now();
        while !ended.load(Ordering::Relaxed) {
            std::thread::sleep(WATCH_INTERVAL);
            let revive = || {
                let revived = routes.or_repaired(Router::revive);
                revived.map_err(|error| error.to_string())
            };
            let failure = match routes.restore_folder().and_then(|()| revive()) {
                Ok(false) => {
                    failures = 0;
                    if renewed.elapsed() >= RENEWAL_INTERVAL {
                        renewed = Instant::now();
                        if let Err(error) = routes.or_repaired(Router::renew_certificate) {
                            log::error!("{error}");
                        }
                    }
                    continue;
                }
                Ok(true) => {
                    log::warn!("Traefik was started again");
                    metrics.restarted();
                    None
                }
                Err(error) => Some(error),
            };
            if ended.load(Ordering::Relaxed) {
                return;
            }
            match &failure {
                Some(error) => {
                    log::error!("Traefik can't be started again: {error}");
                    failures += 1;
                }
                None => failures = 0,
            }
            tries.retain(|then| then.elapsed() < TRIES_WITHIN);
            tries.push(Instant::now());
            let why = match (failures, tries.len()) {
                (TRIES.., _) => format!("could not be started again {TRIES} times in a row"),
                (_, TRIES..) => format!("has ended {TRIES} times within a minute"),
                _ => {
                    std::thread::sleep(WATCH_INTERVAL * (1 << tries.len().max(failures)));
                    continue;
                }
            };
            give_up(Failure::failed(format!("Traefik {why}; giving up")));
            return;
        }
    });
}

/// Looks from time to time which routes are used, so that nobody's use is found out much later. Closes relays that no
/// route uses any more.
pub(super) fn keep_looking(routes: &Arc<Routes>, ended: &Arc<AtomicBool>, new_names: Receiver<()>) {
    let (routes, ended) = (Arc::clone(routes), Arc::clone(ended));
    std::thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            match routes.or_repaired(Router::get_all_routes) {
                Ok(table) => {
                    routes.activity.look_up_names(&table);
                    if let Some(relays) = &routes.rules.relays {
                        let targets = table.iter().map(|route| &route.target);
                        relays.close_unused(targets, relay::UNUSED);
                    }
                    routes.activity.of(&routes.router, &table);
                }
                Err(error) => log::debug!("{error}"),
            }
            new_names.recv_timeout(activity::INTERVAL).ok();
        }
    });
}
