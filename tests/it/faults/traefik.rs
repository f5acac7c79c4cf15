//! A Traefik that is gone, hangs, or whose API answers as it should not.

use std::time::{Duration, Instant};

use kit::process::{processes_naming, send_signal};
use kit::server::response;
use kit::{Echo, Mood, Proxy, Server, eventually};
use serde_json::{Value, json};
use traefik_router::backend::{Commit, Edit, Setup};
use traefik_router::{
    Backend, Builder, ErrorKind, FileBackend, Level, ProcessStatus, Result, Router, Stored, Table,
    Verified,
};

use crate::support::{External, Kind, Rig, on_each_backend_and_push};

on_each_backend_and_push! {
    stopped_traefik_is_reported,
    restarted_traefik_serves_pending_change,
    frozen_traefik_ends_attach,
    missing_traefik_fails_at_once,
}

const SHORT: Duration = Duration::from_secs(1);
/// What catches a wait without a bound, on a machine that is busy.
const LONG: Duration = Duration::from_secs(6);

fn short(rig: &Rig) -> Builder {
    rig.builder().check_route_timeout(SHORT)
}

/// A Router that waits for a short time only, on a Traefik that runs already.
fn attach(rig: &Rig, builder: Builder) -> Router {
    drop(rig.builder().attach().unwrap());
    builder.attach().unwrap()
}

/// A change is stored and not confirmed; the error comes in time and says all of these.
#[track_caller]
fn is_not_confirmed(router: &Router, spec: &str, echo: &Echo, says: &[&str]) {
    let start = Instant::now();
    let error = router.add_route(spec, echo.url(), ()).unwrap_err();
    let took = start.elapsed();
    assert!(took < LONG, "{took:?}: {error}");
    let reported = (error.kind(), error.stored());
    assert_eq!(reported, (ErrorKind::NotLoaded, &Stored::All), "{error}");
    for text in says {
        assert!(error.to_string().contains(text), "{text:?} in {error}");
    }
}

/// A change is confirmed again, by the Router that was there all the time.
#[track_caller]
fn goes_on(rig: &Rig, router: &Router, spec: &str, echo: &Echo) {
    // A busy machine may take longer than is allowed for a single one.
    eventually("confirmed", || {
        router.add_route(spec, echo.url(), ()).is_ok()
    });
    is_served(rig, spec, echo);
}

#[track_caller]
fn is_served(rig: &Rig, spec: &str, echo: &Echo) {
    assert_eq!(rig.landed("h", spec), Some(echo.port), "{spec}");
}

fn stopped_traefik_is_reported(kind: Kind) {
    let rig = Rig::new(kind);
    let traefik = External::start(&rig);
    let (router, echo) = (attach(&rig, short(&rig)), Echo::start());
    send_signal(traefik.id(), "STOP");
    is_not_confirmed(&router, "/meanwhile/", &echo, &[&rig.api_url()]);
    assert!(router.get_route("/meanwhile/").unwrap().is_some());
    send_signal(traefik.id(), "CONT");
    eventually("Traefik answers again", || router.status().is_healthy());
    goes_on(&rig, &router, "/after/", &echo);
    is_served(&rig, "/meanwhile/", &echo);
}

fn restarted_traefik_serves_pending_change(kind: Kind) {
    let rig = Rig::new(kind);
    let traefik = External::start(&rig);
    let (router, echo) = (rig.builder().attach().unwrap(), Echo::start());
    send_signal(traefik.id(), "STOP");
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| router.add_route("/a/", echo.url(), ()));
        eventually("stored", || router.get_route("/a/").unwrap().is_some());
        drop(traefik);
        let _again = External::start(&rig);
        adding.join().unwrap().unwrap();
        is_served(&rig, "/a/", &echo);
        router.delete_route("/a/").unwrap();
        assert_eq!(rig.landed("h", "/a/"), None);
    });
}

fn frozen_traefik_ends_attach(kind: Kind) {
    let rig = Rig::new(kind);
    let traefik = External::start(&rig);
    send_signal(traefik.id(), "STOP");
    let start = Instant::now();
    // One request may take longer than the change.
    let builder = short(&rig).traefik_api_timeout(10 * LONG);
    let error = builder.attach().unwrap_err();
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    send_signal(traefik.id(), "CONT");
}

fn missing_traefik_fails_at_once(kind: Kind) {
    let rig = Rig::new(kind);
    let (echo, start) = (Echo::start(), Instant::now());
    let error = rig.builder().attach().unwrap_err();
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    let reported = (error.kind(), error.stored());
    assert_eq!(
        reported,
        (ErrorKind::Unavailable, &Stored::Nothing),
        "{error}"
    );
    assert!(error.to_string().contains(&rig.api_url()), "{error}");
    assert_eq!(rig.rules_text(), "");
    let _traefik = External::start(&rig);
    let router = rig.builder().attach().unwrap();
    router.add_route("/a/", echo.url(), ()).unwrap();
    is_served(&rig, "/a/", &echo);
}

#[test]
fn own_stopped_traefik_is_reported() {
    let rig = Rig::new(Kind::Toml);
    let (router, echo) = (short(&rig).start().unwrap(), Echo::start());
    let Some(ProcessStatus::Running { pid: traefik, .. }) = router.status().process else {
        panic!("{:?}", router.status());
    };
    send_signal(traefik, "STOP");
    is_not_confirmed(&router, "/a/", &echo, &[&rig.api_url()]);
    send_signal(traefik, "CONT");
    eventually("Traefik answers again", || router.status().is_healthy());
    goes_on(&rig, &router, "/b/", &echo);
    is_served(&rig, "/a/", &echo);
    send_signal(traefik, "STOP");
    let start = Instant::now();
    router.stop().unwrap();
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    eventually("Traefik and its watchdog are gone", || {
        processes_naming(rig.folder.to_str().unwrap()).is_empty()
    });
}

const NOT_JSON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope";
const OTHER_JSON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
const MOVED: &str = "HTTP/1.1 301 Moved Permanently\r\nLocation: http://127.0.0.1:9/\r\n\
                     Content-Length: 0\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
const ENDLESS: &str = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"name\":";

#[test]
fn wrong_api_answers_are_reported() {
    let rig = Rig::new(Kind::Toml);
    let _traefik = External::start(&rig);
    let proxy = Proxy::new(&rig.api_url());
    let builder = short(&rig).traefik_api_url(&proxy.url);
    let (router, echo) = (attach(&rig, builder), Echo::start());
    let moods = [
        (Mood::Silent, ""),
        (Mood::Trickle(Duration::from_millis(20)), ""),
        (Mood::Slow(2 * SHORT), ""),
        (Mood::Cut(0), ""),
        (Mood::Cut(30), ""),
        (Mood::Rubbish(ENDLESS), ""),
        (Mood::Rubbish("\u{16}\u{3}\0 rubbish"), ""),
        (Mood::Rubbish(NOT_JSON), "did not answer as Traefik's API"),
        (Mood::Rubbish(OTHER_JSON), "did not answer as Traefik's API"),
        (Mood::Rubbish(MOVED), "status 301"),
        (Mood::Rubbish(BROKEN), "status 500"),
    ];
    for (n, (mood, says)) in moods.into_iter().enumerate() {
        println!("{mood:?}");
        proxy.mood(mood);
        let (during, after) = (format!("/during/{n}/"), format!("/after/{n}/"));
        is_not_confirmed(&router, &during, &echo, &[&proxy.url, says]);
        if matches!(mood, Mood::Rubbish(_)) {
            let status = router.status();
            let answer = &status.traefiks[0].answer;
            assert!(!status.is_healthy(), "{status:?}");
            let error = answer.as_ref().unwrap_err().to_string();
            assert!(
                error.contains(&proxy.url) && error.contains(says),
                "{error}"
            );
        }
        // Traefik itself is well.
        eventually("served", || rig.landed_or_error(&during) == Some(echo.port));
        proxy.mood(Mood::Honest);
        goes_on(&rig, &router, &after, &echo);
        assert!(router.status().is_healthy());
    }
}

/// Traefik has loaded the change, and does not say whether it refuses the router.
#[test]
fn silent_router_ends_change() {
    let rig = Rig::new(Kind::Toml);
    let _traefik = External::start(&rig);
    let proxy = Proxy::new(&rig.api_url());
    let builder = short(&rig).traefik_api_timeout(10 * LONG);
    let router = attach(&rig, builder.traefik_api_url(&proxy.url));
    proxy.hold(Some("GET /api/http/routers"));
    let start = Instant::now();
    let error = router.add_route("/a/", Echo::start().url(), ());
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn slow_api_is_awaited() {
    let rig = Rig::new(Kind::Toml);
    let _traefik = External::start(&rig);
    let proxy = Proxy::new(&rig.api_url());
    let builder = rig.builder().traefik_api_url(&proxy.url);
    let (router, echo) = (builder.attach().unwrap(), Echo::start());
    let pause = Duration::from_millis(200);
    proxy.mood(Mood::Slow(pause));
    for n in 0..3 {
        let done = router.add_route("/a/", echo.url(), n).unwrap();
        let served_after = done.served_after.unwrap();
        assert!(served_after >= pause, "{served_after:?}");
        is_served(&rig, "/a/", &echo);
    }
}

#[test]
fn moved_api_is_found_again() {
    let rig = Rig::new(Kind::Toml);
    let _traefik = External::start(&rig);
    let proxy = Proxy::new(&rig.api_url());
    let builder = short(&rig).traefik_api_url(&proxy.url);
    let (router, echo) = (attach(&rig, builder), Echo::start());
    let lead_to = |target: &str| {
        proxy.lead_to(target);
        // The connections of before lead to where they did; they end.
        proxy.mood(Mood::Cut(0));
        assert!(!router.status().is_healthy());
        proxy.mood(Mood::Honest);
    };
    // Another server has the port now.
    let stranger = Echo::start();
    lead_to(&stranger.url());
    let says = [&*proxy.url, "did not answer as Traefik's API"];
    is_not_confirmed(&router, "/during/", &echo, &says);
    lead_to(&rig.api_url());
    goes_on(&rig, &router, "/after/", &echo);
    is_served(&rig, "/during/", &echo);
}

/// A server that says it is this Traefik and has nothing else to say.
fn claims_to_be(version: &'static str) -> Server {
    Server::answering(move |request| {
        let answer = if request.path.contains("/api/version") {
            let body = json!({"Version": version, "startDate": "2019-01-01T00:00:00Z"});
            response(200, "", body.to_string().as_bytes())
        } else {
            response(404, "", b"404 page not found")
        };
        Some(answer)
    })
}

#[test]
fn other_versions_are_reported() {
    let rig = Rig::new(Kind::Toml);
    let old = claims_to_be("1.7.34");
    let builder = || short(&rig).traefik_api_url(old.url());
    let start = Instant::now();
    let error = builder().attach().unwrap_err();
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    let reported = (error.kind(), error.stored());
    assert_eq!(
        reported,
        (ErrorKind::InvalidConfig, &Stored::Nothing),
        "{error}"
    );
    for text in [&*old.url(), "1.7.34", "install Traefik 3"] {
        assert!(error.to_string().contains(text), "{error}");
    }
    let findings = builder().diagnose();
    let reported = |finding: &&traefik_router::Finding| {
        finding.level != Level::Ok && finding.message.contains("1.7.34")
    };
    assert!(
        findings.iter().any(|finding| reported(&finding)),
        "{findings:?}"
    );
    // Nothing of this keeps the next one from being used.
    let _traefik = External::start(&rig);
    let backend = FileBackend::new(rig.rules());
    let router = rig.builder_over(backend).attach().unwrap();
    let echo = Echo::start();
    router.add_route("/a/", echo.url(), ()).unwrap();
    is_served(&rig, "/a/", &echo);
}

const OLD: &str = "HTTP/1.1 418 I'm a teapot\r\nX-Traefik-Router-Generation: 1\r\n\
                   Content-Length: 0\r\n\r\n";

/// What comes between us and the entrypoint may fail; Traefik's API has shown the change by then.
#[test]
fn unreachable_entrypoint_delays_nobody() {
    let rig = Rig::new(Kind::Toml);
    let _traefik = External::start(&rig);
    let echo = Echo::start();
    drop(rig.builder().attach().unwrap());
    for (n, mood) in [Mood::Silent, Mood::Cut(0)].into_iter().enumerate() {
        let proxy = Proxy::new(&rig.web_url());
        let router = rig.builder().public_url(&proxy.url).attach().unwrap();
        for (state, mood) in [
            ("before", Mood::Honest),
            ("during", mood),
            ("after", Mood::Honest),
        ] {
            proxy.mood(mood);
            let (spec, start) = (format!("/{state}/{n}/"), Instant::now());
            let applied = router.add_route(&spec, echo.url(), ()).unwrap();
            let seen = applied.verified == Verified::Seen;
            assert!(seen || state != "before", "{applied:?}");
            assert!(!seen || state != "during", "{applied:?}");
            assert!(
                start.elapsed() < 2 * LONG,
                "{mood:?}: {:?}",
                start.elapsed()
            );
            is_served(&rig, &spec, &echo);
        }
    }
}

#[test]
fn stale_entrypoint_is_reported() {
    let rig = Rig::new(Kind::Toml);
    let _traefik = External::start(&rig);
    let (proxy, echo) = (Proxy::new(&rig.web_url()), Echo::start());
    let builder = short(&rig).public_url(&proxy.url);
    // The API has to load it in half of this time.
    let builder = builder.check_route_timeout(Duration::from_secs(4));
    let router = attach(&rig, builder);
    proxy.mood(Mood::Rubbish(OLD));
    is_not_confirmed(
        &router,
        "/a/",
        &echo,
        &[&proxy.url, "still meet generation 1"],
    );
    proxy.mood(Mood::Honest);
    goes_on(&rig, &router, "/b/", &echo);
}

#[test]
fn silent_entrypoint_is_asked_again() {
    let rig = Rig::new(Kind::Toml);
    let _traefik = External::start(&rig);
    let (proxy, echo) = (Proxy::new(&rig.web_url()), Echo::start());
    let router = attach(&rig, short(&rig).public_url(&proxy.url));
    proxy.mood(Mood::Silent);
    router.add_route("/a/", echo.url(), ()).unwrap();
    proxy.mood(Mood::Rubbish(OLD));
    let mut changes = 0..;
    eventually("an old generation is reported", || {
        let change = router.add_route("/a/", echo.url(), changes.next());
        change.is_err_and(|error| error.to_string().contains("still meet generation 1"))
    });
}

/// Whoever answers on the entrypoint may be another Traefik than the one whose API was given.
#[test]
fn entrypoint_alone_confirms_nothing() {
    let rig = Rig::new(Kind::Toml);
    let _traefik = External::start(&rig);
    let (proxy, echo) = (Proxy::new(&rig.api_url()), Echo::start());
    let router = attach(&rig, short(&rig).traefik_api_url(&proxy.url));
    router.add_route("/a/", echo.url(), ()).unwrap();
    proxy.mood(Mood::Silent);
    let error = router.delete_route("/a/").unwrap_err();
    let reported = (error.kind(), error.stored());
    assert_eq!(reported, (ErrorKind::NotLoaded, &Stored::All), "{error}");
    assert_eq!(rig.landed("h", "/a/"), None);
}

/// A file on a disk that is slow to confirm what readers of the file see already.
#[derive(Debug)]
struct SlowDisk(FileBackend);

impl SlowDisk {
    const TIME: Duration = Duration::from_secs(4);
}

impl Backend for SlowDisk {
    fn provider(&self) -> &str {
        self.0.provider()
    }

    fn static_config(&self) -> Result<Value> {
        self.0.static_config()
    }

    fn open(&self, setup: &Setup, edit: &mut Edit<'_>) -> Result<Commit> {
        self.0.open(setup, edit)
    }

    fn read(&self) -> Result<Table> {
        self.0.read()
    }

    fn commit(&self, edit: &mut Edit<'_>) -> Result<Commit> {
        let commit = self.0.commit(edit);
        std::thread::sleep(Self::TIME);
        commit
    }

    fn close(&self) -> Result<()> {
        self.0.close()
    }
}

#[test]
fn slow_disk_spares_the_timeout() {
    let rig = Rig::new(Kind::Toml);
    let _traefik = External::start(&rig);
    let (proxy, echo) = (Proxy::new(&rig.api_url()), Echo::start());
    drop(rig.builder().attach().unwrap());
    let disk = SlowDisk(FileBackend::new(rig.path("rules.toml")));
    let timeout = Duration::from_secs(3);
    let builder = rig.builder_over(disk).check_route_timeout(timeout);
    let router = builder.traefik_api_url(&proxy.url).attach().unwrap();
    proxy.mood(Mood::Slow(Duration::from_millis(50)));
    for n in 0..2 {
        let applied = router.add_route("/a/", echo.url(), n).unwrap();
        assert!(applied.stored_after >= SlowDisk::TIME);
        let loaded_after = applied.loaded_after.unwrap();
        assert!(loaded_after >= applied.stored_after);
        assert!(loaded_after < applied.stored_after + timeout);
        is_served(&rig, "/a/", &echo);
    }
}

/// What answers at `public_url` is not this Traefik, or not these routers.
#[test]
fn wrong_entrypoint_answers_are_reported() {
    let rig = Rig::new(Kind::Toml);
    let _traefik = External::start(&rig);
    let (proxy, echo) = (Proxy::new(&rig.web_url()), Echo::start());
    let builder = || short(&rig).public_url(&proxy.url);
    let router = attach(&rig, builder());
    for (answer, says) in [
        (OLD, "still meet generation 1"),
        (BROKEN, "status 500"),
        (MOVED, "a redirect to http://127.0.0.1:9/"),
    ] {
        proxy.mood(Mood::Rubbish(answer));
        let before = rig.rules_text();
        let error = builder().attach().unwrap_err();
        let reported = (error.kind(), error.stored());
        assert_eq!(
            reported,
            (ErrorKind::NotLoaded, &Stored::Nothing),
            "{error}"
        );
        for text in [says, "public_url", &proxy.url] {
            assert!(error.to_string().contains(text), "{error}");
        }
        assert!(!error.to_string().contains("stored"), "{error}");
        assert_eq!(rig.rules_text(), before);
        is_not_confirmed(&router, "/a/", &echo, &[says, &proxy.url]);
        proxy.mood(Mood::Honest);
        goes_on(&rig, &router, "/a/", &echo);
    }
}
