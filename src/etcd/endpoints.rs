//! Which endpoint to ask: the one that answered last, and none that has just failed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::exchange::post;
use super::fault::Failure;
use super::wire::{Headed, Header};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Bounds, Http, Tls};
use crate::sync::unpoisoned;
use crate::threads::at_once;

pub(super) const STATUS_PATH: &str = "/v3/maintenance/status";

/// The endpoints of one cluster. Clones share their state.
#[derive(Clone)]
pub(super) struct Endpoints {
    list: Arc<[Http]>,
    health: Arc<Mutex<Health>>,
}

/// How long a failed endpoint is skipped. Each further failure doubles it, up to the maximum.
const FIRST_BACK_OFF: Duration = Duration::from_millis(250);
const MAX_BACK_OFF: Duration = Duration::from_secs(30);

/// How long [`Endpoints::identify`] waits for an answer.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(1);

impl Endpoints {
    pub(super) fn new(urls: &[String], tls: &Tls) -> Result<Self> {
        if urls.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "etcd: no endpoint was given",
            ));
        }
        let list: Result<Arc<[Http]>> = urls.iter().map(|url| Http::new(url, tls)).collect();
        let health = Health {
            preferred: 0,
            failed: vec![None; urls.len()],
            cluster: None,
        };
        Ok(Self {
            list: list?,
            health: Arc::new(Mutex::new(health)),
        })
    }

    pub(super) fn urls(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(Http::base)
    }

    pub(super) fn get(&self, index: usize) -> &Http {
        &self.list[index]
    }

    /// The order to try the endpoints in.
    pub(super) fn order(&self) -> Vec<usize> {
        self.health().order(Instant::now())
    }

    pub(super) fn worked(&self, index: usize) {
        let mut health = self.health();
        health.failed[index] = None;
        health.preferred = index;
    }

    /// Checks that an endpoint belongs to the same cluster as the preferred one. Sends a request only
    /// if there are several endpoints and the cluster of this one is not known.
    pub(super) fn check_cluster(&self, index: usize, bounds: Bounds) -> Result<(), Failure> {
        if self.list.len() == 1 || self.health().is_known(index) {
            return Ok(());
        }
        let identity = identify(self.get(index), bounds).map_err(Failure::before_request)?;
        let accepted = self.health().accept(index, identity.cluster);
        accepted.map_err(|preferred| {
            let message = format!(
                "{} is not asked, because it belongs to another etcd cluster than {}: give the URLs \
                 of one cluster; if the cluster was made anew, start this program again",
                self.get(index).base(),
                self.get(preferred).base()
            );
            Error::new(ErrorKind::Unavailable, message).into()
        })
    }

    /// Asks all endpoints in parallel which cluster and member they are, for at most one second
    /// and at most `timeout`.
    pub(super) fn identify(&self, timeout: Duration) -> Vec<(&str, Result<Identity>)> {
        let total = IDENTIFY_TIMEOUT.min(timeout);
        let bounds = Bounds {
            connect: total,
            total,
        };
        at_once(self.list.iter(), |http| {
            let identity = identify(http, bounds).map_err(Failure::described);
            (http.base(), identity)
        })
    }

    pub(super) fn failed(&self, index: usize) {
        self.health().fail(index, Instant::now());
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        unpoisoned(self.health.lock())
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.urls()).finish()
    }
}

struct Health {
    /// The endpoint that answered last.
    preferred: usize,
    failed: Vec<Option<Failed>>,
    /// The cluster of the preferred endpoint, once it is known.
    cluster: Option<u64>,
}

#[derive(Clone, Copy)]
struct Failed {
    back_off: Duration,
    until: Instant,
}

impl Health {
    /// The preferred endpoint and those after it in the list. Endpoints in their back-off come last,
    /// and among them the one whose back-off ends first comes first.
    fn order(&self, now: Instant) -> Vec<usize> {
        let count = self.failed.len();
        let mut order: Vec<usize> = (0..count).map(|n| (self.preferred + n) % count).collect();
        order.sort_by_key(|&index| {
            self.failed[index]
                .map(|f| f.until)
                .filter(|until| *until > now)
        });
        order
    }

    /// Whether the endpoint's cluster is known: it is the preferred one and has not failed since.
    fn is_known(&self, index: usize) -> bool {
        self.cluster.is_some() && index == self.preferred && self.failed[index].is_none()
    }

    /// Notes the cluster that an endpoint belongs to. If the preferred endpoint belongs to another
    /// one, the error is the preferred endpoint's index. The preferred endpoint's own cluster may
    /// change, because a cluster can be made anew.
    fn accept(&mut self, index: usize, cluster: u64) -> Result<(), usize> {
        match self.cluster {
            Some(known) if known != cluster && index != self.preferred => Err(self.preferred),
            _ => {
                self.cluster = Some(cluster);
                Ok(())
            }
        }
    }

    fn fail(&mut self, index: usize, now: Instant) {
        let back_off = match self.failed[index] {
            // Another thread has noted this failure already.
            Some(failed) if failed.until > now => return,
            Some(failed) => (failed.back_off * 2).min(MAX_BACK_OFF),
            None => FIRST_BACK_OFF,
        };
        self.failed[index] = Some(Failed {
            back_off,
            until: now + back_off,
        });
    }
}

/// The cluster and the member that an endpoint says it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster: u64,
    pub(crate) member: u64,
}

/// Needs no token: etcd shows its status without one.
fn identify(http: &Http, bounds: Bounds) -> Result<Identity, Failure> {
    let answer: Headed = post(http, STATUS_PATH, b"{}", None, bounds, true)?;
    let Header {
        cluster_id: cluster,
        member_id: member,
        ..
    } = answer.header;
    Ok(Identity { cluster, member })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_endpoints_come_last() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut health = Health {
            preferred: 1,
            failed: vec![None; 3],
            cluster: None,
        };
        assert_eq!(health.order(at(0)), [1, 2, 0]);
        health.fail(1, at(0));
        health.fail(1, at(100));
        assert_eq!(health.order(at(249)), [2, 0, 1]);
        assert_eq!(health.order(at(250)), [1, 2, 0]);
        health.fail(1, at(250));
        health.fail(2, at(300));
        assert_eq!(health.order(at(301)), [0, 2, 1]);
        assert_eq!(health.order(at(600)), [2, 0, 1]);
        assert_eq!(health.order(at(750)), [1, 2, 0]);
        for n in 1..20 {
            health.fail(1, at(n * 100_000));
        }
        assert_eq!(health.order(at(1_900_000 + 30_000)), [1, 2, 0]);
    }

    #[test]
    fn bad_urls_are_refused() {
        for urls in [
            vec![],
            vec!["127.0.0.1:2379"],
            vec!["http://a:1", "http://u:p@b:1"],
            vec!["http://a:1?token=u:p"],
            vec!["http://a:65536"],
            vec!["http://[::1]:0/etcd"],
        ] {
            let urls: Vec<String> = urls.into_iter().map(String::from).collect();
            let error = Endpoints::new(&urls, &Tls::new()).expect_err("a bad URL");
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
    }
}
