//! The recipes of docs/routes.md.

use std::time::{Duration, Instant};

use kit::client::{Request, Response};
use kit::{Echo, Pebble, eventually};
use serde_json::{Value, json};
use traefik_router::Route;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::protocols::https;
use crate::support::{Kind, Rig, on_each_backend_and_push};

on_each_backend_and_push! {
    prefix_is_stripped,
    rate_is_limited,
    password_is_asked_for,
    canary_gets_its_share,
    clients_stay_with_healthy_servers,
    nameless_cookies_end_with_their_service,
    host_is_served_over_https,
}

fn with_header(rig: &Rig, header: (&str, &str)) -> Response {
    let request = Request {
        host: "h",
        path: "/app/x",
        headers: &[header],
        body: b"",
    };
    request.send(rig.web)
}

fn prefix_is_stripped(kind: Kind) {
    let (rig, echo) = (Rig::new(kind), Echo::start());
    let strip = json!({"stripPrefix": {"prefixes": ["/app"]}});
    let router = rig.start_with_middlewares(&json!({"strip-app": strip}));
    let route = Route::new("/app/", echo.url()).unwrap();
    let route = route.middleware("strip-app@file").unwrap();
    router.apply([route.into()]).unwrap();
    assert_eq!(rig.get("h", "/app/x").echo()["path"], "/x");
}

fn rate_is_limited(kind: Kind) {
    let (rig, echo) = (Rig::new(kind), Echo::start());
    // Rarely, so that it does not matter how long the requests take.
    let limit = json!({"rateLimit": {"average": 1, "period": "1h", "burst": 5}});
    let router = rig.start_with_middlewares(&json!({"limit": limit}));
    let route = Route::new("/app/", echo.url()).unwrap();
    router
        .apply([route.middleware("limit@file").unwrap().into()])
        .unwrap();
    router.add_route("/other/", echo.url(), ()).unwrap();
    let all: Vec<_> = (0..8).map(|_| rig.get("h", "/app/x").status).collect();
    assert_eq!(all, [200, 200, 200, 200, 200, 429, 429, 429]);
    assert_eq!(rig.get("h", "/other/x").status, 200);
}

fn password_is_asked_for(kind: Kind) {
    let (rig, echo) = (Rig::new(kind), Echo::start());
    // htpasswd -nbs zoe password
    let line = "zoe:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";
    let users = json!({"basicAuth": {"users": [line], "removeHeader": true}});
    let router = rig.start_with_middlewares(&json!({"users": users}));
    let route = Route::new("/app/", echo.url()).unwrap();
    router
        .apply([route.middleware("users@file").unwrap().into()])
        .unwrap();
    assert_eq!(rig.get("h", "/app/x").status, 401);
    let wrong = with_header(&rig, ("Authorization", "Basic em9lOndyb25n"));
    assert_eq!(wrong.status, 401);
    let right = with_header(&rig, ("Authorization", "Basic em9lOnBhc3N3b3Jk")).echo();
    assert!(right["headers"].get("authorization").is_none(), "{right}");
}

fn canary_gets_its_share(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, blue, green) = (rig.start(), Echo::start(), Echo::start());
    let share = || {
        let landed = (0..20).map(|_| rig.landed("h", "/app/x").unwrap());
        landed.filter(|port| *port == green.port).count()
    };
    for (old, new, expected) in [(9, 1, 2), (1, 1, 10), (0, 1, 20)] {
        let route = Route::new("/app/", blue.url()).unwrap().weight(old);
        let route = route.server(green.url(), new).unwrap();
        router.apply([route.into()]).unwrap();
        assert_eq!(share(), expected, "{old} to {new}");
    }
    router.add_route("/app/", green.url(), ()).unwrap();
    assert_eq!(share(), 20);
}

/// The cookie of an answer to a client without one, which names its server, and that server's port.
fn first_visit(rig: &Rig) -> (String, u16) {
    let agent = ureq::Agent::config_builder()
        .proxy(None)
        .build()
        .new_agent();
    let mut answer = agent
        .get(format!("{}/app/x", rig.web_url()))
        .call()
        .unwrap();
    let cookies = answer.headers().get_all("set-cookie").into_iter();
    let cookies = cookies.map(|cookie| cookie.to_str().unwrap().to_string());
    // The other one is the server's.
    let mut cookies = cookies.filter(|cookie| !cookie.starts_with("echo="));
    let cookie = cookies.next().unwrap();
    let body: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    let port = body["port"].as_u64().unwrap();
    (cookie.split(';').next().unwrap().into(), port as u16)
}

fn clients_stay_with_healthy_servers(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, one, two) = (rig.start(), Echo::start(), Echo::start());
    let route = Route::new("/app/", one.url()).unwrap();
    let route = route.server(two.url(), 1).unwrap();
    let route = route.sticky_cookie("app-server").unwrap();
    let route = route
        .health_check("/health", Duration::from_millis(100))
        .unwrap();
    router.apply([route.into()]).unwrap();
    let clients: Vec<_> = (0..6).map(|_| first_visit(&rig)).collect();
    for echo in [&one, &two] {
        assert!(
            clients.iter().any(|(_, port)| *port == echo.port),
            "{clients:?}"
        );
    }
    let lands = |cookie: &str| with_header(&rig, ("Cookie", cookie));
    for _ in 0..5 {
        for (cookie, port) in &clients {
            assert!(cookie.starts_with("app-server="), "{cookie}");
            assert_eq!(lands(cookie).landed(), Some(*port));
        }
    }
    let gone = two.port;
    drop(two);
    let reaches_one = |cookie: &str| {
        let answer = lands(cookie);
        answer.status == 200 && answer.landed() == Some(one.port)
    };
    eventually("all clients reach the server that is left", || {
        (0..3).all(|_| clients.iter().all(|(cookie, _)| reaches_one(cookie)))
    });
    // They stayed with it as long as it was there.
    assert!(clients.iter().any(|(_, port)| *port == gone));
}

/// Traefik makes up a name that changes with the service's.
fn nameless_cookies_end_with_their_service(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, one, two) = (rig.start(), Echo::start(), Echo::start());
    let name_with = |weight: u32| {
        let route = Route::new("/app/", one.url()).unwrap();
        let route = route.server(two.url(), weight).unwrap();
        let route = route.service_config(json!({"sticky": {"cookie": {"secure": false}}}));
        router.apply([route.unwrap().into()]).unwrap();
        let (cookie, port) = first_visit(&rig);
        for _ in 0..4 {
            let landed = with_header(&rig, ("Cookie", &cookie)).landed();
            assert_eq!(landed, Some(port), "{cookie}");
        }
        cookie.split('=').next().unwrap().to_string()
    };
    assert_ne!(name_with(1), name_with(2));
}

/// The certificate comes from an authority by ACME.
fn host_is_served_over_https(kind: Kind) {
    let (rig, echo) = (Rig::new(kind), Echo::start());
    let pebble = Pebble::start(rig.web);
    let resolver = json!({"acme": {
        "email": "admin@example.org", "storage": rig.path("acme.json"), "tlsChallenge": {},
        "caServer": pebble.directory(), "caCertificates": [pebble.ca.path("ca.pem")],
    }});
    let resolvers = json!({"certificatesResolvers": {"letsencrypt": resolver}});
    let router = https(&rig).extra_static_config(resolvers).start().unwrap();
    let other = Route::new("/", "http://127.0.0.1:9").unwrap();
    let route = Route::new("localhost/", echo.url()).unwrap();
    let route = route.cert_resolver("letsencrypt").unwrap();
    router.apply([route.into(), other.into()]).unwrap();
    let root = agent(&pebble.ca.pem).get(pebble.root()).call().unwrap();
    let root = root.into_body().read_to_string().unwrap();
    let client = agent(&root);
    let url = format!("https://localhost:{}/x", rig.web);
    // Traefik makes a key of 4096 bits first.
    let deadline = Instant::now() + Duration::from_secs(120);
    let answer = loop {
        match client.get(&url).call() {
            Ok(answer) => break answer,
            Err(error) => assert!(Instant::now() < deadline, "{error}: {}", pebble.log()),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let seen = answer.into_body().read_to_string().unwrap();
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(
        (&seen["port"], &seen["path"]),
        (&json!(echo.port), &json!("/x"))
    );
    assert_eq!(seen["headers"]["x-forwarded-proto"], "https");
    // Another host has no such certificate.
    let another = format!("https://127.0.0.1:{}/x", rig.web);
    assert!(client.get(&another).call().is_err());
    assert_eq!(rig.api().refused_routers().unwrap(), []);
}

/// A client that trusts this root alone.
fn agent(root: &str) -> ureq::Agent {
    let root = Certificate::from_pem(root.as_bytes()).unwrap();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[root]));
    let config = ureq::Agent::config_builder().tls_config(tls.build());
    config
        .proxy(None)
        .max_idle_connections(0)
        .build()
        .new_agent()
}
