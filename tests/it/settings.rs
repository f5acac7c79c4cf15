//! Routes that ask for more than a target, on a real Traefik.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kit::client::{self, Request, Response};
use kit::tools::TRAEFIK_3_5;
use kit::{Connection, Echo, eventually};
use serde_json::{Value, json};
use traefik_router::{Change, ErrorKind, Nested, Route, Stored};

use crate::support::{Kind, Rig, on_each_backend, on_push, on_redis};

on_each_backend! {
    middlewares_act_on_their_route,
    missing_middleware_is_refused,
    every_setting_reaches_traefik,
    weights_share_requests,
    special_routes_are_served_nested,
    own_service_outlives_its_target,
    prefix_is_stripped,
    zeros_are_served,
    switched_servers_lose_no_request,
    older_traefik_refuses_later_settings,
    settings_outlast_their_router,
}

on_push! {
    middlewares_act_on_their_route,
    missing_middleware_is_refused,
    every_setting_reaches_traefik,
    weights_share_requests,
    special_routes_are_served_nested,
    own_service_outlives_its_target,
    prefix_is_stripped,
    zeros_are_served,
    switched_servers_lose_no_request,
    older_traefik_refuses_later_settings,
}

// Switched servers may lose requests there, while Traefik sees a part of a change.
on_redis! {
    middlewares_act_on_their_route,
    missing_middleware_is_refused,
    every_setting_reaches_traefik,
    weights_share_requests,
    special_routes_are_served_nested,
    own_service_outlives_its_target,
    prefix_is_stripped,
    zeros_are_served,
    older_traefik_refuses_later_settings,
    settings_outlast_their_router,
}

fn strip(prefix: &str) -> Value {
    json!({"stripPrefix": {"prefixes": [prefix]}})
}

/// What Traefik's API has at this path.
fn api(rig: &Rig, path: &str) -> Value {
    // The user name and the password of the rig.
    let login = "Basic anVweXRlcmh1YjptYWRlLXVwLWZvci10ZXN0cw==";
    let request = Request {
        host: "h",
        path,
        headers: &[("Authorization", login)],
        body: b"",
    };
    request.send(rig.api).echo()
}

/// The path that a request had when it reached its server.
fn path_at_server(rig: &Rig, path: &str) -> Value {
    rig.get("h", path).echo()["path"].take()
}

fn path_or_status(rig: &Rig) -> Value {
    let answer = rig.get("h", "/app/x");
    match answer.status {
        200 => answer.echo()["path"].take(),
        status => status.into(),
    }
}

fn with_cookie(rig: &Rig, path: &str, cookie: &str) -> Response {
    let request = Request {
        host: "h",
        path,
        headers: &[("Cookie", cookie)],
        body: b"",
    };
    request.send(rig.web)
}

fn middlewares_act_on_their_route(kind: Kind) {
    let rig = Rig::new(kind);
    let add = json!({"headers": {"customRequestHeaders": {"X-Added": "{{yes}}"}}});
    let router = rig.start_with_middlewares(&json!({"strip": strip("/app"), "add": add}));
    let echo = Echo::start();
    let plain = |spec| Route::new(spec, echo.url()).unwrap();
    let stripped = plain("/app/").middleware("strip@file").unwrap();
    let both = stripped.clone().middleware("add@file").unwrap();
    let done = router
        .apply([both.clone().into(), plain("/other/").into()])
        .unwrap();
    assert_eq!(done.added.len(), 2);
    assert_eq!(path_at_server(&rig, "/app/x"), "/x");
    assert_eq!(path_at_server(&rig, "/other/x"), "/other/x");
    let seen = rig.get("h", "/app/x").echo();
    let headers = seen["headers"].to_string().to_lowercase();
    assert!(
        headers.contains("x-added") && headers.contains("{{yes}}"),
        "{headers}"
    );
    let second = rig.builder().offline().unwrap();
    for router in [&router, &second] {
        assert_eq!(*router.get_route("/app/").unwrap().unwrap(), both);
    }
    // Each difference is a change, and nothing else is.
    for (route, path) in [(stripped, "/x"), (plain("/app/"), "/app/x"), (both, "/x")] {
        let desired = [route.clone(), plain("/other/")];
        let done = router.reconcile(desired.clone()).unwrap();
        assert_eq!((done.changed.len(), done.added.len()), (1, 0));
        assert_eq!(path_at_server(&rig, "/app/x"), path);
        let again = router.reconcile(desired).unwrap();
        assert_eq!(
            (again.changed.len(), again.generation),
            (0, done.generation)
        );
    }
}

fn missing_middleware_is_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let router = rig.start_with_middlewares(&json!({"strip": strip("/app")}));
    let echo = Echo::start();
    let route = |spec, middleware| {
        let route = Route::new(spec, echo.url()).unwrap();
        Change::from(route.middleware(middleware).unwrap())
    };
    let refused = |changes: Vec<Change>, spec: &str| {
        let error = router.apply(changes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert_eq!(*error.stored(), Stored::All);
        let error = error.to_string();
        let words = "middleware \"nobody@file\" does not exist";
        assert!(
            error.contains(words) && error.contains(&format!("route {spec}:")),
            "{error}"
        );
    };
    refused(vec![route("/app/", "nobody@file")], "/app/");
    let several = [route("/a/", "strip@file"), route("/b/", "nobody@file")];
    refused(several.into(), "/b/");
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    router
        .apply([route("/app/", "strip@file"), route("/b/", "strip@file")])
        .unwrap();
    assert_eq!(path_at_server(&rig, "/app/x"), "/x");
}

/// Settings of a service and of a router, all that Traefik 3.5 knows.
fn known_since_3_5() -> [Value; 2] {
    let service = json!({
        "healthCheck": {
            "followRedirects": false, "headers": {"X-Check": "{{1}}"}, "hostname": "h.x", "interval": "1m30s",
            "method": "HEAD", "mode": "http", "path": "/health", "port": 81, "scheme": "https",
            "status": 204, "timeout": "3s", "unhealthyInterval": "20s",
        },
        "passHostHeader": false,
        "responseForwarding": {"flushInterval": "50ms"},
        "serversTransport": "theirs@file",
        "sticky": {"cookie": {
            "domain": "h.x", "httpOnly": true, "maxAge": 60, "name": "stuck", "path": "/a",
            "sameSite": "lax", "secure": true,
        }},
        "strategy": "p2c",
    });
    let router = json!({
        "observability": {
            "accessLogs": false, "metrics": false, "traceVerbosity": "detailed", "tracing": false,
        },
        "tls": {
            "certResolver": "nobody", "domains": [{"main": "h.x", "sans": ["i.x", "j.x"]}],
            "options": "theirs@file",
        },
    });
    [service, router]
}

/// A Traefik with what these settings name.
fn theirs() -> Value {
    json!({
        "http": {"serversTransports": {"theirs": {"insecureSkipVerify": true}}},
        "tls": {"options": {"theirs": {"minVersion": "VersionTLS12"}}},
    })
}

/// Whether Traefik's answer has all of a configuration.
#[track_caller]
fn check_shown(shown: &Value, set: &Value, path: &str) {
    match set {
        Value::Object(map) => {
            for (name, value) in map {
                check_shown(&shown[name], value, &format!("{path}.{name}"));
            }
        }
        set => assert_eq!(shown, set, "{path}"),
    }
}

fn every_setting_reaches_traefik(kind: Kind) {
    let rig = Rig::new(kind);
    let router = rig
        .builder()
        .extra_dynamic_config(theirs())
        .start()
        .unwrap();
    let [mut service, settings] = known_since_3_5();
    service["passiveHealthCheck"] = json!({"failureWindow": "4s", "maxFailedAttempts": 7});
    let plain = || Route::new("h.x/a/", "http://127.0.0.1:9/base").unwrap();
    let route = plain()
        .weight(3)
        .server("http://127.0.0.1:10", 2)
        .unwrap()
        .service_config(service.clone())
        .unwrap()
        .router_config(settings.clone())
        .unwrap();
    router.apply([route.clone().into()]).unwrap();
    let name = router.router_name(&route.spec);
    let shown = api(&rig, &format!("/api/http/routers/{name}"));
    check_shown(&shown, &settings, "router");
    let provider = name.split('@').nth(1).unwrap();
    let service_at = format!("{}@{provider}", shown["service"].as_str().unwrap());
    let shown = api(&rig, &format!("/api/http/services/{service_at}"));
    check_shown(&shown["loadBalancer"], &service, "service");
    let servers = &shown["loadBalancer"]["servers"];
    let base = json!({"url": "http://127.0.0.1:9/base", "weight": 3, "preservePath": true});
    assert_eq!(
        *servers,
        json!([base, {"url": "http://127.0.0.1:10", "weight": 2}])
    );
    // What is left out is what Traefik's defaults are, however it learns of the route.
    let checked = plain()
        .health_check("/health", Duration::from_secs(10))
        .unwrap();
    router
        .apply([checked.sticky_cookie("stuck").unwrap().into()])
        .unwrap();
    let shown = api(&rig, &format!("/api/http/routers/{name}"));
    let service_at = format!("{}@{provider}", shown["service"].as_str().unwrap());
    let shown = api(&rig, &format!("/api/http/services/{service_at}"));
    let expected = json!({
        "healthCheck": {
            "followRedirects": true, "interval": "10s", "mode": "http", "path": "/health", "timeout": "5s",
        },
        "passHostHeader": true,
        "responseForwarding": {"flushInterval": "100ms"},
        "servers": [{"url": "http://127.0.0.1:9/base", "preservePath": true}],
        "sticky": {"cookie": {"name": "stuck", "path": "/"}},
        "strategy": "wrr",
    });
    assert_eq!(shown["loadBalancer"], expected);
}

/// Traefik's API leaves zeros out, and has each header once.
fn zeros_are_served(kind: Kind) {
    let (rig, echo) = (Rig::new(kind), Echo::start());
    let router = rig.start();
    let settings = json!({
        "healthCheck": {
            "path": "/", "interval": "0s", "timeout": "0s", "unhealthyInterval": "0h0m0s", "port": 0,
            "headers": {"X-Check": "1", "x-check": "2", "X-Other": "3"},
        },
        "passiveHealthCheck": {"failureWindow": "0ms", "maxFailedAttempts": 0},
        "responseForwarding": {"flushInterval": "0s"},
        "sticky": {"cookie": {"maxAge": 0, "secure": false}},
    });
    let route = Route::new("/a/", echo.url()).unwrap();
    let route = route.service_config(settings).unwrap();
    router.apply([route.into()]).unwrap();
    assert_eq!(rig.landed("h", "/a/x"), Some(echo.port));
}

fn weights_share_requests(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, one, two) = (rig.start(), Echo::start(), Echo::start());
    let route = |weight, other| {
        let route = Route::new("/app/", one.url()).unwrap().weight(weight);
        route.server(two.url(), other).unwrap()
    };
    let share = |route: Route| {
        router.apply([route.into()]).unwrap();
        let landed = (0..40).map(|_| rig.landed("h", "/app/x").unwrap());
        landed.filter(|port| *port == two.port).count()
    };
    assert_eq!(share(route(1, 1)), 20);
    assert_eq!(share(route(3, 1)), 10);
    assert_eq!(share(route(0, 1)), 40);
    assert_eq!(share(route(1, 0)), 0);
    let sticky = route(1, 1).sticky_cookie("stuck").unwrap();
    router.apply([sticky.into()]).unwrap();
    let name = router.router_name(&route(1, 1).spec);
    // A request without the cookie gets one, which names a server.
    let cookie = |port| {
        let answers = std::iter::repeat_with(|| raw(&rig, "/app/x"));
        let answer = answers
            .take(9)
            .find(|answer| answer.contains(&format!("\"port\":{port}")));
        let answer = answer.unwrap_or_else(|| panic!("{name} has no server {port}"));
        let (_, cookie) = answer.split_once("stuck=").unwrap();
        format!("stuck={}", cookie.split([';', '\r']).next().unwrap())
    };
    for echo in [&one, &two] {
        let cookie = cookie(echo.port);
        for _ in 0..6 {
            assert_eq!(
                with_cookie(&rig, "/app/x", &cookie).landed(),
                Some(echo.port)
            );
        }
    }
}

/// An answer with its head.
fn raw(rig: &Rig, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", rig.web)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Routes with settings that only a router at the top may have, among hundreds that are nested.
fn special_routes_are_served_nested(kind: Kind) {
    let rig = Rig::new(kind);
    let extra = json!({"http": {"middlewares": {"strip": strip("/user")}}});
    let builder = rig.builder().extra_dynamic_config(extra);
    let router = builder.nested_routers(Nested::Always).start().unwrap();
    let [hub, user, quiet, deep] = [(); 4].map(|()| Echo::start());
    let stripped = |spec: &str, echo: &Echo| {
        let route = Route::new(spec, echo.url()).unwrap();
        route.middleware("strip@file").unwrap()
    };
    let special = |spec, echo| stripped(spec, echo).observability(false, false, false);
    let users = (0..100).map(|n| stripped(&format!("/user/n{n}/"), &user));
    let fixed = [
        stripped("/", &hub),
        stripped("/x/", &hub),
        special("/user/n7/", &quiet),
        stripped("/user/n7/lab/", &deep),
        special("/user/n8/lab/", &deep),
        stripped("/user/", &hub),
    ];
    router.reconcile(users.chain(fixed.clone())).unwrap();
    let check = |quiet: &Echo| {
        for (path, echo, seen) in [
            ("/user/n7/x", quiet, "/n7/x"),
            ("/user/n7/lab/x", &deep, "/n7/lab/x"),
            ("/user/n8/x", &user, "/n8/x"),
            ("/user/n8/lab", &deep, "/n8/lab"),
            ("/user/n9/lab", &user, "/n9/lab"),
            // Below a parent it is another router that takes what is left, with the same middlewares.
            ("/user/nobody", &hub, "/nobody"),
            ("/user/n99x", &hub, "/n99x"),
            ("/x/y", &hub, "/x/y"),
        ] {
            let answer = rig.get("h", path).echo();
            assert_eq!(answer["port"], echo.port, "{path}");
            assert_eq!(answer["path"], seen, "{path}");
        }
        assert_eq!(rig.api().refused_routers().unwrap(), []);
    };
    check(&quiet);
    // A route that was there begins to stand at the top, and ends to.
    router
        .apply([stripped("/user/n7/", &quiet).into()])
        .unwrap();
    check(&quiet);
    router.apply([special("/user/n7/", &user).into()]).unwrap();
    check(&user);
    router.apply([special("/user/", &hub).into()]).unwrap();
    check(&user);
    // One that is refused takes nothing from its neighbours.
    let missing = Route::new("/user/n50/", user.url()).unwrap();
    let missing = missing.middleware("nobody@file").unwrap();
    let error = router.apply([missing.into()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    for (n, served) in [(49, true), (50, false), (51, true)] {
        let status = rig.get("h", &format!("/user/n{n}/x")).status;
        assert_eq!(status == 200, served, "{n}: {status}");
    }
}

fn prefix_is_stripped(kind: Kind) {
    let (rig, echo) = (Rig::new(kind), Echo::start());
    let named = json!({"headers": {"customRequestHeaders": {"X-Named": "1"}}});
    let router = rig.builder().nested_routers(Nested::Always);
    let router = router.extra_dynamic_config(json!({"http": {"middlewares": {"named": named}}}));
    let router = router.start().unwrap();
    let route = |path: &str| Route::new(path, echo.url()).unwrap();
    let both = route("/both/").strip_prefix();
    router
        .apply([both.middleware("named@file").unwrap().into()])
        .unwrap();
    assert_eq!(path_at_server(&rig, "/both/x"), "/x");
    let paths = ["/app/", "/user/a%20b@c,d/", "/user/1.5/", "h.x/", "/team/"];
    let stripped = paths.map(|path| route(path).strip_prefix().into());
    // Requests for `/team/` alone pass the router for what others leave.
    let whole = (0..9).map(|n| route(&format!("/team/{n}/")).into());
    router.apply(whole.chain(stripped)).unwrap();
    let seen = |host: &str, path: &str| rig.get(host, path).echo()["path"].clone();
    for (host, path, expected) in [
        ("h", "/app", "/"),
        ("h", "/app/", "/"),
        ("h", "/app/x?y=/app/z", "/x?y=/app/z"),
        ("h", "/user/a%20b@c,d/x%2Fy", "/x%2Fy"),
        ("h", "/user/a%20b%40c%2cd/x", "/x"),
        ("h", "/user/1.5/%C3%A9", "/%C3%A9"),
        ("h.x", "/app/x", "/app/x"),
        ("h", "/team/x", "/x"),
        ("h", "/team/3/x", "/team/3/x"),
    ] {
        assert_eq!(seen(host, path), expected, "{path}");
    }
    let name = router.router_name(&route("/app/").spec);
    assert!(rig.api().middleware(&name).unwrap().is_some());
    router.repair().unwrap();
    router.apply([route("/app/").into()]).unwrap();
    assert_eq!(seen("h", "/app/x"), "/app/x");
    assert!(rig.api().middleware(&name).unwrap().is_none());
    router.delete_route("/user/1.5/").unwrap();
    assert_eq!(rig.api().refused_routers().unwrap(), []);
}

fn own_service_outlives_its_target(kind: Kind) {
    let rig = Rig::new(kind);
    let router = rig.start();
    let [one, two, shared] = [(); 3].map(|()| Echo::start());
    let route = |echo: &Echo| Route::new("/app/", echo.url()).unwrap().own_service();
    router
        .apply([
            route(&one).into(),
            Change::set("/other/", shared.url()).unwrap(),
        ])
        .unwrap();
    let service = router.router_name(&route(&one).spec);
    router.stop().unwrap();
    let mut by_hand = json!({"rule": "Path(`/by-hand`)", "entryPoints": ["http"]});
    by_hand["service"] = service.into();
    let extra = json!({"http": {"routers": {"by-hand": by_hand}}});
    let router = rig.builder().extra_dynamic_config(extra).start().unwrap();
    assert_eq!(rig.landed("h", "/by-hand"), Some(one.port));
    let several = route(&two).weight(0).server(one.url(), 1).unwrap();
    for (route, echo) in [
        (route(&two), &two),
        (several, &one),
        (route(&shared), &shared),
        (route(&one), &one),
    ] {
        router.apply([route.into()]).unwrap();
        for path in ["/app/x", "/by-hand"] {
            assert_eq!(rig.landed("h", path), Some(echo.port), "{path}");
        }
        assert_eq!(rig.landed("h", "/other/"), Some(shared.port));
        assert_eq!(rig.api().refused_routers().unwrap(), []);
    }
    let left = rig.api().services().unwrap();
    router
        .apply([Change::set("/app/", one.url()).unwrap()])
        .unwrap();
    let now = rig.api().services().unwrap();
    assert_eq!(now.len(), left.len(), "its own service is gone");
}

/// Blue and green: requests go on while servers and weights change.
fn switched_servers_lose_no_request(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, [blue, green, red]) = (rig.start(), [(); 3].map(|()| Echo::start()));
    let route = |own: bool| {
        let route = Route::new("/app/", blue.url()).unwrap();
        if own { route.own_service() } else { route }
    };
    let known = [&blue, &green, &red].map(|echo| format!("\"port\":{}", echo.port));
    router.apply([route(false).into()]).unwrap();
    let (stop, asked) = (
        AtomicBool::new(false),
        [(); 2].map(|()| AtomicUsize::new(0)),
    );
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (stop, asked, known, rig) = (&stop, &asked, &known, &rig);
            scope.spawn(move || {
                // Some connect anew for each request, the others once.
                let is_kept = thread % 2 == 0;
                let mut kept = Connection::new(rig.web, None);
                while !stop.load(Ordering::Relaxed) {
                    let (status, body) = match is_kept {
                        true => {
                            let (status, body) = kept.get("/app/x").unwrap();
                            (status, String::from_utf8_lossy(body).into_owned())
                        }
                        false => {
                            let answer = client::get(rig.web, "h", "/app/x");
                            (answer.status, answer.body)
                        }
                    };
                    let is_known = known.iter().any(|port| body.contains(port));
                    assert!(status == 200 && is_known, "{status} {body}");
                    asked[usize::from(is_kept)].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for n in 0..40 {
            let all = |weights: [u32; 3]| {
                let route = route(n % 2 == 1).weight(weights[0]);
                let route = route.server(green.url(), weights[1]).unwrap();
                route.server(red.url(), weights[2]).unwrap()
            };
            for (weights, expected) in [
                ([9, 1, 0], None),
                ([1, 9, 5], None),
                ([0, 0, 1], Some(red.port)),
                ([0, 1, 0], Some(green.port)),
            ] {
                router.apply([all(weights).into()]).unwrap();
                let landed = rig.landed("h", "/app/x");
                assert!(expected.is_none() || landed == expected, "{landed:?}");
            }
            router.apply([route(n % 3 == 1).into()]).unwrap();
            assert_eq!(rig.landed("h", "/app/x"), Some(blue.port));
        }
        stop.store(true, Ordering::Relaxed);
    });
    for asked in asked {
        assert!(asked.into_inner() > 100);
    }
}

fn older_traefik_refuses_later_settings(kind: Kind) {
    let rig = Rig::new(kind);
    let builder = || rig.builder().traefik_bin(TRAEFIK_3_5.path());
    let router = builder().extra_dynamic_config(theirs()).start().unwrap();
    let echo = Echo::start();
    router.add_route("/other/", echo.url(), ()).unwrap();
    let [service, settings] = known_since_3_5();
    let plain = || Route::new("h.x/a/", "http://127.0.0.1:9").unwrap();
    let route = plain().service_config(service.clone()).unwrap();
    let route = route.router_config(settings).unwrap();
    router.apply([route.clone().into()]).unwrap();
    let name = router.router_name(&route.spec);
    let provider = name.split('@').nth(1).unwrap();
    let shown = api(&rig, &format!("/api/http/routers/{name}"));
    let service_at = format!("{}@{provider}", shown["service"].as_str().unwrap());
    let shown = api(&rig, &format!("/api/http/services/{service_at}"));
    check_shown(&shown["loadBalancer"], &service, "service");
    assert_eq!(rig.landed("h", "/other/"), Some(echo.port));
    // It would reject the whole table, or serve the route without this.
    let later = json!({"passiveHealthCheck": {"maxFailedAttempts": 3}});
    let later = plain().service_config(later).unwrap();
    let why = "route h.x/a/: passiveHealthCheck needs Traefik 3.6 or later, and this one is 3.5";
    let before = rig.rules_text();
    let error = router.add_route("*.x/", echo.url(), ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRoute);
    let wildcard = "route *.x/: a wildcard host needs Traefik 3.7 or later, and this one is 3.5";
    assert_eq!(error.to_string(), wildcard);
    for error in [
        router.apply([later.clone().into()]).unwrap_err(),
        router.reconcile([later.clone()]).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidRoute);
        assert_eq!(error.to_string(), why);
    }
    assert_eq!(rig.rules_text(), before);
    router.stop().unwrap();
    rig.builder()
        .offline()
        .unwrap()
        .apply([later.into()])
        .unwrap();
    let before = rig.rules_text();
    let error = builder().start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert_eq!(error.to_string(), why);
    assert_eq!(rig.rules_text(), before);
}

/// What one program has stored another one serves, and reads.
fn settings_outlast_their_router(kind: Kind) {
    let rig = Rig::new(kind);
    let offline = rig.builder().offline().unwrap();
    let echo = Echo::start();
    let route = Route::new("/app/", "http://127.0.0.1:9").unwrap().weight(0);
    let route = route
        .server(echo.url(), 1)
        .unwrap()
        .middleware("strip@file")
        .unwrap();
    offline.apply([route.clone().into()]).unwrap();
    let router = rig.start_with_middlewares(&json!({"strip": strip("/app")}));
    assert_eq!(path_at_server(&rig, "/app/x"), "/x");
    assert_eq!(*router.resolve("h", "/app/x").unwrap().unwrap(), route);
    // What was changed by hand is written again.
    let text = rig.rules_text();
    let by_hand = match kind {
        _ if !kind.is_file() => text.replace(
            "middlewares/0 \"strip@file\"",
            "middlewares/0 \"nobody@file\"",
        ),
        #[cfg(feature = "yaml")]
        Kind::Yaml => text.replace(",\"middlewares\":[\"strip@file\"]}\n", "}\n"),
        _ => text.replace(
            "middlewares = ['strip@file']",
            "middlewares = ['nobody@file']",
        ),
    };
    assert_ne!(by_hand, text);
    rig.write_rules(&by_hand);
    eventually("what was written by hand is loaded", || {
        path_or_status(&rig) != "/x"
    });
    router.repair().unwrap();
    assert_eq!(path_at_server(&rig, "/app/x"), "/x");
}
