//! What the program prints for a Traefik that takes a table, and what it can't do for such a table.

use std::fs;
use std::time::Duration;

use kit::{Echo, Traefik, client, eventually};
use traefik_router::{MemoryBackend, Router, Verified};

use crate::support::{PASSWORD, Place, finds, on};

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

/// A Traefik with the printed files, and `more` in its static configuration; `options` are for
/// both of them.
fn start_printed(place: &Place, options: &str, more: &str) -> Traefik {
    let dynamic = place.path("dynamic.toml");
    let printed = format!("config dynamic --with-secrets{options}");
    fs::write(&dynamic, place.run(&printed).done()).unwrap();
    let text = place
        .run(&format!(
            "config static --dynamic-config-file {}{options}",
            dynamic.display()
        ))
        .done();
    let addresses = [place.web, place.api].map(|port| format!("127.0.0.1:{port}"));
    let traefik = Traefik::start(&place.path("traefik.toml"), &(text + more), &addresses);
    eventually("Traefik has loaded the file", || {
        client::get(place.api, "h", "/api/version").status != 404
    });
    traefik
}

fn attach(place: &Place) -> Router {
    Router::builder(MemoryBackend::new())
        .public_url(format!("http://127.0.0.1:{}", place.web))
        .traefik_api_url(place.api_url())
        .traefik_api_password(PASSWORD)
        .check_route_timeout(Duration::from_secs(20))
        .attach()
        .unwrap()
}

#[test]
fn printed_files_accept_a_table() {
    let (place, echo) = (place(), Echo::start());
    let _traefik = start_printed(&place, "", "");
    let router = attach(&place);
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
fn doctor_sees_a_pushed_table() {
    let place = place();
    let traefik = start_printed(&place, "", "");
    let said = place.run("doctor --json");
    finds(&said, "provider", "ok", "\"rest\"");
    finds(&said, "table", "ok", "has none yet");
    finds(&said, "entrypoint", "ok", "\"http\"");
    assert_eq!(said.json()["problems"], 0, "{said:?}");
    let router = attach(&place);
    router.add_route("/a/", "http://127.0.0.1:1", ()).unwrap();
    let generation = router
        .add_route("/b/", "http://127.0.0.1:1", ())
        .unwrap()
        .generation;
    let said = place.run("doctor --json");
    let table = format!("2 routes on the entrypoint \"http\", generation {generation}");
    finds(&said, "table", "ok", &table);
    finds(&said, "routers", "ok", "refuses no router");
    let applied = router.add_route("/b/", "http://127.0.0.1:1", ()).unwrap();
    assert_eq!(applied.generation, generation, "nothing was pushed");
    let said = place.run("doctor --json --entrypoint gone");
    finds(&said, "entrypoint", "problem", "no entrypoint \"gone\"");
    place.write("password", "wrong");
    let said = place.run("doctor --json");
    finds(&said, "api", "problem", "refuses the user name or password");
    assert_eq!(said.code, 1);
    drop(traefik);
}

/// What breaks, and that it is found before that.
#[test]
fn doctor_finds_what_chp_needs() {
    let (place, echo) = (place(), Echo::start());
    let path = "/a/x%2Fy//z?a=1;2";
    let ask = || {
        let router = attach(&place);
        router.add_route("/a/", echo.url(), ()).unwrap();
        let request = client::Request {
            host: "h",
            path,
            headers: &[("X-Forwarded-Proto", "https")],
            body: b"",
        };
        request.send(place.web)
    };
    let refused = "[entryPoints.http.http.encodedCharacters]\nallowEncodedSlash = false\n";
    let plain = start_printed(&place, "", refused);
    assert_eq!(ask().status, 400);
    let said = place.run("doctor --json --chp");
    for (level, says) in [
        ("problem", "refused with 400"),
        ("warning", "`//` in the path"),
        ("warning", "`;` in a query"),
        ("warning", "X-Forwarded-Proto"),
        ("warning", "counts no requests"),
    ] {
        finds(&said, "chp", level, says);
    }
    let advice = "set entryPoints.http.http.encodedCharacters.allowEncodedSlash = true in its";
    assert!(said.out.contains(advice), "{said:?}");
    assert_eq!((said.code, place.run("doctor").code), (1, 0));
    drop(plain);

    let uncounted = "[metrics.prometheus]\nmanualRouting = true\n";
    let plain = start_printed(&place, "", uncounted);
    let says = "has no router for its metrics";
    finds(&place.run("doctor --json --chp"), "chp", "warning", says);
    let theirs = "[http.routers.theirs]\nrule = \"Path(`/metrics`)\"\nentryPoints = [\"auth_api\"]\n\
                  service = \"prometheus@internal\"\nmiddlewares = [\"theirs\"]\n\
                  [http.middlewares.theirs.basicAuth]\nusers = [\"x:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\"]\n";
    let own = place.text("dynamic.toml");
    place.write("dynamic.toml", &format!("{own}\n{theirs}"));
    eventually("another password is a finding", || {
        let found = on(&place.run("doctor --json --chp"), "chp");
        found
            .iter()
            .any(|(_, message)| message.contains("does not send its metrics"))
    });
    drop(plain);

    let _suited = start_printed(&place, " --chp", "");
    // Before and after the first request is counted.
    for _ in 0..2 {
        let found = on(&place.run("doctor --json --chp"), "chp");
        assert!(
            found.iter().all(|(level, _)| level != "warning"),
            "{found:?}"
        );
    }
    let seen = ask().echo();
    assert_eq!(seen["path"], "/a/x%2Fy//z?a=1%3B2");
    assert_eq!(seen["headers"]["x-forwarded-proto"], "https");
    let said = place.run("doctor --json --chp");
    finds(&said, "chp", "ok", "suits `chp`");
    let metrics = |headers: &[(&str, &str)]| {
        let request = client::Request {
            host: "h",
            path: "/metrics",
            headers,
            body: b"",
        };
        request.send(place.api)
    };
    assert_eq!(metrics(&[]).status, 401);
    let login = "Basic anVweXRlcmh1YjptYXJrZWQtc2VjcmV0";
    let counted = metrics(&[("Authorization", login)]).body;
    let routes = "traefik_router_requests_total{";
    assert!(counted.contains(routes), "{counted}");
    assert_eq!((on(&said, "chp").len(), said.code), (1, 0), "{said:?}");
}

/// Traefik's own default ends uploads that take longer.
#[test]
fn doctor_finds_a_read_timeout() {
    let place = Place::new();
    let _traefik = place.start_external("rules.toml", "0s");
    place.configure("");
    place.run("routes add /a/ http://t").done();
    finds(
        &place.run("doctor --json"),
        "timeout",
        "warning",
        "longer than 1m0s",
    );
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
    ] {
        let refused = place.run(command);
        refused.failed(2, "only the program that pushes a table has it");
    }
    place
        .run("routes list --backend push")
        .failed(2, "--backend push");
    assert_eq!(place.files(), files);
}
