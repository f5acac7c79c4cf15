//! Routes in etcd: what only a store over a network, for many writers and many Traefiks, has.

mod documents;
mod outages;
mod security;
mod sizes;
mod speed;
#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::collections::BTreeSet;
use std::time::Duration;

use kit::Echo;
use kit::etcd::{Cluster, shared_url};
use kit::tools::ETCD;
use serde_json::json;
use traefik_router::{Etcd, KvBackend, Route, RouteEvent, Router};

use crate::support::{External, Kind, Rig, keys};

/// Routes in all nodes of a cluster, under the prefixes that are documented.
fn routes_in(cluster: &Cluster) -> Etcd {
    Etcd::new(cluster.urls()).unwrap()
}

/// The part of a Traefik's static configuration that makes it read the same.
fn providers(etcd: Etcd) -> serde_json::Value {
    use traefik_router::Backend as _;
    KvBackend::new(etcd).static_config().unwrap()["providers"].clone()
}

fn keys(rig: &Rig) -> BTreeSet<String> {
    let key = |line: &str| line.split_once(' ').unwrap().0.to_string();
    rig.rules_text().lines().map(key).collect()
}

#[test]
fn replaced_route_leaves_no_key() {
    let rig = Rig::new(Kind::Etcd);
    let (router, echo) = (rig.start(), Echo::start());
    let before = keys(&rig);
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    let plain = keys(&rig);
    let below = format!("{}/base/", echo.url());
    router.add_route("/a/", &below, json!({"x": [1]})).unwrap();
    assert_eq!(rig.get("h", "/a/x").echo()["path"], "/base/a/x");
    assert_ne!(keys(&rig), plain, "it has a path now");
    router.add_route("/a/", echo.url(), json!(null)).unwrap();
    assert_eq!(rig.get("h", "/a/x").echo()["path"], "/a/x");
    assert_eq!(keys(&rig), plain);
    router.delete_route("/a/").unwrap();
    assert_eq!(rig.landed("h", "/a/"), None);
    assert_eq!(keys(&rig), before);
    assert_eq!(
        rig.api()
            .services()
            .unwrap()
            .iter()
            .filter(|s| s.name.ends_with("@etcd"))
            .count(),
        0
    );
}

#[test]
fn names_are_case_sensitive() {
    let rig = Rig::new(Kind::Etcd);
    let router = rig.start();
    let echoes = ["/user/UserA/", "/user/usera/", "/user/USERA/"].map(|spec| (spec, Echo::start()));
    let add = |(spec, echo): &(&str, Echo)| {
        Route::new(*spec, echo.url())
            .unwrap()
            .data(json!(spec))
            .into()
    };
    router.apply(echoes.iter().map(add)).unwrap();
    for (spec, echo) in &echoes {
        assert_eq!(rig.landed("h", spec), Some(echo.port), "{spec}");
    }
    router.delete_route("/user/UserA/").unwrap();
    assert_eq!(rig.landed("h", "/user/UserA/"), None);
    assert_eq!(rig.landed("h", "/user/usera/"), Some(echoes[1].1.port));
}

#[test]
fn two_namespaces_share_one_traefik() {
    let rig = Rig::new(Kind::Etcd);
    let _traefik = External::start(&rig);
    let [one, two] = [(); 2].map(|()| Echo::start());
    let first = rig.builder().attach().unwrap();
    let namespace = rig
        .etcd()
        .jupyterhub_prefix(format!("/other-{}/", rig.prefixes()[1]));
    let second = rig
        .builder_over(namespace)
        .enable_setup_dynamic_config(false);
    let second = second.attach().unwrap();
    first.add_route("/one/", one.url(), json!(1)).unwrap();
    second.add_route("/two/", two.url(), json!(2)).unwrap();
    assert_eq!(first.get_all_routes().unwrap().len(), 1);
    assert_eq!(rig.landed("h", "/one/"), Some(one.port));
    assert_eq!(rig.landed("h", "/two/"), Some(two.port));
    // Neither the same routespec nor the same target is shared.
    second.add_route("/one/x/", one.url(), json!(3)).unwrap();
    assert!(second.delete_route("/one/").unwrap().deleted.is_empty());
    second.reconcile([]).unwrap();
    assert_eq!(rig.landed("h", "/one/x/"), Some(one.port));
    assert_eq!(rig.landed("h", "/two/"), None);
    first.reconcile([]).unwrap();
    assert_eq!(rig.landed("h", "/one/"), None);
}

#[test]
fn watch_survives_compaction() {
    let rig = Rig::new(Kind::Etcd);
    let [ours, theirs] = [(); 2].map(|()| rig.builder().offline().unwrap());
    let mut watch = ours.watch().unwrap();
    assert_eq!(watch.next(Duration::from_millis(10)).unwrap(), []);
    let client = keys::client(shared_url());
    for n in 0..5 {
        let spec = format!("/{n}/");
        theirs.add_route(&spec, "http://h", json!(n)).unwrap();
        client.compact(client.status().unwrap().revision).unwrap();
        let events = watch.next(Duration::from_secs(5)).unwrap();
        let route = Route::new(&spec, "http://h").unwrap().data(n);
        assert_eq!(events, [RouteEvent::Added(route.into())]);
    }
    // One that begins behind what is left.
    use traefik_router::backend::KvStore as _;
    let header = format!("{}/traefik-router/header", rig.prefixes()[1]);
    rig.etcd()
        .store()
        .wait(&header, 1, Duration::from_secs(5))
        .unwrap();
    assert_eq!(watch.next(Duration::from_millis(100)).unwrap(), []);
}

/// The Router's word against the store and against Traefik.
fn check_all_served(router: &Router, rigs: &[&Rig]) {
    let table = router.get_all_routes().unwrap();
    for rig in rigs {
        assert_eq!(rig.api().refused_routers().unwrap(), []);
        for route in &table {
            let landed = rig.landed("h", route.spec.path());
            let port = route
                .target
                .as_str()
                .rsplit(':')
                .next()
                .unwrap()
                .parse()
                .ok();
            assert_eq!(landed, port, "{}", route.spec);
        }
    }
}

#[test]
fn stopped_router_leaves_others_api() {
    let rig = Rig::new(Kind::Etcd);
    let second = rig.sibling();
    let echo = Echo::start();
    let builder = second.builder().static_config_file(rig.path("second.toml"));
    let (one, two) = (rig.start(), builder.start().unwrap());
    two.add_route("/a/", echo.url(), json!(1)).unwrap();
    two.stop().unwrap();
    one.add_route("/b/", echo.url(), json!(2)).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    assert_eq!(rig.landed("h", "/b/"), Some(echo.port));
    assert!(one.status().is_healthy());
    one.reconcile([]).unwrap();
    one.stop().unwrap();
    assert_eq!(rig.rules_text(), "");
}

/// A writer with much to write lost to one that writes little and often, every time.
#[test]
fn busy_writer_starves_no_batch() {
    let cluster = Cluster::start(&ETCD.path());
    let router = || {
        let backend = KvBackend::new(routes_in(&cluster));
        Router::builder(backend).offline().unwrap()
    };
    let (large, small) = (router(), router());
    let changes = (0..1000).map(|n| {
        Route::new(format!("/large/{n}/"), format!("http://h{n}"))
            .unwrap()
            .data(json!(n))
            .into()
    });
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut count = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                small
                    .add_route("/small/", "http://s", json!(count))
                    .unwrap();
                count += 1;
            }
            count
        });
        let applied = large.apply(changes);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(applied.unwrap().added.len(), 1000);
        assert!(busy.join().unwrap() > 1);
    });
    assert_eq!(small.get_all_routes().unwrap().len(), 1001);
}
