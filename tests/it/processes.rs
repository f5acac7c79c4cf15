//! Many writers: processes that share a file, threads that share a Router.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kit::{Echo, eventually};
use serde_json::{Value, json};

use traefik_router::traefik::Middleware;
use traefik_router::{Backend as _, Change, Route, RouteEvent};

use crate::support::child::{Actor, say};
use crate::support::{External, Kind, Rig, on_each_backend, on_push};

const ROUTES_EACH: usize = 60;

on_each_backend! {
    two_writers_lose_no_route,
    second_router_keeps_existing_routes,
    threads_share_commits,
    killed_writer_leaves_store_whole,
    watch_reports_changes_of_others,
    earlier_router_proves_nothing,
    early_deletion_delays_nobody,
}

on_push! {
    earlier_router_proves_nothing,
    threads_share_commits,
    early_deletion_delays_nobody,
}

fn two_writers_lose_no_route(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    let _traefik = External::start(&rig);
    let adders = ["one", "two"].map(|name| {
        Actor::start(
            "adder",
            &json!({
                "name": name,
                "rig": rig.to_json(),
                "target": echo.url(),
            }),
        )
    });
    assert!(
        adders
            .map(Actor::finish)
            .iter()
            .all(|&ended_well| ended_well)
    );
    let table = rig.backend().read().unwrap();
    assert_eq!(table.len(), 2 * ROUTES_EACH);
    for name in ["one", "two"] {
        for n in (0..ROUTES_EACH).step_by(20) {
            assert_eq!(
                rig.landed("h", &format!("/{name}/{n}/x")),
                Some(echo.port),
                "{name} {n}"
            );
        }
    }
    assert_eq!(rig.api().refused_routers().unwrap(), []);
}

/// A part for another process: adds its routes by a few threads.
pub(crate) fn add_many(arguments: &Value) {
    let text = |key: &str| arguments[key].as_str().unwrap();
    let rig = Rig::from_json(&arguments["rig"]);
    let router = rig.builder().attach().unwrap();
    let (name, target) = (text("name"), text("target"));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let router = &router;
            scope.spawn(move || {
                let mut generation = 0;
                for n in (thread..ROUTES_EACH).step_by(4) {
                    let applied = router
                        .add_route(format!("/{name}/{n}/"), target, json!({"n": n}))
                        .unwrap();
                    assert!(applied.generation > generation, "it never goes back");
                    generation = applied.generation;
                }
            });
        }
    });
}

fn second_router_keeps_existing_routes(kind: Kind) {
    let rig = Rig::new(kind);
    let [echo, other] = [(); 2].map(|()| Echo::start());
    let first = rig.start();
    first.add_route("/first/", echo.url(), json!(1)).unwrap();
    let second = rig.builder().attach().unwrap();
    assert_eq!(second.get_route("/first/").unwrap().unwrap().data, 1);
    second.add_route("/second/", echo.url(), json!(2)).unwrap();
    second.add_route("/first/", other.url(), json!(3)).unwrap();
    assert_eq!(first.get_route("/second/").unwrap().unwrap().data, 2);
    assert_eq!(first.get_route("/first/").unwrap().unwrap().data, 3);
    first.add_route("/third/", echo.url(), json!(4)).unwrap();
    second.delete_route("/second/").unwrap();
    assert_eq!(
        first.get_all_routes().unwrap(),
        second.get_all_routes().unwrap()
    );
    assert_eq!(rig.landed("h", "/first/"), Some(other.port));
    assert_eq!(rig.landed("h", "/second/"), None);
    assert_eq!(rig.landed("h", "/third/"), Some(echo.port));
    // Only the owner ends Traefik; what the other one stored is there for the next start.
    second.stop().unwrap();
    drop(second);
    assert_eq!(rig.landed("h", "/first/"), Some(other.port));
    first.stop().unwrap();
    let again = rig.start();
    assert_eq!(again.get_all_routes().unwrap().len(), 2);
    assert_eq!(rig.landed("h", "/first/"), Some(other.port));
    assert_eq!(rig.landed("h", "/third/"), Some(echo.port));
}

fn threads_share_commits(kind: Kind) {
    const THREADS: usize = 16;
    const ROUTES: usize = 20;
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    let generations = Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (router, rig, echo, generations) = (&router, &rig, &echo, &generations);
            scope.spawn(move || {
                for n in 0..ROUTES {
                    let spec = format!("/t{thread}/{n}/");
                    let applied = router.add_route(&spec, echo.url(), json!(n)).unwrap();
                    assert_eq!(applied.added[0].as_str(), spec);
                    assert!(applied.deleted.is_empty() && applied.changed.is_empty());
                    assert_eq!(rig.landed("h", &spec), Some(echo.port), "{spec}");
                    generations.lock().unwrap().insert(applied.generation);
                }
            });
        }
    });
    assert_eq!(router.get_all_routes().unwrap().len(), THREADS * ROUTES);
    let generations = generations.lock().unwrap().len();
    assert!(
        generations < THREADS * ROUTES / 2,
        "{generations} generations"
    );
}

fn killed_writer_leaves_store_whole(kind: Kind) {
    let rig = Rig::new(kind);
    let router = rig.builder().offline().unwrap();
    router
        .add_route("/stays/", "http://h", json!("x".repeat(100_000)))
        .unwrap();
    let mut most = 1;
    for round in 0..12 {
        let mut scribbler = Actor::start("scribbler", &json!({"rig": rig.to_json()}));
        assert_eq!(scribbler.hear().as_deref(), Some("scribbling"));
        std::thread::sleep(Duration::from_micros(1700 * round));
        drop(scribbler);
        let table = rig.backend().read().unwrap();
        assert!(table.len() >= most, "{} after {most}", table.len());
        most = table.len();
        let spec = traefik_router::RouteSpec::new("/stays/").unwrap();
        assert_eq!(
            table.get(&spec).unwrap().data.as_str().unwrap().len(),
            100_000
        );
    }
    assert!(most > 12, "it was killed while it wrote");
    router
        .add_route("/after/", "http://h", json!(null))
        .unwrap();
    rig.builder().offline().unwrap().apply([]).unwrap();
    if kind.is_file() {
        let rules = format!("rules.{}", kind.ending());
        assert_eq!(
            rig.files(),
            [rules.clone(), format!("{rules}.lock")],
            "no temporary file is left"
        );
    }
}

/// A part for another process: writes until it is killed.
pub(crate) fn scribble(arguments: &Value) {
    let backend = Rig::from_json(&arguments["rig"]).backend();
    let start = backend.read().unwrap().len();
    for n in start.. {
        let change = Change::set(format!("/n/{n}/"), "http://h").unwrap();
        backend
            .commit(&mut |_, _| Ok(vec![change.clone()]))
            .unwrap();
        if n == start {
            say("scribbling");
        }
    }
}

fn watch_reports_changes_of_others(kind: Kind) {
    let rig = Rig::new(kind);
    let [ours, theirs] = [(); 2].map(|()| rig.builder_over(rig.backend()).offline().unwrap());
    let mut watch = ours.watch().unwrap();
    assert_eq!(watch.next(Duration::from_millis(10)).unwrap(), []);
    theirs.add_route("/a/", "http://h", json!(1)).unwrap();
    let mut next = || watch.next(Duration::from_secs(10)).unwrap();
    let [first, second] = [1, 2].map(|n| Arc::new(Route::new("/a/", "http://h").unwrap().data(n)));
    assert_eq!(next(), [RouteEvent::Added(first.clone())]);
    theirs.add_route("/a/", "http://h", 2).unwrap();
    let (from, to) = (first, second.clone());
    assert_eq!(next(), [RouteEvent::Changed { from, to }]);
    theirs.delete_route("/a/").unwrap();
    assert_eq!(next(), [RouteEvent::Deleted(second)]);
    assert_eq!(watch.table(), &theirs.get_all_routes().unwrap());
}

fn shown_generation(rig: &Rig) -> u64 {
    let marker = |middleware: &Middleware| middleware.name.starts_with("traefik-router-generation");
    let middlewares = rig.api().middlewares().unwrap();
    let marker = middlewares.into_iter().find(marker).unwrap();
    let headers = &marker.settings["headers"]["customResponseHeaders"];
    let generation = headers["X-Traefik-Router-Generation"].as_str().unwrap();
    generation.parse().unwrap()
}

/// A router that Traefik still shows from before somebody deleted the route proves nothing.
fn earlier_router_proves_nothing(kind: Kind) {
    let rig = Rig::new(kind);
    let late = Duration::from_secs(2);
    let router = rig.builder().traefik_providers_throttle_duration(late);
    let router = router.start().unwrap();
    let other = rig.builder().offline().unwrap();
    let echo = Echo::start();
    router.add_route("/a/", echo.url(), ()).unwrap();
    router.add_route("/x/", echo.url(), ()).unwrap();
    other.delete_route("/x/").unwrap();
    let applied = router.add_route("/x/", echo.url(), ()).unwrap();
    assert_eq!(applied.added.len(), 1);
    assert!(shown_generation(&rig) >= applied.generation);
    assert_eq!(rig.landed("h", "/x/"), Some(echo.port));
}

/// A change that is overtaken before Traefik has seen it is over with the next commit.
fn early_deletion_delays_nobody(kind: Kind) {
    let rig = Rig::new(kind);
    let late = Duration::from_secs(2);
    let router = rig.builder().traefik_providers_throttle_duration(late);
    let router = router.start().unwrap();
    let other = rig.builder().offline().unwrap();
    router.add_route("/a/", "http://127.0.0.1:1", ()).unwrap();
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| router.add_route("/x/", "http://127.0.0.1:1", ()));
        eventually("stored", || other.get_route("/x/").unwrap().is_some());
        other.delete_route("/x/").unwrap();
        let applied = adding.join().unwrap().unwrap();
        assert!(shown_generation(&rig) > applied.generation);
    });
}
