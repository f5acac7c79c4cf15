//! Tables that are pushed: from memory to Traefiks that read no store.

use std::time::{Duration, Instant};

use kit::server::response;
use kit::{Connection, Echo, Mood, Proxy, Server, Traefik, eventually};
use serde_json::{Value, json};
use traefik_router::{
    Backend as _, Builder, Error, ErrorKind, Finding, Level, MemoryBackend, Route, Router, Stored,
    Verified,
};

use crate::support::{External, Kind, Rig, rig};

/// A Traefik of others that takes tables.
pub(crate) fn external(rig: &Rig, name: &str) -> Traefik {
    external_with(rig, name, &json!({}))
}

/// The same with `extra` in its dynamic configuration.
fn external_with(rig: &Rig, name: &str, extra: &Value) -> Traefik {
    external_throttled(rig, name, extra, "0ms")
}

/// The same with this `providersThrottleDuration`.
fn external_throttled(rig: &Rig, name: &str, extra: &Value, throttle: &str) -> Traefik {
    let dynamic = rig.path(format!("{name}-dynamic.toml"));
    let builder = builder(rig, MemoryBackend::new())
        .static_config_file(rig.path("traefik.toml"))
        .dynamic_config_file(&dynamic)
        .extra_dynamic_config(extra.clone());
    std::fs::write(&dynamic, builder.dynamic_config_text(true).unwrap()).unwrap();
    let text = builder.static_config_text(true).unwrap();
    let throttled = |duration| format!("providersThrottleDuration = \"{duration}\"");
    assert!(text.contains(&throttled("0ms")), "{text}");
    let text = text.replace(&throttled("0ms"), &throttled(throttle));
    let addresses = [rig.web, rig.api].map(|port| format!("127.0.0.1:{port}"));
    Traefik::start(&rig.path(format!("{name}.toml")), &text, &addresses)
}

fn builder(rig: &Rig, backend: MemoryBackend) -> Builder {
    Router::builder(backend)
        .public_url(rig.web_url())
        .traefik_api_url(rig.api_url())
        .traefik_api_password(rig::PASSWORD)
        .check_route_timeout(Duration::from_secs(20))
        .keeper_interval(Duration::from_millis(100))
}

fn attach(rig: &Rig) -> Router {
    builder(rig, MemoryBackend::new()).attach().unwrap()
}

/// An empty table of this name, whose generation is an hour ahead of the clock.
fn ahead(name: &str) -> MemoryBackend {
    let memory = MemoryBackend::named(name);
    let router = Router::builder(memory.clone()).offline().unwrap();
    router.add_route("/x/", "http://127.0.0.1:9", ()).unwrap();
    router.delete_route("/x/").unwrap();
    let document = memory.pushed().unwrap().document().unwrap();
    let body: Value = serde_json::from_slice(&document.body).unwrap();
    let records = "/http/middlewares/traefik-router-records/headers/customRequestHeaders";
    let records = body.pointer(records).unwrap()["records"].as_str().unwrap();
    let generation = document.commit.generation;
    let later = (generation + 3_600_000).to_string();
    let records = records.replace(&generation.to_string(), &later);
    let ahead = MemoryBackend::named(name);
    let pushed = ahead.pushed().unwrap();
    pushed.resume(&[records], false).unwrap();
    ahead
}

/// Pushes this as another program would.
fn push(rig: &Rig, document: &Value) {
    let login = format!("jupyterhub:{}", rig::PASSWORD);
    let mut connection = Connection::new(rig.api, Some(&login));
    let document = document.to_string();
    eventually("Traefik takes it", || {
        let answer = connection.put("/api/providers/rest", document.as_bytes());
        answer.unwrap().0 == 200
    });
}

#[test]
fn attached_traefik_serves() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external(&rig, "a");
    let router = attach(&rig);
    let applied = router
        .add_route("/a/", echo.url(), json!({"n": 1}))
        .unwrap();
    assert_eq!(applied.verified, Verified::Seen);
    assert_eq!(rig.landed("h", "/a/x"), Some(echo.port));
    router.delete_route("/a/").unwrap();
    assert_eq!(rig.landed("h", "/a/x"), None);
    assert!(router.status().is_healthy());
}

#[test]
fn restart_of_ours_wipes_nothing() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external(&rig, "a");
    let router = attach(&rig);
    let data = json!({"user": "zoe", "odd": "C:\\users\\x \u{1} {{ \u{1f600} '\""});
    router.add_route("/a/", echo.url(), data.clone()).unwrap();
    router.add_route("h.example/b/", echo.url(), ()).unwrap();
    let routes = router.get_all_routes().unwrap();
    drop(router);
    assert_eq!(rig.landed("h", "/a/x"), Some(echo.port));
    let router = attach(&rig);
    assert_eq!(router.get_all_routes().unwrap(), routes);
    assert_eq!(router.get_route("/a/").unwrap().unwrap().data, data);
    router.delete_route("/a/").unwrap();
    assert_eq!(rig.landed("h.example", "/b/"), Some(echo.port));
    assert_eq!(rig.landed("h", "/a/x"), None);
}

#[test]
fn restarted_traefik_gets_table_back() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let traefik = external(&rig, "a");
    let router = attach(&rig);
    router.add_route("/a/", echo.url(), ()).unwrap();
    drop(traefik);
    let _traefik = external(&rig, "a");
    eventually("it serves again", || {
        rig.landed("h", "/a/x") == Some(echo.port)
    });
    drop(router);
}

#[test]
fn several_traefiks_have_one_table() {
    let (one, two, echo) = (Rig::new(Kind::Toml), Rig::new(Kind::Toml), Echo::start());
    let _first = external(&one, "a");
    let second = external(&two, "a");
    let both = || {
        builder(&one, MemoryBackend::new())
            .traefik_api_urls([one.api_url(), two.api_url()])
            .check_route_timeout(Duration::from_secs(2))
    };
    let router = both().attach().unwrap();
    router.add_route("/a/", echo.url(), ()).unwrap();
    for rig in [&one, &two] {
        assert_eq!(rig.landed("h", "/a/x"), Some(echo.port));
    }
    drop(second);
    let error = router.add_route("/b/", echo.url(), ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotLoaded, "{error}");
    assert!(error.to_string().contains(&two.api_url()), "{error}");
    let _second = external(&two, "a");
    eventually("the second has all", || {
        two.landed("h", "/b/x") == Some(echo.port)
    });
    drop(router);
    let router = both().traefik_quorum(1).attach().unwrap();
    assert_eq!(router.get_all_routes().unwrap().len(), 2);
}

#[test]
fn one_router_delivers_a_table() {
    let rig = Rig::new(Kind::Toml);
    let _traefik = external(&rig, "a");
    let memory = MemoryBackend::new();
    let router = builder(&rig, memory.clone()).attach().unwrap();
    let error = builder(&rig, memory.clone()).attach().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    drop(router);
    drop(builder(&rig, memory).attach().unwrap());
}

#[test]
fn tables_of_others_stay() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external(&rig, "a");
    let theirs = builder(&rig, MemoryBackend::named("theirs"))
        .attach()
        .unwrap();
    theirs.add_route("/a/", echo.url(), ()).unwrap();
    let refused = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
        assert!(error.to_string().contains("another program"), "{error}");
    };
    refused(builder(&rig, MemoryBackend::new()).attach().unwrap_err());
    let full = MemoryBackend::named("theirs");
    let offline = Router::builder(full.clone()).offline().unwrap();
    offline.add_route("/b/", echo.url(), ()).unwrap();
    refused(builder(&rig, full.clone()).attach().unwrap_err());
    assert_eq!(rig.landed("h", "/a/x"), Some(echo.port));
    theirs.add_route("/c/", echo.url(), ()).unwrap();

    let ours = builder(&rig, full)
        .replace_pushed_table(true)
        .attach()
        .unwrap();
    assert_eq!(rig.landed("h", "/a/x"), None);
    assert_eq!(rig.landed("h", "/b/x"), Some(echo.port));
    eventually("the other Router knows", || {
        theirs.add_route("/c/", echo.url(), ()).is_err()
    });
    let error = theirs.add_route("/c/", echo.url(), ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(rig.landed("h", "/b/x"), Some(echo.port));
    theirs
        .reconcile([Route::new("/d/", echo.url()).unwrap()])
        .unwrap();
    assert_eq!(rig.landed("h", "/d/x"), Some(echo.port));
    drop(ours);
}

#[test]
fn older_state_is_brought_up_to_date() {
    let (one, two, echo) = (Rig::new(Kind::Toml), Rig::new(Kind::Toml), Echo::start());
    let (_first, _second) = (external(&one, "a"), external(&two, "a"));
    let proxy = Proxy::new(&two.api_url());
    let router = || {
        builder(&one, MemoryBackend::new())
            .traefik_api_urls([one.api_url(), proxy.url.clone()])
            .traefik_api_timeout(Duration::from_millis(500))
            .traefik_quorum(1)
            .attach()
            .unwrap()
    };
    router().add_route("/a/", echo.url(), ()).unwrap();
    eventually("both have it", || two.landed("h", "/a/") == Some(echo.port));
    proxy.mood(Mood::Silent);
    let router = router();
    router.add_route("/b/", echo.url(), ()).unwrap();
    proxy.mood(Mood::Honest);
    eventually("both have all", || {
        two.landed("h", "/b/") == Some(echo.port)
    });
    router.add_route("/c/", echo.url(), ()).unwrap();
}

#[test]
fn programs_of_one_name_notice() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external(&rig, "a");
    let first = attach(&rig);
    first.add_route("/a/", echo.url(), ()).unwrap();
    let second = attach(&rig);
    second.add_route("/b/", echo.url(), ()).unwrap();
    eventually("the first one knows", || {
        first.get_route("/a/").unwrap().is_some() && first.add_route("/a/", echo.url(), ()).is_err()
    });
    let error = first.add_route("/c/", echo.url(), ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    second.add_route("/d/", echo.url(), ()).unwrap();
    for path in ["/a/", "/b/", "/d/"] {
        assert_eq!(rig.landed("h", path), Some(echo.port), "{path}");
    }
    assert_eq!(rig.landed("h", "/c/"), None);
}

/// The keeper of the other program does not send its own table once more.
#[test]
fn repair_outlasts_other_keeper() {
    for theirs in [MemoryBackend::new(), ahead("")] {
        let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
        let _traefik = external(&rig, "a");
        let first = attach(&rig);
        first.add_route("/a/", echo.url(), ()).unwrap();
        let second = builder(&rig, theirs).attach().unwrap();
        second.add_route("/b/", echo.url(), ()).unwrap();
        let error = first.add_route("/a/", echo.url(), ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        first.repair().unwrap();
        // The keepers ask ten times meanwhile.
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
        assert_eq!(rig.landed("h", "/b/"), None);
        let error = second.add_route("/c/", echo.url(), ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        first.add_route("/d/", echo.url(), ()).unwrap();
        assert_eq!(rig.landed("h", "/d/"), Some(echo.port));
    }
}

/// A call that waits for Traefik hears of it from the keeper.
#[test]
fn waiting_call_notices_other_program() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external(&rig, "a");
    let first = builder(&rig, MemoryBackend::new()).keeper_interval(Duration::from_secs(2));
    let first = first.attach().unwrap();
    first.add_route("/a/", echo.url(), ()).unwrap();
    let _second = attach(&rig);
    let error = first.add_route("/a/", echo.url(), ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

/// Also before the keeper has looked.
#[test]
fn change_notices_other_program() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external(&rig, "a");
    let slow = |memory| builder(&rig, memory).keeper_interval(Duration::from_secs(60));
    let first = slow(MemoryBackend::new()).attach().unwrap();
    first.add_route("/a/", echo.url(), ()).unwrap();
    let second = slow(MemoryBackend::new()).attach().unwrap();
    // It does not ask right after a change of its own.
    std::thread::sleep(Duration::from_millis(200));
    let error = first.add_route("/b/", echo.url(), ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(*error.stored(), Stored::Nothing, "{error}");
    second.add_route("/c/", echo.url(), ()).unwrap();
    let landed = ["/a/", "/b/", "/c/"].map(|path| rig.landed("h", path));
    assert_eq!(landed, [Some(echo.port), None, Some(echo.port)]);
}

#[test]
fn clock_set_back_loses_nothing() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external(&rig, "a");
    let router = builder(&rig, ahead("")).attach().unwrap();
    let before = router.add_route("/a/", echo.url(), ()).unwrap();
    drop(router);
    let router = attach(&rig);
    let after = router.add_route("/b/", echo.url(), ()).unwrap();
    assert!(after.generation > before.generation);
    // The keeper asks meanwhile.
    std::thread::sleep(Duration::from_millis(500));
    for path in ["/a/", "/b/"] {
        assert_eq!(rig.landed("h", path), Some(echo.port), "{path}");
    }
    router.delete_route("/a/").unwrap();
    assert_eq!(rig.landed("h", "/a/"), None);
}

/// The marker is looked for once more before a table is said to be another program's.
#[test]
fn keeper_does_not_mistake_own_table() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external(&rig, "a");
    let proxy = Proxy::new(&rig.api_url());
    let router = builder(&rig, MemoryBackend::new()).traefik_api_url(&proxy.url);
    let router = router.keeper_interval(Duration::from_secs(1));
    let router = router.attach().unwrap();
    router.add_route("/a/", echo.url(), ()).unwrap();
    proxy.mislead_one_request("GET /api/http/middlewares/");
    eventually("the keeper asks", || !proxy.is_misleading());
    std::thread::sleep(Duration::from_millis(200));
    router.add_route("/b/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/b/"), Some(echo.port));
}

/// As of a later version.
#[test]
fn unreadable_table_is_replaced() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external(&rig, "a");
    let headers = json!({"customRequestHeaders": {"records": "{}"}});
    push(
        &rig,
        &json!({"http": {"middlewares": {"traefik-router-records": {"headers": headers}}}}),
    );
    eventually("it is loaded", || {
        let records = rig.api().middleware("traefik-router-records@rest");
        records.unwrap().is_some()
    });
    let found = table_found(builder(&rig, MemoryBackend::new()));
    assert_eq!(found.level, Level::Problem, "{found:?}");
    assert!(
        found
            .advice
            .as_ref()
            .unwrap()
            .contains("replace_pushed_table"),
        "{found:?}"
    );
    let error = builder(&rig, MemoryBackend::new()).attach().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(
        error.to_string().contains("replace_pushed_table"),
        "{error}"
    );
    let router = builder(&rig, MemoryBackend::new()).replace_pushed_table(true);
    let router = router.attach().unwrap();
    router.add_route("/a/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
}

#[test]
fn rule_of_a_file_is_not_pushed() {
    let rig = Rig::new(Kind::Toml);
    let router = json!({
        "rule": "PathPrefix(`/user/foo@restaurant.example/`)",
        "entryPoints": ["http"],
        "service": "noop@internal",
    });
    let extra = json!({"http": {"routers": {"mine": router}}});
    let _traefik = external_with(&rig, "a", &extra);
    drop(attach(&rig));
}

#[test]
fn diagnosis_shows_whose_table() {
    let rig = Rig::new(Kind::Toml);
    let _traefik = external(&rig, "a");
    let _theirs = builder(&rig, MemoryBackend::named("theirs"))
        .attach()
        .unwrap();
    for (ours, level) in [
        ("theirs", Level::Ok),
        ("ours", Level::Problem),
        // Of `traefik-router doctor`.
        ("", Level::Ok),
    ] {
        let ours = || builder(&rig, MemoryBackend::named(ours));
        let found = table_found(ours());
        assert_eq!(found.level, level, "{found:?}");
        assert!(found.message.contains("\"theirs\""), "{found:?}");
        let found = table_found(ours().replace_pushed_table(true));
        assert_eq!(found.level, Level::Ok, "{found:?}");
    }
}

/// What a diagnosis finds of the table that Traefik has.
fn table_found(builder: Builder) -> Finding {
    let mut found = builder.diagnose().into_iter();
    found.find(|one| one.check == "table").unwrap()
}

/// Traefik keeps one table while its throttle holds it back, the last one.
#[test]
fn diagnosis_displaces_no_table() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external_throttled(&rig, "a", &json!({}), "2s");
    let router = builder(&rig, MemoryBackend::new()).keeper_interval(Duration::from_secs(60));
    let router = router.attach().unwrap();
    router.add_route("/a/", echo.url(), ()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            builder(&rig, MemoryBackend::new()).diagnose();
        });
        router.add_route("/b/", echo.url(), ()).unwrap();
    });
    assert_eq!(rig.landed("h", "/b/"), Some(echo.port));
}

#[test]
fn quorum_needs_no_other_api() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external(&rig, "a");
    let nothing = Server::answering(|_| Some(response(404, "", b"")));
    let router = builder(&rig, MemoryBackend::new())
        .traefik_api_urls([rig.api_url(), nothing.url()])
        .traefik_quorum(1)
        .attach()
        .unwrap();
    router.add_route("/a/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
}

/// It accepts connections and never answers, as one that is frozen does.
#[test]
fn silent_traefik_delays_no_quorum() {
    let (one, two, echo) = (Rig::new(Kind::Toml), Rig::new(Kind::Toml), Echo::start());
    let (_first, _second) = (external(&one, "a"), external(&two, "a"));
    let proxy = Proxy::new(&two.api_url());
    let both = || {
        builder(&one, MemoryBackend::new())
            .traefik_api_urls([one.api_url(), proxy.url.clone()])
            .traefik_quorum(1)
            .traefik_api_timeout(Duration::from_secs(60))
            .check_route_timeout(Duration::from_secs(60))
    };
    let begun = Instant::now();
    let router = both().attach().unwrap();
    router.add_route("/a/", echo.url(), ()).unwrap();
    proxy.mood(Mood::Silent);
    router.add_route("/b/", echo.url(), ()).unwrap();
    router.delete_route("/a/").unwrap();
    router.wait_until_served(Duration::from_secs(60)).unwrap();
    router.stop().unwrap();
    let router = both().attach().unwrap();
    router.add_route("/c/", echo.url(), ()).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(one.landed("h", "/c/"), Some(echo.port));
    proxy.mood(Mood::Honest);
    eventually("the other one has it", || {
        two.landed("h", "/c/") == Some(echo.port)
    });
    assert_eq!(two.landed("h", "/a/"), None);
}

/// It answers small requests alone, as behind a network that drops large packets. The keeper pushes to it meanwhile.
#[test]
fn stuck_push_delays_no_quorum() {
    let (one, two, echo) = (Rig::new(Kind::Toml), Rig::new(Kind::Toml), Echo::start());
    let (_first, _second) = (external(&one, "a"), external(&two, "a"));
    let proxy = Proxy::new(&two.api_url());
    let router = builder(&one, MemoryBackend::new())
        .traefik_api_urls([one.api_url(), proxy.url.clone()])
        .traefik_quorum(1)
        .traefik_api_timeout(Duration::from_secs(30))
        .check_route_timeout(Duration::from_secs(60))
        .attach()
        .unwrap();
    proxy.hold(Some("PUT "));
    let begun = Instant::now();
    for path in ["/a/", "/b/", "/c/"] {
        router.add_route(path, echo.url(), ()).unwrap();
        std::thread::sleep(Duration::from_millis(500));
    }
    let routes = router.get_all_routes().unwrap();
    router
        .reconcile(routes.iter().map(|route| (**route).clone()))
        .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15));
    proxy.hold(None);
    eventually("the other one has it", || {
        two.landed("h", "/c/") == Some(echo.port)
    });
}

#[test]
fn replaced_traefik_stops_no_other() {
    let (one, two, echo) = (Rig::new(Kind::Toml), Rig::new(Kind::Toml), Echo::start());
    let (_first, second) = (external(&one, "a"), external(&two, "a"));
    let both = builder(&one, MemoryBackend::new());
    let router = both.traefik_api_urls([one.api_url(), two.api_url()]);
    let router = router.attach().unwrap();
    router.add_route("/a/", echo.url(), ()).unwrap();
    let theirs = builder(&one, MemoryBackend::named("theirs")).replace_pushed_table(true);
    let theirs = theirs.attach().unwrap();
    // The keeper asks ten times meanwhile.
    std::thread::sleep(Duration::from_secs(1));
    let error = router.add_route("/b/", echo.url(), ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    drop(second);
    let _second = external(&two, "a");
    eventually("the other one has it", || {
        two.landed("h", "/a/") == Some(echo.port)
    });
    assert_eq!(one.landed("h", "/a/"), None);
    drop(theirs);
}

/// One that `attach` could not reach.
#[test]
fn absent_traefik_is_replaced_later() {
    let (one, two, echo) = (Rig::new(Kind::Toml), Rig::new(Kind::Toml), Echo::start());
    let (_first, _second) = (external(&one, "a"), external(&two, "a"));
    let theirs = || {
        let theirs = builder(&two, MemoryBackend::named("theirs")).replace_pushed_table(true);
        let theirs = theirs.attach().unwrap();
        theirs.add_route("/theirs/", echo.url(), ()).unwrap();
    };
    let proxy = Proxy::new(&two.api_url());
    let serves = |path: &str| {
        eventually("the second one serves it", || {
            two.landed("h", path) == Some(echo.port)
        });
        assert_eq!(two.landed("h", "/theirs/"), None);
    };
    for replace in [true, false] {
        theirs();
        proxy.mood(Mood::Drop(Duration::ZERO));
        let router = builder(&one, MemoryBackend::new())
            .traefik_api_urls([one.api_url(), proxy.url.clone()])
            .traefik_quorum(1)
            .replace_pushed_table(replace)
            .attach()
            .unwrap();
        router.add_route("/a/", echo.url(), ()).unwrap();
        proxy.mood(Mood::Honest);
        if !replace {
            eventually("it is noticed", || {
                router.add_route("/a/", echo.url(), ()).is_err()
            });
            assert_eq!(two.landed("h", "/theirs/"), Some(echo.port));
            router.repair().unwrap();
        }
        serves("/a/");
        router.add_route("/b/", echo.url(), replace).unwrap();
        serves("/b/");
    }
}

#[test]
fn quorum_keeps_safety_checks() {
    let (one, two) = (Rig::new(Kind::Toml), Rig::new(Kind::Toml));
    let _first = external(&one, "a");
    let file = json!({"filename": two.path("dynamic.yml"), "watch": true});
    let providers = json!({"rest": {"insecure": true}, "file": file});
    let config = External::open_config(&two, &providers);
    let _second = External::start_with(&two, "open", &config);
    let both = builder(&one, MemoryBackend::new());
    let both = both.traefik_api_urls([one.api_url(), two.api_url()]);
    let error = both.traefik_quorum(1).attach().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert_eq!(two.api().generation("any@rest").unwrap(), None);
}

#[test]
fn unsafe_traefiks_are_refused() {
    let rig = Rig::new(Kind::Toml);
    for (rest, why) in [
        (json!(null), "no REST provider"),
        (json!({"insecure": true}), "anybody"),
    ] {
        let file = json!({"filename": rig.path("dynamic.yml"), "watch": true});
        let config = External::open_config(&rig, &json!({"rest": rest, "file": file}));
        let _traefik = External::start_with(&rig, "open", &config);
        let error = builder(&rig, MemoryBackend::new()).attach().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn unguarded_rest_router_is_refused() {
    let rig = Rig::new(Kind::Toml);
    for extra in [
        json!({}),
        json!({"http": {"routers": {"mine": {
            "rule": "Path(`/api/providers/rest`)",
            "service": "rest@internal",
            "priority": 3_000_000_000_u64,
        }}}}),
    ] {
        let _traefik = external_with(&rig, "a", &extra);
        let attached = builder(&rig, MemoryBackend::new()).attach();
        match attached {
            Ok(_) => assert_eq!(extra, json!({})),
            Err(error) => {
                assert_ne!(extra, json!({}), "{error}");
                assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
                assert!(error.to_string().contains("anybody"), "{error}");
            }
        }
    }
}

#[test]
fn printed_configuration_runs_no_template() {
    let rig = Rig::new(Kind::Toml);
    let headers = json!({"customRequestHeaders": {"X-A": "{{ env `HOME` }}"}});
    let extra = json!({"http": {"middlewares": {"a": {"headers": headers}}}});
    let text = builder(&rig, MemoryBackend::new())
        .extra_dynamic_config(extra)
        .dynamic_config_text(true)
        .unwrap();
    assert!(text.contains("X-A") && !text.contains("{{"), "{text}");
}

#[test]
fn failed_attach_tells_the_truth() {
    let rig = Rig::new(Kind::Toml);
    let _traefik = external(&rig, "a");
    let elsewhere = Echo::start();
    let memory = MemoryBackend::new();
    let attached = builder(&rig, memory.clone())
        .public_url(elsewhere.url())
        .check_route_timeout(Duration::from_secs(3))
        .attach();
    let error = attached.unwrap_err();
    assert_eq!(*error.stored(), Stored::Nothing, "{error}");
    drop(builder(&rig, memory).attach().unwrap());
}

#[test]
fn ready_means_loaded() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let traefik = external(&rig, "a");
    let ready = || rig.get("any.example", "/.traefik-router/ready").status;
    assert_eq!(ready(), 404);
    let router = attach(&rig);
    router.add_route("/", echo.url(), ()).unwrap();
    assert_eq!(ready(), 200);
    drop(traefik);
    let _traefik = external(&rig, "a");
    eventually("it is ready", || {
        let (ready, landed) = (ready(), rig.landed("h", "/"));
        assert!(
            ready == 404 || landed == Some(echo.port),
            "{ready} {landed:?}"
        );
        ready == 200
    });
    drop(router);
}

/// What Traefik's API shows for configuration that is pushed, and for the same in a file.
#[test]
fn defaults_are_those_of_a_file() {
    let rig = Rig::new(Kind::Toml);
    let server = json!([{"url": "http://127.0.0.1:9"}]);
    let config = json!({"http": {
        "middlewares": {
            "compress": {"compress": {}},
            "breaker": {"circuitBreaker": {"expression": "NetworkErrorRatio() > 0.5"}},
            "forward": {"forwardAuth": {"address": "http://127.0.0.1:9"}},
            "rate": {"rateLimit": {"average": 10, "period": 2}},
            "redis": {"rateLimit": {"average": 10, "redis": {"db": 1}}},
            "retry": {"retry": {"attempts": 2, "initialInterval": "3"}},
            "case": {"Compress": {"MinResponseBodyBytes": 7}},
            "times": {"circuitBreaker": {"expression": "NetworkErrorRatio() > 0.5", "CheckPeriod": 4}},
        },
        "services": {
            "one": {"loadBalancer": {"servers": server, "healthCheck": {"path": "/", "interval": 40, "timeout": "2"}}},
            "three": {"loadBalancer": {"servers": server, "responseForwarding": {"flushInterval": 1}}},
            "two": {"loadBalancer": {"servers": server, "passiveHealthCheck": {"maxFailedAttempts": 2}}},
            "weighted": {"weighted": {"services": [{"name": "one"}, {"name": "two"}]}},
            "mirroring": {"mirroring": {"service": "one", "mirrors": [{"name": "two"}]}},
            "random": {"highestRandomWeight": {"services": [{"name": "one"}]}},
            "sticky": {"loadBalancer": {"servers": server, "sticky": {"cookie": {}}}},
        },
        "routers": {"seen": {"rule": "Path(`/seen`)", "service": "one", "observability": {"metrics": false}}},
    }, "tcp": {
        "services": {"tcp": {"loadBalancer": {"servers": [{"address": "127.0.0.1:9"}], "healthCheck": {}}}},
    }});
    let _traefik = external_with(&rig, "a", &config);
    let router = builder(&rig, MemoryBackend::new()).extra_dynamic_config(config.clone());
    let _router = router.attach().unwrap();
    let api = rig.api();
    let named = |name: &str| (format!("{name}@file"), format!("{name}@rest"));
    for name in config["http"]["middlewares"].as_object().unwrap().keys() {
        let (file, rest) = named(name);
        let [file, rest] = [file, rest].map(|name| api.middleware(&name).unwrap().unwrap());
        let type_of = |shown: &traefik_router::traefik::Middleware| {
            let mut settings = shown.settings.clone();
            settings.remove("provider");
            settings
        };
        assert_eq!(type_of(&file), type_of(&rest), "{name}");
        assert_eq!(rest.status, "enabled");
    }
    let services = api.services().unwrap();
    for name in config["http"]["services"].as_object().unwrap().keys() {
        let (file, rest) = named(name);
        let [file, rest] =
            [file, rest].map(|name| services.iter().find(|one| one.name == name).unwrap());
        assert_eq!(
            (&file.load_balancer, &file.status),
            (&rest.load_balancer, &rest.status),
            "{name}"
        );
    }
    let login = format!("jupyterhub:{}", rig::PASSWORD);
    let mut connection = Connection::new(rig.api, Some(&login));
    let mut shown = |kind: &str, name: &str, part: &str| {
        let path = format!("/api/{kind}/{}", name.replace('@', "%40"));
        let (status, body) = connection.get(&path).unwrap();
        assert_eq!(status, 200, "{path}");
        serde_json::from_slice::<Value>(body).unwrap()[part].take()
    };
    for (kind, name, part) in [
        ("http/routers", "seen", "observability"),
        ("tcp/services", "tcp", "loadBalancer"),
    ] {
        let (file, rest) = named(name);
        let [file, rest] = [file, rest].map(|name| shown(kind, &name, part));
        assert!(!file.is_null(), "{kind}");
        assert_eq!(file, rest, "{kind}");
    }
}

#[test]
fn lost_messages_are_made_up_for() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external(&rig, "a");
    let proxy = Proxy::new(&rig.api_url());
    let router = builder(&rig, MemoryBackend::new()).traefik_api_url(&proxy.url);
    let router = router.attach().unwrap();
    proxy.lose_one_answer();
    router.add_route("/a/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/a/x"), Some(echo.port));
    proxy.swallow_one_request();
    router.add_route("/b/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/b/x"), Some(echo.port));
    for mood in [
        Mood::Cut(20),
        Mood::Rubbish("HTTP/1.1 500 no\r\n\r\n"),
        Mood::Silent,
    ] {
        proxy.mood(mood);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                proxy.mood(Mood::Honest);
            });
            router
                .add_route("/c/", echo.url(), json!(format!("{mood:?}")))
                .unwrap();
        });
        assert_eq!(rig.landed("h", "/c/x"), Some(echo.port), "{mood:?}");
    }
}

#[test]
fn lost_push_answers_are_made_up_for() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external(&rig, "a");
    let proxy = Proxy::new(&rig.api_url());
    let router = builder(&rig, MemoryBackend::new())
        .traefik_api_url(&proxy.url)
        .keeper_interval(Duration::from_secs(60))
        .attach()
        .unwrap();
    proxy.lose_answers_to("PUT /api/providers/rest");
    router.add_route("/a/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/a/x"), Some(echo.port));
}

/// It was restarted, and so says nothing of what was acknowledged.
#[test]
fn empty_traefik_completes_no_quorum() {
    let rigs = [(); 3].map(|()| Rig::new(Kind::Toml));
    let [first, second, third] = &rigs;
    let echo = Echo::start();
    let (_a, b, _c) = (
        external(first, "a"),
        external(second, "a"),
        external(third, "a"),
    );
    let proxies = rigs.each_ref().map(|rig| Proxy::new(&rig.api_url()));
    let attach = || {
        builder(first, MemoryBackend::new())
            .traefik_api_urls(proxies.iter().map(|proxy| proxy.url.clone()))
            .traefik_api_timeout(Duration::from_secs(1))
            .traefik_quorum(2)
            .attach()
            .unwrap()
    };
    let router = attach();
    proxies[2].mood(Mood::Drop(Duration::ZERO));
    router.add_route("/a/", echo.url(), ()).unwrap();
    drop(router);
    drop(b);
    let _b = external(second, "a");
    proxies[0].mood(Mood::Drop(Duration::ZERO));
    proxies[2].mood(Mood::Honest);
    let router = std::thread::scope(|scope| {
        let attached = scope.spawn(attach);
        std::thread::sleep(Duration::from_secs(2));
        proxies[0].mood(Mood::Honest);
        attached.join().unwrap()
    });
    assert!(router.get_route("/a/").unwrap().is_some());
}

#[test]
fn stopped_router_delivers_nothing() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = external(&rig, "a");
    let memory = MemoryBackend::new();
    let first = builder(&rig, memory.clone()).attach().unwrap();
    first.stop().unwrap();
    let _second = builder(&rig, memory).attach().unwrap();
    let error = first.add_route("/a/", echo.url(), ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process, "{error}");
    assert_eq!(rig.landed("h", "/a/x"), None);
}
