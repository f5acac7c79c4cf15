//! Several Traefiks that are started on one store, one after the other and side by side.

use std::fs;
use std::path::Path;

use kit::process::send_signal;
use kit::tools::TRAEFIK;
use kit::{Echo, eventually, ports};
use serde_json::json;
use traefik_router::{Builder, ErrorKind, FileBackend, ProcessStatus, Route, Router, Stored};

use super::refused;
use crate::support::child::Actor;
use crate::support::rig::PASSWORD;
use crate::support::{External, Kind, Rig, on_each_backend, on_each_file};

on_each_file! {
    same_password_shares_a_store,
    served_table_is_not_emptied,
    failed_start_changes_nothing,
    differing_password_is_refused,
    differing_configuration_is_refused,
    file_stays_while_being_read,
    existing_api_router_needs_password,
    start_beside_foreign_traefik_works,
    failed_start_harms_no_others,
    leftovers_of_kill_are_replaced,
    earlier_version_is_taken_over,
}

on_each_backend!(
    etcd,
    crate::support::Kind::Etcd,
    same_password_shares_a_store
    served_table_is_not_emptied
    failed_start_changes_nothing
);

fn differing_password_is_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let (first, echo) = (rig.start(), Echo::start());
    first.add_route("/a/", echo.url(), ()).unwrap();
    let second = rig.sibling();
    let says = ["traefik_api_password", "another program"];
    for other in [
        second.builder().traefik_api_password("another"),
        second.builder().traefik_api_username("another"),
        // The password that is made up where none is given.
        Router::builder(second.backend())
            .public_url(second.web_url())
            .traefik_api_url(second.api_url())
            .traefik_bin(TRAEFIK.path()),
    ] {
        let file = second.path("second.toml");
        let other = other.static_config_file(file);
        refused(&rig, ErrorKind::InUse, &says, || other.start());
        first.add_route("/b/", echo.url(), super::rand()).unwrap();
        assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    }
    drop(first);
    let free = second.builder().traefik_api_password("another");
    let router = free.start().unwrap();
    router.add_route("/b/", echo.url(), ()).unwrap();
    assert_eq!(second.landed("h", "/a/"), Some(echo.port));
}

fn differing_configuration_is_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let middleware = |n: u8| json!({"http": {"middlewares": {"m": {"headers": {"customRequestHeaders": {"X": n.to_string()}}}}}});
    let first = rig.builder().extra_dynamic_config(middleware(1));
    let (first, echo) = (first.start().unwrap(), Echo::start());
    let second = rig.sibling();
    let other = |n| {
        let builder = second.builder().extra_dynamic_config(middleware(n));
        builder.static_config_file(second.path("second.toml"))
    };
    let says = ["http.middlewares.m"];
    refused(&rig, ErrorKind::InUse, &says, || other(2).start());
    first.add_route("/a/", echo.url(), ()).unwrap();
    let same = other(1).start().unwrap();
    drop(first);
    same.add_route("/b/", echo.url(), ()).unwrap();
    assert_eq!(second.landed("h", "/a/"), Some(echo.port));
    assert!(rig.rules_text().contains("customRequestHeaders"));
    drop(same);
    assert!(!rig.rules_text().contains("customRequestHeaders"));
}

fn same_password_shares_a_store(kind: Kind) {
    let rig = Rig::new(kind);
    let second = rig.sibling();
    let (one, echo) = (rig.start(), Echo::start());
    let passwords = match kind {
        // Each has its own: nobody has to agree on anything.
        Kind::Etcd => [PASSWORD, "another"],
        _ => [PASSWORD, PASSWORD],
    };
    let two = second
        .builder()
        .traefik_api_password(passwords[1])
        .static_config_file(second.path("second.toml"));
    let two = two.start().unwrap();
    let serves = |rig: &Rig, path: &str| {
        eventually("it is served", || rig.landed("h", path) == Some(echo.port));
    };
    for (n, router) in [&one, &two].into_iter().enumerate() {
        router.add_route(format!("/{n}/"), echo.url(), ()).unwrap();
        serves(&rig, &format!("/{n}/"));
        serves(&second, &format!("/{n}/"));
    }
    // Whichever ends first takes nothing of the other along.
    drop(one);
    two.add_route("/2/", echo.url(), ()).unwrap();
    let three = rig.start();
    drop(two);
    three.add_route("/3/", echo.url(), ()).unwrap();
    for path in ["/0/", "/1/", "/2/", "/3/"] {
        serves(&rig, path);
    }
    three
        .apply(
            ["/0/", "/1/", "/2/", "/3/"].map(|spec| traefik_router::Change::delete(spec).unwrap()),
        )
        .unwrap();
    drop(three);
    assert_eq!(rig.rules_text(), "");
    assert_eq!(rig.files(), [""; 0]);
}

fn file_stays_while_being_read(kind: Kind) {
    let rig = Rig::new(kind);
    let second = rig.sibling();
    let (started, echo) = (rig.start(), Echo::start());
    let two = second
        .builder()
        .static_config_file(second.path("second.toml"));
    let two = two.start().unwrap();
    let attached = rig.builder().attach().unwrap();
    drop(started);
    assert!(rig.rules().exists(), "there are no routes, but Traefiks");
    two.add_route("/a/", echo.url(), ()).unwrap();
    assert_eq!(second.landed("h", "/a/"), Some(echo.port));
    two.delete_route("/a/").unwrap();
    drop(two);
    assert!(rig.rules().exists(), "a Traefik of others may read it");
    drop(attached);
    assert!(
        rig.rules().exists(),
        "an attached Router does not remove it"
    );
    assert!(
        !rig.rules_text().contains("api@internal"),
        "it went with the last"
    );
}

fn existing_api_router_needs_password(kind: Kind) {
    let rig = Rig::new(kind);
    let users = format!("jupyterhub:{{SHA}}{}", "4fVDHmHBBxRrBpVDYl8cPCW7Ygk=");
    let theirs = json!({
        "routers": {"theirs": {
            "rule": "PathPrefix(`/api`)", "entryPoints": ["auth_api"],
            "service": "api@internal", "middlewares": ["guard"],
        }},
        "middlewares": {"guard": {"basicAuth": {"users": [users]}}},
    });
    super::write_by_hand(&rig, &theirs);
    let unset = Router::builder(rig.backend())
        .public_url(rig.web_url())
        .traefik_api_url(rig.api_url())
        .static_config_file(rig.path("traefik.toml"))
        .traefik_bin(TRAEFIK.path());
    let says = ["theirs", "traefik_api_password"];
    refused(&rig, ErrorKind::InvalidConfig, &says, || unset.start());
    let wrong = rig.builder().traefik_api_password("wrong");
    refused(&rig, ErrorKind::Unauthorized, &[], || wrong.start());
}

/// Who is attached has nothing in the file that the one who starts would have to agree with.
fn start_beside_foreign_traefik_works(kind: Kind) {
    let rig = Rig::new(kind);
    let providers = rig.backend().static_config().unwrap()["providers"].clone();
    let config = External::open_config(&rig, &providers);
    let _traefik = External::start_with(&rig, "open", &config);
    let own_api = |builder: Builder| builder.traefik_api_entrypoint("traefik");
    let attached = own_api(rig.builder()).attach().unwrap();
    let echo = Echo::start();
    attached.add_route("/a/", echo.url(), ()).unwrap();
    let second = rig.sibling();
    let started = second
        .builder()
        .traefik_api_password("its own")
        .start()
        .unwrap();
    started.add_route("/b/", echo.url(), ()).unwrap();
    attached.add_route("/c/", echo.url(), ()).unwrap();
    drop(started);
    attached.add_route("/d/", echo.url(), ()).unwrap();
    for path in ["/a/", "/b/", "/c/", "/d/"] {
        assert_eq!(rig.landed("h", path), Some(echo.port), "{path}");
    }
}

fn failed_start_harms_no_others(kind: Kind) {
    let rig = Rig::new(kind);
    let (first, echo) = (rig.start(), Echo::start());
    first.add_route("/a/", echo.url(), ()).unwrap();
    let second = rig.sibling();
    let middleware =
        json!({"http": {"middlewares": {"m": {"compress": {"minResponseBodyBytes": 9}}}}});
    let dies = || {
        let broken = json!({"entryPoints": {"other": {"address": "nowhere"}}});
        let builder = second
            .builder()
            .static_config_file(second.path("second.toml"));
        builder
            .extra_static_config(broken)
            .extra_dynamic_config(middleware.clone())
    };
    // Beside one that was started, and beside one that is attached alone.
    refused(&rig, ErrorKind::Process, &["ended"], || dies().start());
    let attached = rig.builder().attach().unwrap();
    refused(&rig, ErrorKind::Process, &["ended"], || dies().start());
    // Another program writes between the two.
    let bin = second.path("dies-later");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = version ] && exec {} version\nsleep 2\nexit 1\n",
        TRAEFIK.path().display()
    );
    fs::write(&bin, script).unwrap();
    fs::set_permissions(&bin, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::thread::scope(|scope| {
        let moves = || dies().traefik_entrypoint("other").traefik_bin(&bin).start();
        let fails = scope.spawn(moves);
        eventually("it is stored", || {
            rig.rules_text().contains("\"entrypoint\":\"other\"")
        });
        first.add_route("/b/", echo.url(), ()).ok();
        let error = fails.join().unwrap().unwrap_err();
        assert_eq!(*error.stored(), Stored::Nothing, "{error}");
    });
    assert!(!rig.rules_text().contains("minResponseBodyBytes"));
    first.add_route("/c/", echo.url(), ()).unwrap();
    for path in ["/a/", "/b/", "/c/"] {
        assert_eq!(rig.landed("h", path), Some(echo.port), "{path}");
    }
    drop((first, attached));
}

/// Its API's router is nobody's, and would keep the next one from its Traefik.
fn leftovers_of_kill_are_replaced(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    let arguments = json!({"rig": rig.to_json(), "end": "by a kill"});
    let mut program = Actor::start("owner", &arguments);
    assert!(program.hear().is_some(), "it has started a Traefik");
    program.process.kill().unwrap();
    program.process.wait().unwrap();
    assert!(rig.rules_text().contains("api@internal"));
    eventually("its Traefik has ended", || !ports::is_open(rig.web));
    let builder = rig.builder().traefik_api_password("another");
    let router = builder.start().unwrap();
    router.add_route("/a/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    drop(router);
    assert!(!rig.rules_text().contains("api@internal"));
}

/// A file as the version before 0.1 has left it, killed while its Traefik ran.
fn earlier_version_is_taken_over(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    rig.write_rules(&fs::read_to_string(before(kind)).unwrap());
    // An attach may have stored its API router, for a Traefik of others.
    let says = ["route_api", "replace_api_router"];
    refused(&rig, ErrorKind::InvalidConfig, &says, || {
        rig.builder().start()
    });
    let router = rig.builder().replace_api_router(true).start().unwrap();
    assert_eq!(rig.get("h", "/old/").status, 502, "it leads to nobody");
    router.add_route("/old/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/old/"), Some(echo.port));
    router.add_route("/new/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/new/"), Some(echo.port));
    let text = rig.rules_text();
    for trace in ["route_api", "PRIVATE KEY"] {
        assert!(!text.contains(trace), "{trace} in {text}");
    }
    drop(router);
    assert!(!rig.rules_text().contains("api@internal"));
}

fn before(kind: Kind) -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    format!("{folder}/tests/data/before-0.1.{}", kind.ending())
}

fn served_table_is_not_emptied(kind: Kind) {
    let rig = Rig::new(kind);
    let second = rig.sibling();
    let (first, echo) = (rig.start(), Echo::start());
    first.add_route("/a/", echo.url(), ()).unwrap();
    let none = || {
        let builder = second
            .builder()
            .static_config_file(second.path("second.toml"));
        builder.initial_routes([] as [Route; 0])
    };
    refused(&rig, ErrorKind::InUse, &["another program serves"], || {
        none().start()
    });
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    first.add_route("/b/", echo.url(), ()).unwrap();
    // It may be meant.
    let emptied = none().replace_served_routes(true).start().unwrap();
    assert_eq!(emptied.get_all_routes().unwrap().len(), 0);
    drop((first, emptied));
    let routes = [Route::new("/x/", echo.url()).unwrap().data(json!(1))];
    let router = rig.builder().initial_routes(routes).start().unwrap();
    assert_eq!(rig.landed("h", "/x/"), Some(echo.port));
    assert_eq!(router.get_all_routes().unwrap().len(), 1);
}

fn failed_start_changes_nothing(kind: Kind) {
    let rig = Rig::new(kind);
    let bad_static = json!({"entryPoints": {"http": {"address": "no address"}}});
    let none = || rig.builder().traefik_bin(rig.path("none"));
    let dies = || rig.builder().extra_static_config(bad_static.clone());
    let moves = || {
        dies()
            .traefik_entrypoint("other")
            .initial_routes([] as [Route; 0])
    };
    let fail = |what: &str| {
        refused(&rig, ErrorKind::Process, &["none"], || none().start());
        refused(&rig, ErrorKind::Process, &["ended"], || dies().start());
        refused(&rig, ErrorKind::Process, &["ended"], || moves().start());
        println!("{what}");
    };
    fail("on nothing");
    let offline = super::plain(&rig).offline().unwrap();
    offline
        .add_route("/a/", "http://h", json!({"x": 1}))
        .unwrap();
    fail("on a table");
    assert_eq!(offline.get_all_routes().unwrap().len(), 1);
}

/// Traefik reads all files of a folder: an API router or a certificate in one is the others', too.
#[test]
fn files_share_no_api_entrypoint() {
    let rig = Rig::new(Kind::Toml);
    let folder = rig.path("folder");
    fs::create_dir(&folder).unwrap();
    let on = |rig: &Rig, name: &str| {
        let backend = FileBackend::new(folder.join(name)).directory(true);
        rig.builder_over(backend)
            .static_config_file(rig.path(format!("static-{name}")))
    };
    let (first, echo) = (on(&rig, "b.toml").start().unwrap(), Echo::start());
    let other = rig.sibling();
    let second = || {
        on(&other, "a.toml")
            .traefik_api_password("another")
            .traefik_entrypoint("two")
    };
    let says = ["b.toml", "traefik_api_entrypoint"];
    refused(&rig, ErrorKind::InUse, &says, || second().start());
    first.add_route("/a/", echo.url(), ()).unwrap();
    let apart = second().traefik_api_entrypoint("api-two").start().unwrap();
    apart.add_route("/b/", echo.url(), ()).unwrap();
    first.add_route("/c/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
}

/// Files of others that go by the name of one that we have to write.
#[test]
fn foreign_file_is_not_overwritten() {
    for (kind, name) in [
        (Kind::Toml, "rules.toml.pem"),
        (Kind::Etcd, "traefik.private.toml"),
        (Kind::Etcd, "traefik.private.toml.pem"),
    ] {
        let rig = Rig::new(kind);
        fs::write(rig.path(name), "theirs").unwrap();
        let start = || rig.builder().start();
        refused(
            &rig,
            ErrorKind::InvalidConfig,
            &[name, "did not write it"],
            start,
        );
        assert_eq!(fs::read_to_string(rig.path(name)).unwrap(), "theirs");
    }
}

/// What an attached Router has set up for a Traefik of others is not another one's to take along.
#[test]
fn foreign_api_router_stays() {
    for kind in [Kind::Toml, Kind::Etcd] {
        let rig = Rig::new(kind);
        let _traefik = External::start(&rig);
        drop(rig.builder().attach().unwrap());
        drop(rig.sibling().start());
        assert!(rig.rules_text().contains("api@internal"));
        let plain = rig.builder().enable_setup_dynamic_config(false);
        drop(plain.attach().unwrap());
    }
}

/// The second one overwrote the first one's static configuration, and removed it when it ended.
#[test]
fn static_file_has_one_traefik() {
    let rig = Rig::new(Kind::Toml);
    let (first, echo) = (rig.start(), Echo::start());
    let other = rig.sibling();
    let second = || {
        let backend = FileBackend::new(other.path("other.toml"));
        other
            .builder_over(backend)
            .static_config_file(rig.path("traefik.toml"))
    };
    let text = fs::read_to_string(rig.path("traefik.toml")).unwrap();
    let holder = format!("process {}", std::process::id());
    let says = ["traefik.toml", "static_config_file", &holder];
    refused(&rig, ErrorKind::InUse, &says, || second().start());
    assert_eq!(fs::read_to_string(rig.path("traefik.toml")).unwrap(), text);
    let Some(ProcessStatus::Running { pid: traefik, .. }) = first.status().process else {
        panic!("{:?}", first.status());
    };
    send_signal(traefik, "KILL");
    eventually("it has ended", || {
        matches!(first.status().process, Some(ProcessStatus::Ended { .. }))
    });
    assert!(first.revive().unwrap());
    first.add_route("/a/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    drop(first);
    assert!(!Path::new(&rig.path("traefik.toml")).exists());
    drop(second().start().unwrap());
}
