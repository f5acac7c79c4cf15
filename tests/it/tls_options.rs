//! TLS options, which Traefik chooses by the host.

use serde_json::json;
use traefik_router::{Change, Error, ErrorKind, Route, Router, Stored};

use crate::support::{Kind, Rig, on_each_backend, on_push};

on_each_backend! {
    differing_tls_options_are_refused,
}

on_push! {
    differing_tls_options_are_refused,
}

fn with(spec: &str, options: &str) -> Route {
    let route = Route::new(spec, "http://t").unwrap();
    let tls = json!({"tls": {"options": options}});
    route.router_config(tls).unwrap()
}

fn plain(spec: &str) -> Route {
    Route::new(spec, "http://t").unwrap()
}

#[track_caller]
fn refused(error: &Error, spec: &str, other: &str) {
    assert_eq!(error.kind(), ErrorKind::InvalidRoute, "{error}");
    assert_eq!(*error.stored(), Stored::Nothing);
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("route {spec}: it asks for")),
        "{text}"
    );
    assert!(
        text.contains(&format!("the route {other} of the same host")),
        "{text}"
    );
}

fn apply(router: &Router, routes: &[Route]) -> Result<(), Error> {
    let changes = routes.iter().map(|route| Change::from(route.clone()));
    router.apply(changes).map(drop)
}

fn differing_tls_options_are_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let router = rig.builder().offline().unwrap();
    apply(
        &router,
        &[with("a.x/", "strict@file"), plain("b.x/"), plain("/")],
    )
    .unwrap();
    // Hosts are chosen by themselves.
    apply(&router, &[with("*.x/", "other@file"), plain("c.x/")]).unwrap();
    let before = rig.rules_text();
    for (route, other) in [
        (plain("a.x/b/"), "a.x/"),
        (with("a.x/b/", "lax@file"), "a.x/"),
        (with("a.x/b/", "default"), "a.x/"),
        (with("b.x/b/", "strict@file"), "b.x/"),
    ] {
        let error = apply(&router, &[plain("d.x/"), route.clone()]).unwrap_err();
        refused(&error, route.spec.as_str(), other);
    }
    let both = [with("e.x/a/", "strict@file"), plain("e.x/b/")];
    assert!(apply(&router, &both).is_err());
    let error = router.reconcile(both).unwrap_err();
    refused(&error, "e.x/b/", "e.x/a/");
    assert_eq!(rig.rules_text(), before);
    // All at once, or one after the other has gone.
    apply(
        &router,
        &[with("a.x/", "lax@file"), with("a.x/b/", "lax@file")],
    )
    .unwrap();
    let gone = Change::delete("a.x/").unwrap();
    router
        .apply([gone, Change::delete("a.x/b/").unwrap()])
        .unwrap();
    apply(&router, &[plain("a.x/b/"), with("a.x/c/", "default")]).unwrap();
    // What one caller may not do fails that one alone.
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..20)
            .map(|n| {
                let router = &router;
                let route = match n % 2 {
                    0 => plain(&format!("a.x/{n}/")),
                    _ => with(&format!("a.x/{n}/"), "strict@file"),
                };
                scope.spawn(move || apply(router, &[route]).is_ok())
            })
            .collect();
        for (n, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.join().unwrap(), n % 2 == 0, "{n}");
        }
    });
}

#[test]
fn initial_routes_must_agree() {
    let rig = Rig::new(Kind::Toml);
    let initial = [with("a.x/", "strict@file"), plain("a.x/b/")];
    let error = rig.builder().initial_routes(initial).start().unwrap_err();
    refused(&error, "a.x/b/", "a.x/");
    assert!(!rig.rules().exists());
}
