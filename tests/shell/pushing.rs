//! What the program prints for a Traefik that takes a table, and what it can't do for such a table.

use std::fs;
use std::time::Duration;

use kit::{Echo, Traefik, client};
use traefik_router::{MemoryBackend, Router, Verified};

use crate::support::{PASSWORD, Place};

/// A folder whose configuration file is for a Traefik that takes a table.
fn place() -> Place {
    let place = Place::new();
    place.write("password", &format!("{PASSWORD}\n"));
    let text = format!(
        "backend = \"push\"\napi-url = [\"{}\"]\napi-password-file = \"password\"\n\
         public-url = \"http://127.0.0.1:{}\"\n",
        place.api_url(),
        place.web
    );
    place.write("traefik-router.toml", &text);
    place
}

#[test]
fn dynamic_configuration_hides_its_hash() {
    let place = place();
    let files = place.files();
    let text = place.run("config dynamic").done();
    assert!(text.contains("jupyterhub:REDACTED"), "{text}");
    for hidden in [&text, &place.run("config dynamic d.yaml").done()] {
        assert!(!hidden.contains("{SHA}"), "{hidden}");
        assert!(hidden.contains("rest@internal"), "{hidden}");
    }
    let shown = place
        .run("config dynamic --with-secrets --api-user me")
        .done();
    assert!(shown.contains("me:{SHA}"), "{shown}");
    let yaml = place.run("config dynamic --syntax yaml").done();
    assert!(yaml.contains("routers:"), "{yaml}");
    let named = place
        .run("config dynamic --api-entrypoint guarded --backend push")
        .done();
    assert!(named.contains("entryPoints = [\"guarded\"]"), "{named}");
    assert_eq!(place.files(), files);
}

#[test]
fn dynamic_configuration_needs_a_password() {
    let place = Place::new();
    for arguments in [
        "config dynamic --backend push",
        "config dynamic --backend push --api-url http://127.0.0.1:1",
    ] {
        place.run(arguments).failed(2, "--api-password-file");
    }
    let by_variable = [
        "config",
        "dynamic",
        "--backend",
        "push",
        "--api-url",
        "http://:1",
    ];
    let by_variable = place.run_with(&by_variable, &[("TRAEFIK_API_PASSWORD", PASSWORD)]);
    assert!(by_variable.done().contains("REDACTED"));
    place.write("password", PASSWORD);
    for backend in ["toml:r.toml", "etcd:http://127.0.0.1:1"] {
        let guarded = "--api-url http://127.0.0.1:1 --api-password-file password";
        place
            .run(&format!("config dynamic --backend {backend} {guarded}"))
            .failed(2, "only a table that is pushed");
    }
}

#[test]
fn static_configuration_names_dynamic_file() {
    let place = place();
    let files = place.files();
    let text = place.run("config static").done();
    assert!(text.contains("filename = \"dynamic.toml\""), "{text}");
    assert!(text.contains("[providers.rest]"), "{text}");
    assert!(!text.contains("insecure"), "{text}");
    let text = place
        .run("config static --syntax yaml --dynamic-config-file /etc/traefik/d.yaml")
        .done();
    assert!(text.contains("filename: \"/etc/traefik/d.yaml\""), "{text}");
    place
        .run("config static --backend toml:r.toml --dynamic-config-file d.toml")
        .failed(2, "no effect without --backend push");
    assert_eq!(place.files(), files);
}

#[test]
fn printed_files_accept_a_table() {
    let (place, echo) = (place(), Echo::start());
    let dynamic = place.path("dynamic.toml");
    let printed = place.run("config dynamic --with-secrets").done();
    fs::write(&dynamic, printed).unwrap();
    let text = place
        .run(&format!(
            "config static --dynamic-config-file {}",
            dynamic.display()
        ))
        .done();
    let addresses = [place.web, place.api].map(|port| format!("127.0.0.1:{port}"));
    let _traefik = Traefik::start(&place.path("traefik.toml"), &text, &addresses);

    let router = Router::builder(MemoryBackend::new())
        .public_url(format!("http://127.0.0.1:{}", place.web))
        .traefik_api_url(place.api_url())
        .traefik_api_password(PASSWORD)
        .check_route_timeout(Duration::from_secs(20))
        .attach()
        .unwrap();
    let applied = router.add_route("/a/", echo.url(), ()).unwrap();
    assert_eq!(applied.verified, Verified::Seen);
    let landed = || client::get(place.web, "any.example", "/a/x").landed();
    assert_eq!(landed(), Some(echo.port));

    let body = "{\"http\": {\"routers\": {}}}";
    for login in ["", "Authorization: Basic anVweXRlcmh1Yjp3cm9uZw==\r\n"] {
        let request = format!(
            "PUT /api/providers/rest HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{login}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let refused = client::send(place.api, request.as_bytes());
        assert_eq!(refused.status, 401, "{refused:?}");
    }
    assert_eq!(landed(), Some(echo.port));
    assert!(router.status().is_healthy());
}

#[test]
fn pushed_tables_have_no_shell() {
    let place = place();
    let files = place.files();
    for command in [
        "routes list",
        "routes add /a/ http://t",
        "routes delete /a/",
        "status",
        "doctor",
    ] {
        let refused = place.run(command);
        refused.failed(2, "only the program that pushes a table has it");
    }
    place
        .run("routes list --backend push")
        .failed(2, "--backend push");
    assert_eq!(place.files(), files);
}
