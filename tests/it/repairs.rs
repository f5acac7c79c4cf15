//! What somebody has changed by hand of what is ours: seen, and written again.

use kit::process::send_signal;
use kit::{Echo, eventually};
use serde_json::json;
use traefik_router::{
    Backend as _, ErrorKind, Nested, ProcessStatus, Route, RouteSpec, Router, Stored,
};

use crate::support::{External, Kind, Rig, on_each_backend, on_each_file, on_push};

on_each_backend! {
    misdirected_router_is_repaired,
    removed_router_is_repaired,
    wrong_entrypoint_is_repaired,
    wrong_server_is_repaired,
    removed_parent_is_repaired,
    unrecorded_router_can_be_deleted,
    reconcile_removes_unrecorded_routers,
    correct_entries_are_not_rewritten,
    changed_explicit_entrypoint_is_reported,
    refused_routers_are_unhealthy,
    foreign_later_generation_confirms_nothing,
    rejecting_traefik_is_unhealthy,
    nothing_outlives_a_stop,
}

on_push! {
    refused_routers_are_unhealthy,
}

/// What only files have.
mod of_files {
    use super::{on_each_file, restored_older_file_is_served, revival_restores_a_missing_file};

    on_each_file! {
        restored_older_file_is_served,
        revival_restores_a_missing_file,
    }
}

fn spec_of(spec: &str) -> RouteSpec {
    RouteSpec::new(spec).unwrap()
}

/// The name of a route's router as it is stored.
fn name(router: &Router, spec: &str) -> String {
    let name = router.router_name(&spec_of(spec));
    name.split_once('@').unwrap().0.to_string()
}

/// Changes the lines of what is stored in which `line` finds something to change; without its answer
/// a line goes.
#[track_caller]
fn edit(rig: &Rig, line: impl Fn(&str) -> Option<String>) {
    let before = rig.rules_text();
    let lines = before.split_inclusive('\n').filter_map(line);
    let after: String = lines.collect();
    assert!(before != after, "there is something to change");
    rig.write_rules(&after);
}

/// The lines of a router, its own keys among them.
fn is_of(rig: &Rig, line: &str, name: &str) -> bool {
    match rig.kind {
        Kind::Etcd => line.contains(&format!("/http/routers/{name}/")),
        _ => {
            let line = line.trim_start().trim_start_matches('"');
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '"']))
        }
    }
}

/// Repairs by each call that may, after each time that `break_it` breaks what leads `/a/` to `echo`.
fn check_repairs(rig: &Rig, router: &Router, echo: &Echo, break_it: impl Fn()) {
    let desired = router.get_all_routes().unwrap();
    let route = desired.get(&spec_of("/a/")).unwrap().clone();
    let all = || desired.iter().map(|route| Route::clone(route));
    for call in ["add_route", "apply", "reconcile", "repair"] {
        break_it();
        eventually("requests go astray", || {
            rig.landed_or_error("/a/") != Some(echo.port)
        });
        let done = match call {
            "add_route" => router.add_route("/a/", route.target.as_str(), route.data.clone()),
            "apply" => router.apply(all().map(Into::into)),
            "repair" => router.repair(),
            _ => router.reconcile(all()),
        };
        let done = done.unwrap();
        assert!(done.added.is_empty() && done.changed.is_empty(), "{done:?}");
        assert_eq!(rig.landed("h", "/a/"), Some(echo.port), "{call}");
    }
}

/// Repairs one of two routers, of whose lines `broken` makes others.
fn check_repairs_of_router(kind: Kind, broken: impl Fn(&str) -> Option<String>) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    router.add_route("/b/", echo.url(), json!(1)).unwrap();
    let name = name(&router, "/a/");
    check_repairs(&rig, &router, &echo, || {
        edit(&rig, |line| match is_of(&rig, line, &name) {
            true => broken(line),
            false => Some(line.into()),
        });
    });
}

fn misdirected_router_is_repaired(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, [one, two]) = (rig.start(), [(); 2].map(|()| Echo::start()));
    router.add_route("/a/", one.url(), json!(1)).unwrap();
    router.add_route("/b/", two.url(), json!(2)).unwrap();
    let service = |spec: &str| {
        let name = name(&router, spec);
        let info = rig.api().router(&router.router_name(&spec_of(spec)));
        (name, info.unwrap().unwrap().service)
    };
    let ((name, ours), (_, theirs)) = (service("/a/"), service("/b/"));
    check_repairs(&rig, &router, &one, || {
        edit(&rig, |line| match is_of(&rig, line, &name) {
            true => Some(line.replace(&ours, &theirs)),
            false => Some(line.into()),
        });
    });
    assert_eq!(rig.landed("h", "/b/"), Some(two.port));
}

fn removed_router_is_repaired(kind: Kind) {
    check_repairs_of_router(kind, |_| None);
}

fn wrong_entrypoint_is_repaired(kind: Kind) {
    check_repairs_of_router(kind, |line| Some(line.replace("http", "auth_api")));
}

fn wrong_server_is_repaired(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, [one, two]) = (rig.start(), [(); 2].map(|()| Echo::start()));
    router.add_route("/a/", one.url(), json!(1)).unwrap();
    let (right, wrong) = (one.url(), two.url());
    let (right, wrong) = (right.trim_end_matches('/'), wrong.trim_end_matches('/'));
    check_repairs(&rig, &router, &one, || {
        edit(&rig, |line| {
            match line.contains("\"target\"") || line.contains("\\\"target") {
                true => Some(line.into()),
                false => Some(line.replace(right, wrong)),
            }
        });
    });
}

fn removed_parent_is_repaired(kind: Kind) {
    let rig = Rig::new(kind);
    let router = rig
        .builder()
        .nested_routers(Nested::Always)
        .start()
        .unwrap();
    let [echo, other] = [(); 2].map(|()| Echo::start());
    let route = |n: usize| {
        Route::new(format!("/a/{n}/"), echo.url())
            .unwrap()
            .data(json!(n))
    };
    let mut all: Vec<Route> = (0..300).map(route).collect();
    all.push(Route::new("/a/", other.url()).unwrap().data(json!(0)));
    router.reconcile(all.clone()).unwrap();
    let routers = rig.api().routers().unwrap();
    let parents = routers
        .iter()
        .filter(|router| router.name.contains("-all-"));
    let names: Vec<_> = parents
        .map(|parent| parent.name.split_once('@').unwrap().0.to_string())
        .collect();
    assert!(!names.is_empty());
    for whole in [false, true] {
        edit(&rig, |line| {
            let gone = names.iter().any(|name| is_of(&rig, line, name));
            (!gone).then(|| line.into())
        });
        eventually("requests go astray", || {
            rig.landed_or_error("/a/77/") != Some(echo.port)
        });
        match whole {
            true => router.reconcile(all.clone()),
            false => router.add_route("/a/77/", echo.url(), json!(77)),
        }
        .unwrap();
        assert_eq!(rig.landed("h", "/a/77/"), Some(echo.port));
    }
    assert_eq!(rig.landed("h", "/a/299/"), Some(echo.port));
}

/// Removes the record of `/a/`, and nothing else.
fn remove_record(rig: &Rig, router: &Router) {
    let key = format!("/routes/{} ", name(router, "/a/"));
    edit(rig, |line| {
        let gone = match rig.kind {
            Kind::Etcd => line.contains(&key),
            _ => line.trim_start().starts_with("{\"") && line.contains("\"/a/\""),
        };
        (!gone).then(|| line.into())
    });
}

fn unrecorded_router_can_be_deleted(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    router.add_route("/b/", echo.url(), json!(1)).unwrap();
    remove_record(&rig, &router);
    assert_eq!(
        rig.landed("h", "/a/"),
        Some(echo.port),
        "only the record is gone"
    );
    // One that does not know the route.
    let other = rig.builder().offline().unwrap();
    assert_eq!(other.get_all_routes().unwrap().len(), 1);
    let done = other.delete_route("/a/").unwrap();
    assert!(done.deleted.is_empty(), "{done:?}");
    eventually("requests reach it no longer", || {
        rig.landed("h", "/a/").is_none()
    });
    assert_eq!(rig.landed("h", "/b/"), Some(echo.port));
    let left = rig.rules_text();
    assert!(!left.contains(&name(&router, "/a/")), "{left}");
}

fn reconcile_removes_unrecorded_routers(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, [one, two]) = (rig.start(), [(); 2].map(|()| Echo::start()));
    router.add_route("/a/", one.url(), json!(1)).unwrap();
    router.add_route("/b/", two.url(), json!(1)).unwrap();
    remove_record(&rig, &router);
    let other = rig.builder().offline().unwrap();
    let kept = Route::new("/b/", two.url()).unwrap().data(json!(1));
    other.reconcile([kept]).unwrap();
    eventually("requests reach it no longer", || {
        rig.landed("h", "/a/").is_none()
    });
    assert_eq!(rig.landed("h", "/b/"), Some(two.port));
    let left = rig.rules_text();
    assert!(!left.contains(one.url().trim_end_matches('/')), "{left}");
}

fn correct_entries_are_not_rewritten(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    let route = |n: usize| {
        Route::new(format!("/a/{n}/"), echo.url())
            .unwrap()
            .data(json!(n))
    };
    let all: Vec<Route> = (0..300).map(route).collect();
    router.reconcile(all.clone()).unwrap();
    let before = rig.rules_text();
    router.add_route("/a/77/", echo.url(), json!(77)).unwrap();
    router
        .apply(all.clone().into_iter().map(Into::into))
        .unwrap();
    router.delete_route("/none/").unwrap();
    router.reconcile(all).unwrap();
    assert_eq!(rig.rules_text(), before);
}

fn changed_explicit_entrypoint_is_reported(kind: Kind) {
    let rig = Rig::new(kind);
    let _traefik = External::start(&rig);
    let [ours, theirs] = ["http", "auth_api"].map(|on| rig.builder().traefik_entrypoint(on));
    let (ours, echo) = (ours.attach().unwrap(), Echo::start());
    ours.add_route("/a/", echo.url(), json!(1)).unwrap();
    let told_nothing = rig.builder().offline().unwrap();
    let theirs = theirs.offline().unwrap();
    theirs.add_route("/b/", echo.url(), json!(1)).unwrap();
    let stored = rig.rules_text();
    let all = ours.get_all_routes().unwrap();
    let all: Vec<_> = all.iter().map(|route| Route::clone(route)).collect();
    for outcome in [
        ours.add_route("/c/", echo.url(), json!(1)),
        ours.add_route("/a/", echo.url(), json!(1)),
        ours.delete_route("/a/"),
        ours.reconcile([]),
        ours.reconcile(all),
        ours.repair(),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
        assert_eq!(*error.stored(), Stored::Nothing, "{error}");
        for says in ["\"http\"", "\"auth_api\"", "traefik_entrypoint"] {
            assert!(error.to_string().contains(says), "{error}");
        }
    }
    assert_eq!(rig.rules_text(), stored);
    told_nothing.add_route("/d/", echo.url(), json!(1)).unwrap();
}

fn refused_routers_are_unhealthy(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    assert!(router.status().is_healthy(), "{:?}", router.status());
    let other = rig
        .builder()
        .traefik_entrypoint("nowhere")
        .offline()
        .unwrap();
    other.add_route("/b/", echo.url(), json!(1)).unwrap();
    eventually("Traefik refuses the routers", || {
        rig.api().refused_routers().unwrap().len() >= 2
    });
    let status = router.status();
    assert!(!status.is_healthy(), "{status:?}");
    let refused = &status.traefiks[0].answer.as_ref().unwrap().refused;
    let names: Vec<_> = refused.iter().map(|router| &*router.name).collect();
    for spec in ["/a/", "/b/"] {
        let name = router.router_name(&spec_of(spec));
        assert!(names.contains(&&*name), "{name}: {names:?}");
    }
    assert!(refused[0].error.concat().contains("nowhere"), "{refused:?}");
}

/// The generation of the table, and the name of its marker.
fn marker(rig: &Rig) -> (u64, String) {
    let commit = rig.backend().inspect().unwrap().unwrap().commit.unwrap();
    let provider = rig.backend().provider().to_string();
    (commit.generation, format!("{}@{provider}", commit.marker))
}

/// Another program's clock is a day ahead of ours; and the store was put back to what it was before it
/// has written.
fn foreign_later_generation_confirms_nothing(kind: Kind) {
    let rig = Rig::new(kind);
    let mut config =
        External::open_config(&rig, &rig.backend().static_config().unwrap()["providers"]);
    // So that it is behind for long enough to see it.
    config["providers"]["providersThrottleDuration"] = json!("1s");
    let _traefik = External::start_with(&rig, "slow", &config);
    let open = || rig.builder().enable_setup_dynamic_config(false);
    let (router, echo) = (open().attach().unwrap(), Echo::start());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    let before = rig.rules_text();
    let (generation, name) = marker(&rig);
    let ahead = generation + 86_400_000;
    edit(&rig, |line| {
        Some(line.replace(&generation.to_string(), &ahead.to_string()))
    });
    eventually("Traefik shows the later generation", || {
        rig.api().generation(&name).unwrap() == Some(ahead)
    });
    let done = router.add_route("/ahead/", echo.url(), json!(1)).unwrap();
    assert_eq!(done.generation, ahead + 1);
    assert_eq!(rig.landed("h", "/ahead/"), Some(echo.port));
    // One that has not seen the later generation.
    let late = open().offline().unwrap();
    rig.write_rules(&before);
    late.add_route("/late/", echo.url(), json!(1)).unwrap();
    let attached = open().attach().unwrap();
    assert_eq!(
        rig.landed("h", "/late/"),
        Some(echo.port),
        "attach has waited"
    );
    attached.add_route("/b/", echo.url(), json!(1)).unwrap();
    assert_eq!(rig.landed("h", "/b/"), Some(echo.port));
    // The table goes altogether, and comes back with the next change.
    let (generation, name) = marker(&rig);
    let ahead = generation + 86_400_000;
    edit(&rig, |line| {
        Some(line.replace(&generation.to_string(), &ahead.to_string()))
    });
    eventually("Traefik shows the later generation", || {
        rig.api().generation(&name).unwrap() == Some(ahead)
    });
    match kind {
        Kind::Etcd => edit(&rig, |line| {
            line.contains("/services/keep/").then(|| line.into())
        }),
        _ => rig.write_rules("# nothing\n"),
    }
    attached.add_route("/new/", echo.url(), json!(1)).unwrap();
    assert_eq!(rig.landed("h", "/new/"), Some(echo.port), "it is served");
}

fn rejecting_traefik_is_unhealthy(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    let before = rig.rules_text();
    // It belongs to others, and is no field of Traefik's.
    let bad = match kind {
        Kind::Push => unreachable!("not for others to write"),
        Kind::Toml => "[tcp.routers.bad]\nnonsense = 1\n".into(),
        #[cfg(feature = "yaml")]
        Kind::Yaml => "tcp:\n  routers:\n    bad: {nonsense: 1}\n".into(),
        _ => format!("{}/tcp/routers/bad/nonsense \"1\"\n", rig.prefixes()[0]),
    };
    rig.write_rules(&format!("{bad}{before}"));
    let other = rig.builder().offline().unwrap();
    other.add_route("/b/", echo.url(), json!(1)).unwrap();
    let status = router.status();
    assert!(!status.is_healthy(), "{status:?}");
    let answer = status.traefiks[0].answer.as_ref().unwrap();
    assert!(answer.generation.is_some(), "{status:?}");
    rig.write_rules(&before);
    eventually("it loads again", || router.status().is_healthy());
}

fn nothing_outlives_a_stop(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    remove_record(&rig, &router);
    // So that the table is read again, without its record.
    let other = rig.builder().offline().unwrap();
    other
        .add_route("/b/", "http://127.0.0.1:1", json!(1))
        .unwrap();
    other.delete_route("/b/").unwrap();
    router.stop().unwrap();
    let left = rig.rules_text();
    assert!(!left.contains(echo.url().trim_end_matches('/')), "{left}");
}

fn restored_older_file_is_served(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    let older = rig.rules_text();
    router.add_route("/b/", echo.url(), json!(1)).unwrap();
    for call in ["add_route", "repair", "reconcile"] {
        rig.write_rules(&older);
        let route = Route::new("/a/", echo.url()).unwrap().data(json!(1));
        match call {
            "add_route" => router.add_route("/a/", echo.url(), json!(1)),
            "repair" => router.repair(),
            _ => router.reconcile([route]),
        }
        .unwrap();
        assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
        assert_eq!(rig.landed("h", "/b/"), None, "{call}");
    }
    assert!(router.status().is_healthy(), "{:?}", router.status());
}

fn revival_restores_a_missing_file(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    let Some(ProcessStatus::Running { pid, .. }) = router.process() else {
        panic!("{:?}", router.process());
    };
    send_signal(pid, "KILL");
    eventually("Traefik has ended", || {
        matches!(router.process(), Some(ProcessStatus::Ended { .. }))
    });
    std::fs::remove_file(rig.rules()).unwrap();
    assert!(router.revive().unwrap());
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
}
