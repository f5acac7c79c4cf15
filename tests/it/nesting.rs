//! Routers below others: the same requests reach the same targets, and none is lost when the
//! layout changes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kit::{Echo, Server, client, eventually};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use traefik_router::{Change, ErrorKind, Nested, Route, Router};

use crate::routing::{request, spec};
use crate::support::{Kind, Rig, on_each_backend, on_push};

on_each_backend! {
    both_layouts_reach_same_target,
    resized_table_loses_no_request,
    routers_agree_on_parents,
    handwritten_routers_keep_their_rank,
    invalid_bytes_are_no_characters,
    doctor_knows_parents,
    nested_routers_keep_their_names,
}

on_push! {
    both_layouts_reach_same_target,
    resized_table_loses_no_request,
    invalid_bytes_are_no_characters,
    nested_routers_keep_their_names,
}

fn auto(rig: &Rig) -> Router {
    let builder = rig.builder().nested_routers(Nested::Auto);
    builder.start().unwrap()
}

fn users(count: usize, echo: &Echo) -> impl Iterator<Item = Change> {
    let change = move |n| Change::set(format!("/user/n{n}/"), echo.url()).unwrap();
    (0..count).map(change)
}

fn both_layouts_reach_same_target(kind: Kind) {
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
            specs.map(|(spec, echo)| Route::new(spec, echo.url()).unwrap())
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

fn resized_table_loses_no_request(kind: Kind) {
    let rig = Rig::new(kind);
    let builder = match kind {
        // So that it takes many transactions.
        Kind::Etcd => rig.builder_over(rig.etcd_of(|etcd| etcd.max_bytes(20_000))),
        _ => rig.builder(),
    };
    let router = builder.nested_routers(Nested::Auto).start().unwrap();
    let (hub, untouched, others) = (Echo::start(), Echo::start(), Echo::start());
    let add = |spec, echo: &Echo| Change::set(spec, echo.url()).unwrap();
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
            let kept = kept.map(|(spec, echo)| Route::new(spec, echo.url()).unwrap());
            let users = (2..count).filter(|n| ![10, 333].contains(n));
            let users = users.map(|n| format!("/user/n{n}/"));
            let users = users.map(|spec| Route::new(spec, others.url()).unwrap());
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
fn routers_agree_on_parents(kind: Kind) {
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

/// What is behind a gate, and nothing else, comes where its routes do.
fn handwritten_routers_keep_their_rank(kind: Kind) {
    let rig = Rig::new(kind);
    let [hub, user, lobby, page, guard] = [(); 5].map(|()| Echo::start());
    let routers = [
        // Its priority is the length of its rule: less than that of any user's route.
        ("lobby", json!({"rule": "PathPrefix(`/user/`)"}), &lobby),
        // More than that of the user's route, and than that of those with shorter names.
        (
            "page",
            json!({"rule": "PathPrefix(`/user/n17/page`)"}),
            &page,
        ),
        (
            "guard",
            json!({"rule": "Path(`/user/n9/secret`)", "priority": 1000}),
            &guard,
        ),
    ];
    let mut extra = json!({});
    for (name, router, echo) in routers {
        extra["http"]["routers"][name] = router;
        extra["http"]["routers"][name]["entryPoints"] = json!(["http"]);
        extra["http"]["routers"][name]["service"] = name.into();
        let server = json!({"url": echo.url()});
        extra["http"]["services"][name]["loadBalancer"]["servers"] = json!([server]);
    }
    let builder = rig.builder().extra_dynamic_config(extra);
    let router = builder.nested_routers(Nested::Auto).start().unwrap();
    router.add_route("/", hub.url(), ()).unwrap();
    for count in [20, 300, 1_200, 20] {
        let route = |n| Route::new(format!("/user/n{n}/"), user.url()).unwrap();
        let root = Route::new("/", hub.url()).unwrap();
        router
            .reconcile((0..count).map(route).chain([root]))
            .unwrap();
        for (path, echo) in [
            ("/", &hub),
            ("/user", &hub),
            ("/user/", &lobby),
            ("/user/nobody", &lobby),
            ("/user/n1x/y", &lobby),
            ("/user/n17", &user),
            ("/user/n17/x", &user),
            ("/user/n17/page/1", &page),
            ("/user/n9/x", &user),
            ("/user/n9/secret", &guard),
        ] {
            assert_eq!(rig.landed("h", path), Some(echo.port), "{path} of {count}");
        }
    }
    assert_eq!(rig.api().refused_routers().unwrap(), []);
}

/// An expression takes any byte that is not UTF-8 for the character that stands for it.
fn invalid_bytes_are_no_characters(kind: Kind) {
    let rig = Rig::new(kind);
    let builder = rig.builder().nested_routers(Nested::Always);
    let (router, hub, user) = (builder.start().unwrap(), Echo::start(), Echo::start());
    let specs = ["/n\u{fffd}", "/na", "/nb", "/nc", "/nd", "/ne"];
    let users = specs.map(|spec| Change::set(spec, user.url()).unwrap());
    let hubs = [Change::set("/", hub.url()).unwrap()];
    router.apply(users.into_iter().chain(hubs)).unwrap();
    for (path, echo) in [
        ("/n%EF%BF%BD/x", &user),
        ("/na/x", &user),
        ("/n%FF/x", &hub),
        ("/n%FFa/x", &hub),
    ] {
        assert_eq!(rig.landed("h", path), Some(echo.port), "{path}");
    }
    assert!(rig.rules_text().contains("-all"));
}

fn doctor_knows_parents(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    let odd = json!({
        "rule": "PathPrefix(`/user/`)",
        "priority": 24,
        "entryPoints": ["http"],
        "service": "noop@internal",
    });
    let extra = json!({"http": {"routers": {"odd": odd}}});
    let router = rig.builder().extra_dynamic_config(extra).start().unwrap();
    let reported = |check: &str| -> Vec<String> {
        let findings = rig.builder().diagnose().into_iter();
        let found = findings.filter(|one| one.check == check);
        found.map(|one| one.message).collect()
    };
    router.apply(users(150, &echo)).unwrap();
    assert_eq!(reported("between"), [] as [String; 0]);
    router.apply(users(300, &echo)).unwrap();
    let between = reported("between");
    assert!(between[0].contains("a router of others"), "{between:?}");
    assert!(
        between[0].contains("(priority 24, among the routes /user/…)"),
        "{between:?}"
    );

    let rules = rig.rules_text();
    let broken = rules.replace("(?:/|$)", "(?:/|$");
    assert_ne!(rules, broken);
    rig.write_rules(&broken);
    eventually("the doctor knows", || {
        let refused = reported("routers");
        refused
            .iter()
            .any(|one| one.contains("the parent of all routes /user/…"))
    });
}

/// By default, and from 200 routes on.
fn nested_routers_keep_their_names(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    let names = || {
        let routers = rig.api().routers().unwrap();
        let ours = routers
            .into_iter()
            .filter(|router| router.name.contains("-user"));
        let mut names: Vec<_> = ours.map(|router| router.name).collect();
        names.sort();
        names
    };
    router.apply(users(199, &echo)).unwrap();
    let flat = names();
    assert_eq!(flat.len(), 199);
    router.add_route("/other/", echo.url(), ()).unwrap();
    let nested = names();
    assert!(flat.iter().all(|name| nested.contains(name)));
    let parents: Vec<_> = nested.iter().filter(|name| !flat.contains(name)).collect();
    for (begins, text) in [("gate", "-all-user@"), ("parent", "-all-user-n1@")] {
        let found = parents.iter().any(|name| name.contains(text));
        assert!(found, "no {begins} in {parents:?}");
    }
    let gate = rig.api().routers().unwrap();
    let gate = gate
        .iter()
        .find(|router| router.name.contains("-all-user@"));
    let rule = &gate.unwrap().rule;
    assert!(rule.contains("^/user/n(?:0|1|10|100|"), "{rule}");
    router.delete_route("/other/").unwrap();
    assert_eq!(names(), flat);
    router.reconcile([]).unwrap();
    assert!(names().is_empty());
    assert!(!rig.rules_text().contains("-all-user"));
}

/// The API of the Traefik at this port, but for the version that it claims to be.
fn claims_to_be(version: &'static str, port: u16) -> Server {
    Server::serve(move |mut stream| {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let head = lines.by_ref().map_while(std::io::Result::ok);
        let head: Vec<String> = head.take_while(|line| !line.is_empty()).collect();
        let request = format!("{}\r\nConnection: close\r\n\r\n", head.join("\r\n"));
        let mut traefik = TcpStream::connect(("127.0.0.1", port)).unwrap();
        traefik.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        traefik.read_to_string(&mut answer).unwrap();
        let (is, was) = (format!("\"{version}\""), "\"3.7.15\"");
        let answer = answer.replace(was, &format!("{is:>width$}", width = was.len()));
        stream.write_all(answer.as_bytes()).unwrap();
    })
}

#[test]
fn old_traefik_gets_flat_routers() {
    let rig = Rig::new(Kind::Toml);
    let (_traefik, echo) = (rig.start(), Echo::start());
    let old = claims_to_be("3.5.3", rig.api);
    let builder = || rig.builder().traefik_api_url(old.url());
    let error = builder().nested_routers(Nested::Auto).attach().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert!(error.to_string().contains("3.5.3"), "{error}");
    let router = builder().attach().unwrap();
    router.apply(users(300, &echo)).unwrap();
    assert_eq!(rig.landed("h", "/user/n7/"), Some(echo.port));
    assert!(!rig.rules_text().contains("parentRefs"));
}
