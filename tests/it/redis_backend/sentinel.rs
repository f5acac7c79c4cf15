//! A master that Sentinel watches over.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use kit::redis::Sentinels;
use kit::{Echo, eventually};
use serde_json::json;
use traefik_router::{Backend as _, ErrorKind, KvBackend, Redis, Router, Stored};

use super::{SECOND, check};
use crate::support::{Kind, Rig};

const PLAIN: [&str; 4] = ["--save", "", "--notify-keyspace-events", "K$g"];

fn backend(sentinels: &Sentinels, replicas: usize) -> KvBackend<Redis> {
    let redis = Redis::sentinel(sentinels.urls(), Sentinels::MASTER).unwrap();
    KvBackend::new(redis.replicas(replicas)).conflict_timeout(20 * SECOND)
}

/// Kills the master, and waits for another one. Returns the number of the one that was killed.
fn fail_over(sentinels: &mut Sentinels) -> usize {
    let old = sentinels.master().unwrap();
    sentinels.servers[old].kill();
    eventually("another one is the master", || {
        sentinels.master().is_some_and(|now| now != old)
    });
    old
}

/// Under load, and twice.
#[test]
fn acknowledged_routes_outlive_masters() {
    let mut sentinels = Sentinels::start(&PLAIN);
    let routers: Vec<_> = (0..3)
        .map(|_| Router::builder(backend(&sentinels, 1)).offline().unwrap())
        .collect();
    let (stop, acknowledged) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    let count = || acknowledged.lock().unwrap().len();
    std::thread::scope(|scope| {
        for (w, router) in routers.iter().enumerate() {
            let (stop, acknowledged) = (&stop, &acknowledged);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let spec = format!("/{w}/{n}/");
                    match router.add_route(&spec, "http://h", json!(n)) {
                        Ok(_) => drop(acknowledged.lock().unwrap().insert(spec)),
                        // Others may have seen what only the old master had.
                        Err(error) if error.kind() == ErrorKind::Conflict => {
                            router.repair().unwrap();
                        }
                        Err(error) => println!("{spec}: {error}"),
                    }
                }
            });
        }
        for _ in 0..2 {
            let before = count();
            eventually("routes are stored", || count() > before + 20);
            let old = fail_over(&mut sentinels);
            let before = count();
            eventually("routes are stored in the new master", || {
                count() > before + 20
            });
            // It comes back as a replica, and what it alone had is gone.
            sentinels.servers[old].restart();
            eventually("the old one is a replica", || {
                let info = sentinels.servers[old].try_run(&["INFO", "replication"]);
                info.is_some_and(|info| info.contains("master_link_status:up"))
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    let stored = backend(&sentinels, 1).read().unwrap();
    let stored: BTreeSet<_> = stored.iter().map(|route| route.spec.to_string()).collect();
    let acknowledged = acknowledged.into_inner().unwrap();
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "{lost:?} of {}", acknowledged.len());
}

#[test]
fn traefik_follows_new_master() {
    let (rig, mut sentinels) = (Rig::new(Kind::Redis), Sentinels::start(&PLAIN));
    let builder = rig.builder_over(backend(&sentinels, 1));
    let (router, echo) = (builder.start().unwrap(), Echo::start());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    fail_over(&mut sentinels);
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    router.add_route("/b/", echo.url(), json!(1)).unwrap();
    assert_eq!(rig.landed("h", "/b/"), Some(echo.port));
}

#[test]
fn missing_replicas_are_said() {
    let mut sentinels = Sentinels::start(&PLAIN);
    let redis = Redis::sentinel(sentinels.urls(), Sentinels::MASTER).unwrap();
    let redis = redis.timeout(4 * SECOND).replicas(1);
    let router = Router::builder(KvBackend::new(redis)).offline().unwrap();
    router.add_route("/a/", "http://h", json!(1)).unwrap();
    for replica in &mut sentinels.servers[1..] {
        replica.kill();
    }
    let error = router.add_route("/b/", "http://h", json!(1)).unwrap_err();
    for says in [
        "Redis at themaster",
        ": 0 of 1 needed replicas",
        "`replicas`",
    ] {
        check(&error, ErrorKind::Unavailable, &Stored::All, says);
    }
    let table = router.get_all_routes().unwrap();
    assert_eq!(table.len(), 2, "the master has it");
}

#[test]
fn wrong_sentinels_are_refused() {
    let sentinels = Sentinels::start(&PLAIN);
    let read = |urls: Vec<String>, name: &str| {
        let redis = Redis::sentinel(urls, name).unwrap().timeout(SECOND);
        KvBackend::new(redis).read().map(|table| table.len())
    };
    let urls = sentinels.urls();
    let error = read(urls.clone(), "another").unwrap_err();
    let says = "knows no master \"another\"";
    check(&error, ErrorKind::InvalidConfig, &Stored::Nothing, says);
    let nobody = "redis://127.0.0.1:1".to_string();
    let error = read(vec![nobody.clone()], Sentinels::MASTER).unwrap_err();
    let says = "Redis at themaster (Sentinel at 127.0.0.1:1) was not reached";
    check(&error, ErrorKind::Unavailable, &Stored::Nothing, says);
    // One that is away is passed over.
    let some = vec![nobody, urls[1].clone()];
    assert_eq!(read(some, Sentinels::MASTER).unwrap(), 0);
    for (urls, name) in [
        (vec!["redis://h:1"], ""),
        (vec![], "m"),
        (vec!["h:1"], "m"),
        (vec!["redis://h:1/2"], "m"),
        (vec!["redis://h:0"], "m"),
        (vec!["rediss://h:65536"], "m"),
    ] {
        let error = Redis::sentinel(urls, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    }
}
