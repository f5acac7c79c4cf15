//! Transactions larger than etcd takes.

use kit::Proxy;
use kit::etcd::Cluster;
use kit::tools::{ETCD, etcds};
use serde_json::json;
use traefik_router::{Change, ErrorKind, Etcd, KvBackend, Route, Router, Stored};

use super::routes_in;

const ROUTES: usize = 40;

fn batch(bytes: usize) -> Vec<Change> {
    let data = json!("x".repeat(bytes));
    let add = |n| {
        Route::new(format!("/{n}/"), format!("http://h{n}"))
            .unwrap()
            .data(data.clone())
            .into()
    };
    (0..ROUTES).map(add).collect()
}

fn router(etcd: Etcd) -> Router {
    Router::builder(KvBackend::new(etcd)).offline().unwrap()
}

#[test]
fn known_limits_split_large_batches() {
    for binary in etcds() {
        let limits = ["--max-txn-ops", "20", "--max-request-bytes", "200000"];
        let cluster = Cluster::with(&binary, 1, &limits, None);
        let reported = || routes_in(&cluster).max_operations(20).max_bytes(150_000);
        // 40 routes are at least 200 operations, and here 400 kB.
        let done = router(reported()).apply(batch(10_000)).unwrap();
        assert_eq!(done.added.len(), ROUTES);
        assert_eq!(router(reported()).get_all_routes().unwrap().len(), ROUTES);

        let error = router(routes_in(&cluster).max_bytes(150_000))
            .reconcile([])
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert!(error.to_string().contains("max-txn-ops"), "{error}");
        let error = router(routes_in(&cluster).max_operations(20))
            .apply(batch(10_001))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert!(error.to_string().contains("max-request-bytes"), "{error}");
        assert_eq!(*error.stored(), Stored::Nothing);
        assert_eq!(
            router(reported()).reconcile([]).unwrap().deleted.len(),
            ROUTES
        );
    }
}

#[test]
fn default_limits_split_large_batches() {
    for binary in etcds() {
        let cluster = Cluster::start(&binary);
        let router = router(routes_in(&cluster));
        let before = router
            .add_route("/first/", "http://h", json!(null))
            .unwrap();
        let done = router.apply(batch(100_000)).unwrap();
        assert!(
            done.generation >= before.generation + 3,
            "4 MB in at least 3 parts"
        );
        assert_eq!(router.get_all_routes().unwrap().len(), ROUTES + 1);
        // One route is never split.
        let error = router
            .add_route("/huge/", "http://h", json!("x".repeat(2_000_000)))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert_eq!(*error.stored(), Stored::Nothing);
        // What fits comes first, and the error for the rest says what is stored.
        let mut batch = batch(50_000);
        batch.push(
            Route::new("/zz-huge/", "http://h")
                .unwrap()
                .data(json!("x".repeat(2_000_000)))
                .into(),
        );
        let error = router.apply(batch).unwrap_err();
        let Stored::Some(stored) = error.stored() else {
            panic!("{error:?}");
        };
        assert_eq!(stored.len(), ROUTES, "{error}");
        assert!(error.to_string().contains("stored 40 routes"), "{error}");
    }
}

#[test]
fn default_route_change_stays_small() {
    let cluster = Cluster::start(&ETCD.path());
    let route = |spec: &str, target| Route::new(spec, target).unwrap();
    let users = (0..5_000).map(|n| route(&format!("/user/n{n}/"), "http://h"));
    let all = users.chain([route("/", "http://hub")]);
    router(routes_in(&cluster)).reconcile(all).unwrap();

    let proxy = Proxy::new(cluster.url());
    // What does not fit goes in more than one.
    let etcd = Etcd::new([&proxy.url]).unwrap().max_bytes(8_000);
    let router = router(etcd);
    let sent = || proxy.count("POST /v3/kv/txn");
    let before = sent();
    let done = router.add_route("/", "http://new-hub", ()).unwrap();
    assert_eq!((done.changed.len(), sent() - before), (1, 1));
}
