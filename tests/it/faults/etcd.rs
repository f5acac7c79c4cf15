//! An etcd whose nodes are cut off, that is slow, full, compacted, or wants a password all at once.

use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kit::etcd::{Cluster, add_user, enable_auth, raw};
use kit::tools::{ETCD, etcds};
use kit::{Echo, Mood, Proxy, eventually};
use serde_json::json;
use traefik_router::{
    Backend as _, Change, ErrorKind, Etcd, KvBackend, RouteEvent, Router, Stored,
};

use crate::support::child::Actor;
use crate::support::{Connect as _, Kind, Rig};

const SECOND: Duration = Duration::from_secs(1);

fn on(etcd: Etcd) -> Router {
    Router::builder(KvBackend::new(etcd)).offline().unwrap()
}

/// The data of the route at `spec`, as somebody else reads it.
fn stored(cluster: &Cluster, spec: &str) -> Option<serde_json::Value> {
    let backend = KvBackend::new(Etcd::new(cluster.urls()).unwrap());
    let spec = traefik_router::RouteSpec::new(spec).unwrap();
    let table = backend.read().unwrap();
    table.get(&spec).map(|route| route.data.clone())
}

/// How many changes ended in which way.
#[derive(Default)]
struct Count {
    done: AtomicUsize,
    undone: AtomicUsize,
    unknown: AtomicUsize,
}

/// Counts a route's data up until `stop` is set. Returns what the data may be then.
fn count_up(router: &Router, spec: &str, stop: &AtomicBool, count: &Count) -> Vec<usize> {
    let mut possible = vec![0];
    for n in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let counter = match router.add_route(spec, "http://h", json!(n)) {
            Ok(_) => {
                possible = vec![n];
                &count.done
            }
            Err(error) => {
                assert!(error.to_string().contains("http://1"), "{error}");
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                match error.stored() {
                    Stored::Nothing => &count.undone,
                    Stored::Unknown => {
                        possible.push(n);
                        &count.unknown
                    }
                    other => panic!("{other:?}: {error}"),
                }
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    possible
}

const FAST: [&str; 4] = ["--heartbeat-interval", "50", "--election-timeout", "500"];

/// Makes changes while each node is cut off in turn, in each of these ways.
fn change_through(cluster: &Cluster, urls: &[String], cuts: &[&dyn Fn(usize, bool)]) {
    let etcd = || Etcd::new(urls).unwrap().timeout(3 * SECOND);
    let routers = [on(etcd()), on(etcd())];
    let (stop, count) = (AtomicBool::new(false), Count::default());
    let specs = ["/a/", "/b/", "/c/", "/d/"];
    let possible: HashMap<_, _> = std::thread::scope(|scope| {
        let (stop, count, routers) = (&stop, &count, &routers);
        let threads: Vec<_> = specs
            .iter()
            .enumerate()
            .map(|(n, spec)| {
                let count_up = move || count_up(&routers[n % 2], spec, stop, count);
                (spec, scope.spawn(count_up))
            })
            .collect();
        for node in 0..urls.len() {
            for cut in cuts {
                cut(node, true);
                std::thread::sleep(SECOND);
                let before = count.done.load(Ordering::Relaxed);
                eventually("the other two go on", || {
                    count.done.load(Ordering::Relaxed) > before + 5
                });
                cut(node, false);
            }
        }
        stop.store(true, Ordering::Relaxed);
        let join = |(spec, thread): (_, std::thread::ScopedJoinHandle<'_, _>)| {
            (spec, thread.join().unwrap())
        };
        threads.into_iter().map(join).collect()
    });
    println!(
        "{} cuts: {:?} changes confirmed, {:?} refused, {:?} unknown",
        urls.len() * cuts.len(),
        count.done,
        count.undone,
        count.unknown
    );
    for (spec, possible) in possible {
        let found = stored(cluster, spec).map_or(0, |data| data.as_u64().unwrap() as usize);
        assert!(possible.contains(&found), "{spec}: {found} of {possible:?}");
    }
    for router in &routers {
        router.add_route("/last/", "http://h", json!(null)).unwrap();
        assert_eq!(router.get_all_routes().unwrap().len(), specs.len() + 1);
    }
}

#[test]
fn unreachable_nodes_lose_no_change() {
    let cluster = Cluster::with(&ETCD.path(), 3, &FAST, None);
    let proxies: Vec<_> = cluster.urls().iter().map(|url| Proxy::new(url)).collect();
    let urls: Vec<_> = proxies.iter().map(|proxy| proxy.url.clone()).collect();
    // Cut off from us alone, then from its peers as well.
    let from_us = |node: usize, cut| {
        proxies[node].mood(if cut { Mood::Silent } else { Mood::Honest });
    };
    let from_all = |node: usize, cut| cluster.freeze(node, cut);
    change_through(&cluster, &urls, &[&from_us, &from_all]);
}

#[test]
fn cut_networks_lose_no_change() {
    let mut program = Command::new("unshare");
    program
        .args(["--map-root-user", "--net"])
        .arg(std::env::current_exe().unwrap());
    let actor = Actor::start_by(program, "network", &json!(null));
    assert!(
        actor.finish(),
        "the nodes' part failed, see above; it needs `unshare`, `ip` (Debian's iproute2), and \
         a kernel that lets users have networks"
    );
}

/// A part for another process, in a network of its own.
pub(crate) fn cut_nodes_off() {
    ip("link set lo up");
    let hosts = ["10.77.0.1", "10.77.0.2", "10.77.0.3"];
    let is_there = |host, there| {
        // What is sent to a host that is not there goes round once, and is nobody's.
        let (address, route) = if there {
            ("add", "del")
        } else {
            ("del", "add")
        };
        ip(&format!("address {address} {host}/32 dev lo"));
        ip(&format!("route {route} {host}/32 dev lo"));
    };
    for host in hosts {
        ip(&format!("address add {host}/32 dev lo"));
    }
    let cluster = Cluster::at(&ETCD.path(), &hosts, &FAST);
    let cut = |node: usize, cut: bool| is_there(hosts[node], !cut);
    change_through(&cluster, &cluster.urls(), &[&cut]);
}

fn ip(arguments: &str) {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let mut command = Command::new("ip");
    let status = command
        .args(arguments.split(' '))
        .env("PATH", path)
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "ip {arguments}"
    );
}

/// It goes on to answer its clients, and to accept what it can't make known to anybody.
#[test]
fn isolated_node_is_avoided() {
    const CHANGES: usize = 10;
    let cluster = Cluster::with_network(&ETCD.path(), 3, &FAST);
    let mut expected = Vec::new();
    let mut led = 0;
    // The last one is the leader of that moment.
    for turn in 0..4 {
        let leader = cluster.leader();
        let node = if turn == 3 { leader } else { turn };
        led += usize::from(node == leader);
        // A client that prefers this node, and one that knows no other.
        let mut urls = cluster.urls();
        urls.rotate_left(node);
        let router = on(Etcd::new(&urls).unwrap().timeout(9 * SECOND));
        let alone = on(Etcd::new([&urls[0]]).unwrap().timeout(2 * SECOND));

        cluster.cut_off(Some(node));
        for n in 0..CHANGES {
            let spec = format!("/{turn}/{n}/");
            let start = Instant::now();
            router.add_route(&spec, "http://h", json!(n)).unwrap();
            assert!(start.elapsed() < 12 * SECOND, "{:?}", start.elapsed());
            expected.push(spec);
        }
        assert_eq!(stored(&cluster, &format!("/{turn}/0/")), Some(json!(0)));
        // What it knows may be old, and it does not answer with it.
        let error = alone.get_all_routes().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let error = alone.add_route("/lost/", "http://h", ()).unwrap_err();
        assert!(error.to_string().contains(&urls[0]), "{error}");
        assert_ne!(*error.stored(), Stored::All, "{error}");

        cluster.cut_off(None);
        eventually("it is back, with what it has missed", || {
            alone.get_all_routes().is_ok_and(|table| {
                let there: HashSet<_> = table.iter().map(|route| route.spec.as_str()).collect();
                expected.iter().all(|spec| there.contains(&**spec))
            })
        });
        alone.add_route("/back/", "http://h", json!(turn)).unwrap();
        assert_eq!(stored(&cluster, "/back/"), Some(json!(turn)));
    }
    println!(
        "4 cuts, {led} of them of the leader: {} changes",
        expected.len()
    );
}

#[test]
fn lost_answer_repeats_no_change() {
    const CHANGES: u64 = 50;
    for binary in etcds() {
        let cluster = Cluster::start(&binary);
        let proxy = Proxy::new(cluster.url());
        let router = on(Etcd::new([&proxy.url]).unwrap());
        let revision = || cluster.client().status().unwrap().revision;
        router.apply([]).unwrap();
        let before = revision();
        for n in 0..CHANGES {
            proxy.lose_one_answer();
            router.add_route("/a/", "http://h", json!(n)).unwrap();
            assert_eq!(stored(&cluster, "/a/"), Some(json!(n)));
        }
        assert_eq!(revision() - before, CHANGES as i64, "one transaction each");
        // And where the request does not arrive it is not reported as made.
        proxy.swallow_one_request();
        let outcome = router.add_route("/a/", "http://h", json!("swallowed"));
        assert_eq!(
            outcome.is_ok(),
            stored(&cluster, "/a/") == Some(json!("swallowed"))
        );
        assert_eq!(
            revision() - before,
            CHANGES as i64 + i64::from(outcome.is_ok())
        );
    }
}

#[test]
fn slow_etcd_is_awaited() {
    let cluster = Cluster::start(&ETCD.path());
    let proxy = Proxy::new(cluster.url());
    let router = on(Etcd::new([&proxy.url]).unwrap().timeout(SECOND));
    proxy.mood(Mood::Slow(SECOND / 5));
    router.add_route("/a/", "http://h", json!("slow")).unwrap();
    for mood in [Mood::Slow(3 * SECOND), Mood::Silent, Mood::Cut(20)] {
        proxy.mood(mood);
        let start = Instant::now();
        let error = router
            .add_route("/a/", "http://h", json!("too slow"))
            .unwrap_err();
        assert!(start.elapsed() < 8 * SECOND, "{:?}", start.elapsed());
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{mood:?}: {error}");
        assert!(error.to_string().contains(&proxy.url), "{error}");
        let found = stored(&cluster, "/a/").unwrap();
        assert!(
            *error.stored() == Stored::Unknown || found == "slow",
            "{error}"
        );
        proxy.mood(Mood::Honest);
        router.add_route("/a/", "http://h", json!("slow")).unwrap();
        assert_eq!(stored(&cluster, "/a/"), Some(json!("slow")));
    }
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope",
        "\u{16}\u{3}rubbish",
    ] {
        proxy.mood(Mood::Rubbish(text));
        let error = router.add_route("/a/", "http://h", json!("x")).unwrap_err();
        assert_eq!(*error.stored(), Stored::Unknown, "{error}");
        assert!(error.to_string().contains(&proxy.url), "{error}");
        proxy.mood(Mood::Honest);
        router.add_route("/a/", "http://h", json!("slow")).unwrap();
    }
}

/// Readers ask together, and none of them waits for a writer.
#[test]
fn hanging_etcd_queues_no_callers() {
    let cluster = Cluster::start(&ETCD.path());
    let hanging = |age| {
        let backend = KvBackend::new(Etcd::new(cluster.urls()).unwrap().timeout(SECOND));
        let backend = backend.conflict_timeout(SECOND).max_age(age);
        let router = Router::builder(backend).offline().unwrap();
        router.add_route("/a/", "http://h", json!(1)).unwrap();
        router
    };
    let (router, relaxed) = (hanging(Duration::ZERO), hanging(60 * SECOND));
    cluster.freeze(0, true);
    for writes in [false, true] {
        std::thread::scope(|scope| {
            let (router, relaxed) = (&router, &relaxed);
            if writes {
                for writer in [router, relaxed] {
                    scope.spawn(move || {
                        let start = Instant::now();
                        let error = writer.add_route("/b/", "http://h", ()).unwrap_err();
                        let took = start.elapsed();
                        assert_eq!(*error.stored(), Stored::Unknown, "{error}");
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                        assert!(took < SECOND * 3 / 2, "a change took {took:?}");
                    });
                }
                std::thread::sleep(SECOND / 4);
                let start = Instant::now();
                assert_eq!(relaxed.get_all_routes().unwrap().len(), 1);
                let took = start.elapsed();
                assert!(took < SECOND / 4, "a read from memory took {took:?}");
            }
            for n in 0..16 {
                scope.spawn(move || {
                    let start = Instant::now();
                    let error = match n % 2 {
                        0 => router.get_route("/a/").map(drop).unwrap_err(),
                        _ => router.get_all_routes().map(drop).unwrap_err(),
                    };
                    let took = start.elapsed();
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    assert!(took < SECOND * 3 / 2, "a read took {took:?}");
                });
            }
        });
    }
    cluster.freeze(0, false);
    router.add_route("/c/", "http://h", ()).unwrap();
    for router in [&router, &relaxed] {
        router.apply([]).unwrap();
        assert!(router.get_route("/a/").unwrap().is_some());
    }
    assert!(router.get_route("/c/").unwrap().is_some());
}

#[test]
fn compaction_disturbs_nobody() {
    for binary in etcds() {
        let cluster = Cluster::start(&binary);
        let rig = Rig::new(Kind::Toml);
        let etcd = || Etcd::new(cluster.urls()).unwrap();
        let builder = rig.builder_over(KvBackend::new(etcd()));
        let (router, echo) = (builder.start().unwrap(), Echo::start());
        let other = on(etcd());
        let mut watch = router.watch().unwrap();
        for n in 0..5 {
            for spec in ["/x/", "/y/"] {
                other.add_route(spec, echo.url(), json!(n)).unwrap();
            }
            let revision = cluster.client().status().unwrap().revision;
            cluster.client().compact(revision).unwrap();
            let heard = watch.next(10 * SECOND).unwrap();
            let last = router.get_route("/y/").unwrap().unwrap();
            assert_eq!(last.data, json!(n));
            let is_heard = heard.iter().any(|event| match event {
                RouteEvent::Added(route) => n == 0 && *route == last,
                RouteEvent::Changed { to, .. } => n > 0 && *to == last,
                _ => false,
            });
            assert!(is_heard, "{heard:?}");
            router.add_route("/z/", echo.url(), json!(n)).unwrap();
            assert_eq!(rig.landed("h", "/z/"), Some(echo.port));
            watch.next(10 * SECOND).unwrap();
        }
        assert_eq!(watch.table(), &router.get_all_routes().unwrap());
    }
}

#[test]
fn switched_authentication_is_noticed() {
    for binary in etcds() {
        let cluster = Cluster::start(&binary);
        let url = cluster.url();
        let nobody = on(Etcd::new([url]).unwrap());
        nobody.add_route("/a/", "http://h", json!(1)).unwrap();
        let grants = ["jupyterhub", "traefik"].map(|name| ("READWRITE", name, "z"));
        add_user(url, "hub", &grants);
        enable_auth(url);
        for outcome in [
            nobody.add_route("/a/", "http://h", json!(2)).map(drop),
            nobody.get_all_routes().map(drop),
        ] {
            let error = outcome.unwrap_err();
            let reported = (error.kind(), error.stored());
            assert_eq!(
                reported,
                (ErrorKind::Unauthorized, &Stored::Nothing),
                "{error}"
            );
            assert!(error.to_string().contains(url), "{error}");
        }
        let hub = on(Etcd::new([url]).unwrap().user("hub", "pw-hub"));
        assert_eq!(hub.get_route("/a/").unwrap().unwrap().data, 1);
        hub.add_route("/b/", "http://h", json!(2)).unwrap();

        let root = json!({"name": "root", "password": "pw-root"});
        let token = raw(url, "/v3/auth/authenticate", root, None)["token"].clone();
        raw(url, "/v3/auth/disable", json!({}), token.as_str());
        nobody.add_route("/c/", "http://h", json!(3)).unwrap();
        assert_eq!(nobody.get_all_routes().unwrap().len(), 3);
        // A Router with a password needs it checked, and says so until it is.
        let error = hub.add_route("/d/", "http://h", json!(4)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(error.to_string().contains("auth enable"), "{error}");
        raw(url, "/v3/auth/enable", json!({}), None);
        hub.add_route("/d/", "http://h", json!(4)).unwrap();
    }
}

#[test]
fn writing_resumes_after_full_etcd() {
    for binary in etcds() {
        let quota = ["--quota-backend-bytes", "4000000"];
        let cluster = Cluster::with(&binary, 1, &quota, None);
        let url = cluster.url();
        let router = on(Etcd::new([url]).unwrap());
        router.add_route("/a/", "http://h", json!(1)).unwrap();
        let ballast = |n: usize| format!("ballast/{n}");
        let etcd = cluster.client();
        let full = (0..20).find_map(|n| etcd.put(ballast(n), vec![b'x'; 500_000]).err());
        assert_eq!(full.expect("the store gets full").kind(), ErrorKind::Store);
        for change in [
            Change::set("/b/", "http://h").unwrap(),
            Change::delete("/a/").unwrap(),
        ] {
            let error = router.apply([change]).unwrap_err();
            let reported = (error.kind(), error.stored());
            assert_eq!(reported, (ErrorKind::Store, &Stored::Nothing), "{error}");
            assert!(error.to_string().contains("quota-backend-bytes"), "{error}");
            assert_eq!(router.get_all_routes().unwrap().len(), 1);
        }
        for n in 0..20 {
            etcd.delete(ballast(n)).unwrap();
        }
        etcd.compact(etcd.status().unwrap().revision).unwrap();
        raw(url, "/v3/maintenance/defragment", json!({}), None);
        let mut alarm = raw(url, "/v3/maintenance/alarm", json!({}), None)["alarms"][0].clone();
        alarm["action"] = json!("DEACTIVATE");
        raw(url, "/v3/maintenance/alarm", alarm, None);
        router.add_route("/b/", "http://h", json!(2)).unwrap();
        assert_eq!(router.get_all_routes().unwrap().len(), 2);
    }
}
