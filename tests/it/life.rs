//! Traefik starts, is watched, and ends with its owner, however that ends.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use kit::process::{is_alive, processes_naming, send_signal};
use kit::tools::TRAEFIK;
use kit::{Echo, eventually, ports};
use serde_json::{Value, json};
use traefik_router::traefik::Api;
use traefik_router::{Builder, ErrorKind, ProcessStatus, Router};

use crate::support::child::{Actor, say, wait_to_be_told};
use crate::support::rig::PASSWORD;
use crate::support::{External, Kind, Rig, on_each_backend, on_push};

on_each_backend! {
    stop_leaves_nothing_behind,
    stop_is_the_last_write,
    next_start_finds_the_routes,
    ended_traefik_revives_with_routes,
    every_service_gets_extra_configuration,
}

on_push! {
    stop_leaves_nothing_behind,
    stop_is_the_last_write,
    ended_traefik_revives_with_routes,
    every_service_gets_extra_configuration,
}

fn pid_of(router: &Router) -> u32 {
    match router.status().process {
        Some(ProcessStatus::Running { pid, .. }) => pid,
        other => panic!("{other:?}"),
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Neither Traefik nor the shell that watches it is there, and its ports are free.
fn is_gone(rig: &Rig, pid: u32) -> bool {
    !is_alive(pid)
        && is_free(rig.web)
        && is_free(rig.api)
        && processes_naming(rig.folder.to_str().unwrap()).is_empty()
}

fn stop_leaves_nothing_behind(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    let pid = pid_of(&router);
    assert!(router.status().is_healthy());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    router.delete_route("/a/").unwrap();
    router.stop().unwrap();
    assert!(!is_alive(pid));
    eventually("Traefik is gone", || is_gone(&rig, pid));
    assert_eq!(rig.files(), [""; 0]);
    assert_eq!(router.status().process, Some(ProcessStatus::Stopped));
    router.stop().unwrap();
    let error = router.add_route("/b/", echo.url(), json!(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process);
    drop(router);
    assert_eq!(rig.files(), [""; 0]);
}

fn ended_traefik_revives_with_routes(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    assert!(!router.revive().unwrap(), "it runs");
    let pid = pid_of(&router);
    send_signal(pid, "KILL");
    eventually("it has ended", || {
        matches!(router.status().process, Some(ProcessStatus::Ended { .. }))
    });
    let error = router.add_route("/b/", echo.url(), json!(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process, "{error}");
    assert!(router.revive().unwrap());
    assert_ne!(pid_of(&router), pid);
    assert_eq!(rig.landed("h", "/a/x"), Some(echo.port));
    assert_eq!(rig.landed("h", "/b/x"), Some(echo.port), "it was stored");
    router.delete_route("/a/").unwrap();
    assert_eq!(rig.landed("h", "/a/x"), None);
    router.stop().unwrap();
    let error = router.revive().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process, "{error}");
}

fn every_service_gets_extra_configuration(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    let seen_host = |path| rig.get("asked.example", path).echo()["headers"]["host"].clone();
    let target = json!(echo.url().trim_start_matches("http://"));
    {
        let router = rig.start();
        router.add_route("/old/", echo.url(), json!(1)).unwrap();
        assert_eq!(seen_host("/old/"), "asked.example");
    }
    {
        let own_host = json!({"passHostHeader": false});
        let router = rig
            .builder()
            .extra_service_config(own_host)
            .start()
            .unwrap();
        router
            .add_route("/new/", format!("{}/base", echo.url()), json!(1))
            .unwrap();
        for path in ["/old/", "/new/"] {
            assert_eq!(seen_host(path), target, "{path}");
        }
    }
    {
        let router = rig.start();
        assert_eq!(seen_host("/old/"), target, "it stays in the store");
        router.delete_route("/old/").unwrap();
        router.delete_route("/new/").unwrap();
    }
    let router = rig
        .builder()
        .extra_service_config(json!({}))
        .start()
        .unwrap();
    router.add_route("/old/", echo.url(), json!(1)).unwrap();
    assert_eq!(seen_host("/old/"), "asked.example");
}

fn stop_is_the_last_write(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    let churn = |thread: usize| {
        // Deletes what it adds, until an error says that there is no Traefik any more.
        let spec = format!("/t{thread}/");
        loop {
            let added = router.add_route(&spec, echo.url(), json!(null));
            let deleted = added.and_then(|_| router.delete_route(&spec));
            if let Err(error) = deleted {
                break error.kind();
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| scope.spawn(move || churn(thread)))
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        router.stop().unwrap();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), ErrorKind::Process);
        }
    });
    assert!(!rig.path("traefik.toml").exists());
    let text = rig.rules_text();
    let routes = router.get_all_routes().unwrap();
    // What is pushed is in memory, and nothing has to be taken out of it.
    if kind != Kind::Push {
        assert_eq!(text.is_empty(), routes.is_empty(), "{text} {routes:?}");
    }
    assert!(
        !text.contains("route_api"),
        "the API's router is left behind"
    );
}

fn next_start_finds_the_routes(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    router
        .add_route("/a/", echo.url(), json!({"n": 1}))
        .unwrap();
    let route = router.get_route("/a/").unwrap();
    drop(router);
    assert!(!rig.path("traefik.toml").exists());
    assert!(
        !rig.rules_text().contains("route_api"),
        "the API's password is not kept"
    );
    assert!(!rig.rules_text().contains("PRIVATE KEY"));
    let router = rig.start();
    assert_eq!(router.get_route("/a/").unwrap(), route);
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
}

#[test]
fn open_connection_delays_no_stop() {
    let rig = Rig::new(Kind::Toml);
    let (router, echo) = (rig.start(), Echo::websocket());
    router.add_route("/ws/", echo.url(), json!(null)).unwrap();
    let url = format!("ws://127.0.0.1:{}/ws/", rig.web);
    let _open = tungstenite::connect(url).unwrap();
    let _silent = std::net::TcpStream::connect(("127.0.0.1", rig.web)).unwrap();
    let start = Instant::now();
    router.stop().unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn every_password_guards_the_api() {
    type Guard = fn(Builder) -> Builder;
    let guards: Vec<(&str, Guard)> = vec![
        ("given", |builder| builder),
        ("hashed", |builder| {
            builder
                .traefik_api_password("pass")
                .traefik_api_hashed_password("{SHA}nU4eI71bcnBGqeO0t9tXvY1u5oQ=")
        }),
        #[cfg(feature = "bcrypt")]
        ("bcrypt", |builder| builder.bcrypt_cost(4)),
    ];
    for (name, guard) in guards {
        let rig = Rig::new(Kind::Toml);
        let router = guard(rig.builder()).start().unwrap();
        router.add_route("/a/", "http://h", json!(null)).unwrap();
        assert!(router.status().is_healthy(), "{name}");
        let nobody = Api::new(rig.api_url()).unwrap().version().unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::Unauthorized, "{name}");
        assert!(!rig.rules_text().contains(PASSWORD));
    }
    // Without one, nobody but the Router knows it.
    let rig = Rig::new(Kind::Toml);
    let router = Router::builder(rig.backend())
        .public_url(rig.web_url())
        .traefik_api_url(rig.api_url())
        .traefik_bin(TRAEFIK.path())
        .static_config_file(rig.path("traefik.toml"));
    let router = router.start().unwrap();
    assert!(router.status().is_healthy());
    let nobody = Api::new(rig.api_url()).unwrap().version().unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Unauthorized);
}

#[cfg(feature = "yaml")]
#[test]
fn static_configuration_can_be_yaml() {
    let rig = Rig::new(Kind::Toml);
    let file = rig.path("traefik.yaml");
    let router = rig.builder().static_config_file(&file).start().unwrap();
    router.add_route("/a/", "http://h", json!(null)).unwrap();
    assert!(file.exists());
    router.stop().unwrap();
    assert_eq!(rig.files(), ["rules.toml"]);
}

#[test]
fn port_in_use_is_reported() {
    let rig = Rig::new(Kind::Toml);
    for (port, option) in [(rig.web, "public_url"), (rig.api, "traefik_api_url")] {
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let start = Instant::now();
        let error = rig.builder().start().unwrap_err();
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(error.kind(), ErrorKind::Process);
        let text = error.to_string();
        assert!(
            text.contains(option) && text.contains(&port.to_string()),
            "{text}"
        );
        assert_eq!(rig.files(), [""; 0]);
    }
}

/// The error of a Traefik that ends as soon as it has read this static configuration.
fn ended_at_once(rig: &Rig, extra: Value) -> traefik_router::Error {
    let start = Instant::now();
    let error = rig
        .builder()
        .extra_static_config(extra)
        .start()
        .unwrap_err();
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(error.kind(), ErrorKind::Process);
    error
}

#[test]
fn traefik_explains_port_in_use() {
    let rig = Rig::new(Kind::Toml);
    let taken = ports::listen();
    let address = taken.local_addr().unwrap().to_string();
    let extra = json!({"entryPoints": {"more": {"address": address}}});
    let error = ended_at_once(&rig, extra);
    assert!(
        error.to_string().contains("address already in use"),
        "{error}"
    );
    eventually("nothing is left", || {
        processes_naming(rig.folder.to_str().unwrap()).is_empty()
    });
    assert_eq!(rig.files(), [""; 0]);
}

#[test]
fn traefik_explains_bad_option() {
    let rig = Rig::new(Kind::Toml);
    let extra = json!({"entryPoints": {"http": {"adress": ":1"}}});
    let error = ended_at_once(&rig, extra);
    assert!(error.to_string().contains("adress"), "{error}");
    assert_eq!(rig.files(), [""; 0]);
}

#[test]
fn missing_program_brings_advice() {
    let rig = Rig::new(Kind::Toml);
    for program in ["no-such-traefik", "/no/such/traefik"] {
        let error = rig.builder().traefik_bin(program).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Process);
        let text = error.to_string();
        assert!(
            text.contains(program) && text.contains("traefik_bin"),
            "{text}"
        );
        assert_eq!(rig.files(), [""; 0]);
    }
}

#[test]
fn wrong_program_is_reported() {
    let rig = Rig::new(Kind::Toml);
    let error = rig.builder().traefik_bin("/bin/true").start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process);
    assert!(error.to_string().contains("has ended"), "{error}");
    assert_eq!(rig.files(), [""; 0]);
}

#[test]
fn foreign_static_file_stays() {
    let rig = Rig::new(Kind::Toml);
    let text = "[log]\nlevel = 'DEBUG'\n";
    fs::write(rig.path("traefik.toml"), text).unwrap();
    let error = rig.builder().start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("static_config_file"), "{error}");
    assert_eq!(fs::read_to_string(rig.path("traefik.toml")).unwrap(), text);
    assert_eq!(rig.files(), ["traefik.toml"]);
}

#[test]
fn unexpected_end_is_seen() {
    let rig = Rig::new(Kind::Toml);
    let (router, echo) = (rig.start(), Echo::start());
    let pid = pid_of(&router);
    send_signal(pid, "KILL");
    eventually("the status says so", || {
        matches!(router.status().process, Some(ProcessStatus::Ended { .. }))
    });
    let status = router.status();
    assert!(!status.is_healthy());
    let Some(ProcessStatus::Ended { reason: text, .. }) = status.process else {
        panic!("{status:?}");
    };
    assert!(text.contains("signal: 9"), "{text}");
    let start = Instant::now();
    let error = router.add_route("/a/", echo.url(), json!(1)).unwrap_err();
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(error.kind(), ErrorKind::Process);
    assert!(error.to_string().contains("signal: 9"), "{error}");
    drop(router);
    eventually("nothing is left", || is_gone(&rig, pid));
    assert!(!rig.path("traefik.toml").exists());
}

#[test]
fn foreign_traefik_is_not_ours() {
    let rig = Rig::new(Kind::Toml);
    // An orphan that watches the same file, and so would show our generation.
    let orphan = External::start(&rig);
    let error = rig.builder().start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process);
    assert!(error.to_string().contains("left behind"), "{error}");
    drop(orphan);
    drop(rig.start());
}

#[test]
fn traefik_ends_with_its_owner() {
    for end in ["stop", "drop", "panic", "exit", "SIGKILL", "SIGTERM"] {
        let rig = Rig::new(Kind::Toml);
        let arguments = json!({"rig": rig.to_json(), "end": end});
        let mut owner = Actor::start("owner", &arguments);
        let pid = owner.hear().and_then(|pid| pid.parse().ok()).unwrap();
        assert!(is_alive(pid) && !is_free(rig.web) && !is_free(rig.api));
        match end.strip_prefix("SIG") {
            Some(signal) => send_signal(owner.process.id(), signal),
            None => {
                owner.tell();
                let ended_well = matches!(end, "stop" | "drop" | "exit");
                assert_eq!(owner.finish(), ended_well, "{end}");
            }
        }
        eventually(end, || is_gone(&rig, pid));
        // Nothing hinders the next owner.
        rig.start().stop().unwrap();
        assert_eq!(rig.files(), [""; 0], "{end}");
    }
}

/// A part for another process: owns a Traefik, and ends in the given way.
pub(crate) fn own_a_traefik(arguments: &Value) {
    let rig = Rig::from_json(&arguments["rig"]);
    let router = rig.start();
    say(pid_of(&router));
    wait_to_be_told();
    match arguments["end"].as_str().unwrap() {
        "stop" => router.stop().unwrap(),
        "drop" => drop(router),
        "panic" => {
            std::panic::set_hook(Box::new(|_| ()));
            panic!("on demand");
        }
        "exit" => std::process::exit(0),
        other => panic!("nobody killed me: {other}"),
    }
}

/// Go's collector makes a reload take longer than it has to.
#[test]
fn traefik_collects_garbage_less_often() {
    let of = |builder: Builder| {
        let router = builder.start().unwrap();
        let Some(ProcessStatus::Running { pid: process, .. }) = router.status().process else {
            panic!("{:?}", router.status());
        };
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap();
        let variables = environment.split(|byte| *byte == 0);
        let value = |variable: &[u8]| Some(variable.strip_prefix(b"GOGC=")?.to_vec());
        variables.filter_map(value).collect::<Vec<_>>()
    };
    let rig = Rig::new(Kind::Toml);
    assert_eq!(of(rig.builder()), [b"400"]);
    assert_eq!(of(rig.builder().traefik_env("GOGC", "50")), [b"50"]);
}
