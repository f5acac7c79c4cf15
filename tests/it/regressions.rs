//! Faults that were found once. Each test says what went wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use kit::process::processes_naming;
use kit::tools::TRAEFIK;
use kit::{Echo, client, eventually, ports};
use serde_json::{Value, json};
use traefik_router::traefik::Api;
use traefik_router::{
    Backend as _, Change, ErrorKind, Etcd, FileBackend, KvBackend, MemoryBackend, Router, Stored,
    etcd,
};

use crate::support::{External, Kind, Rig};

/// Routers of two files had the same names where the routespecs were the same, and Traefik kept
/// the first of a name only: the second route was reported as served and answered 404.
#[test]
fn files_may_share_a_routespec() {
    let rig = Rig::new(Kind::Toml);
    let second = ports::free();
    let folder = rig.path("dynamic");
    fs::create_dir(&folder).unwrap();
    let mut config = External::open_config(&rig, &json!({"file": {"directory": folder}}));
    config["entryPoints"]["second"] = json!({"address": format!("127.0.0.1:{second}")});
    let _traefik = External::start_with(&rig, "external", &config);
    let attach = |name: &str, entrypoint: &str, port: u16| {
        rig.builder_over(FileBackend::new(folder.join(name)).directory(true))
            .public_url(format!("http://127.0.0.1:{port}"))
            .traefik_entrypoint(entrypoint)
            .traefik_api_entrypoint("traefik")
            .attach()
            .unwrap()
    };
    let (one, two) = (Echo::start(), Echo::start());
    let routers = [
        (attach("a.toml", "http", rig.web), &one),
        (attach("b.toml", "second", second), &two),
    ];
    for (router, echo) in &routers {
        router.add_route("/", echo.url(), ()).unwrap();
    }
    assert_eq!(client::get(rig.web, "h", "/").landed(), Some(one.port));
    assert_eq!(client::get(second, "h", "/").landed(), Some(two.port));
}

/// The marker was named after the file's name alone: a Router over another file of the same name
/// took somebody else's generations for its own.
#[test]
fn same_named_files_stay_separate() {
    let rig = Rig::new(Kind::Toml);
    let router = rig.start();
    let other = rig.path("other");
    fs::create_dir(&other).unwrap();
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            (0..200).for_each(|n| drop(router.add_route("/busy/", "http://127.0.0.1:1", n)));
        });
        let attached = rig
            .builder_over(FileBackend::new(other.join("rules.toml")))
            .check_route_timeout(Duration::from_millis(500))
            .attach();
        let error = attached.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotLoaded, "{error}");
        assert_eq!(*error.stored(), Stored::Nothing);
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
        busy.join().unwrap();
    });
}

/// Derived `Debug` printed the file with the made-up certificate's private key and the hash of the
/// API's password.
#[test]
fn debug_output_holds_no_secret() {
    let rig = Rig::new(Kind::Toml);
    let router = rig.start();
    router
        .add_route("/a/", "http://127.0.0.1:1", json!({"token": "s3cret"}))
        .unwrap();
    let memory = Router::builder(MemoryBackend::new()).offline().unwrap();
    memory
        .add_route("/a/", "http://127.0.0.1:1", json!({"token": "s3cret"}))
        .unwrap();
    let store = traefik_router::backend::MemoryStore::new();
    let keys = Router::builder(KvBackend::new(store)).offline().unwrap();
    keys.add_route("/a/", "http://127.0.0.1:1", json!({"token": "s3cret"}))
        .unwrap();
    // What only this Traefik reads is in private files, which are remembered.
    let on_etcd = Rig::new(Kind::Etcd).start();
    for router in [router, memory, keys, on_etcd] {
        let shown = format!("{router:?}");
        for secret in [
            "PRIVATE KEY",
            "{SHA}",
            "s3cret",
            crate::support::rig::PASSWORD,
        ] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}

/// Waiting for the log's end never ended while a wrapper's child held the pipe, and that child
/// outlived its owner.
#[test]
fn wrapper_script_is_stopped_too() {
    use std::io::Write as _;
    let rig = Rig::new(Kind::Toml);
    let wrapper = rig.path("wrapper.sh");
    let mut file = fs::File::create(&wrapper).unwrap();
    write!(
        file,
        "#!/bin/sh\n'{}' \"$@\"\nexit $?\n",
        TRAEFIK.path().display()
    )
    .unwrap();
    drop(file);
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let router = rig.builder().traefik_bin(&wrapper).start().unwrap();
    let begun = Instant::now();
    router.stop().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20));
    let folder = rig.folder.to_str().unwrap();
    eventually("Traefik is gone", || processes_naming(folder).is_empty());
}

/// A file that somebody had made for the table, with an owner and a mode, went when the last route
/// and Traefik did.
#[test]
fn existing_empty_file_stays() {
    let rig = Rig::new(Kind::Toml);
    rig.write_rules("");
    fs::set_permissions(rig.rules(), fs::Permissions::from_mode(0o644)).unwrap();
    for _ in 0..2 {
        let router = rig.start();
        router.add_route("/a/", "http://127.0.0.1:1", ()).unwrap();
        router.delete_route("/a/").unwrap();
        router.stop().unwrap();
        assert_eq!(rig.rules_text(), "");
        assert_eq!(
            fs::metadata(rig.rules()).unwrap().permissions().mode() & 0o777,
            0o644
        );
    }
}

/// An entry that stood in the file and, equal, in the extra configuration was taken for ours, and
/// what somebody changed in it by hand was lost.
#[test]
fn handwritten_entry_stays_theirs() {
    let rig = Rig::new(Kind::Toml);
    let by_hand = |bytes: u32| {
        format!("[http.middlewares.mine.compress]\nminResponseBodyBytes = {bytes} # by hand\n")
    };
    rig.write_rules(&by_hand(1));
    let extra =
        json!({"http": {"middlewares": {"mine": {"compress": {"minResponseBodyBytes": 1}}}}});
    let router = rig
        .builder()
        .extra_dynamic_config(extra.clone())
        .start()
        .unwrap();
    rig.write_rules(&rig.rules_text().replace(&by_hand(1), &by_hand(777)));
    router.add_route("/a/", "http://127.0.0.1:1", ()).unwrap();
    assert!(
        rig.rules_text().contains(&by_hand(777)),
        "{}",
        rig.rules_text()
    );
    router.delete_route("/a/").unwrap();
    router.stop().unwrap();
    assert_eq!(rig.rules_text(), by_hand(777));
    let error = rig
        .builder()
        .extra_dynamic_config(extra)
        .start()
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert_eq!(rig.rules_text(), by_hand(777));
}

/// A null in the extra configuration became a line that is no TOML.
#[test]
fn null_removes_from_extra_configuration() {
    let rig = Rig::new(Kind::Toml);
    let extra = json!({"http": {"middlewares": {"x": null}}, "tls": {"options": null}});
    let extra_static = json!({"api": {"dashboard": null}});
    let router = rig
        .builder()
        .extra_dynamic_config(extra)
        .extra_static_config(extra_static);
    router
        .start()
        .unwrap()
        .add_route("/a/", "http://127.0.0.1:1", ())
        .unwrap();
    for bad in [Value::Null, json!([1]), json!("x")] {
        for builder in [
            rig.builder().extra_dynamic_config(bad.clone()),
            rig.builder().extra_static_config(bad.clone()),
        ] {
            let error = builder.start().map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        }
    }
}

/// Bounds that can't be added to the time made the call panic.
#[test]
fn no_bound_is_too_long() {
    let rig = Rig::new(Kind::Toml);
    let router = rig
        .builder_over(FileBackend::new(rig.rules()).lock_timeout(Duration::MAX))
        .check_route_timeout(Duration::MAX)
        .traefik_api_timeout(Duration::MAX)
        .start()
        .unwrap();
    router
        .add_route("/a/", "http://127.0.0.1:1", Change::delete("/a/").is_ok())
        .unwrap();
}

/// The same of bounds that no Router has checked.
#[test]
fn no_wait_is_too_long() {
    let router = Router::builder(MemoryBackend::new()).offline().unwrap();
    let mut watch = router.watch().unwrap();
    router.add_route("/a/", "http://h", ()).unwrap();
    assert_eq!(watch.next(Duration::MAX).unwrap().len(), 1);
    let nobody = |host: &str, scheme: &str| format!("{scheme}://{host}:{}", ports::free());
    let etcd = etcd::Client::new([nobody("127.0.0.1", "http")]).unwrap();
    let mut errors = vec![etcd.lease_grant(Duration::MAX).map(drop)];
    for host in ["127.0.0.1", "localhost"] {
        #[cfg(feature = "redis")]
        {
            let redis = traefik_router::Redis::new(nobody(host, "redis")).unwrap();
            let redis = KvBackend::new(redis.timeout(Duration::MAX));
            errors.push(redis.read().map(drop));
        }
        let etcd = Etcd::new([nobody(host, "http")]).unwrap();
        let etcd = KvBackend::new(etcd.timeout(Duration::MAX));
        let api = Api::new(nobody(host, "http")).unwrap();
        errors.extend([
            etcd.read().map(drop),
            api.timeout(Duration::MAX).version().map(drop),
        ]);
    }
    for error in errors {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

/// Traefik gives a new configuration to its entrypoints one after the other. The one of the API may
/// be the first: requests met the old target after a change was said to be served.
#[test]
fn api_alone_confirms_no_change() {
    let rig = Rig::new(Kind::Toml);
    // The more entrypoints, the more time between the first and the last.
    let entrypoints: serde_json::Map<_, _> = (0..5_000)
        .map(|n| (format!("e{n}"), json!({"address": "127.0.0.1:0"})))
        .collect();
    let router = rig
        .builder()
        .extra_static_config(json!({"entryPoints": entrypoints}))
        .start()
        .unwrap();
    let echoes = [Echo::start(), Echo::start()];
    for n in 0..12 {
        let echo = &echoes[n % 2];
        router.add_route("/x/", echo.url(), ()).unwrap();
        let landed = client::get(rig.web, "h", "/x/").landed();
        assert_eq!(landed, Some(echo.port), "change {n}");
    }
    router.delete_route("/x/").unwrap();
    assert_eq!(client::get(rig.web, "h", "/x/").status, 404);
}
