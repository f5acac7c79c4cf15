//! The client of Traefik's API by itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kit::server::response;
use kit::{Echo, Server, ports};
use serde_json::{Value, json};
use traefik_router::ErrorKind;
use traefik_router::traefik::Api;

use crate::support::{Kind, Rig};

#[test]
fn real_traefiks_answers_are_read() {
    let rig = Rig::new(Kind::Toml);
    let (router, echo) = (rig.start(), Echo::start());
    let extra = json!({"http": {"routers": {"bad": {
        "rule": "PathPrefix(`/bad`)", "service": "none", "entryPoints": ["http"]}}}});
    router
        .add_route("/user/zoe/", echo.url(), json!(null))
        .unwrap();
    let api = rig.api();
    assert!(api.version().unwrap().version.starts_with("3."));
    assert_eq!(
        api.version().unwrap().start_date,
        api.version().unwrap().start_date
    );
    assert_eq!(api.overview().unwrap()["providers"], json!(["File"]));
    let entrypoints = api.entrypoints().unwrap();
    let names: Vec<_> = entrypoints
        .iter()
        .map(|entrypoint| &*entrypoint.name)
        .collect();
    assert_eq!(names, ["auth_api", "http"]);
    assert_eq!(entrypoints[1].address, format!("127.0.0.1:{}", rig.web));

    let routers = api.routers().unwrap();
    let ours = routers
        .iter()
        .find(|router| router.rule.contains("/user/zoe/"))
        .unwrap();
    assert_eq!(
        (&*ours.status, &*ours.entry_points),
        ("enabled", &["http".to_string()][..])
    );
    assert!(ours.name.ends_with("-user-zoe@file"), "{ours:?}");
    let spec = traefik_router::RouteSpec::new("/user/zoe").unwrap();
    assert_eq!(router.router_name(&spec), ours.name);
    assert_eq!(api.router(&ours.name).unwrap().as_ref(), Some(ours));
    assert_eq!(api.router("none@file").unwrap(), None);

    let services = api.services().unwrap();
    let service = services
        .iter()
        .find(|service| service.used_by.contains(&ours.name))
        .unwrap();
    assert_eq!(service.load_balancer["servers"][0]["url"], echo.url());
    let middlewares = api.middlewares().unwrap();
    let auth = middlewares
        .iter()
        .find(|middleware| middleware.name == "traefik-router-api-auth@file")
        .unwrap();
    assert!(auth.settings.contains_key("basicAuth"));
    assert_eq!(api.middleware(&auth.name).unwrap().as_ref(), Some(auth));
    assert_eq!(api.middleware("none@file").unwrap(), None);

    assert_eq!(api.refused_routers().unwrap(), []);
    let router = {
        drop(router);
        rig.builder().extra_dynamic_config(extra).start().unwrap()
    };
    let refused = api.refused_routers().unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (&*refused[0].name, &*refused[0].status),
        ("bad@file", "disabled")
    );
    assert!(
        refused[0].error.join(" ").contains("none@file"),
        "{refused:?}"
    );
    drop(router);
    assert_eq!(api.version().unwrap_err().kind(), ErrorKind::Unavailable);
}

/// An API that gives each request the next of these answers, and the paths that were asked for.
fn fake(answers: Vec<(u16, &'static str, Value)>) -> (Server, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let answers = Mutex::new(answers.into_iter());
    let server = Server::answering(move |request| {
        let (status, headers, body) = answers.lock().unwrap().next()?;
        seen.lock().unwrap().push(request.path.clone());
        Some(response(status, headers, body.to_string().as_bytes()))
    });
    (server, asked)
}

#[test]
fn all_list_pages_are_read() {
    let page = |name: &str| json!([{"name": name, "status": "disabled", "error": ["why"]}]);
    let (server, asked) = fake(vec![
        (200, "X-Next-Page: 2\r\n", page("a@file")),
        (200, "X-Next-Page: 3\r\n", page("b@file")),
        (200, "X-Next-Page: 1\r\n", page("c@file")),
    ]);
    let routers = Api::new(server.url()).unwrap().refused_routers().unwrap();
    let names: Vec<_> = routers.iter().map(|router| &*router.name).collect();
    assert_eq!(names, ["a@file", "b@file", "c@file"]);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 3);
    for (n, path) in asked.iter().enumerate() {
        assert!(
            path.starts_with("/api/http/routers?status=disabled&per_page="),
            "{path}"
        );
        assert!(path.ends_with(&format!("&page={}", n + 1)), "{path}");
    }
}

#[test]
fn bad_answers_have_their_kind() {
    for (status, body, kind) in [
        (401, json!(null), ErrorKind::Unauthorized),
        (403, json!(null), ErrorKind::Unauthorized),
        (404, json!(null), ErrorKind::Protocol),
        (302, json!(null), ErrorKind::Protocol),
        (500, json!(null), ErrorKind::Unavailable),
        (503, json!(null), ErrorKind::Unavailable),
        (200, json!("no version"), ErrorKind::Protocol),
    ] {
        let (server, _) = fake(vec![(status, "", body)]);
        let error = Api::new(server.url()).unwrap().version().unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {error}");
        assert!(error.to_string().contains(&server.url()), "{error}");
    }
}

#[test]
fn unreachable_api_fails_in_time() {
    let silent = ports::listen();
    for port in [silent.local_addr().unwrap().port(), ports::free()] {
        let api = Api::new(format!("http://127.0.0.1:{port}")).unwrap();
        let start = std::time::Instant::now();
        let error = api
            .timeout(Duration::from_millis(200))
            .version()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn endless_list_is_given_up() {
    let endless = Server::answering(|request| {
        let page = request.path.rsplit('=').next();
        let page: u64 = page.and_then(|page| page.parse().ok()).unwrap();
        let next = format!("X-Next-Page: {}\r\n", page + 1);
        Some(response(200, &next, b"[]"))
    });
    let api = Api::new(endless.url()).unwrap();
    let api = api.timeout(Duration::from_millis(100));
    let error = api.routers().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("has no end"), "{error}");
}
