//! What `setup` and `routes clear` store and take back.

use kit::etcd::Cluster;
use kit::tools::ETCD;
use kit::traefik::static_config;
use kit::{Echo, Traefik, client, eventually};
use serde_json::json;
use traefik_router::etcd::Client;

use crate::support::Place;

/// A router of others, in a file.
const THEIRS: &str = "[http.routers.mine]\nrule = \"Path(`/mine`)\"\nentryPoints = [\"http\"]\n\
                      service = \"noop@internal\"\n";

/// A Traefik whose API has no router, and what it reads.
fn guarded(place: &Place, text: &str) -> Traefik {
    place.write("rules.toml", text);
    place.configure("");
    place.spawn_traefik(&json!({}), "rules.toml", "0s")
}

#[test]
fn setup_stores_and_removes_a_router() {
    let (place, echo) = (Place::new(), Echo::start());
    let _traefik = guarded(&place, THEIRS);
    let setup = "setup --api-entrypoint traefik --chp";
    let plain = "setup --api-entrypoint traefik";
    eventually("the doctor names setup", || {
        place.run("doctor").out.contains("`traefik-router setup`")
    });
    assert!(place.run(plain).done().starts_with("stored a router"));
    assert!(place.run(setup).done().contains("metrics beside"));
    let add = format!("routes add /a/ {}", echo.url());
    assert!(place.run(&add).done().contains("served after"));
    let anybody = client::get(place.api, "h", "/api/version");
    assert_eq!(anybody.status, 401, "{anybody:?}");
    let text = place.text("rules.toml");
    assert!(
        text.contains("SHA}") && text.contains("prometheus@internal"),
        "{text}"
    );
    let before = place.text("rules.toml");
    assert!(place.run(setup).done().contains("nothing was stored"));
    // Another password does not take the place of the first.
    place.write("other", "another");
    let other = format!("{setup} --api-password-file other");
    place
        .run(&other)
        .failed(1, "refuses the user name or password");
    assert_eq!(place.text("rules.toml"), before);

    let removed = place.run("setup --remove --json").json();
    assert_eq!(removed, json!({"removed": true}));
    let text = place.text("rules.toml");
    assert!(
        ["api@", "prometheus@", "SHA}"]
            .iter()
            .all(|ours| !text.contains(ours)),
        "{text}"
    );
    assert!(text.starts_with(THEIRS) && text.contains("/a/"), "{text}");
    eventually("the API is gone", || {
        client::get(place.api, "h", "/api/version").status == 404
    });
    assert_eq!(client::get(place.web, "h", "/a/").landed(), Some(echo.port));
    assert_eq!(
        place.run("setup --remove --json").json(),
        json!({"removed": false})
    );
    assert_eq!(place.text("rules.toml"), text);
}

#[test]
fn missing_api_router_names_setup() {
    let place = Place::new();
    let _traefik = guarded(&place, THEIRS);
    let said = place.run("routes add /a/ http://t");
    said.failed(1, "(traefik-router setup)");
    assert_eq!(place.text("rules.toml"), THEIRS);
}

#[test]
fn setup_spares_routers_of_others() {
    let place = Place::new();
    let open = "[http.routers.open]\nrule = \"PathPrefix(`/api`)\"\nentryPoints = [\"traefik\"]\n\
                service = \"api@internal\"\n";
    let _traefik = guarded(&place, open);
    eventually("the API is open", || {
        client::get(place.api, "h", "/api/version").status == 200
    });
    let said = place.run("setup --api-entrypoint traefik --json").json();
    assert_eq!(said, json!({"stored": false}));
    let text = place.text("rules.toml");
    assert!(text.starts_with(open) && !text.contains("SHA}"), "{text}");
    assert_eq!(
        place.run("setup --remove --json").json(),
        json!({"removed": false})
    );
    assert_eq!(place.text("rules.toml"), text);
}

#[test]
fn setup_needs_an_address() {
    let place = Place::new();
    for (arguments, says) in [
        ("setup --backend toml:r.toml", "--api-url"),
        ("setup --backend push --api-url http://t", "config dynamic"),
        ("setup --backend push --remove", "config dynamic"),
        (
            "setup --backend toml:r.toml --remove --api-url http://t",
            "--api-url",
        ),
    ] {
        place.run(arguments).failed(2, says);
    }
    assert_eq!(place.files(), [""; 0]);
    // They have no effect here.
    let options = "api-url = [\"https://t\"]\napi-insecure = true\n";
    place.write("traefik-router.toml", options);
    let nothing = place.run("setup --backend toml:r.toml --remove").done();
    assert!(nothing.starts_with("there is no router"), "{nothing}");
    assert_eq!(place.files(), ["traefik-router.toml"]);
}

#[test]
fn clear_removes_the_table() {
    let (place, echo) = (Place::new(), Echo::start());
    let _traefik = guarded(&place, THEIRS);
    place.run("setup --api-entrypoint traefik").done();
    for path in ["/a/", "/b/"] {
        place
            .run(&format!("routes add {path} {}", echo.url()))
            .done();
    }
    let said = place.run("routes clear").done();
    assert!(
        said.starts_with("removed the table of 2 routes: served after"),
        "{said}"
    );
    assert_eq!(client::get(place.web, "h", "/a/").landed(), None);
    assert_eq!(place.text("rules.toml"), THEIRS);
    place
        .run("routes clear --no-wait")
        .failed(1, "there is no table of routes");
    assert_eq!(place.text("rules.toml"), THEIRS);
}

/// With a throttle Traefik still serves the router that was taken out, with its password.
#[test]
fn setup_right_after_clear_works() {
    let (place, echo) = (Place::new(), Echo::start());
    place.write("rules.toml", THEIRS);
    place.configure("");
    let _traefik = place.spawn_traefik(&json!({}), "rules.toml", "2s");
    let setup = || {
        let said = place.run("setup --api-entrypoint traefik").done();
        assert!(said.starts_with("stored a router"), "{said}");
    };
    setup();
    let add = format!("routes add /a/ {}", echo.url());
    for password in ["the same", "another"] {
        place.run(&add).done();
        place.run("routes clear --no-wait").done();
        if password == "another" {
            place.write("password", password);
        }
        setup();
    }
}

#[test]
fn served_table_is_not_cleared() {
    let place = Place::new();
    let router = place.start();
    place.configure("");
    place.run("routes add /a/ http://t").done();
    let before = place.text("rules.toml");
    for command in ["routes clear", "routes clear --no-wait", "setup --remove"] {
        place
            .run(command)
            .failed(1, "nothing was changed: another program serves routes");
        assert_eq!(place.text("rules.toml"), before);
    }
    drop(router);
    let said = place.run("routes clear --no-wait --json").json();
    assert_eq!(said, json!({"routes": 1, "served_ms": null}));
    assert!(!place.path("rules.toml").exists(), "the Router has made it");
}

/// Also where no Traefik is asked, and our keys are all that there are.
#[test]
fn cleared_etcd_serves_nothing() {
    let etcd = Cluster::start(&ETCD.path());
    let (place, echo) = (Place::new(), Echo::start());
    place.write("password", "x");
    let store = format!("--backend etcd:{}", etcd.url());
    let add = format!("routes add /a/ {} {store}", echo.url());
    place.run(&add).done();
    let entrypoints = [("http", place.web), ("traefik", place.api)];
    let providers = json!({
        "providersThrottleDuration": "0s",
        "etcd": {"endpoints": [format!("127.0.0.1:{}", etcd.port())], "rootKey": "traefik"},
    });
    let config = static_config(entrypoints, &json!({}), &providers);
    let _traefik = Traefik::start_json(&place.path("static.yml"), &config);
    let traefik = format!("--api-url {} --api-password-file password", place.api_url());
    let setup = format!("setup {store} {traefik} --api-entrypoint traefik");
    assert!(place.run(&setup).done().starts_with("stored a router"));
    assert!(
        place
            .run(&format!("{add} {traefik}"))
            .done()
            .contains("served after")
    );
    let landed = || client::get(place.web, "h", "/a/").landed();
    assert_eq!(landed(), Some(echo.port));
    let said = place.run(&format!("setup {store} --remove")).done();
    assert!(said.starts_with("removed the router"), "{said}");

    let client = Client::new([etcd.url()]).unwrap();
    client.put("traefik2/theirs", "1").unwrap();
    // What a program that was killed has left.
    let ours = client.get_prefix("jupyterhub/").unwrap().kvs;
    let header = ours.iter().find(|one| one.key.ends_with(b"header"));
    let tree = String::from_utf8(header.unwrap().key.clone()).unwrap();
    let program = tree.replace("header", "programs/gone");
    client.put(&program, "").unwrap();
    place.run(&format!("routes clear {store}")).done();
    for prefix in ["traefik/", "jupyterhub/"] {
        let left = client.get_prefix(prefix).unwrap().kvs;
        assert!(left.is_empty(), "{left:?}");
    }
    assert!(client.get("traefik2/theirs").unwrap().is_some());
    eventually("it is not served", || landed().is_none());
    place.run(&add).done();
    eventually("it is served again", || landed() == Some(echo.port));
}
