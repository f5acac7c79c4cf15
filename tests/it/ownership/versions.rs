//! A Traefik that knows no `parentRefs`, before and after others that do.

use kit::Echo;
use kit::tools::TRAEFIK_3_5;
use traefik_router::{Change, ErrorKind, Level, Nested, Router};

use super::{plain, refused};
use crate::support::{Kind, Rig, on_each_backend, on_push, on_redis};

on_each_backend! {
    parents_await_traefiks_version,
    old_traefik_keeps_table_flat,
    nested_table_refuses_old_traefik,
    table_of_later_version_is_refused,
}

on_redis! {
    table_of_later_version_is_refused,
}

on_push! {
    parents_await_traefiks_version,
}

/// As many routes as make parents pay.
fn add_many(router: &Router, echo: &Echo) {
    let add = |n: usize| Change::set(format!("/user/n{n}/"), echo.url()).unwrap();
    router.apply((0..300).map(add)).unwrap();
}

fn has_parents(rig: &Rig) -> bool {
    rig.rules_text().contains("parentRefs")
}

fn parents_await_traefiks_version(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    let offline = plain(&rig).offline().unwrap();
    add_many(&offline, &echo);
    assert!(!has_parents(&rig));
    let old = rig
        .builder()
        .traefik_bin(TRAEFIK_3_5.path())
        .start()
        .unwrap();
    assert_eq!(rig.landed("h", "/user/n299/"), Some(echo.port));
    drop(old);
    // It was an old one that was asked: the table stays as it is until an option says otherwise.
    drop(rig.start());
    assert!(!has_parents(&rig));
    let router = rig.builder().nested_routers(Nested::Auto).start().unwrap();
    assert!(has_parents(&rig));
    assert_eq!(rig.landed("h", "/user/n299/"), Some(echo.port));
    drop(router);

    let fresh = Rig::new(kind);
    let offline = plain(&fresh).offline().unwrap();
    add_many(&offline, &echo);
    let _router = fresh.start();
    assert!(has_parents(&fresh), "the one that was asked knows them");
    assert_eq!(fresh.landed("h", "/user/n299/"), Some(echo.port));
}

fn old_traefik_keeps_table_flat(kind: Kind) {
    let rig = Rig::new(kind);
    let second = rig.sibling();
    let echo = Echo::start();
    let new = rig.start();
    let old = second
        .builder()
        .static_config_file(second.path("old.toml"))
        .traefik_bin(TRAEFIK_3_5.path());
    let old = old.start().unwrap();
    add_many(&new, &echo);
    old.add_route("/last/", echo.url(), ()).unwrap();
    for rig in [&rig, &second] {
        assert_eq!(rig.landed("h", "/user/n299/"), Some(echo.port));
    }
    assert!(!has_parents(&rig));
}

fn nested_table_refuses_old_traefik(kind: Kind) {
    let rig = Rig::new(kind);
    let second = rig.sibling();
    let echo = Echo::start();
    let new = rig.start();
    add_many(&new, &echo);
    assert!(has_parents(&rig));
    let old = || {
        second
            .builder()
            .static_config_file(second.path("old.toml"))
            .traefik_bin(TRAEFIK_3_5.path())
    };
    let says = ["`nested_routers`", "to never", "3.6"];
    refused(&rig, ErrorKind::InvalidConfig, &says, || old().start());
    let asked_for = || old().nested_routers(Nested::Always).start();
    refused(&rig, ErrorKind::InvalidConfig, &says, asked_for);
    assert_eq!(rig.landed("h", "/user/n299/"), Some(echo.port));
    let back = old().nested_routers(Nested::Never).start().unwrap();
    assert!(!has_parents(&rig));
    back.add_route("/last/", echo.url(), ()).unwrap();
    assert_eq!(second.landed("h", "/user/n299/"), Some(echo.port));
    new.add_route("/new/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/user/n299/"), Some(echo.port));
}

/// This version would drop what it does not know of.
fn table_of_later_version_is_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let early = plain(&rig).offline().unwrap();
    early.add_route("/a/", "http://h", ()).unwrap();
    let text = rig.rules_text();
    let later = match text.contains("\"format\":1") {
        true => text.replace("\"format\":1", "\"format\":2"),
        false => text.replace("\\\"format\\\":1", "\\\"format\\\":2"),
    };
    assert_ne!(later, text);
    rig.write_rules(&later);
    let says = ["a later version of traefik-router has written this table (format 2"];
    refused(&rig, ErrorKind::Corrupt, &says, || rig.builder().start());
    refused(&rig, ErrorKind::Corrupt, &says, || rig.builder().attach());
    let add = |router: &Router| router.add_route("/b/", "http://h", ());
    refused(&rig, ErrorKind::Corrupt, &says, || {
        let late = plain(&rig).offline()?;
        add(&late).map(|_| late)
    });
    refused(&rig, ErrorKind::Corrupt, &says, || {
        add(&early).map(|_| plain(&rig).offline().unwrap())
    });
    let found = rig.builder().diagnose();
    assert!(
        found.iter().any(|finding| {
            finding.level == Level::Problem && finding.message.contains(says[0])
        })
    );
}
