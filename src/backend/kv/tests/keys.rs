//! Which keys a table has in the store, and which keys of other programs stay.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::{MARKER, add, faulty};
use crate::backend::kv::{KvBackend, KvStore as _, MemoryStore, Transaction};
use crate::backend::{Backend as _, Setup};
use crate::error::{ErrorKind, Stored};
use crate::finding::{Finding, Level};
use crate::route::{Change, Nested, RouteSpec};

#[test]
fn keys_follow_traefiks_layout() {
    let backend = faulty(None, None);
    backend
        .open(&Setup::new("web"), &mut |_, _| Ok(Vec::new()))
        .unwrap();
    backend
        .commit(&mut |_, _| Ok(vec![add(1), Change::set("/r2/", "http://t1/base").unwrap()]))
        .unwrap();
    let keys = backend.store().store.dump();
    let router = crate::route::router_name("", &RouteSpec::new("/r1/").unwrap());
    let at = |part: &str| keys[&format!("traefik/http/routers/{router}/{part}")].clone();
    assert_eq!(at("rule"), "PathPrefix(\"/r1/\") || Path(\"/r1\")");
    assert_eq!((&*at("priority"), &*at("entryPoints/0")), ("18", "web"));
    let server = format!(
        "traefik/http/services/{}/loadBalancer/servers/0/",
        at("service")
    );
    assert_eq!(keys[&format!("{server}url")], "http://t1");
    assert_eq!(
        keys.values().filter(|value| *value == "true").count(),
        1,
        "preservePath"
    );
    assert!(
        keys.keys()
            .all(|key| key.starts_with("traefik/http/") || key.starts_with("jupyterhub/"))
    );

    backend
        .commit(&mut |_, _| Ok(vec![Change::set("/r1/", "http://new").unwrap()]))
        .unwrap();
    backend
        .commit(&mut |_, _| Ok(vec![Change::delete("/r2/").unwrap()]))
        .unwrap();
    let keys = backend.store().store.dump();
    assert!(
        !keys.values().any(|value| value.starts_with("http://t1")),
        "a stale service: {keys:?}"
    );
    backend
        .commit(&mut |_, _| Ok(vec![Change::delete("/r1/").unwrap()]))
        .unwrap();
    let left = backend.store().store.dump().into_keys();
    let left: Vec<_> = left.filter(|key| !key.contains(MARKER)).collect();
    assert_eq!(left, ["jupyterhub/traefik-router/header"]);
}

#[test]
fn different_prefixes_share_nothing() {
    let store = MemoryStore::new();
    let [a, b] =
        ["/hub-a/", "hub-b"].map(|prefix| KvBackend::new(store.clone()).jupyterhub_prefix(prefix));
    for backend in [&a, &b] {
        backend
            .open(&Setup::new("web"), &mut |_, _| Ok(Vec::new()))
            .unwrap();
        backend.commit(&mut |_, _| Ok(vec![add(1)])).unwrap();
    }
    assert_ne!(a.read().unwrap().len(), 0);
    let marker =
        |backend: &KvBackend<_>| backend.commit(&mut |_, _| Ok(Vec::new())).unwrap().marker;
    assert_ne!(marker(&a), marker(&b));
    let is_route = |key: &&String| !key.contains(MARKER);
    let count = |what: &str| {
        let keys = store.dump();
        keys.keys()
            .filter(is_route)
            .filter(|key| key.contains(what))
            .count()
    };
    let (routers, services) = (count("/routers/"), count("/services/"));
    b.commit(&mut |_, _| Ok(vec![Change::delete("/r1/").unwrap()]))
        .unwrap();
    assert_eq!(
        (count("/routers/"), count("/services/")),
        (routers / 2, services / 2)
    );
    assert_eq!(a.read().unwrap().len(), 1);
}

#[test]
fn double_reload_prefixes_are_refused() {
    for (traefik, private) in [
        ("traefik", "traefik-hub"),
        ("a", "a/b"),
        ("jupyterhub/traefik", "jupyterhub"),
        ("jupyterhub/routes", "jupyterhub"),
        ("jupyterhub/traefik-router/a", "jupyterhub"),
        ("", "x"),
        ("a//b", "x"),
    ] {
        let backend = KvBackend::new(MemoryStore::new())
            .traefik_prefix(traefik)
            .jupyterhub_prefix(private);
        let error = backend
            .open(&Setup::new("web"), &mut |_, _| Ok(Vec::new()))
            .unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::InvalidConfig,
            "{traefik} {private}"
        );
    }
}

#[test]
fn other_traefik_prefix_is_refused() {
    let store = MemoryStore::new();
    let [ours, other] =
        ["a", "b"].map(|prefix| KvBackend::new(store.clone()).traefik_prefix(prefix));
    let open =
        |backend: &KvBackend<_>| backend.open(&Setup::new("web"), &mut |_, _| Ok(vec![add(1)]));
    open(&ours).unwrap();
    let before = store.dump();
    assert_eq!(other.read().unwrap().len(), 1);
    let delete = |backend: &KvBackend<_>| {
        backend.commit(&mut |_, _| Ok(vec![Change::delete("/r1/").unwrap()]))
    };
    for error in [
        open(&other).unwrap_err(),
        delete(&other).unwrap_err(),
        other.repair().unwrap_err(),
        other.close().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        assert_eq!(*error.stored(), Stored::Nothing);
        let text = error.to_string();
        assert!(text.contains("\"a\"") && text.contains("\"b\""), "{text}");
    }
    let found = other.findings();
    let is_told = |finding: &Finding| {
        finding.level == Level::Problem && finding.message.contains("`traefik_prefix` is \"b\"")
    };
    assert!(found.iter().any(is_told), "{found:?}");
    assert_eq!(store.dump(), before);
    delete(&ours).unwrap();
}

#[test]
fn another_entrypoint_moves_all_routes() {
    let backend = faulty(None, None);
    backend
        .open(&Setup::new("http"), &mut |_, _| Ok(Vec::new()))
        .unwrap();
    backend
        .commit(&mut |_, _| Ok(vec![add(1), add(2)]))
        .unwrap();
    backend
        .open(&Setup::new("https"), &mut |_, _| Ok(Vec::new()))
        .unwrap();
    let keys = backend.store().store.dump();
    let entrypoints: Vec<_> = keys
        .iter()
        .filter(|(key, _)| key.contains("entryPoints"))
        .map(|(_, value)| value)
        .collect();
    // The third one is the router of the generation.
    assert_eq!(entrypoints, ["https", "https", "https"]);
}

#[test]
fn routers_at_entrypoint_have_middleware() {
    let backend = faulty(None, None);
    let page = json!({"rule": "PathPrefix(\"/\")", "service": "noop@internal"});
    let setup = |middleware: &str| Setup {
        middleware: Some(middleware.into()),
        nested: Some(Nested::Always),
        tls: Some(true),
        extra: Some(json!({"http": {"routers": {"page": &page}}})),
        ..Setup::new("web")
    };
    let ending = |ending: &str| {
        let keys = backend.store().store.dump().into_keys();
        let keys = keys.filter(|key| key.contains("/http/routers/") && key.ends_with(ending));
        keys.collect::<Vec<_>>()
    };
    let open = |middleware: &str| backend.open(&setup(middleware), &mut |_, _| Ok(Vec::new()));
    open("pages").unwrap();
    let route = |n| Change::set(format!("/user/n{n}/"), "http://t").unwrap();
    let changes: Vec<_> = (0..20).map(route).collect();
    backend.commit(&mut |_, _| Ok(changes.clone())).unwrap();
    let top: Vec<_> = ending("/entryPoints/0");
    let is_ours = |key: &&String| !key.contains("/page/") && !key.contains(MARKER);
    let expected = top.iter().filter(is_ours);
    let expected = expected.map(|key| key.replace("entryPoints", "middlewares"));
    let expected: Vec<_> = expected.collect();
    assert!(!expected.is_empty() && expected.len() < 20, "{expected:?}");
    let found = ending("/middlewares/0").into_iter();
    let found: Vec<_> = found.filter(|key| !key.contains(MARKER)).collect();
    assert_eq!(found, expected);
    // A router that names no entrypoint stands where the routes are.
    assert!(top.iter().any(|key| key.contains("/page/")), "{top:?}");
    assert!(ending("/page/tls").len() == 1);
    let is_generations = |key: &String| key.contains(MARKER);
    open("").unwrap();
    assert!(ending("/middlewares/0").iter().all(is_generations));

    let replace = |extra: Value| Setup {
        extra: Some(extra),
        ..Setup::default()
    };
    let pages = json!({"http": {"middlewares": {"pages": {"compress": {}}}}});
    let with_pages = Setup {
        extra: Some(pages.clone()),
        ..setup("pages")
    };
    for (extra, stays) in [(pages, true), (json!({}), false)] {
        backend
            .open(&with_pages, &mut |_, _| Ok(Vec::new()))
            .unwrap();
        backend
            .open(&replace(extra), &mut |_, _| Ok(Vec::new()))
            .unwrap();
        let is_gone = ending("/middlewares/0").iter().all(is_generations);
        assert_eq!(is_gone, !stays);
    }
}

/// It has another name than we give, and leads to a service of ours.
#[test]
fn foreign_router_survives_repairs() {
    let store = MemoryStore::new();
    let backend = KvBackend::new(store.clone());
    let add = |n: usize| Change::set(format!("/{n}/"), "http://t").unwrap();
    let all: Vec<_> = (0..3).map(add).collect();
    backend
        .open(&Setup::new("web"), &mut |_, _| Ok(all.clone()))
        .unwrap();
    let keys = store.dump();
    let service = keys.iter().find(|(key, _)| key.ends_with("/service"));
    let mut theirs = Transaction::new();
    let router = "traefik/http/routers/intern".to_string();
    theirs
        .set
        .insert(format!("{router}/service"), service.unwrap().1.clone());
    theirs
        .set
        .insert(format!("{router}/rule"), "Path(`/intern`)".into());
    store.transact(&theirs).unwrap();
    let before = store.dump();
    backend.repair().unwrap();
    backend.commit(&mut |_, _| Ok(all.clone())).unwrap();
    assert_eq!(store.dump(), before);
}

/// jupyterhub-traefik-proxy takes them for two.
#[test]
fn duplicate_legacy_entries_become_one() {
    let store = MemoryStore::new();
    let mut old = Transaction::new();
    for (alias, spec) in [("_2Fa", "/a"), ("_2Fa_2F", "/a/")] {
        for (key, value) in [
            ("routespec", spec),
            ("target", "http://t"),
            ("router", alias),
            ("service", alias),
        ] {
            let key = format!("jupyterhub/routes/{alias}/{key}");
            old.set.insert(key, value.into());
        }
    }
    store.transact(&old).unwrap();
    let backend = KvBackend::new(store.clone());
    backend
        .open(&Setup::new("web"), &mut |_, _| Ok(Vec::new()))
        .unwrap();
    let change = Change::delete("/a/").unwrap();
    backend
        .commit(&mut |_, _| Ok(vec![change.clone()]))
        .unwrap();
    let keys = store.dump();
    let left = keys.keys().find(|key| key.contains("/services/"));
    assert_eq!(left, None);
}

#[test]
fn only_direct_routers_leave_entrypoint() {
    let backend = faulty(None, None);
    let nested = Some(Nested::Always);
    let setup = Setup {
        nested,
        ..Setup::new("web")
    };
    backend.open(&setup, &mut |_, _| Ok(Vec::new())).unwrap();
    let user = |n: usize| Change::set(format!("/user/n{n}/"), "http://u").unwrap();
    for (users, deleted) in [(10..11, 0), (11..99, 1)] {
        let new: Vec<_> = users.map(user).collect();
        backend.commit(&mut |_, _| Ok(new.clone())).unwrap();
        assert_eq!(backend.store().deleted.load(Ordering::Relaxed), deleted);
    }
    let keys = backend.store().read_tree("traefik/http/routers/").unwrap();
    let routers = |ending| {
        let names = keys.keys().filter_map(move |key| key.strip_suffix(ending));
        names.collect::<BTreeSet<_>>()
    };
    let (below, beside) = (routers("/parentRefs/0"), routers("/entryPoints/0"));
    let named = below.iter().filter(|name| name.ends_with("-user-n10"));
    assert_eq!(named.count(), 1);
    assert_eq!(below.intersection(&beside).count(), 0);
}
