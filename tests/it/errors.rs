//! Each thing that can go wrong has an error of its own, which says what to do.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use kit::{Echo, Mood, Proxy, eventually};
use serde_json::{Value, json};
use traefik_router::{Backend as _, Builder, Error, ErrorKind, RouteSpec, Router, Stored, Tls};

use crate::protocols::own_certificate;
use crate::support::{External, Kind, Rig, on_each_backend, on_push};

const SHORT: Duration = Duration::from_millis(1500);

on_each_backend! {
    wrong_password_is_reported,
    foreign_api_setup_stays,
    dead_traefik_is_named,
    traefik_watching_elsewhere_is_reported,
    traefik_explains_unknown_key,
    traefik_explains_refused_router,
    unknown_entrypoint_lists_known_ones,
    several_traefiks_must_all_serve,
}

on_push! {
    several_traefiks_must_all_serve,
    wrong_password_is_reported,
    dead_traefik_is_named,
    unknown_entrypoint_lists_known_ones,
    traefik_explains_refused_router,
}

/// The error of an outcome, which is of this kind and says all of these.
#[track_caller]
fn check<T: std::fmt::Debug>(
    outcome: traefik_router::Result<T>,
    kind: ErrorKind,
    says: &[&str],
) -> Error {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for text in says {
        assert!(error.to_string().contains(text), "{text:?} in {error}");
    }
    error
}

/// Adds a route to a Router that finds something wrong, and checks what it says.
#[track_caller]
fn check_add(router: &Router, kind: ErrorKind, says: &[&str]) {
    let added = router.add_route("/added/", "http://127.0.0.1:1", json!(null));
    let error = check(added, kind, says);
    assert_eq!(*error.stored(), Stored::All);
}

fn short(rig: &Rig) -> Builder {
    rig.builder().check_route_timeout(SHORT)
}

fn wrong_password_is_reported(kind: Kind) {
    let rig = Rig::new(kind);
    let first = rig.start();
    let password = "wrong-and-not-to-be-shown";
    for (user, password) in [
        ("jupyterhub", password),
        ("another", crate::support::rig::PASSWORD),
    ] {
        let start = Instant::now();
        let second = rig.builder().enable_setup_dynamic_config(false);
        let second = second
            .traefik_api_username(user)
            .traefik_api_password(password)
            .attach();
        let error = check(
            second,
            ErrorKind::Unauthorized,
            &["traefik_api_password", &rig.api_url()],
        );
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
        assert!(!format!("{error} {error:?}").contains(password));
    }
    // Nor is it in anything else that is shown.
    let shown = format!("{first:?} {:?} {:?}", rig.builder(), rig.api());
    assert!(!shown.contains(crate::support::rig::PASSWORD), "{shown}");
    first
        .add_route("/a/", "http://127.0.0.1:1", json!(null))
        .unwrap();
}

fn foreign_api_setup_stays(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    let providers = rig.backend().static_config().unwrap()["providers"].clone();
    let _traefik = External::start_with(&rig, "open", &External::open_config(&rig, &providers));
    let router = rig
        .builder()
        .enable_setup_dynamic_config(false)
        .attach()
        .unwrap();
    router.add_route("/a/", echo.url(), json!(null)).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    for ours in ["traefik-router-api", "auth_api", "PRIVATE KEY", "tls"] {
        assert!(!rig.rules_text().contains(ours), "{ours}");
    }
}

fn dead_traefik_is_named(kind: Kind) {
    let rig = Rig::new(kind);
    let start = Instant::now();
    check(
        rig.builder().attach(),
        ErrorKind::Unavailable,
        &[&rig.api_url(), "refused", "start Traefik"],
    );
    assert!(start.elapsed() < Duration::from_secs(5), "at once");
    assert_eq!(rig.rules_text(), "");
    let traefik = External::start(&rig);
    // One that is just starting has the usual time.
    drop(rig.builder().attach().unwrap());
    let router = short(&rig).attach().unwrap();
    drop(traefik);
    let start = Instant::now();
    check_add(&router, ErrorKind::NotLoaded, &[&rig.api_url(), "refused"]);
    assert!(start.elapsed() < 5 * SHORT, "{:?}", start.elapsed());
    assert!(!router.status().is_healthy());
    // It was stored: the next Traefik serves it, and the same Router goes on.
    let _traefik = External::start(&rig);
    let echo = Echo::start();
    // Its own time is short for a Traefik that has just started.
    eventually("the same Router goes on", || {
        let again = router.add_route("/again/", echo.url(), json!(null));
        again.is_ok()
    });
    assert_eq!(rig.landed("h", "/again/"), Some(echo.port));
    assert_eq!(
        rig.get("h", "/added/").status,
        502,
        "nobody is there, but the route is"
    );
}

fn attach_to_open(rig: &Rig, providers: Value) -> traefik_router::Result<Router> {
    let config = External::open_config(rig, &providers);
    let _traefik = External::start_with(rig, "open", &config);
    eventually("its API answers", || rig.api().version().is_ok());
    short(rig).traefik_api_entrypoint("traefik").attach()
}

fn traefik_watching_elsewhere_is_reported(kind: Kind) {
    let rig = Rig::new(kind);
    let other = match kind {
        Kind::Etcd => json!({"etcd": {"endpoints": [rig.etcd_address()], "rootKey": "elsewhere"}}),
        _ => json!({"file": {"filename": rig.path(format!("other.{}", kind.ending()))}}),
    };
    let outcome = attach_to_open(&rig, other);
    check(
        outcome,
        ErrorKind::NotLoaded,
        &["it reads another file", &rig.api_url()],
    );
}

#[test]
fn missing_file_provider_is_reported() {
    let rig = Rig::new(Kind::Toml);
    let outcome = attach_to_open(&rig, json!({"rest": {"insecure": true}}));
    check(
        outcome,
        ErrorKind::NotLoaded,
        &["provider \"file\" is not running", "rest"],
    );
}

fn traefik_explains_unknown_key(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    let unknown = match kind {
        Kind::Push => unreachable!("not for others to write"),
        Kind::Toml => "[udp]\nnonsense = 1\n",
        #[cfg(feature = "yaml")]
        Kind::Yaml => "udp:\n  nonsense: 1\n",
        _ => &format!("{}/udp/nonsense \"1\"\n", rig.prefixes()[0]),
    };
    rig.write_rules(unknown);
    let says = ["nonsense", "its log says"];
    let begun = std::time::Instant::now();
    check(rig.builder().start(), ErrorKind::NotLoaded, &says);
    assert!(
        begun.elapsed().as_secs() < 15,
        "Traefik says that it rejects the file; that is not to be waited out"
    );
    assert!(!rig.path("traefik.toml").exists());
    assert_eq!(rig.rules_text(), unknown);

    rig.write_rules("");
    // A Traefik that has rejected something in etcd looks again only after a pause.
    let patience = Duration::from_secs(6);
    let router = rig.builder().check_route_timeout(patience).start().unwrap();
    router
        .add_route("/before/", echo.url(), json!(null))
        .unwrap();
    rig.write_rules(&format!("{}{unknown}", rig.rules_text()));
    check_add(&router, ErrorKind::NotLoaded, &says);
    assert_eq!(
        rig.landed("h", "/before/"),
        Some(echo.port),
        "what was loaded stays"
    );
    rig.write_rules(&rig.rules_text().replace(unknown, ""));
    router
        .add_route("/after/", echo.url(), json!(null))
        .unwrap();
    assert_eq!(rig.landed("h", "/after/"), Some(echo.port));
}

fn traefik_explains_refused_router(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    router
        .add_route("/before/", echo.url(), json!(null))
        .unwrap();
    // Another program sets the table up for an entrypoint that this Traefik does not have.
    let other = rig
        .builder_over(rig.backend())
        .traefik_entrypoint("vanished");
    other.offline().unwrap().apply([]).unwrap();
    check_add(
        &router,
        ErrorKind::Refused,
        &["/added/", "vanished", &rig.api_url()],
    );
    let many =
        ["/one/", "/two/"].map(|spec| traefik_router::Change::set(spec, echo.url()).unwrap());
    check(router.apply(many), ErrorKind::Refused, &["vanished"]);
    assert!(!rig.api().refused_routers().unwrap().is_empty());
    let back = rig.builder_over(rig.backend()).traefik_entrypoint("http");
    back.offline().unwrap().apply([]).unwrap();
    router
        .add_route("/after/", echo.url(), json!(null))
        .unwrap();
    assert_eq!(rig.landed("h", "/before/"), Some(echo.port));
}

fn unknown_entrypoint_lists_known_ones(kind: Kind) {
    let rig = Rig::new(kind);
    let _traefik = External::start(&rig);
    let attached = rig.builder().traefik_entrypoint("nowhere").attach();
    check(
        attached,
        ErrorKind::InvalidConfig,
        &["nowhere", "auth_api, http", "traefik_entrypoint"],
    );
}

fn several_traefiks_must_all_serve(kind: Kind) {
    let rig = Rig::new(kind);
    let second = rig.sibling();
    let echo = Echo::start();
    let _one = External::start(&rig);
    let two = External::start_with(&second, "second", &External::config(&second));
    let urls = [rig.api_url(), second.api_url()];
    let router = rig.builder().traefik_api_urls(&urls).attach().unwrap();
    let name = router.router_name(&RouteSpec::new("/a/").unwrap());
    // Of several Traefiks the APIs are asked. An entrypoint may follow some milliseconds later.
    let serve = |port: Option<u16>| {
        for rig in [&rig, &second] {
            let info = rig.api().router(&name).unwrap();
            assert_eq!(info.is_some(), port.is_some(), "{}", rig.api_url());
            eventually("requests follow", || rig.landed("h", "/a/") == port);
        }
    };
    for n in 0..10 {
        router.add_route("/a/", echo.url(), json!(n)).unwrap();
        serve(Some(echo.port));
        router.delete_route("/a/").unwrap();
        serve(None);
    }
    drop(router);
    let router = short(&rig).traefik_api_urls(&urls).attach().unwrap();
    drop(two);
    check_add(&router, ErrorKind::NotLoaded, &[&second.api_url()]);
    drop(router);
    let one_is_enough = short(&rig).traefik_api_urls([second.api_url(), rig.api_url()]);
    let one_is_enough = one_is_enough.traefik_quorum(1).attach().unwrap();
    one_is_enough
        .add_route("/b/", echo.url(), json!(null))
        .unwrap();
    eventually("requests follow", || {
        rig.landed("h", "/b/") == Some(echo.port)
    });
    let traefiks = one_is_enough.status().traefiks;
    let well: Vec<_> = traefiks
        .iter()
        .map(|traefik| (&*traefik.url, traefik.answer.is_ok()))
        .collect();
    assert_eq!(well, [(&*second.api_url(), false), (&*rig.api_url(), true)]);
}

#[test]
fn silent_api_delays_no_quorum() {
    let (rig, echo) = (Rig::new(Kind::Toml), Echo::start());
    let _traefik = External::start(&rig);
    let silent = Proxy::new(&rig.api_url());
    let attach = || {
        rig.builder()
            .traefik_api_urls([silent.url.clone(), rig.api_url()])
            .traefik_quorum(1)
            .traefik_api_timeout(Duration::from_secs(60))
            .check_route_timeout(Duration::from_secs(60))
            .attach()
            .unwrap()
    };
    drop(attach());
    silent.mood(Mood::Silent);
    let begun = Instant::now();
    let router = attach();
    router.add_route("/a/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    router.delete_route("/a/").unwrap();
    router.wait_until_served(Duration::from_secs(60)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn api_certificate_check_is_optional() {
    let rig = Rig::new(Kind::Toml);
    let echo = Echo::start();
    let (files, pem) = own_certificate(&rig);
    let ((cert, key), another) = own_certificate(&Rig::new(Kind::Toml));
    assert!(
        !Path::new(&cert).exists() && !key.exists(),
        "only its text is of use"
    );
    let mut config = External::config(&rig);
    config["entryPoints"]["auth_api"]["http"] = json!({"tls": {}});
    let (cert, key) = &files;
    rig.write_rules(&format!(
        "[tls.stores.default.defaultCertificate]\ncertFile = {cert:?}\nkeyFile = {key:?}\n"
    ));
    let _traefik = External::start_with(&rig, "secure", &config);
    let secure = |tls: Tls| {
        let url = format!("https://127.0.0.1:{}", rig.api);
        rig.builder().traefik_api_url(url).traefik_api_tls(tls)
    };
    for tls in [
        Tls::new().ca_pem(pem),
        Tls::new().danger_skip_validation(true),
    ] {
        let router = secure(tls).attach().unwrap();
        router.add_route("/a/", echo.url(), json!(null)).unwrap();
        assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    }
    for tls in [Tls::new().ca_pem(another), Tls::new()] {
        check(
            secure(tls).check_route_timeout(SHORT).attach(),
            ErrorKind::Unauthorized,
            &["https://127.0.0.1", "certificate"],
        );
    }
    check(
        secure(Tls::new().ca_pem("no PEM")).attach(),
        ErrorKind::InvalidConfig,
        &["PEM"],
    );
}

#[test]
fn contradictory_options_are_refused() {
    let rig = Rig::new(Kind::Toml);
    let api = rig.api_url();
    let throttle = std::time::Duration::from_secs(3600);
    let builders: [(Builder, &str); 18] = [
        (rig.builder().traefik_api_password(""), "is empty"),
        (rig.builder().public_url(rig.api_url()), "both"),
        (
            rig.builder()
                .extra_service_config(json!({"strateggy": "p2c"})),
            "strateggy",
        ),
        (rig.builder().public_url("ftp://h"), "public_url"),
        (rig.builder().public_url("http://127.0.0.1:0"), "public_url"),
        (
            rig.builder()
                .traefik_api_url(format!("https://127.0.0.1:{}", rig.api)),
            "traefik_api_url",
        ),
        (
            rig.builder().traefik_api_urls([api.clone(), api]),
            "traefik_api_urls",
        ),
        (
            rig.builder().traefik_api_username("a:b"),
            "traefik_api_username",
        ),
        (
            rig.builder().traefik_api_hashed_password("plain"),
            "traefik_api_hashed_password",
        ),
        (
            rig.builder()
                .traefik_api_password("another")
                .traefik_api_hashed_password("{SHA}nU4eI71bcnBGqeO0t9tXvY1u5oQ="),
            "is not the hash of `traefik_api_password`",
        ),
        (
            rig.builder().traefik_providers_throttle_duration(throttle),
            "check_route_timeout",
        ),
        (
            rig.builder().traefik_entrypoint("a b"),
            "traefik_entrypoint",
        ),
        (
            rig.builder().traefik_entrypoint("auth_api"),
            "entrypoints of their own",
        ),
        (
            rig.builder().traefik_log_level("NONSENSE"),
            "traefik_log_level",
        ),
        (rig.builder().traefik_env("", "marked"), "traefik_env"),
        (rig.builder().traefik_env("A=marked", "x"), "traefik_env"),
        (rig.builder().traefik_env("A\0B", "marked"), "traefik_env"),
        (rig.builder().traefik_env("A", "marked\0"), "traefik_env"),
    ];
    for (builder, says) in builders {
        let error = check(builder.start(), ErrorKind::InvalidConfig, &[says]);
        assert!(!error.to_string().contains("marked"), "{error}");
        assert!(error.is_invalid_input());
    }
    check(
        rig.builder().initial_routes([]).offline(),
        ErrorKind::InvalidConfig,
        &["initial_routes"],
    );
    let ending = traefik_router::FileBackend::new(rig.path("rules.json"));
    check(
        rig.builder_over(ending).start(),
        ErrorKind::InvalidConfig,
        &[".toml"],
    );
    assert_eq!(rig.files(), [""; 0]);
}

#[test]
fn foreign_public_host_brings_advice() {
    let rig = Rig::new(Kind::Toml);
    for host in ["host.invalid", "192.0.2.1"] {
        let url = format!("http://{host}:{}", rig.web);
        let says = ["`public_url` is where Traefik listens", host, "http://:"];
        check(
            rig.builder().public_url(url).start(),
            ErrorKind::Process,
            &says,
        );
    }
    assert_eq!(rig.files(), [""; 0]);
}

#[test]
fn wrong_program_brings_advice() {
    let rig = Rig::new(Kind::Toml);
    let started = rig.builder().traefik_bin("/bin/true").start();
    let says = ["does not answer as Traefik does", "`traefik_bin`"];
    check(started, ErrorKind::Process, &says);
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("traefik");
    std::fs::write(&plain, "").unwrap();
    let started = rig.builder().traefik_bin(plain).start();
    check(started, ErrorKind::Process, &["`chmod +x`"]);
    assert_eq!(rig.files(), [""; 0]);
}

#[test]
fn old_traefik_is_not_started() {
    let rig = Rig::new(Kind::Toml);
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("traefik");
    std::fs::write(&old, "#!/bin/sh\necho 'Version:      2.11.0'\n").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
    let started = rig.builder().traefik_bin(old).start();
    check(
        started,
        ErrorKind::InvalidConfig,
        &["2.11.0", "install Traefik 3"],
    );
    assert_eq!(rig.files(), [""; 0]);
}

#[test]
fn long_throttle_is_named() {
    let rig = Rig::new(Kind::Toml);
    let offline = rig.builder().traefik_entrypoint("http").offline().unwrap();
    offline.add_route("/a/", "http://127.0.0.1:1", ()).unwrap();
    let providers = rig.backend().static_config().unwrap()["providers"].take();
    let mut config = External::open_config(&rig, &providers);
    config["providers"]["providersThrottleDuration"] = json!("60s");
    let _traefik = External::start_with(&rig, "external", &config);
    // Its first commit, which stores that it serves.
    let attached = short(&rig).attach();
    let says = ["instead of", "providersThrottleDuration"];
    check(attached, ErrorKind::NotLoaded, &says);
}
