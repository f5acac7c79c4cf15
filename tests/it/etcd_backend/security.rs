//! Users, passwords and tokens, for us and for the Traefik that we start.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use kit::Echo;
use kit::etcd::{Cluster, Grant, add_user, enable_auth, forget_tokens};
use kit::process::processes_naming;
use kit::tools::etcds;
use serde_json::json;
use traefik_router::{ErrorKind, Etcd, KvBackend, Router, Stored};

use super::routes_in;
use crate::support::{Connect as _, Kind, Rig};

const OURS: Grant = ("READWRITE", "jupyterhub/", "jupyterhub0");
const TRAEFIKS: Grant = ("READWRITE", "traefik", "traefil");

fn cluster_with_users(binary: &std::path::Path, args: &[&str]) -> Cluster {
    let cluster = Cluster::with(binary, 1, args, None);
    let url = cluster.url();
    add_user(url, "hub", &[OURS, TRAEFIKS]);
    add_user(url, "slash", &[OURS, ("READWRITE", "traefik/", "traefik0")]);
    add_user(
        url,
        "reads",
        &[("READ", OURS.1, OURS.2), ("READ", TRAEFIKS.1, TRAEFIKS.2)],
    );
    add_user(url, "stranger", &[]);
    enable_auth(url);
    cluster
}

/// Fails before Traefik starts, and leaves nothing behind.
#[track_caller]
pub(super) fn does_not_start(etcd: Etcd, kind: ErrorKind, says: &[&str]) {
    let rig = Rig::new(Kind::Toml);
    let error = rig.builder_over(KvBackend::new(etcd)).start().unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for text in says {
        assert!(error.to_string().contains(text), "{text:?} in {error}");
    }
    assert!(!format!("{error} {error:?}").contains("pw-"), "{error}");
    assert_eq!(*error.stored(), Stored::Nothing);
    assert_eq!(rig.files(), [""; 0]);
    assert!(processes_naming(rig.folder.to_str().unwrap()).is_empty());
}

#[test]
fn credentials_are_checked_before_start() {
    for binary in etcds() {
        let cluster = cluster_with_users(&binary, &[]);
        let url = cluster.url();
        let user = |name: &str| routes_in(&cluster).user(name, format!("pw-{name}"));
        let wrong = routes_in(&cluster).user("hub", "pw-wrong");
        does_not_start(
            wrong,
            ErrorKind::Unauthorized,
            &[url, "check the user name"],
        );
        does_not_start(routes_in(&cluster), ErrorKind::Unauthorized, &[url, "user"]);
        for name in ["stranger", "slash", "reads"] {
            does_not_start(
                user(name),
                ErrorKind::Unauthorized,
                &[url, "permission denied"],
            );
        }
        let gone = Etcd::new(["http://127.0.0.1:9"]).unwrap();
        let gone = gone.timeout(Duration::from_secs(1));
        does_not_start(gone, ErrorKind::Unavailable, &["http://127.0.0.1:9"]);
        if cfg!(feature = "tls") {
            let tls = Etcd::new([url.replace("http", "https")]).unwrap();
            does_not_start(tls, ErrorKind::Unavailable, &["must begin with http://"]);
        }
    }
}

#[test]
fn credentials_file_is_private() {
    for binary in etcds() {
        let cluster = cluster_with_users(&binary, &[]);
        let rig = Rig::new(Kind::Toml);
        let etcd = routes_in(&cluster).user("hub", "pw-hub");
        let router = rig.builder_over(KvBackend::new(etcd)).start().unwrap();
        let file = rig.path("traefik.toml");
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(std::fs::read_to_string(&file).unwrap().contains("pw-hub"));
        let echo = Echo::start();
        router.add_route("/a/", echo.url(), json!(1)).unwrap();
        assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
        let shown = format!("{router:?}");
        for secret in ["pw-hub", "PRIVATE KEY", "{SHA}"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        // A token that etcd does not know any more is not our error.
        forget_tokens(cluster.url(), &["hub"]);
        assert_eq!(router.get_all_routes().unwrap().len(), 1);
        router.stop().unwrap();
        assert_eq!(rig.files(), [""; 0]);
    }
}

/// A user needs no key but those below the prefixes, also to find out that the table is gone.
#[test]
fn own_prefixes_need_no_others() {
    for binary in etcds() {
        let cluster = Cluster::start(&binary);
        let url = cluster.url();
        let grants = [
            ("READWRITE", "proxy", "proxz"),
            ("READWRITE", "hub/", "hub0"),
        ];
        add_user(url, "hub", &grants);
        enable_auth(url);
        let backend = KvBackend::new(routes_in(&cluster).user("hub", "pw-hub"));
        let backend = backend.traefik_prefix("proxy").jupyterhub_prefix("hub");
        let router = Router::builder(backend).offline().unwrap();
        router.add_route("/a/", "http://h", ()).unwrap();
        let root = cluster.client().user("root", "pw-root");
        root.delete_prefix("hub/").unwrap();
        // etcd has counted on, so that this is no older state.
        assert_eq!(router.get_all_routes().unwrap().len(), 0);
        router.add_route("/b/", "http://h", ()).unwrap();
        assert_eq!(router.get_all_routes().unwrap().len(), 1);
    }
}

/// A Router on an etcd that forgets a token after two seconds without use, and its Traefik after a
/// pause of five: whether that still hears of changes.
fn hears_after_a_pause(binary: &std::path::Path, heartbeat: Duration) -> bool {
    let cluster = cluster_with_users(binary, &["--auth-token-ttl", "2"]);
    let rig = Rig::new(Kind::Toml);
    let etcd = routes_in(&cluster)
        .user("hub", "pw-hub")
        .heartbeat(heartbeat);
    let builder = rig.builder_over(KvBackend::new(etcd));
    let router = builder
        .check_route_timeout(Duration::from_secs(3))
        .start()
        .unwrap();
    let echo = Echo::start();
    let before = router.add_route("/before/", echo.url(), json!(1)).unwrap();
    let root = cluster.client().user("root", "pw-root");
    let revision = root.status().unwrap().revision;
    std::thread::sleep(Duration::from_secs(5));
    let beats = root.status().unwrap().revision - revision;
    let nothing = router.apply([]).unwrap();
    assert_eq!(nothing.generation, before.generation, "a beat is no commit");
    assert_eq!(router.get_all_routes().unwrap().len(), 1);
    let is_old = root.status().unwrap().version.starts_with("3.4.");
    match is_old && !heartbeat.is_zero() {
        true => assert!((4..=12).contains(&beats), "{beats} beats"),
        false => assert_eq!(beats, 0),
    }
    let added = router.add_route("/after/", echo.url(), json!(2));
    let heard = added.is_ok();
    if let Err(error) = added {
        assert_eq!(error.kind(), ErrorKind::NotLoaded, "{error}");
    }
    assert_eq!(rig.landed("h", "/after/").is_some(), heard);
    heard
}

#[test]
fn heartbeat_keeps_traefik_connected() {
    for binary in etcds() {
        assert!(
            hears_after_a_pause(&binary, Duration::from_millis(500)),
            "{binary:?}"
        );
    }
}

#[test]
#[ignore = "shows the trap of etcd 3.4 that the heartbeat is for"]
fn missing_heartbeat_disconnects_traefik() {
    for binary in etcds() {
        println!(
            "{}: {}",
            binary.display(),
            hears_after_a_pause(&binary, Duration::ZERO)
        );
    }
}
