//! The adapter over stores that are small, slow to agree, or lose answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Router;
use crate::config::dynamic::{ApiAccess, certificate, fast_hash};
use crate::error::{Error, ErrorKind, Stored};
use crate::route::{Change, Nested, Route, RouteSpec, asking, matches};

/// A store in memory that fails as it is told to.
#[derive(Debug, Default)]
struct Faulty {
    store: MemoryStore,
    max_bytes: Option<usize>,
    /// Which transaction fails, counted from 1, and how.
    fault: Option<(usize, Fault)>,
    transactions: AtomicUsize,
    /// How many bytes the last one had, and the largest.
    bytes: AtomicUsize,
    largest: AtomicUsize,
    /// How many keys the last one deleted.
    deleted: AtomicUsize,
    /// What there was after each of them.
    states: Option<Mutex<Vec<State>>>,
}

/// What the names of the generation's middleware and router begin with.
const MARKER: &str = "traefik-router-generation";

/// The keys of a store with their values.
type State = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Refused,
    LostAnswer,
    LostRequest,
    /// Another writer commits first, once.
    Overtaken,
    /// The answer is lost, and another writer adds a route to `http://shared` before we ask.
    LostAnswerThenOther,
}

impl KvStore for Faulty {
    fn provider(&self) -> &str {
        "memory"
    }
    fn static_config(&self, root: &str) -> Result<Value> {
        self.store.static_config(root)
    }
    fn check(&self, prefixes: &[&str]) -> Result<()> {
        self.store.check(prefixes)
    }
    fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.store.get(key)
    }
    fn read_tree(&self, prefix: &str) -> Result<BTreeMap<String, Entry>> {
        self.store.read_tree(prefix)
    }
    fn transact(&self, transaction: &Transaction) -> Result<Option<u64>> {
        let number = self.transactions.fetch_add(1, Ordering::Relaxed) + 1;
        self.bytes.store(transaction.bytes(), Ordering::Relaxed);
        self.largest
            .fetch_max(transaction.bytes(), Ordering::Relaxed);
        let deleted = transaction.delete.len();
        self.deleted.store(deleted, Ordering::Relaxed);
        let lost = Error::new(ErrorKind::Unavailable, "lost").with_stored(Stored::Unknown);
        match self.fault {
            Some((at, fault)) if at == number => match fault {
                Fault::Refused => Err(Error::new(ErrorKind::Store, "refused")),
                Fault::LostRequest => Err(lost),
                Fault::LostAnswer => self.store.transact(transaction).and(Err(lost)),
                Fault::LostAnswerThenOther => {
                    self.store.transact(transaction)?;
                    let theirs = Change::set("/theirs/", "http://shared").unwrap();
                    KvBackend::new(self.store.clone())
                        .commit(&mut |_, _| Ok(vec![theirs.clone()]))?;
                    Err(lost)
                }
                Fault::Overtaken => {
                    let other = KvBackend::new(self.store.clone());
                    other.commit(&mut |_, _| Ok(vec![add(999)]))?;
                    self.store.transact(transaction)
                }
            },
            _ => {
                let done = self.store.transact(transaction);
                if let Some(states) = &self.states {
                    states.lock().unwrap().push(self.store.dump());
                }
                done
            }
        }
    }
    fn max_bytes(&self) -> usize {
        self.max_bytes.unwrap_or(usize::MAX)
    }
}

fn add(n: usize) -> Change {
    Route::new(format!("/r{n}/"), format!("http://t{n}"))
        .unwrap()
        .data(json!({"n": n}))
        .into()
}

fn faulty(max_bytes: Option<usize>, fault: Option<(usize, Fault)>) -> KvBackend<Faulty> {
    KvBackend::new(Faulty {
        max_bytes,
        fault,
        ..Faulty::default()
    })
}

fn specs(backend: &KvBackend<Faulty>) -> Vec<String> {
    KvBackend::new(backend.store().store.clone())
        .read()
        .unwrap()
        .iter()
        .map(|route| route.spec.to_string())
        .collect()
}

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
fn large_batch_splits_no_route() {
    let backend = faulty(Some(8000), None);
    let changes: Vec<_> = (0..50).map(add).collect();
    backend.commit(&mut |_, _| Ok(changes.clone())).unwrap();
    let transactions = backend.store().transactions.load(Ordering::Relaxed);
    assert!((4..40).contains(&transactions), "{transactions}");
    assert_eq!(specs(&backend).len(), 50);

    let backend = faulty(Some(8000), Some((3, Fault::Refused)));
    let error = backend.commit(&mut |_, _| Ok(changes.clone())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    let Stored::Some(stored) = error.stored() else {
        panic!("{error:?}")
    };
    let stored: Vec<_> = stored.iter().map(ToString::to_string).collect();
    assert!(!stored.is_empty());
    assert_eq!(stored, specs(&backend), "the error names what is stored");
    backend.commit(&mut |_, _| Ok(changes.clone())).unwrap();
    assert_eq!(specs(&backend).len(), 50);
}

#[test]
fn lost_answers_are_detected() {
    for fault in [Fault::LostAnswer, Fault::LostRequest] {
        let backend = faulty(None, Some((1, fault)));
        let commit = backend.commit(&mut |table, _| {
            Ok(if table.is_empty() {
                vec![add(1)]
            } else {
                Vec::new()
            })
        });
        let now = backend.commit(&mut |_, _| Ok(Vec::new())).unwrap();
        assert_eq!(commit.unwrap().generation, now.generation, "{fault:?}");
        assert_eq!(specs(&backend), ["/r1/"], "{fault:?}");
    }
}

#[test]
fn overtaken_commit_is_made_again() {
    let backend = faulty(None, Some((1, Fault::Overtaken)));
    let mut seen = Vec::new();
    backend
        .commit(&mut |table, _| {
            seen.push(table.len());
            Ok(vec![add(1)])
        })
        .unwrap();
    assert_eq!(seen, [0, 1]);
    assert_eq!(specs(&backend), ["/r1/", "/r999/"]);
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

#[test]
fn foreign_api_router_stays() {
    let backend = faulty(None, None);
    let store = backend.store().store.clone();
    let mut transaction = Transaction::new();
    let key = |part: &str| format!("traefik/http/routers/theirs/{part}");
    for (part, value) in [
        ("rule", "PathPrefix(`/api`)"),
        ("service", "api@internal"),
        ("middlewares/0", "auth_api"),
    ] {
        transaction.set.insert(key(part), value.into());
    }
    store.transact(&transaction).unwrap();
    let before = store.dump();
    let setup = Setup {
        api: Some(api("secret")),
        ..Setup::new("http")
    };
    let error = backend
        .open(&setup, &mut |_, _| Ok(Vec::new()))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert!(error.to_string().contains("theirs"), "{error}");
    assert_eq!(*error.stored(), Stored::Nothing);
    assert_eq!(store.dump(), before);
    // Without our API router, nothing is in the way.
    backend
        .open(&Setup::new("http"), &mut |_, _| Ok(Vec::new()))
        .unwrap();
    let now = store.dump();
    assert!(
        before
            .iter()
            .all(|(key, value)| now.get(key) == Some(value))
    );
}

#[test]
fn api_router_replacement_is_explicit() {
    let backend = faulty(None, None);
    let store = backend.store().store.clone();
    let open = |password: &str, replace_api| {
        let setup = Setup {
            api: Some(api(password)),
            replace_api,
            ..Setup::new("http")
        };
        backend.open(&setup, &mut |_, _| Ok(Vec::new())).map(drop)
    };
    let users = || {
        let keys = store.dump();
        keys["traefik/http/middlewares/traefik-router-api-auth/basicAuth/users/0"].clone()
    };
    open("one", false).unwrap();
    let first = users();
    assert!(open("two", false).is_err());
    assert_eq!(users(), first);
    open("two", true).unwrap();
    assert_ne!(users(), first);
}

fn api(password: &str) -> ApiAccess {
    ApiAccess {
        entrypoint: "auth_api".into(),
        username: "jupyterhub".into(),
        password: password.into(),
        given: true,
        password_hash: fast_hash(password),
        metrics: false,
    }
}

#[test]
fn only_one_default_certificate_stored() {
    let elsewhere = Setup {
        certificate_elsewhere: true,
        ..Setup::new("http")
    };
    let key = "traefik/tls/stores/default/defaultCertificate/certFile";
    // By hand, or by a Router with that option.
    let by_hand = faulty(None, None);
    let mut transaction = Transaction::new();
    transaction.set.insert(key.into(), "theirs".into());
    by_hand.store().store.transact(&transaction).unwrap();
    let before = by_hand.store().store.dump();
    let error = by_hand
        .open(&elsewhere, &mut |_, _| Ok(Vec::new()))
        .unwrap_err();
    assert!(error.to_string().contains(key), "{error}");
    assert_eq!(by_hand.store().store.dump(), before);

    let ours = faulty(None, None);
    let setup = Setup {
        extra: Some(certificate("/ours.pem")),
        ..Setup::new("http")
    };
    ours.open(&setup, &mut |_, _| Ok(Vec::new())).unwrap();
    let before = ours.store().store.dump();
    assert_eq!(before[key], "/ours.pem");
    ours.open(&elsewhere, &mut |_, _| Ok(Vec::new()))
        .unwrap_err();
    assert_eq!(ours.store().store.dump(), before);
}

#[test]
fn revert_restores_the_store() {
    let serving = |setup: Setup| Setup {
        serves: true,
        ..setup
    };
    let store = MemoryStore::new();
    let handle = || KvBackend::new(store.clone());
    let nothing = store.dump();
    let backend = handle();
    backend
        .open(&serving(Setup::new("web")), &mut |_, _| Ok(vec![add(1)]))
        .unwrap();
    assert!(backend.revert().unwrap());
    assert_eq!(store.dump(), nothing);

    let offline = handle();
    offline
        .open(&Setup::new("web"), &mut |_, _| Ok(vec![add(1), add(2)]))
        .unwrap();
    let before = store.dump();
    let moved = serving(Setup {
        tls: Some(true),
        nested: Some(Nested::Always),
        extra: Some(certificate("/x")),
        ..Setup::new("other")
    });
    let backend = handle();
    backend
        .open(&moved, &mut |table, _| Ok(deletions(table)))
        .unwrap();
    assert_ne!(store.dump(), before);
    assert!(backend.revert().unwrap());
    assert_eq!(store.dump(), before);

    // Changes that were committed since stay; what was set is removed all the same.
    let backend = handle();
    backend.open(&moved, &mut |_, _| Ok(Vec::new())).unwrap();
    handle().commit(&mut |_, _| Ok(vec![add(3)])).unwrap();
    assert!(backend.revert().unwrap());
    let contents = offline.inspect().unwrap().unwrap();
    assert_eq!((contents.entrypoint.as_str(), contents.tls), ("web", false));
    assert_eq!(contents.routes.len(), 3);
    let keys = store.dump();
    assert!(
        keys.iter()
            .all(|(key, value)| value != "other" && !key.contains("stores"))
    );
}

/// Its key is gone for a moment after an outage of the store.
#[test]
fn lost_presence_key_is_tolerated() {
    let store = MemoryStore::new();
    let handle = || KvBackend::new(store.clone());
    let setup = |alone| Setup {
        serves: true,
        started: true,
        alone,
        ..Setup::new("web")
    };
    let one = handle();
    one.open(&setup(false), &mut |_, _| Ok(vec![add(1)]))
        .unwrap();
    let mut lost = Transaction::new();
    lost.delete_trees
        .insert("jupyterhub/traefik-router/serving/".into());
    store.transact(&lost).unwrap();
    let refused = handle().open(&setup(true), &mut |table, _| Ok(deletions(table)));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InUse);
    assert_eq!(one.read().unwrap().len(), 1);
}

/// Settings that somebody made by hand outlive a Traefik that was started and had no routes.
#[test]
fn empty_table_keeps_its_setup() {
    let store = MemoryStore::new();
    let handle = || KvBackend::new(store.clone());
    let service = Some(json!({"passHostHeader": false}));
    let setup = Setup {
        service: service.clone(),
        ..Setup::new("web")
    };
    handle().open(&setup, &mut |_, _| Ok(Vec::new())).unwrap();
    let started = handle();
    let start = Setup {
        serves: true,
        started: true,
        default_entrypoint: "http".into(),
        ..Setup::default()
    };
    started.open(&start, &mut |_, _| Ok(Vec::new())).unwrap();
    started.close().unwrap();
    let contents = handle().inspect().unwrap().unwrap();
    assert_eq!(
        (&*contents.entrypoint, Some(contents.service)),
        ("web", service)
    );
}

#[test]
fn served_table_is_not_emptied() {
    let store = MemoryStore::new();
    let handle = || KvBackend::new(store.clone());
    let serving = |alone| Setup {
        serves: true,
        started: true,
        alone,
        ..Setup::new("web")
    };
    let one = handle();
    one.open(&serving(true), &mut |_, _| Ok(vec![add(1)]))
        .unwrap();
    let two = handle();
    let error = two
        .open(&serving(true), &mut |table, _| Ok(deletions(table)))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    assert_eq!(one.read().unwrap().len(), 1);
    two.open(&serving(false), &mut |_, _| Ok(Vec::new()))
        .unwrap();
    // The table stays for the other one, empty as it may be.
    one.commit(&mut |table, _| Ok(deletions(table))).unwrap();
    one.close().unwrap();
    assert!(store.dump().keys().any(|key| key.ends_with("/header")));
    two.close().unwrap();
    assert!(store.dump().is_empty(), "{:?}", store.dump());
}

fn deletions(table: &Table) -> Vec<Change> {
    let specs = table.iter().map(|route| route.spec.clone());
    specs.map(Change::Delete).collect()
}

#[test]
fn unset_options_keep_stored_values() {
    let backend = faulty(None, None);
    let setup = Setup {
        tls: Some(true),
        middleware: Some("pages".into()),
        nested: Some(Nested::Never),
        service: Some(json!({"passHostHeader": false})),
        extra: Some(certificate("/x")),
        ..Setup::new("web")
    };
    let opened = backend.open(&setup, &mut |_, _| Ok(vec![add(1)])).unwrap();
    let before = backend.store().store.dump();
    let keeps = Setup {
        default_entrypoint: "http".into(),
        knows_parents: Some(true),
        ..Setup::default()
    };
    let other = KvBackend::new(backend.store().store.clone());
    let again = other.open(&keeps, &mut |_, _| Ok(Vec::new())).unwrap();
    assert_eq!(again.generation, opened.generation);
    assert_eq!(backend.store().store.dump(), before);
}

#[test]
fn interleaved_writer_loses_nothing() {
    let backend = faulty(Some(1), Some((2, Fault::LostAnswerThenOther)));
    backend
        .commit(&mut |_, _| Ok(vec![Change::set("/old/", "http://shared").unwrap()]))
        .unwrap();
    backend
        .commit(&mut |_, _| {
            Ok(vec![
                add(1),
                Change::set("/old/", "http://elsewhere").unwrap(),
            ])
        })
        .unwrap();
    assert_eq!(specs(&backend), ["/old/", "/r1/", "/theirs/"]);
    let keys = backend.store().store.dump();
    let services = keys
        .values()
        .filter(|value| *value == "http://shared")
        .count();
    assert_eq!(services, 1, "the service of /theirs/: {keys:#?}");
}

#[test]
fn uncertain_commit_is_no_conflict() {
    let backend = faulty(None, Some((1, Fault::LostRequest))).conflict_timeout(Duration::ZERO);
    let error = backend.commit(&mut |_, _| Ok(vec![add(1)])).unwrap_err();
    assert_eq!(*error.stored(), Stored::Unknown, "{error}");
}

#[test]
fn removed_table_reads_as_empty() {
    let store = MemoryStore::new();
    let [a, b] = [(); 2].map(|()| KvBackend::new(store.clone()));
    for backend in [&a, &b] {
        backend
            .open(&Setup::new("web"), &mut |_, _| Ok(Vec::new()))
            .unwrap();
    }
    a.commit(&mut |_, _| Ok(vec![add(1)])).unwrap();
    assert_eq!(b.read().unwrap().len(), 1);
    a.commit(&mut |_, _| Ok(vec![Change::delete("/r1/").unwrap()]))
        .unwrap();
    store.transact(&removal_of(&store)).unwrap();
    assert!(b.read().unwrap().is_empty());
}

/// All keys of a store, to delete.
fn removal_of(store: &MemoryStore) -> Transaction {
    let mut transaction = Transaction::new();
    transaction.delete.extend(store.dump().into_keys());
    transaction
}

/// A commit begins with what this handle knows; what others have done since is theirs.
#[test]
fn changes_of_others_stay_unclaimed() {
    let store = MemoryStore::new();
    let open = || {
        let backend = KvBackend::new(store.clone());
        Router::builder(backend).offline().unwrap()
    };
    let (one, two) = (open(), open());
    one.apply([add(1), add(2)]).unwrap();
    two.delete_route("/r1/").unwrap();
    assert_eq!(one.delete_route("/r1/").unwrap().deleted, []);
    two.apply([add(3)]).unwrap();
    let applied = one.apply([add(3), add(4)]).unwrap();
    assert_eq!(applied.added.len(), 1, "{applied:?}");
    two.delete_route("/r4/").unwrap();
    assert_eq!(one.apply([add(4)]).unwrap().added.len(), 1);
    assert_eq!(two.get_all_routes().unwrap(), one.get_all_routes().unwrap());
}

/// A store that was restored may come to the same version with something else in it.
#[test]
fn same_version_proves_nothing() {
    let store = MemoryStore::new();
    let backend = KvBackend::new(store.clone());
    backend.commit(&mut |_, _| Ok(vec![add(1)])).unwrap();
    store.restore();
    let other = Change::set("/other/", "http://t1").unwrap();
    let writer = KvBackend::new(store.clone());
    writer.commit(&mut |_, _| Ok(vec![other.clone()])).unwrap();
    let before = store.dump();
    let gone = Change::delete("/r1/").unwrap();
    let delete = |table: &Table| table.get(gone.spec()).map(|_| gone.clone());
    backend
        .commit(&mut |table, _| Ok(delete(table).into_iter().collect()))
        .unwrap();
    assert_eq!(store.dump(), before);
}

#[test]
fn reads_respect_maximum_age() {
    let store = MemoryStore::new();
    let open = |age| KvBackend::new(store.clone()).max_age(age);
    let (fresh, relaxed) = (open(Duration::ZERO), open(Duration::from_secs(3600)));
    let length = |backend: &KvBackend<MemoryStore>| backend.read().unwrap().len();
    fresh.commit(&mut |_, _| Ok(vec![add(1)])).unwrap();
    assert_eq!((length(&fresh), length(&relaxed)), (1, 1));
    fresh.commit(&mut |_, _| Ok(vec![add(2)])).unwrap();
    assert_eq!((length(&fresh), length(&relaxed)), (2, 1));
    relaxed
        .commit(&mut |table, _| Ok(vec![add(1 + table.len())]))
        .unwrap();
    assert_eq!((length(&fresh), length(&relaxed)), (3, 3));
}

/// A store that holds one request back, until the test goes on.
#[derive(Debug, Default)]
struct Delayed {
    store: MemoryStore,
    /// The key of that request; where it waits, and where it goes on.
    hold: Mutex<Option<(&'static str, [Barrier; 2])>>,
    /// The tree about which no question is answered.
    silent: Option<&'static str>,
    /// What was read.
    asked: Mutex<Vec<String>>,
}

impl Delayed {
    /// Holds back the answer about this key, or the question about this tree.
    fn hold(&self, key: &'static str) -> [Barrier; 2] {
        let barriers = [(); 2].map(|()| Barrier::new(std::sync::Barrier::new(2)));
        *self.hold.lock().unwrap() = Some((key, barriers.clone()));
        barriers
    }

    fn pass(&self, key: &str) {
        self.asked.lock().unwrap().push(key.into());
        let held = self.hold.lock().unwrap().take_if(|(held, _)| *held == key);
        for barrier in held.iter().flat_map(|(_, barriers)| barriers) {
            barrier.wait();
        }
    }
}

type Barrier = Arc<std::sync::Barrier>;

impl KvStore for Delayed {
    fn provider(&self) -> &str {
        "memory"
    }
    fn static_config(&self, root: &str) -> Result<Value> {
        self.store.static_config(root)
    }
    fn check(&self, prefixes: &[&str]) -> Result<()> {
        self.store.check(prefixes)
    }
    fn get(&self, key: &str) -> Result<Option<Entry>> {
        let found = self.store.get(key);
        self.pass(key);
        found
    }
    fn read_tree(&self, prefix: &str) -> Result<BTreeMap<String, Entry>> {
        self.pass(prefix);
        match self.silent == Some(prefix) {
            true => Err(Error::new(ErrorKind::Unavailable, "no answer")),
            false => self.store.read_tree(prefix),
        }
    }
    fn transact(&self, transaction: &Transaction) -> Result<Option<u64>> {
        self.store.transact(transaction)
    }
}

/// The reader's answer is from before the commit: it is no sign of a restored store, and does not
/// replace what the commit has made.
#[test]
fn commit_overrides_concurrent_read() {
    let age = Duration::from_secs(3600);
    let backend = KvBackend::new(Delayed::default()).max_age(age);
    backend.commit(&mut |_, _| Ok(vec![add(1)])).unwrap();
    backend.seen().heard = None;
    let [asked, go_on] = backend.store().hold("jupyterhub/traefik-router/header");
    std::thread::scope(|scope| {
        let early = scope.spawn(|| backend.read());
        asked.wait();
        backend.commit(&mut |_, _| Ok(vec![add(2)])).unwrap();
        assert_eq!(backend.read().unwrap().len(), 2, "from memory");
        go_on.wait();
        assert_eq!(early.join().unwrap().unwrap().len(), 1);
    });
    assert_eq!(backend.read().unwrap().len(), 2);
    backend.seen().heard = None;
    assert_eq!(backend.read().unwrap().len(), 2);
    backend.commit(&mut |_, _| Ok(vec![add(3)])).unwrap();
    assert_eq!(backend.read().unwrap().len(), 3);
}

/// Of two programs that set up the API at the same time, the later one finds the router of the first
/// in a table that it has read without.
#[test]
fn refusal_holds_for_one_table() {
    let backend = KvBackend::new(Delayed::default());
    let setup = Setup {
        api: Some(api("secret")),
        serves: true,
        ..Setup::new("http")
    };
    let open = |backend: &dyn Backend| backend.open(&setup, &mut |_, _| Ok(Vec::new()));
    let [asked, go_on] = backend.store().hold("traefik/http/routers/");
    std::thread::scope(|scope| {
        let later = scope.spawn(|| open(&backend));
        asked.wait();
        let first = open(&KvBackend::new(backend.store().store.clone()));
        go_on.wait();
        later.join().unwrap().unwrap();
        first.unwrap();
    });
}

/// Or else an etcd that hangs would be waited for twice.
#[test]
fn silent_store_is_asked_once() {
    let tree = "traefik/http/routers/";
    let backend = KvBackend::new(Delayed {
        silent: Some(tree),
        ..Delayed::default()
    });
    let setup = Setup {
        api: Some(api("secret")),
        ..Setup::new("http")
    };
    let error = backend
        .open(&setup, &mut |_, _| Ok(Vec::new()))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(backend.store().asked.lock().unwrap().last().unwrap(), tree);
}

/// A router as Traefik finds it.
#[derive(Debug, Default)]
struct Found {
    rule: String,
    priority: u64,
    parent: Option<String>,
    service: Option<String>,
    /// Whether it has what only a router at the top may have.
    tops: bool,
}

fn routers(keys: &State) -> HashMap<&str, Found> {
    let mut routers: HashMap<&str, Found> = HashMap::new();
    for (key, value) in keys {
        let Some(key) = key.strip_prefix("traefik/http/routers/") else {
            continue;
        };
        let (name, part) = key.split_once('/').unwrap();
        if name.starts_with(MARKER) {
            continue;
        }
        let router = routers.entry(name).or_default();
        match part {
            "rule" => router.rule.clone_from(value),
            "priority" => router.priority = value.parse().unwrap(),
            "parentRefs/0" => router.parent = Some(value.clone()),
            "service" => router.service = Some(value.clone()),
            "middlewares/0" | "entryPoints/0" => {}
            _ => router.tops |= part.starts_with("tls") || part.starts_with("observability"),
        }
        let place = |part| keys.contains_key(&format!("traefik/http/routers/{name}/{part}"));
        assert_ne!(place("entryPoints/0"), place("parentRefs/0"), "{name}");
    }
    for (name, router) in &routers {
        let parent = router.parent.as_deref();
        assert!(!router.tops || parent.is_none(), "{name} stands at the top");
        assert!(
            parent.is_none_or(|parent| routers.contains_key(parent)),
            "{name} is an orphan"
        );
        let has_child = || {
            routers
                .values()
                .any(|one| one.parent.as_deref() == Some(*name))
        };
        assert!(
            router.service.is_some() || has_child(),
            "{name} has no child"
        );
    }
    routers
}

/// The target that a request reaches.
fn resolve<'k>(keys: &'k State, routers: &HashMap<&str, Found>, path: &str) -> Option<&'k str> {
    let mut above = None;
    loop {
        let here = routers
            .iter()
            .filter(|(_, router)| router.parent.as_deref() == above);
        let matching = here.filter(|(_, router)| matches(&router.rule, "h", path.as_bytes()));
        let (name, router) = matching.max_by_key(|(_, router)| router.priority)?;
        match &router.service {
            Some(service) => {
                let key = format!("traefik/http/services/{service}/loadBalancer/servers/0/url");
                return Some(&**keys.get(&key).expect("a service for each router"));
            }
            None => above = Some(*name),
        }
    }
}

fn any_spec() -> impl Strategy<Value = String> {
    "(/|(/(a|b|ab|ba|x@y|é)){1,3})".prop_map(String::from)
}

/// Routespecs, each with a target and what its route asks for; see `table_of`.
fn any_table(size: usize) -> impl Strategy<Value = Vec<(String, u8)>> {
    let specs = prop::collection::btree_map(any_spec(), 0..28_u8, 0..size);
    specs.prop_map(|specs| specs.into_iter().collect())
}

fn any_layout() -> impl Strategy<Value = Nested> {
    prop::sample::select(vec![Nested::Always, Nested::Always, Nested::Never])
}

/// A Traefik may still show a generation that is later than the clock.
#[test]
fn revert_keeps_generations_growing() {
    let store = MemoryStore::new();
    let handle = || KvBackend::new(store.clone());
    handle()
        .open(&Setup::new("web"), &mut |_, _| Ok(vec![add(1)]))
        .unwrap();
    let last = || handle().last_commit().unwrap().unwrap().generation;
    let header_key = "jupyterhub/traefik-router/header".to_string();
    let header = store.get(&header_key).unwrap().unwrap().value;
    let ahead = (last() + 86_400_000).to_string();
    let mut later = Transaction::new();
    let header = header.replace(&last().to_string(), &ahead);
    later.set.insert(header_key, header);
    store.transact(&later).unwrap();
    let backend = handle();
    let moved = Setup {
        serves: true,
        ..Setup::new("other")
    };
    let made = backend.open(&moved, &mut |_, _| Ok(Vec::new())).unwrap();
    assert!(backend.revert().unwrap());
    let contents = handle().inspect().unwrap().unwrap();
    assert_eq!((&*contents.entrypoint, contents.routes.len()), ("web", 1));
    assert!(last() > made.generation);
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

/// All routes have services of their own, and keys are long.
#[test]
fn transactions_respect_the_size_limit() {
    const MAX: usize = 1 << 20;
    let route = |n: usize, at: &str| {
        Route::new(format!("/long/{n}/"), format!("http://t{n}{at}"))
            .unwrap()
            .data(json!({"n": n}))
            .into()
    };
    let backend = faulty(Some(MAX), None).traefik_prefix("long".repeat(30));
    let setup = Setup {
        knows_parents: Some(true),
        ..Setup::new("web")
    };
    backend.open(&setup, &mut |_, _| Ok(Vec::new())).unwrap();
    let all: Vec<Change> = (0..6_000).map(|n| route(n, "")).collect();
    let some: Vec<_> = (0..6_000).step_by(50).map(|n| route(n, "/base/")).collect();
    let gone = all
        .iter()
        .map(|change| Change::Delete(change.spec().clone()));
    for batch in [all.clone(), some, gone.collect()] {
        backend.commit(&mut |_, _| Ok(batch.clone())).unwrap();
        let largest = backend.store().largest.load(Ordering::Relaxed);
        assert!(largest <= MAX, "{largest}");
    }
    let keys = backend.store().store.dump();
    let is_left = |key: &&String| key.contains("/services/");
    assert_eq!(keys.keys().find(is_left), None);
}

proptest! {
    /// However many transactions a commit takes: between any two of them a request that it does not
    /// touch goes where it went, and Traefik finds nothing to refuse.
    #[test]
    fn partial_commit_misroutes_nothing(
        first in any_table(40),
        changes in prop::collection::vec((any_table(12), any_table(12), any_layout()), 1..4),
        requests in prop::collection::vec("/((a|b|ab|ba|x@y|é|c)/){0,4}", 6),
    ) {
        let backend = KvBackend::new(Faulty {
            max_bytes: Some(1),
            states: Some(Mutex::default()),
            ..Faulty::default()
        });
        let mut specs: BTreeMap<_, _> = first.into_iter().collect();
        commit(&backend, specs.clone(), Nested::Always).unwrap();
        let mut before = backend.read().unwrap();
        for (gone, come, nested) in changes {
            backend.store().states.as_ref().unwrap().lock().unwrap().clear();
            specs.retain(|spec, _| !gone.iter().any(|(gone, _)| gone == spec));
            specs.extend(come);
            commit(&backend, specs.clone(), nested).unwrap();
            let after = backend.read().unwrap();
            let kept = before.iter().map(|route| route.spec.path());
            let paths: Vec<_> = kept.chain(requests.iter().map(String::as_str)).collect();
            let target = |table: &Table, path: &str| {
                let route = table.resolve("h", path).unwrap();
                route.map(|route| (route.spec.clone(), route.target.to_string()))
            };
            let untouched = |path: &&&str| target(&before, path) == target(&after, path);
            let states = backend.store().states.as_ref().unwrap().lock().unwrap();
            for (n, state) in states.iter().enumerate() {
                let routers = routers(state);
                for path in paths.iter().filter(untouched) {
                    let expected = target(&after, path).map(|(_, target)| target);
                    let found = resolve(state, &routers, path);
                    prop_assert_eq!(found, expected.as_deref(), "{} in state {} of {}", path, n, states.len());
                }
            }
            if let Some(last) = states.last() {
                for path in paths {
                    let expected = target(&after, path).map(|(_, target)| target);
                    prop_assert_eq!(resolve(last, &routers(last), path), expected.as_deref(), "{}", path);
                }
            }
            drop(states);
            before = after;
        }
    }

    /// A writer is cut off between two transactions. The next writer leaves the keys of a new table.
    #[test]
    fn next_writer_mends_torn_table(
        first in (any_table(30), any_setup()),
        second in (any_table(30), any_setup()),
        cut in 1..40_usize,
        third in (any_table(30), any_setup()),
    ) {
        let store = MemoryStore::new();
        let write = |(specs, setup): (Vec<(String, u8)>, Setup), fault: Option<usize>| {
            let mut backend = KvBackend::new(Faulty {
                store: store.clone(),
                max_bytes: fault.map(|_| 1),
                fault: fault.map(|at| (at, Fault::Refused)),
                ..Faulty::default()
            });
            // Nobody has to wait for the turn of the one that was cut off.
            backend.writer = "writer".into();
            open(&backend, specs, &setup)
        };
        write(first, None).unwrap();
        write(second, Some(cut)).ok();
        write(third.clone(), None).unwrap();
        let fresh = faulty(None, None);
        open(&fresh, third.0, &third.1).unwrap();
        let [mended, fresh] = [store.dump(), fresh.store().store.dump()].map(|keys| {
            // Each table has a marker of its own.
            let is_own = |key: &str| key.contains("traefik-router-generation") || key.ends_with("/header");
            keys.into_iter().filter(|(key, _)| !is_own(key)).collect::<State>()
        });
        prop_assert_eq!(mended, fresh);
    }
}

fn any_setup() -> impl Strategy<Value = Setup> {
    let entrypoint = prop::sample::select(vec!["web", "other"]);
    let middleware = prop::sample::select(vec!["", "pages"]);
    (
        entrypoint,
        any::<bool>(),
        any_layout(),
        any::<bool>(),
        middleware,
    )
        .prop_map(
            |(entrypoint, tls, nested, pass_host_header, middleware)| Setup {
                entrypoint: Some(entrypoint.into()),
                tls: Some(tls),
                middleware: Some(middleware.into()),
                nested: Some(nested),
                service: Some(json!({"passHostHeader": pass_host_header})),
                ..Setup::new(entrypoint)
            },
        )
}

fn table_of(specs: impl IntoIterator<Item = (String, u8)>) -> Table {
    let route = |(spec, kind): (String, u8)| {
        let target = ["http://one", "http://other"][usize::from(kind % 2)];
        // Half of them ask for nothing.
        asking(
            (kind / 2).saturating_sub(7),
            Route::new(spec, target).unwrap(),
        )
    };
    specs.into_iter().map(route).collect()
}

/// Opens a store, and makes its table this one.
fn open(
    backend: &KvBackend<Faulty>,
    specs: impl IntoIterator<Item = (String, u8)>,
    setup: &Setup,
) -> Result<Commit> {
    let table = table_of(specs);
    backend.open(setup, &mut |now, _| Ok(now.changes_to(&table)))
}

fn commit(
    backend: &KvBackend<Faulty>,
    specs: impl IntoIterator<Item = (String, u8)>,
    nested: Nested,
) -> Result<Commit> {
    let table = table_of(specs);
    let nested = Some(nested);
    let setup = Setup {
        nested,
        ..Setup::new("web")
    };
    backend.open(&setup, &mut |_, _| Ok(Vec::new()))?;
    backend.commit(&mut |now, _| Ok(now.changes_to(&table)))
}

#[test]
fn error_names_exactly_stored_routes() {
    let specs = |changed: bool| {
        let kind = u8::from(!changed);
        ["/a/", "/b/", "/c/"].map(|spec| (spec.to_string(), kind))
    };
    for cut in 1..12 {
        let store = MemoryStore::new();
        let write = |fault, entrypoint, changed| {
            let backend = KvBackend::new(Faulty {
                store: store.clone(),
                max_bytes: Some(1),
                fault,
                ..Faulty::default()
            });
            open(&backend, specs(changed), &Setup::new(entrypoint))
        };
        write(None, "web", false).unwrap();
        let entrypoint = Some((cut, Fault::Refused));
        let Err(error) = write(entrypoint, "other", true) else {
            continue;
        };
        let now = KvBackend::new(store.clone()).read().unwrap();
        let new = now
            .iter()
            .filter(|route| route.target.as_str() == "http://one");
        let new: BTreeSet<_> = new.map(|route| route.spec.to_string()).collect();
        let named = match error.stored() {
            Stored::Some(named) => named.iter().cloned().collect(),
            _ => BTreeSet::new(),
        };
        assert_eq!(named, new, "{error}");
    }
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
fn write_size_ignores_table_size() {
    let backend = faulty(Some(1_400_000), None);
    let setup = Setup {
        nested: Some(Nested::Auto),
        ..Setup::new("web")
    };
    backend.open(&setup, &mut |_, _| Ok(Vec::new())).unwrap();
    let user = |n: usize| Change::set(format!("/user/n{n}/"), "http://u").unwrap();
    let hub = |target| Change::set("/", target).unwrap();
    let written = |changes: Vec<Change>| {
        let transactions = &backend.store().transactions;
        let before = transactions.load(Ordering::Relaxed);
        backend.commit(&mut |_, _| Ok(changes.clone())).unwrap();
        let count = transactions.load(Ordering::Relaxed) - before;
        (count, backend.store().bytes.load(Ordering::Relaxed))
    };
    let (count, _) = written((0..20_000).map(user).chain([hub("http://hub")]).collect());
    assert!(count > 3, "{count}");
    let (count, bytes) = written(vec![hub("http://new-hub")]);
    assert!(count == 1 && bytes < 4_000, "{count} {bytes}");
    let (count, bytes) = written(vec![user(20_001)]);
    assert!(count == 1 && bytes < 20_000, "{count} {bytes}");
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
