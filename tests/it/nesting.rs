//! Routers below others: the same requests reach the same targets, and none is lost when the
//! layout changes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use traefik_router::{Change, Nested, Route, Router};

use crate::routing::{request, spec};
use crate::support::{Echo, Kind, Rig, client, on_each_backend};

on_each_backend! {
    both_layouts_send_requests_to_the_same_target,
    a_table_that_grows_and_shrinks_loses_no_request,
    another_router_finds_the_same_parents,
    routers_below_others_keep_their_names_and_leave_nothing_behind,
}

fn auto(rig: &Rig) -> Router {
    let builder = rig.builder().nested_routers(Nested::Auto);
    builder.start().unwrap()
}

fn users(count: usize, echo: &Echo) -> impl Iterator<Item = Change> {
    let change = move |n| Change::add(format!("/user/n{n}/"), echo.url(), ()).unwrap();
    (0..count).map(change)
}

fn both_layouts_send_requests_to_the_same_target(kind: Kind) {
    let rigs = [Rig::new(kind), Rig::new(kind)];
    let start = |(rig, nested): (&Rig, _)| rig.builder().nested_routers(nested).start().unwrap();
    let [flat, tree] = [(&rigs[0], Nested::Never), (&rigs[1], Nested::Always)].map(start);
    let echoes: Vec<_> = (0..40).map(|_| Echo::start()).collect();
    let cases = (
        proptest::collection::btree_set(spec(), 20..=echoes.len()),
        any::<bool>(),
        proptest::collection::vec(request(), 60),
    );
    let config = Config {
        cases: 12,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&cases, |(specs, root, requests)| {
        let root = root.then(|| "/".to_string());
        let routes = || {
            let specs = root.iter().chain(&specs).zip(&echoes);
            specs.map(|(spec, echo)| Route::new(spec, echo.url(), ()).unwrap())
        };
        flat.reconcile(routes()).unwrap();
        tree.reconcile(routes()).unwrap();
        for (host, path) in &requests {
            let [one, other] = [&rigs[0], &rigs[1]].map(|rig| {
                let answer = rig.get(host, path);
                (answer.status, answer.landed())
            });
            prop_assert_eq!(one, other, "{}{} in {:?} {:?}", host, path, root, specs);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    for rig in &rigs {
        assert_eq!(rig.api().refused_routers().unwrap(), []);
    }
}

fn a_table_that_grows_and_shrinks_loses_no_request(kind: Kind) {
    let rig = Rig::new(kind);
    let builder = match kind {
        // So that it takes many transactions.
        Kind::Etcd => rig.builder_over(rig.etcd_of(|etcd| etcd.max_bytes(20_000))),
        _ => rig.builder(),
    };
    let router = builder.nested_routers(Nested::Auto).start().unwrap();
    let (hub, untouched, others) = (Echo::start(), Echo::start(), Echo::start());
    let add = |spec, echo: &Echo| Change::add(spec, echo.url(), ()).unwrap();
    let kept = [
        ("/", &hub),
        ("/user/", &hub),
        ("/user/n1/", &untouched),
        ("/user/n10/", &untouched),
        ("/user/n333/", &untouched),
    ];
    router
        .apply(kept.map(|(spec, echo)| add(spec, echo)))
        .unwrap();
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (path, echo) in [
                    ("/user/n1/x", &untouched),
                    ("/user/n1", &untouched),
                    ("/user/n10", &untouched),
                    ("/user/n333/q", &untouched),
                    ("/user/nobody", &hub),
                    ("/", &hub),
                ] {
                    let landed = client::get(rig.web, "h", path).landed();
                    assert_eq!(landed, Some(echo.port), "{path}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for count in [150, 250, 150, 1_500, 0] {
            let kept = kept.map(|(spec, echo)| Route::new(spec, echo.url(), ()).unwrap());
            let users = (2..count).filter(|n| ![10, 333].contains(n));
            let users = users.map(|n| format!("/user/n{n}/"));
            let users = users.map(|spec| Route::new(spec, others.url(), ()).unwrap());
            router.reconcile(users.chain(kept)).unwrap();
            if count > 0 {
                let last = format!("/user/n{}/", count - 1);
                assert_eq!(rig.landed("h", &last), Some(others.port));
            }
        }
        for n in 2..12 {
            router.apply(users(190 + n, &others).skip(11)).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(asked.into_inner() > 100);
    assert_eq!(rig.api().refused_routers().unwrap(), []);
}

/// The layout follows from the table, so that programs which share it agree.
fn another_router_finds_the_same_parents(kind: Kind) {
    let rig = Rig::new(kind);
    let router = auto(&rig);
    let (hub, one, other) = (Echo::start(), Echo::start(), Echo::start());
    router.add_route("/", hub.url(), ()).unwrap();
    router.apply(users(300, &one)).unwrap();
    let second = rig.builder().attach().unwrap();
    second.apply(users(40, &other).skip(20)).unwrap();
    second.add_route("/user/zoe/", other.url(), ()).unwrap();
    router.delete_route("/user/n299/").unwrap();
    router.add_route("/", other.url(), ()).unwrap();
    for (path, echo) in [
        ("/user/n10/", &one),
        ("/user/n30/", &other),
        ("/user/zoe/", &other),
        ("/user/n299/", &other),
        ("/elsewhere", &other),
    ] {
        assert_eq!(rig.landed("h", path), Some(echo.port), "{path}");
    }
    assert_eq!(rig.api().refused_routers().unwrap(), []);
}

fn routers_below_others_keep_their_names_and_leave_nothing_behind(kind: Kind) {
    let rig = Rig::new(kind);
    let router = auto(&rig);
    let echo = Echo::start();
    let names = || {
        let routers = rig.api().routers().unwrap();
        let ours = routers
            .into_iter()
            .filter(|router| router.name.contains("-user-"));
        let mut names: Vec<_> = ours.map(|router| router.name).collect();
        names.sort();
        names
    };
    router.apply(users(300, &echo)).unwrap();
    let flat = names();
    assert_eq!(flat.len(), 300);
    router.add_route("/", echo.url(), ()).unwrap();
    let nested = names();
    assert!(flat.iter().all(|name| nested.contains(name)));
    let parents: Vec<_> = nested.iter().filter(|name| !flat.contains(name)).collect();
    assert!(
        parents.iter().any(|name| name.contains("-all-user-n1")),
        "{parents:?}"
    );
    router.delete_route("/").unwrap();
    assert_eq!(names(), flat);
    router.reconcile([]).unwrap();
    assert!(names().is_empty());
    assert!(!rig.rules_text().contains("-all-user-n"));
}
