//! When each route was last used: from Traefik's counters of requests, and for what is still under
//! way, such as WebSockets, from the kernel's counters of bytes.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use traefik_router::traefik::Api;
use traefik_router::{ProcessStatus, RouteSpec, Router, Table, Target};

use super::sockets::{self, Connection};
use crate::sync::{in_background, unpoisoned};
use crate::url;

/// The interval between two readings of the counters.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);
/// A reading this recent is used again: one costs Traefik some milliseconds of CPU for each hundred routes.
const FRESH: Duration = Duration::from_secs(1);
/// How long a reading waits for Traefiks. What one of them answers later counts at the next reading.
const PATIENCE: Duration = Duration::from_secs(1);
const COUNTER: &str = "traefik_router_requests_total{";
/// When Traefik's process was started.
const STARTED: &str = "process_start_time_seconds ";

/// Where a Traefik tells its counters.
#[derive(Debug)]
pub(super) struct Counters {
    api: Api,
    path: String,
}

impl Counters {
    /// At this path of its API's entrypoint.
    pub(super) fn new(api: Api, path: impl Into<String>) -> Self {
        let path = path.into();
        Self { api, path }
    }

    /// Asks for them.
    fn ask(&self) -> Receiver<traefik_router::Result<Reading>> {
        let (api, path) = (self.api.clone(), self.path.clone());
        in_background(move || Ok(Reading::of(&api.metrics(&path)?)))
    }
}

/// What a Traefik tells of its requests.
#[derive(Debug, Default, PartialEq)]
struct Reading {
    /// When it was started, as it says that; one that was started anew counts from zero.
    started: String,
    /// By router.
    requests: HashMap<String, Requests>,
}

#[derive(Debug)]
pub(super) struct Activity {
    /// Those of each Traefik.
    counters: Vec<Counters>,
    last_used: Mutex<HashMap<RouteSpec, Timestamp>>,
    last_look: Mutex<Look>,
    /// What host names of targets stand for.
    addresses: Mutex<HashMap<String, Vec<IpAddr>>>,
    /// Notified when there is a host name to look up.
    new_name: SyncSender<()>,
}

/// What was seen at one time.
#[derive(Debug, Default)]
struct Look {
    /// When it ended, whether or not Traefik sent its counters.
    at: Option<Instant>,
    /// Whether Traefik has ever sent them.
    has_told: bool,
    /// The last one of each Traefik.
    readings: Vec<Reading>,
    /// The answer of each Traefik that has been asked and has not answered yet.
    awaited: Vec<Option<Receiver<traefik_router::Result<Reading>>>>,
    carried: HashMap<Connection, u64>,
    /// Targets that answered a request with a failure since the look before.
    failing: HashSet<Target>,
    /// Those of the Traefiks that did not send their counters.
    silent: HashSet<String>,
}

/// How many requests a router has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Requests {
    succeeded: u64,
    /// With a status of 300 or more.
    failed: u64,
}

impl Activity {
    /// The thread that reads in intervals has the receiver, and resolves new names at once.
    pub(super) fn new(counters: Vec<Counters>) -> (Self, Receiver<()>) {
        let (new_name, new_names) = mpsc::sync_channel(1);
        let look = Look {
            readings: counters.iter().map(|_| Reading::default()).collect(),
            awaited: counters.iter().map(|_| None).collect(),
            ..Look::default()
        };
        let activity = Self {
            counters,
            last_used: Mutex::default(),
            last_look: Mutex::new(look),
            addresses: Mutex::default(),
            new_name,
        };
        (activity, new_names)
    }

    /// A route begins with its addition; its host name may stand for another address than before.
    pub(super) fn added(&self, spec: &RouteSpec, target: &Target) {
        unpoisoned(self.last_used.lock()).insert(spec.clone(), Timestamp::now());
        if let (Host::Name(name), _) = authority(target) {
            unpoisoned(self.addresses.lock()).remove(name);
            // If the channel is full, the thread is about to look anyway.
            self.new_name.try_send(()).ok();
        }
    }

    /// When these routes were last used, as far as that is known: not until Traefik has sent its
    /// counters once.
    pub(super) fn of(&self, router: &Router, table: &Table) -> HashMap<RouteSpec, Timestamp> {
        if !self.look(router, table) {
            return HashMap::new();
        }
        unpoisoned(self.last_used.lock()).clone()
    }

    /// Whether all Traefiks sent their counters at the last poll.
    pub(super) fn is_complete(&self) -> bool {
        let last = unpoisoned(self.last_look.lock());
        last.silent.is_empty() && last.awaited.iter().all(Option::is_none)
    }

    /// Finds out what the new host names stand for. This may take long.
    pub(super) fn look_up_names(&self, table: &Table) {
        let servers = table.iter().flat_map(|route| route.servers());
        let names = servers.filter_map(|server| match authority(&server.target) {
            (Host::Name(name), _) => Some(name.to_string()),
            _ => None,
        });
        let names: HashSet<_> = names.collect();
        unpoisoned(self.addresses.lock()).retain(|name, _| names.contains(name));
        for name in names {
            if unpoisoned(self.addresses.lock()).contains_key(&name) {
                continue;
            }
            // A name that stands for nothing now may do so later.
            if let Ok(found) = (&*name, 0).to_socket_addrs() {
                let found = found.map(|one| one.ip().to_canonical()).collect();
                unpoisoned(self.addresses.lock()).insert(name, found);
            }
        }
    }

    /// Compares the counters with those of the last reading. Whether Traefik has ever shown some.
    fn look(&self, router: &Router, table: &Table) -> bool {
        let mut last = unpoisoned(self.last_look.lock());
        if last.at.is_some_and(|at| at.elapsed() < FRESH) {
            return last.has_told;
        }
        let process = match router.process() {
            Some(ProcessStatus::Running { pid: id, .. }) => Some(id),
            _ => None,
        };
        // Before the requests: what these bytes belong to is counted by then.
        let busy = self.busy_peers(&mut last, process);
        let used = self.used(&mut last, router, table, &busy);
        last.at = Some(Instant::now());
        let Some(used) = used else {
            return last.has_told;
        };
        last.has_told = true;
        let now = Timestamp::now();
        let mut last_used = unpoisoned(self.last_used.lock());
        // A route that was just added may not be in this table yet.
        last_used.retain(|spec, then| table.get(spec).is_some() || *then >= now - INTERVAL);
        for route in table {
            last_used.entry(route.spec.clone()).or_insert(now);
        }
        for spec in used {
            last_used.insert(spec, now);
        }
        true
    }

    /// The routes that were used since the last poll; `None` if no Traefik sent its counters.
    fn used(
        &self,
        last: &mut Look,
        router: &Router,
        table: &Table,
        busy: &HashSet<SocketAddr>,
    ) -> Option<Vec<RouteSpec>> {
        let answered = self.read_all(last);
        if answered.is_empty() {
            return None;
        }
        let (mut used, mut failing) = (Vec::new(), HashSet::new());
        let mut quiet = Vec::new();
        for route in table {
            let name = router.router_name(&route.spec);
            let counted = answered.iter().map(|(before, n)| {
                let of = |all: &Reading| all.requests.get(&name).copied().unwrap_or_default();
                (of(before), of(&last.readings[*n]))
            });
            let mut has_succeeded = false;
            for (before, now) in counted {
                has_succeeded |= now.succeeded != before.succeeded;
                if now.failed != before.failed {
                    failing.insert(route.target.clone());
                }
            }
            if has_succeeded {
                used.push(route.spec.clone());
            } else {
                quiet.push(route);
            }
        }
        // A client that is refused again and again does not use a server, yet moves bytes.
        let refused = std::mem::replace(&mut last.failing, failing);
        let is_refused = |target| refused.contains(target) || last.failing.contains(target);
        let names = unpoisoned(self.addresses.lock());
        let open = quiet.into_iter().filter(|route| {
            let is_busy = |target| addresses(target, &names).any(|address| busy.contains(&address));
            let servers = route.servers();
            !is_refused(&route.target) && servers.iter().any(|server| is_busy(&server.target))
        });
        used.extend(open.map(|route| route.spec.clone()));
        Some(used)
    }

    /// To whom Traefik has a connection that has carried something since the last look.
    fn busy_peers(&self, last: &mut Look, process: Option<u32>) -> HashSet<SocketAddr> {
        let Some(process) = process else {
            return HashSet::new();
        };
        let carried = sockets::carried(process).unwrap_or_else(|error| {
            if last.at.is_none() {
                log::info!("a WebSocket counts as used only when it closes: the bytes of open ones can't be read: {error}");
            }
            HashMap::new()
        });
        let before = std::mem::replace(&mut last.carried, carried);
        let grown = last.carried.iter().filter(|(connection, bytes)| {
            let before = before.get(connection).copied().unwrap_or_default();
            **bytes > before
        });
        grown.map(|(connection, _)| connection.peer).collect()
    }

    /// Reads the counters of all Traefiks in parallel. Returns, for each one that answers in time, its earlier
    /// reading and its place in the list. An empty reading stands for one from before a restart.
    fn read_all(&self, last: &mut Look) -> Vec<(Reading, usize)> {
        for (one, awaited) in self.counters.iter().zip(&mut last.awaited) {
            awaited.get_or_insert_with(|| one.ask());
        }
        let deadline = Instant::now() + PATIENCE;
        let mut answered = Vec::new();
        for (n, awaited) in last.awaited.iter_mut().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = awaited.as_ref().map(|answer| answer.recv_timeout(left));
            if let Some(Err(RecvTimeoutError::Timeout)) = answer {
                continue;
            }
            *awaited = None;
            let url = self.counters[n].api.url();
            // A thread that panicked has logged why.
            match answer {
                Some(Ok(Ok(now))) => {
                    last.silent.remove(url);
                    let before = std::mem::replace(&mut last.readings[n], now);
                    let before = match before.started == last.readings[n].started {
                        true => before,
                        false => Reading::default(),
                    };
                    answered.push((before, n));
                }
                Some(Ok(Err(error))) if last.silent.insert(url.into()) => {
                    log::warn!("last_activity is not updated: Traefik sends no metrics: {error}");
                }
                _ => {}
            }
        }
        answered
    }
}

impl Reading {
    /// What Traefik sends in Prometheus' text format.
    fn of(metrics: &str) -> Self {
        let mut reading = Self::default();
        for line in metrics.lines() {
            if let Some(started) = line.strip_prefix(STARTED) {
                reading.started = started.into();
            }
            let Some((router, code, number)) = sample(line) else {
                continue;
            };
            if !reading.requests.contains_key(router) {
                reading.requests.insert(router.into(), Requests::default());
            }
            if let Some(requests) = reading.requests.get_mut(router) {
                match code {
                    ..300 => requests.succeeded += number,
                    _ => requests.failed += number,
                }
            }
        }
        reading
    }
}

/// The router, the status and the number in a line of the counter of requests.
fn sample(line: &str) -> Option<(&str, u16, u64)> {
    let (labels, number) = line.strip_prefix(COUNTER)?.rsplit_once("} ")?;
    let label = |name: &str| {
        let mut labels = labels.split("\",");
        let value = labels.find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""))?;
        Some(value.trim_end_matches('"'))
    };
    // Large numbers are written with an exponent.
    let number: f64 = number.parse().ok()?;
    Some((
        label("router")?,
        label("code")?.parse().ok()?,
        number as u64,
    ))
}

enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

fn authority(target: &Target) -> (Host<'_>, u16) {
    let (scheme, authority, _) = url::split(target.as_str());
    let (host, port) = url::split_port(authority);
    let default = if scheme == Some("https") { 443 } else { 80 };
    let port = port.and_then(url::port).unwrap_or(default);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = match bare.parse::<IpAddr>() {
        Ok(address) => Host::Address(address.to_canonical()),
        Err(_) => Host::Name(host),
    };
    (host, port)
}

/// Where Traefik connects to for a target.
fn addresses(
    target: &Target,
    names: &HashMap<String, Vec<IpAddr>>,
) -> impl Iterator<Item = SocketAddr> {
    let (host, port) = authority(target);
    let ips = match host {
        Host::Address(ip) => vec![ip],
        Host::Name(name) => names.get(name).cloned().unwrap_or_default(),
    };
    ips.into_iter().map(move |ip| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_is_summed_by_router() {
        let text = "\
# HELP traefik_router_requests_total How many HTTP requests are processed on a router.
traefik_router_requests_total{code=\"200\",method=\"GET\",protocol=\"http\",router=\"a@file\",service=\"s@file\"} 3
traefik_router_requests_total{code=\"101\",method=\"GET\",protocol=\"websocket\",router=\"a@file\",service=\"s@file\"} 1
traefik_router_requests_total{code=\"403\",method=\"POST\",protocol=\"http\",router=\"a@file\",service=\"s@file\"} 5
traefik_router_requests_total{code=\"200\",method=\"GET\",protocol=\"http\",router=\"b@file\",service=\"s@file\"} 1.5e+06
traefik_router_requests_bytes_total{code=\"200\",method=\"GET\",protocol=\"http\",router=\"b@file\",service=\"s@file\"} 9
traefik_router_requests_total{code=\"200\" broken
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.7643e+09
";
        let Reading { started, requests } = Reading::of(text);
        assert_eq!(started, "1.7643e+09");
        let expected = |succeeded, failed| Requests { succeeded, failed };
        assert_eq!(requests["a@file"], expected(4, 5));
        assert_eq!(requests["b@file"], expected(1_500_000, 0));
        assert_eq!(requests.len(), 2);
    }

    #[test]
    fn targets_become_socket_addresses() {
        let names = HashMap::from([("hub".to_string(), vec!["10.0.0.1".parse().unwrap()])]);
        for (target, address) in [
            ("http://127.0.0.1:9001", Some("127.0.0.1:9001")),
            ("http://127.0.0.1:9001/base", Some("127.0.0.1:9001")),
            ("http://[::1]:9001", Some("[::1]:9001")),
            ("https://[::1]", Some("[::1]:443")),
            ("http://hub:8081", Some("10.0.0.1:8081")),
            ("http://hub", Some("10.0.0.1:80")),
            ("http://other", None),
        ] {
            let found = addresses(&Target::new(target).unwrap(), &names).next();
            assert_eq!(
                found,
                address.map(|address| address.parse().unwrap()),
                "{target}"
            );
        }
    }
}
