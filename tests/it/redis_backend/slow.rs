//! A Redis that answers late.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kit::eventually;
use kit::redis::Server;
use serde_json::json;
use traefik_router::backend::KvStore as _;
use traefik_router::{ErrorKind, KvBackend, Router, Stored};

use super::{SECOND, check, offline, redis, stored};

fn pause(server: &Server, time: Duration) {
    let millis = time.as_millis().to_string();
    server.run(&["CLIENT", "PAUSE", &millis, "ALL"]);
}

#[test]
fn slow_redis_is_waited_for() {
    let server = Server::start(&["--save", ""]);
    let routers = [(); 2].map(|()| offline(redis(server.url()).timeout(20 * SECOND)));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers = routers.each_ref().map(|router| {
            scope.spawn(move || {
                for n in 0..10 {
                    let spec = format!("/{router:p}/{n}/");
                    router.add_route(&spec, "http://h", json!(n)).unwrap();
                    assert!(router.get_route(&spec).unwrap().is_some());
                }
            })
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                pause(&server, Duration::from_millis(100));
                std::thread::sleep(Duration::from_millis(150));
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(stored(&server).len(), 20);
}

/// A new connection needs several answers. They are sent together, so that one time-out ends the wait for all.
#[test]
fn hanging_redis_costs_one_timeout() {
    let server = Server::start(&["--save", "", "--requirepass", "p"]);
    let store = redis(server.url()).user("default", "p").database(1);
    let store = store.timeout(2 * SECOND);
    server.freeze(true);
    for _ in 0..2 {
        let begun = Instant::now();
        let error = store.get("k").unwrap_err();
        let says = "did not answer within 2s";
        check(&error, ErrorKind::Unavailable, &Stored::Nothing, says);
        assert!(begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
    }
    server.freeze(false);
    assert_eq!(store.get("k").unwrap(), None);
    server.freeze(true);
    let begun = Instant::now();
    store.get("k").unwrap_err();
    assert!(begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
    server.freeze(false);
}

#[test]
fn late_answer_is_an_error() {
    let server = Server::start(&["--save", ""]);
    let backend = KvBackend::new(redis(server.url())).conflict_timeout(SECOND);
    let router = Router::builder(backend).offline().unwrap();
    router.add_route("/a/", "http://h", json!(1)).unwrap();
    pause(&server, 8 * SECOND);
    let begun = Instant::now();
    let error = router.add_route("/b/", "http://h", json!(1)).unwrap_err();
    let says = "did not answer within 1s";
    check(&error, ErrorKind::Unavailable, &Stored::Unknown, says);
    let error = router.get_route("/a/").unwrap_err();
    check(&error, ErrorKind::Unavailable, &Stored::Nothing, says);
    assert!(begun.elapsed() < 8 * SECOND);
    eventually("it goes on", || {
        server
            .try_run(&["PING"])
            .is_some_and(|said| said == "+PONG")
    });
    router.add_route("/b/", "http://h", json!(2)).unwrap();
    router.add_route("/c/", "http://h", json!(1)).unwrap();
    let route = router.get_route("/b/").unwrap().unwrap();
    assert_eq!(route.data, json!(2));
    assert_eq!(stored(&server), ["/a/", "/b/", "/c/"]);
}
