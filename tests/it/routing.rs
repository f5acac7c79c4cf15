//! Which requests reach which target.

use std::cell::Cell;

use kit::Echo;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::json;
use traefik_router::{Change, ErrorKind, Nested, Route, Router};

use crate::support::{Kind, Rig, on_each_backend, on_push, on_redis};

/// Makes the tests twice: with routers side by side, and below others wherever that can be.
macro_rules! on_both_layouts {
    ($($name:ident),* $(,)?) => {
        on_each_backend!($($name),*);
        on_push!($($name),*);
        mod nested {
            use super::{LAYOUT, Nested};
            use crate::support::Kind;

            $crate::support::on_each_backend!($($name),*);
            $crate::support::on_push!($($name),*);
            $(fn $name(kind: Kind) {
                LAYOUT.set(Nested::Always);
                super::$name(kind);
            })*
        }
    };
}

on_both_layouts! {
    every_routespec_kind_works,
    longest_prefix_wins,
    reserved_characters_match_both_forms,
    encoded_slash_is_no_slash,
    hosts_come_before_paths,
    target_path_is_prepended,
    change_is_served_on_return,
    reconcile_does_what_it_reports,
    thousands_of_routes_change_together,
    resolve_agrees_with_real_traefik,
    invalid_bytes_reach_nobody_else,
}

on_redis! {
    every_routespec_kind_works,
    longest_prefix_wins,
    reserved_characters_match_both_forms,
    hosts_come_before_paths,
    target_path_is_prepended,
    change_is_served_on_return,
    reconcile_does_what_it_reports,
    resolve_agrees_with_real_traefik,
    invalid_bytes_reach_nobody_else,
}

thread_local! {
    /// How the routers of this test stand.
    static LAYOUT: Cell<Nested> = const { Cell::new(Nested::Never) };
}

fn start(rig: &Rig) -> Router {
    let builder = rig.builder().nested_routers(LAYOUT.get());
    builder.start().unwrap()
}

/// Requests, by host and path, and the backend that each must reach.
#[track_caller]
fn check(rig: &Rig, expected: &[(&str, &str, Option<&Echo>)]) {
    for (host, path, echo) in expected {
        let port = echo.map(|echo| echo.port);
        assert_eq!(rig.landed(host, path), port, "{host} {path}");
    }
}

fn every_routespec_kind_works(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (start(&rig), Echo::start());
    for (spec, canonical, host, below) in [
        ("/", "/", "any", "/anything"),
        ("/abc", "/abc/", "any", "/abc/x"),
        ("/has%20space/", "/has%20space/", "any", "/has%20space/x"),
        (
            "/has space/foo/",
            "/has%20space/foo/",
            "any",
            "/has%20space/foo/",
        ),
        ("/has/@/", "/has/@/", "any", "/has/@/x"),
        (
            "/missing-trailing/slash",
            "/missing-trailing/slash/",
            "any",
            "/missing-trailing/slash",
        ),
        ("/user/Zoë/", "/user/Zo%C3%AB/", "any", "/user/Zo%C3%AB/x"),
        (
            "/日本/🦀",
            "/%E6%97%A5%E6%9C%AC/%F0%9F%A6%80/",
            "any",
            "/%e6%97%a5%e6%9c%ac/%f0%9f%a6%80/x",
        ),
        #[cfg(feature = "idn")]
        (
            "bücher.example/",
            "xn--bcher-kva.example/",
            "xn--bcher-kva.example",
            "/x",
        ),
        ("/UPPER/", "/UPPER/", "any", "/UPPER/x"),
        ("host.name", "host.name/", "host.name", "/anything"),
        ("host.name/path/", "host.name/path/", "host.name", "/path/x"),
        (
            "Other.Host/has%20space/foo/",
            "other.host/has%20space/foo/",
            "other.host",
            "/has%20space/foo/x",
        ),
    ] {
        let data = json!({"spec": spec});
        let applied = router.add_route(spec, echo.url(), data.clone()).unwrap();
        assert_eq!(applied.added.len(), 1, "{spec}");
        assert_eq!(rig.landed(host, below), Some(echo.port), "{spec}");
        let route = router.get_route(spec).unwrap().unwrap();
        assert_eq!(route.spec.as_str(), canonical);
        assert_eq!((route.target.as_str(), &route.data), (&*echo.url(), &data));
        let all = router.get_all_routes().unwrap();
        assert_eq!(all.iter().collect::<Vec<_>>(), [&route]);

        let applied = router.delete_route(spec).unwrap();
        assert_eq!(applied.deleted, std::slice::from_ref(&route.spec));
        assert_eq!(rig.landed(host, below), None, "{spec} is deleted");
        assert_eq!(router.get_route(spec).unwrap(), None);
        assert!(router.get_all_routes().unwrap().is_empty());
    }
    let applied = router.delete_route("/never/was/").unwrap();
    assert!(applied.deleted.is_empty());
}

fn longest_prefix_wins(kind: Kind) {
    let rig = Rig::new(kind);
    let router = start(&rig);
    let [root, x, xy, long] = [(); 4].map(|()| Echo::start());
    let changes = [
        ("/", &root),
        ("/x", &x),
        ("/x/y/", &xy),
        ("/x/y/z z/deep/er/", &long),
    ];
    router
        .apply(changes.map(|(spec, echo)| Change::set(spec, echo.url()).unwrap()))
        .unwrap();
    check(
        &rig,
        &[
            ("h", "/", Some(&root)),
            ("h", "/xy", Some(&root)),
            ("h", "/xy/", Some(&root)),
            ("h", "/x", Some(&x)),
            ("h", "/x/", Some(&x)),
            ("h", "/x?y=/x/y/", Some(&x)),
            ("h", "/x/yy", Some(&x)),
            ("h", "/x/y", Some(&xy)),
            ("h", "/x/y/", Some(&xy)),
            ("h", "/x/y/z%20z/deep", Some(&xy)),
            ("h", "/x/y/z%20z/deep/er", Some(&long)),
            ("h", "/x/y/z%20z/deep/er/est", Some(&long)),
            ("h", "/X/y", Some(&root)),
        ],
    );
    router.delete_route("/x/y/").unwrap();
    check(
        &rig,
        &[
            ("h", "/x/y/", Some(&x)),
            ("h", "/x/y/z%20z/deep/er", Some(&long)),
        ],
    );
}

fn reserved_characters_match_both_forms(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, root, echo) = (start(&rig), Echo::start(), Echo::start());
    router.add_route("/", root.url(), json!(null)).unwrap();

    router
        .add_route("/user/a@b/", echo.url(), json!(null))
        .unwrap();
    check(
        &rig,
        &[
            ("h", "/user/a@b/", Some(&echo)),
            ("h", "/user/a%40b/x", Some(&echo)),
            ("h", "/user/a@b", Some(&echo)),
            ("h", "/user/a%40b", Some(&echo)),
            ("h", "/user/a/", Some(&root)),
            ("h", "/user/a@bc/", Some(&root)),
        ],
    );

    let plain = "!$&'()*+,:;=@[]";
    let encoded: Vec<_> = plain.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mixed: String = plain
        .chars()
        .zip(&encoded)
        .enumerate()
        .map(|(n, (char, triple))| {
            if n % 2 == 0 {
                char.to_string()
            } else {
                triple.to_lowercase()
            }
        })
        .collect();
    router
        .add_route(format!("/user/n{plain}/"), echo.url(), json!(null))
        .unwrap();
    for form in [plain, &encoded.concat(), &mixed] {
        check(
            &rig,
            &[
                ("h", &format!("/user/n{form}"), Some(&echo)),
                ("h", &format!("/user/n{form}/x"), Some(&echo)),
                ("h", &format!("/user/n{form}x"), Some(&root)),
            ],
        );
    }
    // Each by itself, too: up to two of them are spelled out, more become an expression.
    for (char, triple) in plain.chars().zip(&encoded) {
        router
            .add_route(format!("/one/{char}/"), echo.url(), json!(null))
            .unwrap();
        check(
            &rig,
            &[
                ("h", &format!("/one/{char}/x"), Some(&echo)),
                ("h", &format!("/one/{triple}"), Some(&echo)),
            ],
        );
        router.delete_route(format!("/one/{triple}")).unwrap();
        check(&rig, &[("h", &format!("/one/{char}/x"), Some(&root))]);
    }

    router
        .add_route("/q/a%23b%3Fc%25d/", echo.url(), json!(null))
        .unwrap();
    check(
        &rig,
        &[
            ("h", "/q/a%23b%3Fc%25d/x", Some(&echo)),
            ("h", "/q/a%23b%3fc%25d", Some(&echo)),
            ("h", "/q/a?b", Some(&root)),
        ],
    );
}

fn encoded_slash_is_no_slash(kind: Kind) {
    let rig = Rig::new(kind);
    let router = start(&rig);
    let [inside, between] = [(); 2].map(|()| Echo::start());
    router
        .add_route("/a%2Fb/", inside.url(), json!(null))
        .unwrap();
    check(
        &rig,
        &[("h", "/a%2Fb/", Some(&inside)), ("h", "/a/b/", None)],
    );
    router
        .add_route("/a/b/", between.url(), json!(null))
        .unwrap();
    check(
        &rig,
        &[
            ("h", "/a%2Fb/", Some(&inside)),
            ("h", "/a%2fb/x", Some(&inside)),
            ("h", "/a%2Fb", Some(&inside)),
            ("h", "/a/b/", Some(&between)),
            ("h", "/a/b/x", Some(&between)),
        ],
    );
    let echo = rig.get("h", "/a%2Fb/x%2Fy?q=1").echo();
    assert_eq!(echo["path"], "/a%2Fb/x%2Fy?q=1");
}

fn hosts_come_before_paths(kind: Kind) {
    let rig = Rig::new(kind);
    let router = start(&rig);
    let [long, host, hosted, v6] = [(); 4].map(|()| Echo::start());
    let changes = [
        (
            "/a/very/long/path/that/is/longer/than/any/host/name/",
            &long,
        ),
        ("Host.Name/", &host),
        ("host.name/x/", &hosted),
        ("[::1]/", &v6),
    ];
    router
        .apply(changes.map(|(spec, echo)| Change::set(spec, echo.url()).unwrap()))
        .unwrap();
    check(
        &rig,
        &[
            ("host.name", "/", Some(&host)),
            ("HOST.name", "/y", Some(&host)),
            ("host.name:8000", "/", Some(&host)),
            ("host.name", "/x", Some(&hosted)),
            ("host.name", "/x/y", Some(&hosted)),
            ("host.name", "/xy", Some(&host)),
            (
                "host.name",
                "/a/very/long/path/that/is/longer/than/any/host/name/x",
                Some(&host),
            ),
            (
                "other.name",
                "/a/very/long/path/that/is/longer/than/any/host/name/x",
                Some(&long),
            ),
            ("other.name", "/", None),
            ("sub.host.name", "/", None),
            ("[::1]", "/", Some(&v6)),
            ("[::1]:8000", "/y", Some(&v6)),
        ],
    );
}

fn target_path_is_prepended(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (start(&rig), Echo::start());
    let target = format!("{}/base/b%20c/", echo.url());
    router.add_route("/user/zoe/", target, json!(null)).unwrap();
    let received = rig.get("h", "/user/zoe/x%20y?q=1").echo();
    assert_eq!(received["path"], "/base/b%20c/user/zoe/x%20y?q=1");
    router
        .add_route("/user/zoe/", echo.url(), json!(null))
        .unwrap();
    let received = rig.get("h", "/user/zoe/x?q=1").echo();
    assert_eq!(received["path"], "/user/zoe/x?q=1");
}

fn change_is_served_on_return(kind: Kind) {
    let rig = Rig::new(kind);
    let router = start(&rig);
    let echoes = [(); 2].map(|()| Echo::start());
    for round in 0..20 {
        let echo = &echoes[round % 2];
        router
            .add_route("/turns/", echo.url(), json!(round))
            .unwrap();
        check(&rig, &[("h", "/turns/", Some(echo))]);
        if round % 5 == 4 {
            router.delete_route("/turns").unwrap();
            check(&rig, &[("h", "/turns/", None)]);
        }
    }
}

fn reconcile_does_what_it_reports(kind: Kind) {
    let rig = Rig::new(kind);
    let router = start(&rig);
    let [old, new] = [(); 2].map(|()| Echo::start());
    let route = |spec: &str, echo: &Echo| Route::new(spec, echo.url()).unwrap();
    router
        .reconcile([
            route("/keep/", &old),
            route("/change/", &old),
            route("/stale/", &old),
        ])
        .unwrap();
    let applied = router
        .reconcile([
            route("/keep/", &old),
            route("/change/", &new),
            route("/add/", &new),
        ])
        .unwrap();
    let specs = |specs: &[traefik_router::RouteSpec]| {
        specs.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(specs(&applied.added), ["/add/"]);
    assert_eq!(specs(&applied.changed), ["/change/"]);
    assert_eq!(specs(&applied.deleted), ["/stale/"]);
    check(
        &rig,
        &[
            ("h", "/keep/", Some(&old)),
            ("h", "/change/", Some(&new)),
            ("h", "/add/", Some(&new)),
            ("h", "/stale/", None),
        ],
    );
}

fn thousands_of_routes_change_together(kind: Kind) {
    const ROUTES: usize = 2_000;
    let rig = Rig::new(kind);
    let router = start(&rig);
    let [old, new] = [(); 2].map(|()| Echo::start());
    let routes = |echo: &Echo| {
        let route = |n| {
            Route::new(format!("/n/{n}/"), echo.url())
                .unwrap()
                .data(json!(n))
        };
        (0..ROUTES).map(route).collect::<Vec<_>>()
    };
    for echo in [&old, &new] {
        router.reconcile(routes(echo)).unwrap();
        for n in [0, 1, ROUTES / 2, ROUTES - 1] {
            assert_eq!(
                rig.landed("h", &format!("/n/{n}/x")),
                Some(echo.port),
                "{n}"
            );
        }
    }
    assert_eq!(router.reconcile([]).unwrap().deleted.len(), ROUTES);
    assert_eq!(rig.landed("h", "/n/0/x"), None);
}

fn resolve_agrees_with_real_traefik(kind: Kind) {
    let rig = Rig::new(kind);
    let router = start(&rig);
    let echoes: Vec<_> = (0..6).map(|_| Echo::start()).collect();
    let cases = (
        proptest::collection::vec(spec(), 1..=echoes.len()),
        proptest::collection::vec(request(), 25),
    );
    let config = Config {
        cases: 25,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&cases, |(specs, requests)| {
        let routes = specs.iter().zip(&echoes);
        let routes = routes.map(|(spec, echo)| Route::new(spec, echo.url()).unwrap());
        router.reconcile(routes).unwrap();
        for (host, path) in requests {
            let expected = router.resolve(&host, &path).unwrap();
            let expected = expected.map(|route| route.target.to_string());
            let answer = rig.get(&host, &path);
            let landed = match answer.status {
                200 | 404 => answer
                    .landed()
                    .map(|port| format!("http://127.0.0.1:{port}")),
                status => return Err(TestCaseError::fail(format!("{host}{path}: {status}"))),
            };
            prop_assert_eq!(landed, expected, "{}{} in {:?}", host, path, specs);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

fn invalid_bytes_reach_nobody_else(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (start(&rig), Echo::start());
    let specs = [
        "/user/a@b:c!\u{fffd}/",
        "/user/a@b:c!é/",
        "/user/a@\u{fffd}/",
        "/user/\u{fffd}/",
        "/user/\u{fffd}x/",
        "/user/é/",
        "h.x/\u{fffd}/",
    ];
    let unknown = [
        &b"%FF"[..],
        b"\xff",
        b"%EF%BF",
        b"\xef\xbf",
        b"%80",
        b"%c3",
        b"%ED%A0%80",
    ];
    for spec in specs {
        let refused = match router.add_route(spec, echo.url(), json!(null)) {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidRoute, "{error}");
                assert!(error.to_string().contains(spec), "{error}");
                true
            }
        };
        // A character that needs an expression, though no expression matches it alone.
        assert_eq!(refused, spec.contains(":c!\u{fffd}"), "{spec}");
    }
    let path = |spec: &str| spec[spec.find('/').unwrap()..].to_string();
    for spec in specs {
        let host = if spec.starts_with('/') {
            "other"
        } else {
            "h.x"
        };
        let own = path(spec);
        let asked = own.replace('\u{fffd}', "%EF%BF%BD").replace('é', "%C3%A9");
        let expected = router.resolve(host, &asked).unwrap().map(|_| echo.port);
        assert_eq!(rig.landed(host, &asked), expected, "{spec}");
        for unknown in unknown {
            let (before, after) = own.split_once(['\u{fffd}', 'é']).unwrap();
            let path = [before.as_bytes(), unknown, after.as_bytes()].concat();
            let answer = rig.send(host.as_bytes(), &path);
            assert_eq!(
                answer.status,
                404,
                "{spec} {:?}",
                path.escape_ascii().to_string()
            );
            if let Ok(path) = std::str::from_utf8(&path) {
                assert_eq!(router.resolve(host, path).unwrap(), None, "{path}");
            }
        }
    }
    // No host has such a byte: Traefik refuses the request.
    for host in [
        &b"h.x\xff"[..],
        b"\xefh.x",
        "h.x\u{fffd}".as_bytes(),
        b"h.x%FF",
    ] {
        let answer = rig.send(host, "/\u{fffd}/".as_bytes());
        assert!([400, 404].contains(&answer.status), "{host:?}: {answer:?}");
    }
}

const SEGMENTS: [&str; 14] = [
    "a", "b", "ab", "@", "%40", "a%2Fb", "(b)", "a:b,c;d", "%C3%A9", "x%20y", "%25", "%3Fa", "A",
    "~",
];

fn path(more: &'static [&'static str]) -> impl Strategy<Value = String> {
    let segments: Vec<_> = SEGMENTS.iter().chain(more).copied().collect();
    let segments = proptest::collection::vec(proptest::sample::select(segments), 0..4);
    (segments, any::<bool>()).prop_map(|(segments, slash)| {
        let path: String = segments
            .iter()
            .map(|segment| format!("/{segment}"))
            .collect();
        if slash || path.is_empty() {
            path + "/"
        } else {
            path
        }
    })
}

pub(crate) fn spec() -> impl Strategy<Value = String> {
    let host = proptest::sample::select(vec!["", "", "", "h.x", "other.x", "*.x"]);
    (host, path(&[])).prop_map(|(host, path)| format!("{host}{path}"))
}

pub(crate) fn request() -> impl Strategy<Value = (String, String)> {
    let host = proptest::sample::select(vec!["h.x", "H.X:80", "other.x", "none.x", "a.none.x"]);
    let path = path(&["", ".", "..", "%2e%2E", "%c3%a9", "a%2fb", "%7E", "%61"]);
    (host.prop_map(String::from), path)
}

#[test]
fn odd_hosts_follow_resolve() {
    let rig = Rig::new(Kind::Toml);
    let (router, name, v6) = (start(&rig), Echo::start(), Echo::start());
    router.add_route("h.x/", name.url(), json!(null)).unwrap();
    router.add_route("[::1]/", v6.url(), json!(null)).unwrap();
    let any = Echo::start();
    router.add_route("*.x/", any.url(), json!(null)).unwrap();
    router.add_route("*.0.1/", any.url(), json!(null)).unwrap();
    for host in [
        "g.x",
        "G.X.:80",
        ".x",
        "..x",
        "x",
        "a~b!c.x",
        "a.g.x",
        "g.x..",
        "*.x",
        "[::1].x",
        "[g.x]",
        "127.0.0.1",
        "1.0.1",
        "[::1.0.0.1]",
        "::ffff:1.0.0.1",
        "[::1.0.1]",
        "h.x:",
        "h.x:8N",
        "h.x.",
        "h.x.:80",
        "h.x:1:2",
        "[h.x]",
        "[h.x]:80",
        ":h.x",
        "h.x]:80",
        "::1",
        "::1:80",
        "[::1]:",
        "[::1]:8N",
        "[::1]8",
        "[::1]:8:9",
        "[[::1]]",
        "[::1]]:80",
        "x[::1]:80",
        "[::1",
        "::1]",
        "[0::1]",
        "h.x:80]",
    ] {
        let answer = rig.get(host, "/");
        // Where Traefik finds no host in it, it is nobody's.
        let landed = match answer.status {
            400 => None,
            _ => answer.landed(),
        };
        let expected = router.resolve(host, "/").unwrap();
        let expected = expected.map(|route| route.target.to_string());
        let landed = landed.map(|port| format!("http://127.0.0.1:{port}"));
        assert_eq!(landed, expected, "{host}");
    }
}

#[test]
fn invalid_routes_are_refused() {
    let rig = Rig::new(crate::support::Kind::Toml);
    let router = start(&rig);
    let before = rig.rules_text();
    for (spec, target) in [
        ("", "http://127.0.0.1:1"),
        ("/a//b/", "http://127.0.0.1:1"),
        ("/a/../b/", "http://127.0.0.1:1"),
        ("host:80/", "http://127.0.0.1:1"),
        ("/ok/", "ftp://127.0.0.1:1"),
        ("/ok/", "http://"),
        ("/ok/", "127.0.0.1:1"),
        ("/ok/", "unix:///run/x"),
        ("/ok/", "http://127.0.0.1:99999"),
    ] {
        let error = router.add_route(spec, target, json!(null)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRoute, "{spec} {target}");
    }
    assert_eq!(rig.rules_text(), before);
}
