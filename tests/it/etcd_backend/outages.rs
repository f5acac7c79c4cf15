//! etcd loses its leader, its connection, its memory.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kit::etcd::Cluster;
use kit::tools::ETCD;
use kit::{Echo, eventually};
use serde_json::json;
use traefik_router::{Backend as _, Error, ErrorKind, Etcd, KvBackend, Route, Router, Stored};

use super::{check_all_served, providers, routes_in};
use crate::support::{Connect as _, External, Kind, Rig};

const THREADS: usize = 4;
const CHANGES: usize = 200;

/// Where a routespec may lead after an outcome: nowhere, or to this port.
type Possible = Vec<Option<u16>>;

fn after(
    outcome: Result<(), Error>,
    before: Possible,
    wanted: Option<u16>,
    reported: &Mutex<Vec<String>>,
) -> Possible {
    let Err(error) = outcome else {
        return vec![wanted];
    };
    reported.lock().unwrap().push(error.to_string());
    match error.stored() {
        Stored::Nothing => before,
        Stored::All => vec![wanted],
        Stored::Unknown => [before, vec![wanted]].concat(),
        other => panic!("one route is not split: {other:?}"),
    }
}

#[test]
fn killed_leader_loses_no_change() {
    let fast = ["--heartbeat-interval", "50", "--election-timeout", "500"];
    let mut cluster = Cluster::with(&ETCD.path(), 3, &fast, None);
    let [one, two] = [(); 2].map(|()| Rig::new(Kind::Toml));
    let echoes = [(); 2].map(|()| Echo::start());
    let etcd = || routes_in(&cluster).timeout(Duration::from_secs(3));
    cluster
        .client()
        .put(
            "traefik/http/services/keep/loadBalancer/passHostHeader",
            "true",
        )
        .unwrap();
    let start =
        |rig: &Rig| External::start_with(rig, "t", &External::config_with(rig, &providers(etcd())));
    let _traefiks = [start(&one), start(&two)];
    let router = one.builder_over(KvBackend::new(etcd()));
    let router = router
        .traefik_api_urls([one.api_url(), two.api_url()])
        .attach()
        .unwrap();

    let (done, reported) = (AtomicUsize::new(0), Mutex::default());
    let change = |thread: usize| {
        let mut expected: HashMap<String, Possible> = HashMap::new();
        for n in 0..CHANGES / THREADS {
            // Of five changes, three add, one changes and one deletes what was added before.
            let (back, wanted) = match n % 5 {
                3 => (1, Some(&echoes[1])),
                4 => (2, None),
                _ => (0, Some(&echoes[0])),
            };
            let spec = format!("/t{thread}/{}/", n - back);
            let outcome = match wanted {
                Some(echo) => router.add_route(&spec, echo.url(), json!({"n": n})),
                None => router.delete_route(&spec),
            };
            let before = expected.remove(&spec).unwrap_or(vec![None]);
            let wanted = wanted.map(|echo| echo.port);
            expected.insert(spec, after(outcome.map(drop), before, wanted, &reported));
            done.fetch_add(1, Ordering::Relaxed);
        }
        expected
    };
    let mut expected = HashMap::new();
    std::thread::scope(|scope| {
        let change = &change;
        let threads: Vec<_> = (0..THREADS)
            .map(|n| scope.spawn(move || change(n)))
            .collect();
        for part in 1..=4 {
            eventually("a twelfth of the changes", || {
                done.load(Ordering::Relaxed) > part * CHANGES / 12
            });
        }
        let leader = cluster.leader();
        cluster.kill(leader);
        threads
            .into_iter()
            .for_each(|thread| expected.extend(thread.join().unwrap()));
    });
    for error in &*reported.lock().unwrap() {
        println!("reported: {error}");
        assert!(error.contains("127.0.0.1"), "{error}");
    }
    router
        .add_route("/last/", echoes[0].url(), json!(null))
        .unwrap();
    for rig in [&one, &two] {
        for (spec, possible) in &expected {
            let landed = rig.landed("h", spec);
            assert!(
                possible.contains(&landed),
                "{spec}: {landed:?}, not {possible:?}"
            );
        }
    }
    check_all_served(&router, &[&one, &two]);
    let routes = router.get_all_routes().unwrap().len();
    let of = |part: &str| {
        let keys = cluster
            .client()
            .get_prefix(format!("traefik/http/routers/{part}"))
            .unwrap();
        keys.kvs
            .iter()
            .filter(|pair| pair.key.ends_with(b"/rule"))
            .count()
    };
    let parents = cluster
        .client()
        .get_prefix("jupyterhub/traefik-router/parents/")
        .unwrap();
    let others = parents.kvs.len() + 2;
    assert_eq!(
        of(""),
        routes + others,
        "the parents, the API's, and the generation's"
    );
    assert!(routes >= CHANGES * 2 / 5, "{routes}");
}

#[test]
fn reconcile_restores_a_lost_table() {
    let mut cluster = Cluster::start(&ETCD.path());
    let rig = Rig::new(Kind::Toml);
    let echo = Echo::start();
    let etcd = routes_in(&cluster).timeout(Duration::from_secs(1));
    let router = rig.builder_over(KvBackend::new(etcd)).start().unwrap();
    let desired: Vec<_> = (0..50)
        .map(|n| {
            Route::new(format!("/{n}/"), echo.url())
                .unwrap()
                .data(json!(n))
        })
        .collect();
    router.reconcile(desired.clone()).unwrap();

    cluster.kill(0);
    std::thread::sleep(Duration::from_secs(5));
    for outcome in [
        router
            .add_route("/down/", echo.url(), json!(null))
            .map(drop),
        router.get_all_routes().map(drop),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(*error.stored(), Stored::Nothing, "{error}");
        assert!(error.to_string().contains(cluster.url()), "{error}");
    }
    assert_eq!(rig.landed("h", "/7/"), Some(echo.port), "Traefik goes on");
    cluster.restart(0);
    router.add_route("/up/", echo.url(), json!(null)).unwrap();
    assert_eq!(rig.landed("h", "/up/"), Some(echo.port));

    cluster.restore_empty(0);
    let error = router.get_all_routes().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    for says in ["jupyterhub", "is gone", "set all routes anew"] {
        assert!(error.to_string().contains(says), "{error}");
    }
    let done = router.reconcile(desired.clone()).unwrap();
    assert_eq!(done.added.len(), desired.len());
    assert_eq!(router.get_all_routes().unwrap().len(), desired.len());
    check_all_served(&router, &[&rig]);
    assert_eq!(rig.landed("h", "/up/"), None, "it was not asked for again");
    router.add_route("/up/", echo.url(), json!(null)).unwrap();
    assert_eq!(rig.landed("h", "/up/"), Some(echo.port));
    router.stop().unwrap();
}

#[test]
fn restored_backup_needs_a_reconcile() {
    let mut cluster = Cluster::start(&ETCD.path());
    let rig = Rig::new(Kind::Toml);
    let echo = Echo::start();
    let etcd = || KvBackend::new(routes_in(&cluster).timeout(Duration::from_secs(1)));
    let router = rig.builder_over(etcd()).start().unwrap();
    let stranger = etcd();
    let route = |n: usize| {
        Route::new(format!("/{n}/"), echo.url())
            .unwrap()
            .data(json!(n))
    };
    router.reconcile((0..20).map(route)).unwrap();
    cluster.back_up(0);
    let desired: Vec<_> = (10..50).map(route).collect();
    router.reconcile(desired.clone()).unwrap();
    for n in 0..20 {
        router.add_route("/changed/", echo.url(), json!(n)).unwrap();
    }
    cluster.restore(0);
    for outcome in [
        router.get_all_routes().map(drop),
        router.get_route("/10/").map(drop),
        router.add_route("/new/", echo.url(), json!(null)).map(drop),
        router.delete_route("/10/").map(drop),
        router.get_all_routes().map(drop),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert_eq!(*error.stored(), Stored::Nothing, "{error}");
        for says in ["went back", "Set all routes anew"] {
            assert!(error.to_string().contains(says), "{error}");
        }
    }
    assert_eq!(stranger.read().unwrap().len(), 20, "nothing was written");
    // What is stored is served again.
    let table = stranger.read().unwrap();
    router.repair().unwrap();
    assert_eq!(router.get_all_routes().unwrap(), table);
    check_all_served(&router, &[&rig]);
    let done = router.reconcile(desired.clone()).unwrap();
    assert_eq!((done.added.len(), done.deleted.len()), (30, 10));
    assert_eq!(router.get_all_routes().unwrap().len(), desired.len());
    check_all_served(&router, &[&rig]);
    assert_eq!(rig.landed("h", "/3/"), None);
    router.add_route("/new/", echo.url(), json!(null)).unwrap();
    assert_eq!(rig.landed("h", "/new/"), Some(echo.port));
    router.stop().unwrap();
}

#[test]
fn traefik_ahead_needs_a_restart() {
    let mut cluster = Cluster::start(&ETCD.path());
    let rig = Rig::new(Kind::Toml);
    let echo = Echo::start();
    let builder = || {
        let etcd = routes_in(&cluster).timeout(Duration::from_secs(1));
        let etcd = KvBackend::new(etcd.catch_up_timeout(Duration::ZERO));
        let builder = rig.builder_over(etcd);
        builder.check_route_timeout(Duration::from_secs(2))
    };
    let (router, again) = (builder().start().unwrap(), builder());
    router.add_route("/a/", echo.url(), json!(0)).unwrap();
    cluster.back_up(0);
    for n in 1..200 {
        router.add_route("/a/", echo.url(), json!(n)).unwrap();
    }
    cluster.restore(0);
    // One that knows nothing of the later state.
    let error = again.attach().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotLoaded, "{error}");
    for says in [&*rig.api_url(), "earlier state", "restart"] {
        assert!(error.to_string().contains(says), "{error}");
    }
    let error = router.reconcile([]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotLoaded, "{error}");
    for says in [&*rig.api_url(), "restart"] {
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn catch_up_timeout_is_respected() {
    let mut cluster = Cluster::start(&ETCD.path());
    for (limit, makes_up) in [(Duration::ZERO, false), (Duration::from_secs(60), true)] {
        let etcd = Etcd::new(cluster.urls()).unwrap().catch_up_timeout(limit);
        let router = Router::builder(KvBackend::new(etcd)).offline().unwrap();
        for n in 0..50 {
            router.add_route("/a/", "http://h", json!(n)).unwrap();
        }
        let revision = |cluster: &Cluster| cluster.client().status().unwrap().revision;
        let before = revision(&cluster);
        cluster.restore_empty(0);
        router.add_route("/b/", "http://h", json!(null)).unwrap();
        assert_eq!(revision(&cluster) > before, makes_up, "{limit:?}");
    }
}
