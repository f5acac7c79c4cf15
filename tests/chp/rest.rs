//! The REST API: the same cases for ours and for the real configurable-http-proxy.

use std::process::Command;
use std::time::Instant;

use kit::traefik::External;
use kit::{Echo, ports};
use serde_json::{Value, json};

use crate::support::Proxy;
use crate::support::proxy::{Answer, TOKEN, real};

/// Method, path below `/api/routes`, body.
const CASES: &[(&str, &str, &str)] = &[
    ("GET", "", ""),
    ("GET", "/", ""),
    (
        "POST",
        "",
        r#"{"target": "http://127.0.0.1:9", "x": [1, {"y": null}]}"#,
    ),
    ("GET", "/", ""),
    (
        "POST",
        "/user/zoe",
        r#"{"user": "zoe", "target": "http://127.0.0.1:9", "jupyterhub": true}"#,
    ),
    ("GET", "/user/zoe", ""),
    ("GET", "/user/zoe/", ""),
    ("GET", "/user", ""),
    ("GET", "/user/zoe/more", ""),
    (
        "POST",
        "/user/zoe",
        r#"{"target": "http://127.0.0.1:10/base"}"#,
    ),
    ("GET", "/user/zoe", ""),
    (
        "POST",
        "/has%20space/%40/%C3%A9",
        r#"{"target": "http://127.0.0.1:9/"}"#,
    ),
    (
        "POST",
        "/50%25/a%2Bb/%23",
        r#"{"target": "http://127.0.0.1:9"}"#,
    ),
    ("GET", "", ""),
    ("GET", "?inactive_since=2001-01-01T00:00:00.000Z", ""),
    ("GET", "?inactive_since=2001-01-01T00:00:00", ""),
    ("GET", "?inactiveSince=2001-01-01T00:00:00.000Z", ""),
    ("GET", "?inactive_since=", ""),
    ("GET", "?inactive_since=yesterday", ""),
    ("GET", "/has%20space/%40/%C3%A9", ""),
    ("DELETE", "/has%20space/%40/%C3%A9", ""),
    ("DELETE", "/has%20space/%40/%C3%A9", ""),
    ("DELETE", "/50%25/a%2Bb/%23", ""),
    ("DELETE", "/user/zoe/", ""),
    ("DELETE", "/nobody", ""),
    ("DELETE", "/", ""),
    ("GET", "", ""),
    ("POST", "/bad", "not JSON"),
    ("POST", "/bad", ""),
    ("POST", "/bad", "{}"),
    ("POST", "/bad", "[]"),
    ("POST", "/bad", "null"),
    ("POST", "/bad", r#"{"target": 5}"#),
    ("GET", "/bad", ""),
    ("PUT", "/user/zoe", "{}"),
    ("PATCH", "", "{}"),
    ("OPTIONS", "", ""),
    ("GET", "x", ""),
];

/// What JupyterHub can see of an answer: the times differ, and the words of a parser.
fn seen(answer: Answer) -> (u16, Value) {
    let mut body = serde_json::from_str(&answer.body).unwrap_or_else(|_| {
        let shown = answer.body.split(": ").next().unwrap_or_default();
        Value::from(shown)
    });
    for route in body
        .as_object_mut()
        .into_iter()
        .flat_map(|routes| routes.values_mut())
    {
        if let Some(route) = route.as_object_mut() {
            route.remove("last_activity");
        }
    }
    if let Some(route) = body.as_object_mut() {
        route.remove("last_activity");
    }
    (answer.status, body)
}

#[test]
#[ignore = "needs configurable-http-proxy; run by `cargo xtask jupyterhub`"]
fn answers_equal_configurable_http_proxys() {
    let real = Proxy::spawn(real(), &[]);
    real.wait_until_ready();
    let ours = Proxy::start(&[]);
    for (method, path, body) in CASES {
        let [expected, found] = [&real, &ours].map(|proxy| seen(proxy.rest(method, path, body)));
        assert_eq!(found, expected, "{method} {path} {body}");
    }
    for (as_whom, path) in [
        ("", "/api/routes"),
        ("token", "/api/routes"),
        ("token wrong", "/api/routes"),
        (TOKEN, "/api/routes"),
        (&format!("Token {TOKEN}"), "/api/routes"),
        (&format!("x token \t {TOKEN} y"), "/api/routes"),
        (&format!("token {TOKEN}"), "/"),
        (&format!("token {TOKEN}"), "/api"),
        ("", "/api"),
    ] {
        let ask = |proxy: &Proxy| seen(proxy.rest_as(as_whom, "GET", path, ""));
        assert_eq!(ask(&ours), ask(&real), "{as_whom:?} {path}");
    }
}

/// The path that the target of `/user/zoe` sees of a request.
fn path_seen(proxy: &Proxy, target: &str, path: &str) -> Value {
    proxy.add("/user/zoe", target);
    proxy.through(path).echo()["path"].clone()
}

const NO_PREFIX: [&str; 1] = ["--no-include-prefix"];
const BELOW_ZOE: [&str; 5] = ["", "/", "/lab?x=/user/zoe", "/user/zoe/%40b%20c", "///a/b"];

#[test]
#[ignore = "needs configurable-http-proxy; run by `cargo xtask jupyterhub`"]
fn paths_equal_configurable_http_proxys() {
    let echo = Echo::start();
    let real = Proxy::spawn(real(), &NO_PREFIX);
    real.wait_until_ready();
    let ours = Proxy::start(&NO_PREFIX);
    // Traefik joins the target's path and what is left with one slash in any case.
    let plain = BELOW_ZOE[..4].iter().map(|below| ("", *below));
    let based = BELOW_ZOE[1..4].iter().map(|below| ("/base", *below));
    for (base, below) in plain.chain(based) {
        let (target, path) = (format!("{}{base}", echo.url()), format!("/user/zoe{below}"));
        let [expected, found] = [&real, &ours].map(|proxy| path_seen(proxy, &target, &path));
        assert_eq!(found, expected, "{base} {path}");
    }
}

#[test]
fn prefix_is_left_out() {
    let (folder, echo) = (tempfile::tempdir().unwrap(), Echo::start());
    let traefik = External::start(folder.path(), None);
    for proxy in [
        Proxy::start(&NO_PREFIX),
        Proxy::attach(&[&traefik], &NO_PREFIX),
    ] {
        let seen =
            BELOW_ZOE.map(|below| path_seen(&proxy, &echo.url(), &format!("/user/zoe{below}")));
        assert_eq!(seen, ["/", "/", BELOW_ZOE[2], BELOW_ZOE[3], "/a/b"]);
        proxy.add("", &echo.url());
        assert_eq!(proxy.through("/x/y").echo()["path"], "/x/y");
        let listed = proxy.get("/user/zoe").json();
        assert_eq!(listed["target"], echo.url());
    }
}

#[test]
fn posted_routes_are_served() {
    let (proxy, echo) = (Proxy::start(&[]), Echo::start());
    let data = json!({"user": "zoë", "server_name": "", "jupyterhub": true, "target": echo.url()});
    for path in ["/user/zo%C3%AB", "/hub", ""] {
        let answer = proxy.rest("POST", path, &data.to_string());
        assert_eq!((answer.status, &*answer.body), (201, ""));
        let landed = proxy.through(&format!("{path}/x?y=z"));
        assert_eq!(landed.landed(), Some(echo.port), "{path}");
        assert_eq!(landed.echo()["path"], format!("{path}/x?y=z"));
    }
    let routes = proxy.get("").json();
    let keys: Vec<_> = routes.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["/", "/hub", "/user/zoë"]);
    let mut shown = proxy.get("/user/zo%C3%AB").json();
    shown.as_object_mut().unwrap().remove("last_activity");
    assert_eq!(shown, data);

    let slash = format!("{}/", echo.url());
    proxy.add("/slash", &slash);
    assert_eq!(
        proxy.get("/slash").json()["target"],
        slash,
        "as it was given"
    );

    assert_eq!(proxy.rest("DELETE", "/user/zo%C3%AB", "").status, 204);
    assert_eq!(proxy.rest("DELETE", "/user/zo%C3%AB", "").status, 404);
    assert_eq!(proxy.get("/user/zo%C3%AB").status, 404);
    assert_eq!(proxy.rest("DELETE", "", "").status, 204);
    assert_eq!(proxy.through("/user/zo%C3%AB/").landed(), None);
    assert!(
        proxy.log().contains("Route added / -> http"),
        "{}",
        proxy.log()
    );
}

#[test]
fn status_tells_what_is_wrong() {
    let proxy = Proxy::start(&[]);
    for (method, path, body, status) in [
        ("POST", "/x", "no JSON", 400),
        ("POST", "/x", "{}", 400),
        ("POST", "/x", "[]", 400),
        ("POST", "/x", r#"{"target": 5}"#, 400),
        ("POST", "/x", r#"{"target": "ftp://h"}"#, 400),
        ("POST", "/a/../b", r#"{"target": "http://h"}"#, 400),
        ("PUT", "/x", "", 405),
        ("HEAD", "", "", 405),
        ("GET", "x", "", 404),
        ("GET", "/x", "", 404),
    ] {
        let answer = proxy.rest(method, path, body);
        assert_eq!(answer.status, status, "{method} {path} {body}: {answer:?}");
    }
    let answer = proxy.rest("POST", "/x", "{}");
    assert_eq!(answer.body, "Must specify 'target' as string");
    let longer = format!("token {TOKEN}x");
    let shorter = &longer[..longer.len() - 2];
    for as_whom in [
        "",
        "token",
        "token wrong",
        TOKEN,
        "Bearer x",
        &longer,
        shorter,
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let answer = proxy.rest_as(as_whom, method, "/api/routes/x", "{}");
            assert_eq!(
                (answer.status, &*answer.body),
                (403, ""),
                "{as_whom} {method}"
            );
        }
    }
    assert_eq!(proxy.get("").json(), json!({}));
    assert!(!proxy.log().contains(TOKEN));
}

#[test]
fn tokenless_proxy_admits_everybody() {
    let open = |command: &mut Command| {
        command.env_remove("CONFIGPROXY_AUTH_TOKEN");
    };
    let proxy = Proxy::start_with(open, &[]);
    assert_eq!(proxy.rest_as("", "GET", "/api/routes", "").status, 200);
    assert!(
        proxy.log().contains("REST API is not authenticated"),
        "{}",
        proxy.log()
    );
}

#[test]
fn concurrent_routes_are_all_served() {
    let (proxy, echo) = (Proxy::start(&[]), Echo::start());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..10 {
            let (proxy, echo) = (&proxy, &echo);
            scope.spawn(move || {
                for n in 0..20 {
                    proxy.add(&format!("/user/u{thread}-{n}"), &echo.url());
                    let landed = proxy.through(&format!("/user/u{thread}-{n}/")).landed();
                    assert_eq!(landed, Some(echo.port));
                }
            });
        }
    });
    println!("200 routes, each asked for once: {:?}", begun.elapsed());
    assert_eq!(proxy.get("").json().as_object().unwrap().len(), 200);
}

#[test]
fn metrics_are_served() {
    let port = ports::free().to_string();
    let (proxy, echo) = (
        Proxy::start(&["--metrics-ip", "127.0.0.1", "--metrics-port", &port]),
        Echo::start(),
    );
    proxy.add("/x", &echo.url());
    let metrics = kit::client::get(port.parse().unwrap(), "h", "/metrics").body;
    for line in [
        "traefik_router_chp_api_requests_total{method=\"POST\",code=\"201\"} 1",
        "traefik_router_chp_routes 1",
        "traefik_router_chp_change_seconds_count{stage=\"served\"} 1",
        "traefik_router_chp_traefik_restarts_total 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
}
