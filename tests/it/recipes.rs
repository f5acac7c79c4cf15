//! The recipes of docs/routes.md.

use std::time::Duration;

use kit::client::{Request, Response};
use kit::{Echo, eventually};
use serde_json::json;
use traefik_router::Route;

use crate::protocols::{get_https, https};
use crate::support::{Kind, Rig, on_each_backend_and_push};

on_each_backend_and_push! {
    prefix_is_stripped,
    rate_is_limited,
    password_is_asked_for,
    canary_gets_its_share,
    clients_stay_with_healthy_servers,
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
    let landed: Vec<_> = (0..4).map(|_| rig.landed("h", "/app/x")).collect();
    for echo in [&one, &two] {
        assert!(landed.contains(&Some(echo.port)), "{landed:?}");
    }
    drop(two);
    let all_reach_one = || (0..4).all(|_| rig.landed_or_error("/app/x") == Some(one.port));
    eventually("requests reach the server that is left", all_reach_one);
}

fn host_is_served_over_https(kind: Kind) {
    let (rig, echo) = (Rig::new(kind), Echo::start());
    // Nobody answers there, so that the certificate is Traefik's default one.
    let resolver = json!({"acme": {
        "email": "admin@example.org", "storage": rig.path("acme.json"), "tlsChallenge": {},
        "caServer": "http://127.0.0.1:9/directory",
    }});
    let resolvers = json!({"certificatesResolvers": {"letsencrypt": resolver}});
    let router = https(&rig).extra_static_config(resolvers).start().unwrap();
    let route = Route::new("127.0.0.1/", echo.url()).unwrap();
    let route = route.cert_resolver("letsencrypt").unwrap();
    router.apply([route.into()]).unwrap();
    let seen = get_https(&rig, "/x", None).unwrap();
    assert_eq!(seen["headers"]["x-forwarded-proto"], "https");
    assert_eq!(rig.api().refused_routers().unwrap(), []);
}
