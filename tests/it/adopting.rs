//! Routes that jupyterhub-traefik-proxy 2.1.0 left in a file, in etcd or in Redis; see `tests/data/make_legacy.py`.

use std::collections::BTreeMap;

use kit::Echo;
use serde_json::{Value, json};
use traefik_router::Backend as _;

use crate::support::{Kind, Rig, on_each_backend, on_each_file, on_redis};

on_each_file! {
    jupyterhub_traefik_proxys_routes_work,
    concurrently_written_routes_are_seen,
}

on_each_backend!(
    etcd,
    crate::support::Kind::Etcd,
    jupyterhub_traefik_proxys_routes_work
);

on_redis!(jupyterhub_traefik_proxys_routes_work);

/// Routespec, a request for it, and data of each route, in the order of the ports 9000 and up.
fn stored(kind: Kind) -> [(&'static str, [&'static str; 2], Value); 5] {
    // In etcd and Redis all of it is text.
    let (hub, nested) = match kind.is_file() {
        false => (
            json!("true"),
            json!({"list": ["1", "2.5", "x"], "flag": "false"}),
        ),
        true => (json!(true), json!({"list": [1, 2.5, "x"], "flag": false})),
    };
    [
        ("/", ["h", "/anything"], json!({"hub": hub})),
        (
            "/user/zoe/",
            ["h", "/user/zoe/x"],
            json!({"user": "zoe", "server_name": "", "nested": nested}),
        ),
        (
            "/user/zoë/has space/",
            ["h", "/user/zo%C3%AB/has%20space/x"],
            json!({"user": "zoë", "quoted": "it's \"so\""}),
        ),
        ("/user/a@b/", ["h", "/user/a@b/x"], json!({"user": "a@b"})),
        (
            "host.name/path/",
            ["host.name", "/path/x"],
            json!({"user": "zoe", "server_name": "lab"}),
        ),
    ]
}

/// What is stored, as the rig writes it, with these targets in place of its own.
fn legacy(rig: &Rig, echoes: &[Echo]) -> String {
    let text: String = match rig.kind {
        Kind::Push => unreachable!("nobody else's"),
        Kind::Toml => include_str!("../data/legacy.toml").into(),
        #[cfg(feature = "yaml")]
        Kind::Yaml => include_str!("../data/legacy.yaml").into(),
        _ => {
            let text = include_str!("../data/legacy-etcd.json");
            let keys: BTreeMap<String, Value> = serde_json::from_str(text).unwrap();
            let [traefik, own] = rig.prefixes();
            let line = |(key, value)| {
                let key: String = key;
                let prefix = if key.starts_with("traefik/") {
                    &traefik
                } else {
                    &own
                };
                format!("{prefix}/{} {value}\n", key.split_once('/').unwrap().1)
            };
            keys.into_iter().map(line).collect()
        }
    };
    let targets = echoes.iter().enumerate();
    targets.fold(text, |text, (n, echo)| {
        text.replace(&format!("http://127.0.0.1:900{n}"), &echo.url())
    })
}

/// No trace of the other program's layout.
#[track_caller]
fn check_nothing_is_left(rig: &Rig) {
    let text = rig.rules_text();
    for trace in [
        "jupyterhub.routes",
        "jupyterhub:\n",
        "router_",
        "service_",
        "Host(`127.0.0.1`)",
        "$2b$",
    ] {
        // Beside these keys Traefiks of others may use the API's router.
        let kept = !rig.kind.is_file() && ["Host(`127.0.0.1`)", "$2b$"].contains(&trace);
        assert!(kept || !text.contains(trace), "{trace:?} in {text}");
    }
}

fn jupyterhub_traefik_proxys_routes_work(kind: Kind) {
    let rig = Rig::new(kind);
    let echoes: Vec<_> = stored(kind).iter().map(|_| Echo::start()).collect();
    let new = Echo::start();
    rig.write_rules(&legacy(&rig, &echoes));
    if kind.is_file() {
        let read = rig.backend().read().unwrap();
        assert_eq!(read.len(), 5, "they are listed before anything is written");
    }
    let router = rig.start();
    check_nothing_is_left(&rig);
    assert_eq!(router.get_all_routes().unwrap().len(), 5);
    for ((spec, [host, path], data), echo) in stored(kind).iter().zip(&echoes) {
        let route = router.get_route(spec).unwrap().unwrap();
        assert_eq!(
            (&*route.target.to_string(), &route.data),
            (&*echo.url(), data),
            "{spec}"
        );
        assert_eq!(rig.landed(host, path), Some(echo.port), "{spec}");
    }
    assert_eq!(
        rig.landed("h", "/user/a%40b/x"),
        Some(echoes[3].port),
        "with our rule"
    );
    assert_eq!(rig.landed("h", "/user/zo"), Some(echoes[0].port));

    router
        .add_route("/user/zoe/", new.url(), json!({"new": 1}))
        .unwrap();
    assert_eq!(
        router.get_route("/user/zoe/").unwrap().unwrap().data,
        json!({"new": 1})
    );
    assert_eq!(rig.landed("h", "/user/zoe/x"), Some(new.port));
    router.delete_route("/user/zoe/").unwrap();
    assert_eq!(rig.landed("h", "/user/zoe/x"), Some(echoes[0].port));
    for (spec, [host, path], _) in stored(kind) {
        router.delete_route(spec).unwrap();
        assert_ne!(rig.landed(host, path), Some(new.port));
    }
    for (_, [host, path], _) in stored(kind) {
        assert_eq!(rig.landed(host, path), None);
    }
    assert_eq!(rig.api().refused_routers().unwrap(), []);
    check_nothing_is_left(&rig);
    router.stop().unwrap();
    // A file that was there before stays, and in etcd the router of an API that others may use.
    let is_others = |line: &&str| !kind.is_file() && line.contains("_api");
    let text = rig.rules_text();
    let left: Vec<_> = text.lines().filter(|line| !is_others(line)).collect();
    assert_eq!(left.concat().trim(), "");
}

fn concurrently_written_routes_are_seen(kind: Kind) {
    let rig = Rig::new(kind);
    let echoes: Vec<_> = stored(kind).iter().map(|_| Echo::start()).collect();
    let router = rig.start();
    rig.write_rules(&legacy(&rig, &echoes));
    assert_eq!(router.get_all_routes().unwrap().len(), 5);
    let new = Echo::start();
    router.add_route("/new/", new.url(), json!(null)).unwrap();
    assert_eq!(rig.landed("h", "/new/"), Some(new.port));
    for ((_, [host, path], _), echo) in stored(kind).iter().zip(&echoes) {
        assert_eq!(rig.landed(host, path), Some(echo.port), "{host}{path}");
    }
    check_nothing_is_left(&rig);
}
