//! Changes that a real Traefik serves, or does not.

use std::fs;
use std::time::Duration;

use kit::etcd::Cluster;
use kit::redis::{Sentinels, Server};
use kit::tools::ETCD;
use kit::{eventually, ports};
use serde_json::json;

use crate::support::Place;

#[test]
fn change_is_served_on_return() {
    let place = Place::new();
    let router = place.start();
    place.configure("");
    let added = place
        .run("routes add /user/zoe/ http://127.0.0.1:9001 --json")
        .json();
    assert_eq!(added["added"], json!(["/user/zoe/"]));
    assert!(added["served_ms"].as_f64().unwrap() > 0.0, "{added}");
    assert_eq!(router.get_all_routes().unwrap().len(), 1);
    let text = place.run("routes delete /user/zoe/").done();
    assert!(
        text.starts_with("deleted /user/zoe/: served after "),
        "{text}"
    );

    let status = place.run("status --json");
    let answer = status.json();
    assert_eq!(
        (status.code, &answer["healthy"]),
        (0, &json!(true)),
        "{answer}"
    );
    assert_eq!(answer["store"]["routes"], 0);
    assert_eq!(
        answer["traefiks"][0]["generation"],
        answer["store"]["generation"]
    );
    assert_eq!(answer["traefiks"][0]["current"], true);
    assert!(place.run("status").done().contains("serves what is stored"));
}

#[test]
fn unusable_api_changes_nothing() {
    let place = Place::new();
    let router = place.start();
    place.configure("");
    place.run("routes add /a/ http://t").done();
    let before = place.text("rules.toml");
    fs::write(place.path("wrong"), "another").unwrap();
    let wrong = "--api-password-file wrong";
    place
        .run(&format!("routes add /b/ http://t {wrong}"))
        .failed(1, "nothing was changed");
    place
        .run("routes add /b/ http://t --entrypoint vanished")
        .failed(2, "has no entrypoint \"vanished\"");
    let status = place.run(&format!("status --json {wrong}"));
    assert_eq!(status.code, 1);
    assert!(
        status.json()["traefiks"][0]["error"]
            .as_str()
            .unwrap()
            .contains("401")
    );
    // The environment's password stands above the configuration file's.
    let by_variable = place.run_with(&["status"], &[("TRAEFIK_API_PASSWORD", "another")]);
    assert_eq!(by_variable.code, 1, "{by_variable:?}");
    assert_eq!(place.text("rules.toml"), before);
    router.stop().unwrap();
    place
        .run("routes add /b/ http://t")
        .failed(1, "Connection refused");
    assert_eq!(place.run("status").code, 1);
    assert!(!place.text("rules.toml").contains("/b/"));
    place.run("routes add /b/ http://t --no-wait").done();
    assert!(place.text("rules.toml").contains("/b/"));
}

#[test]
fn unserved_change_exits_with_4() {
    let place = Place::new();
    // Opening the store is a change, which a Traefik that has rested takes at once; the route comes
    // too soon after.
    let _traefik = place.start_external("rules.toml", "6s");
    place.configure("");
    std::thread::sleep(Duration::from_millis(6500));
    place
        .run("routes add /a/ http://t --timeout 2")
        .failed(4, "generation");
    assert!(place.run("routes list").done().contains("/a/"));
    let status = place.run("status");
    assert!(
        status.out.contains("stored before the last change, "),
        "{status:?}"
    );
    let lag = &place.run("status --json").json()["traefiks"][0]["lag_ms"];
    assert!(lag.as_u64().unwrap() > 0, "{lag}");
    eventually("it is served all the same", || {
        place.run("status").code == 0
    });
    let status = place.run("status --json").json();
    assert_eq!(status["traefiks"][0]["lag_ms"], 0);
}

#[test]
fn status_names_refused_routers() {
    let place = Place::new();
    let _router = place.start();
    place.configure("");
    place.run("routes add /a/ http://t").done();
    place.run("status").done();
    let other = traefik_router::FileBackend::new(place.path("rules.toml"));
    let other = traefik_router::Router::builder(other).traefik_entrypoint("vanished");
    other.offline().unwrap().apply([]).unwrap();
    eventually("they are refused", || {
        let said = place.run("status --json");
        let refused = &said.json()["traefiks"][0]["refused"];
        let text = refused.to_string();
        // The route's, and the one that shows the generation.
        refused.as_array().unwrap().len() == 2 && text.contains("vanished") && said.code == 1
    });
    let status = place.run("status");
    assert_eq!(status.code, 1);
    let text = status.out;
    assert!(text.contains("refuses 2 routers of the table"), "{text}");
    let (_, refused) = text.split_once("REFUSED ROUTER").unwrap();
    assert_eq!(refused.matches("vanished").count(), 2, "{text}");
}

#[test]
fn traefik_watching_elsewhere_gets_nothing() {
    let place = Place::new();
    let _traefik = place.start_external("other.toml", "0s");
    place.configure("");
    place
        .run("routes add /a/ http://t --timeout 0.5")
        .failed(1, "nothing was changed");
    assert!(!place.path("rules.toml").exists());
}

#[test]
fn etcd_keeps_routes_too() {
    let etcd = Cluster::start(&ETCD.path());
    let place = Place::new();
    let store = format!("--backend etcd:{}", etcd.url());
    place
        .run(&format!("routes list {store}"))
        .failed(1, "`routes add` begins a new table");
    place
        .run(&format!("routes add /a/ http://t {store}"))
        .done();
    let listed = place.run(&format!("routes list --json {store}")).json();
    assert_eq!(listed[0]["routespec"], "/a/");
    let doctor = place.run(&format!("doctor {store}"));
    assert_eq!(doctor.code, 0, "{doctor:?}");
    assert!(
        doctor.out.contains("traefik/ and jupyterhub/ can be read"),
        "{doctor:?}"
    );
    let away = place.run("doctor --backend etcd:http://127.0.0.1:1");
    assert_eq!(away.code, 1);
    assert!(away.out.contains("problem  prefixes"), "{away:?}");
}

#[test]
fn redis_keeps_routes_too() {
    let redis = Server::start(&["--requirepass", "hunter2", "--save", ""]);
    let place = Place::new();
    let user = [("REDIS_USERNAME", "default"), ("REDIS_PASSWORD", "hunter2")];
    let run = |command: &str| {
        let command = format!("{command} --backend redis:{}", redis.url());
        place.run_with(&command.split(' ').collect::<Vec<_>>(), &user)
    };
    run("routes list").failed(1, "`routes add` begins a new table");
    run("routes add /a/ http://t").done();
    assert_eq!(run("routes list --json").json()[0]["routespec"], "/a/");
    let doctor = run("doctor");
    assert!(
        doctor.out.contains("writes nothing to a disk"),
        "{doctor:?}"
    );
    let config = run("config static").done();
    assert!(config.contains("[providers.redis]"), "{config}");
    assert!(!config.contains("hunter2"), "{config}");
    let list = format!("routes list --backend redis:{}", redis.url());
    place.run(&list).failed(1, "NOAUTH");
}

#[test]
fn sentinel_says_where_routes_are() {
    let sentinels = Sentinels::start(&["--save", ""]);
    let place = Place::new();
    let urls = sentinels.urls().join(",");
    let run = |command: &str| {
        let store = format!("redis+sentinel:{},{urls}", Sentinels::MASTER);
        place.run(&format!("{command} --backend {store}"))
    };
    run("routes add /a/ http://t --redis-replicas 1").done();
    assert_eq!(run("routes list --json").json()[0]["routespec"], "/a/");
    let said = run("routes add /b/ http://t --redis-replicas 9");
    said.failed(
        4,
        "of 9 needed replicas confirmed the change: see which are connected, or lower --redis-replicas",
    );
    let config = run("config static").done();
    for part in [
        "[providers.redis]",
        "masterName = \"themaster\"",
        "endpoints = [\"127.0.0.1:",
    ] {
        assert!(config.contains(part), "{config}");
    }
}

#[test]
fn change_waits_for_the_api() {
    let place = Place::new();
    place.write("rules.toml", "");
    place.configure("");
    let _traefik = place.spawn_traefik(&json!({}), "rules.toml", "0s");
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| place.run("routes add /a/ http://127.0.0.1:9001").done());
        std::thread::sleep(Duration::from_secs(1));
        assert!(!adding.is_finished());
        let router = "[http.routers.mine]\nrule = \"PathPrefix(`/api`)\"\n\
                      entryPoints = [\"traefik\"]\nservice = \"api@internal\"\n";
        fs::write(place.path("new"), router).unwrap();
        fs::rename(place.path("new"), place.path("rules.toml")).unwrap();
        let said = adding.join().unwrap();
        assert!(said.starts_with("added /a/: served after"), "{said}");
    });
}

#[test]
fn unreachable_public_url_is_reported() {
    let place = Place::new();
    let _traefik = place.start_external("rules.toml", "0s");
    place.configure("");
    let closed = format!("--public-url http://127.0.0.1:{}", ports::free());
    for change in ["add /a/ http://t", "delete /a/", "clear"] {
        let said = place.run(&format!("routes {change} {closed}"));
        assert!(
            said.code == 0
                && said
                    .err
                    .contains("warning: --public-url can't be reached from here"),
            "{said:?}"
        );
    }
}

#[test]
fn changes_to_all_are_reported() {
    let place = Place::new();
    let _traefik = place.start_external("rules.toml", "0s");
    place.configure("");
    place.run("routes add /a/ http://127.0.0.1:9001").done();
    let over = |scheme: &str| {
        let web = place.web;
        place
            .run(&format!(
                "routes add /a/ http://127.0.0.1:9001 --public-url {scheme}://127.0.0.1:{web}"
            ))
            .done()
    };
    let said = over("https");
    assert!(
        said.starts_with("all routes are served over HTTPS: served"),
        "{said}"
    );
    let said = over("https");
    assert!(said.starts_with("nothing to change: served"), "{said}");
    let said = over("http");
    assert!(
        said.starts_with("all routes are served over HTTP: served"),
        "{said}"
    );
}
