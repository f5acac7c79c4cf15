//! The adapter over stores that are small, slow to agree, or lose answers.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;
use crate::Router;
use crate::route::Route;

/// A store in memory that fails as it is told to.
#[derive(Debug, Default)]
struct Faulty {
    store: MemoryStore,
    max_bytes: Option<usize>,
    /// Which transaction fails, counted from 1, and how.
    fault: Option<(usize, Fault)>,
    transactions: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Refused,
    LostAnswer,
    LostRequest,
    /// Somebody else commits first, once.
    Overtaken,
    /// The answer is lost, and somebody else adds a route to `http://shared` before we ask.
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
    fn read_tree(&self, prefix: &str) -> Result<std::collections::BTreeMap<String, Entry>> {
        self.store.read_tree(prefix)
    }
    fn transact(&self, transaction: &Transaction) -> Result<Option<u64>> {
        let number = self.transactions.fetch_add(1, Ordering::Relaxed) + 1;
        let lost = Error::new(ErrorKind::Unavailable, "lost").with_stored(Stored::Unknown);
        match self.fault {
            Some((at, fault)) if at == number => match fault {
                Fault::Refused => Err(Error::new(ErrorKind::Store, "refused")),
                Fault::LostRequest => Err(lost),
                Fault::LostAnswer => self.store.transact(transaction).and(Err(lost)),
                Fault::LostAnswerThenOther => {
                    self.store.transact(transaction)?;
                    let theirs = Change::add("/theirs/", "http://shared", ()).unwrap();
                    KvBackend::new(self.store.clone()).commit(&mut |_, _| vec![theirs.clone()])?;
                    Err(lost)
                }
                Fault::Overtaken => {
                    let other = KvBackend::new(self.store.clone());
                    other.commit(&mut |_, _| vec![add(999)])?;
                    self.store.transact(transaction)
                }
            },
            _ => self.store.transact(transaction),
        }
    }
    fn max_bytes(&self) -> usize {
        self.max_bytes.unwrap_or(usize::MAX)
    }
}

fn add(n: usize) -> Change {
    Route::new(format!("/r{n}/"), format!("http://t{n}"), json!({"n": n}))
        .unwrap()
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
fn the_keys_are_what_traefik_reads() {
    let backend = faulty(None, None);
    backend.open(&Setup::new("web")).unwrap();
    backend
        .commit(&mut |_, _| vec![add(1), Change::add("/r2/", "http://t1/base", ()).unwrap()])
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
        .commit(&mut |_, _| vec![Change::add("/r1/", "http://new", ()).unwrap()])
        .unwrap();
    backend
        .commit(&mut |_, _| vec![Change::delete("/r2/").unwrap()])
        .unwrap();
    let keys = backend.store().store.dump();
    assert!(
        !keys.values().any(|value| value.starts_with("http://t1")),
        "a stale service: {keys:?}"
    );
    backend
        .commit(&mut |_, _| vec![Change::delete("/r1/").unwrap()])
        .unwrap();
    let left: Vec<_> = backend.store().store.dump().into_keys().collect();
    assert_eq!(left.len(), 2, "the marker and the header: {left:?}");
}

#[test]
fn a_large_batch_goes_in_parts_that_split_no_route() {
    let backend = faulty(Some(8000), None);
    let changes: Vec<_> = (0..50).map(add).collect();
    backend.commit(&mut |_, _| changes.clone()).unwrap();
    let transactions = backend.store().transactions.load(Ordering::Relaxed);
    assert!((4..40).contains(&transactions), "{transactions}");
    assert_eq!(specs(&backend).len(), 50);

    let backend = faulty(Some(8000), Some((3, Fault::Refused)));
    let error = backend.commit(&mut |_, _| changes.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    let Stored::Some(stored) = error.stored() else {
        panic!("{error:?}")
    };
    let stored: Vec<_> = stored.iter().map(ToString::to_string).collect();
    assert!(!stored.is_empty());
    assert_eq!(stored, specs(&backend), "the error names what is stored");
    backend.commit(&mut |_, _| changes.clone()).unwrap();
    assert_eq!(specs(&backend).len(), 50);
}

#[test]
fn lost_answers_are_found_out() {
    for fault in [Fault::LostAnswer, Fault::LostRequest] {
        let backend = faulty(None, Some((1, fault)));
        let commit = backend.commit(&mut |table, _| {
            if table.is_empty() {
                vec![add(1)]
            } else {
                Vec::new()
            }
        });
        let now = backend.commit(&mut |_, _| Vec::new()).unwrap();
        assert_eq!(commit.unwrap().generation, now.generation, "{fault:?}");
        assert_eq!(specs(&backend), ["/r1/"], "{fault:?}");
    }
}

#[test]
fn a_commit_that_was_overtaken_is_made_again_on_what_is_stored_now() {
    let backend = faulty(None, Some((1, Fault::Overtaken)));
    let mut seen = Vec::new();
    backend
        .commit(&mut |table, _| {
            seen.push(table.len());
            vec![add(1)]
        })
        .unwrap();
    assert_eq!(seen, [0, 1]);
    assert_eq!(specs(&backend), ["/r1/", "/r999/"]);
}

#[test]
fn tables_with_different_prefixes_share_nothing() {
    let store = MemoryStore::new();
    let [a, b] =
        ["/hub-a/", "hub-b"].map(|prefix| KvBackend::new(store.clone()).jupyterhub_prefix(prefix));
    for backend in [&a, &b] {
        backend.open(&Setup::new("web")).unwrap();
        backend.commit(&mut |_, _| vec![add(1)]).unwrap();
    }
    assert_ne!(a.read().unwrap().len(), 0);
    let marker = |backend: &KvBackend<_>| backend.commit(&mut |_, _| Vec::new()).unwrap().marker;
    assert_ne!(marker(&a), marker(&b));
    let count = |what: &str| store.dump().keys().filter(|key| key.contains(what)).count();
    let (routers, services) = (count("/routers/"), count("/services/"));
    b.commit(&mut |_, _| vec![Change::delete("/r1/").unwrap()])
        .unwrap();
    assert_eq!(
        (count("/routers/"), count("/services/")),
        (routers / 2, services / 2)
    );
    assert_eq!(a.read().unwrap().len(), 1);
}

#[test]
fn prefixes_that_make_traefik_reload_twice_are_refused() {
    for (traefik, private) in [
        ("traefik", "traefik-hub"),
        ("a", "a/b"),
        ("", "x"),
        ("a//b", "x"),
    ] {
        let backend = KvBackend::new(MemoryStore::new())
            .traefik_prefix(traefik)
            .jupyterhub_prefix(private);
        let error = backend.open(&Setup::new("web")).unwrap_err();
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
    backend.open(&Setup::new("http")).unwrap();
    backend.commit(&mut |_, _| vec![add(1), add(2)]).unwrap();
    backend.open(&Setup::new("https")).unwrap();
    let keys = backend.store().store.dump();
    let entrypoints: Vec<_> = keys
        .iter()
        .filter(|(key, _)| key.contains("entryPoints"))
        .map(|(_, value)| value)
        .collect();
    assert_eq!(entrypoints, ["https", "https"]);
}

#[test]
fn an_api_router_of_others_leaves_nothing_in_ours() {
    let backend = faulty(None, None);
    let store = backend.store().store.clone();
    let mut transaction = Transaction::new();
    let key = |part: &str| format!("traefik/http/routers/route_api/{part}");
    transaction.set.insert(key("rule"), "theirs".into());
    transaction
        .set
        .insert(key("middlewares/0"), "auth_api".into());
    store.transact(&transaction).unwrap();
    backend.open(&Setup::new("http")).unwrap();
    assert_eq!(store.dump()[&key("rule")], "theirs", "we have none");
    let setup = Setup {
        base: Some(json!({"http": {"routers": {"route_api": {"rule": "ours"}}}})),
        ..Setup::new("http")
    };
    for _ in 0..2 {
        backend.open(&setup).unwrap();
        let keys = store.dump();
        assert_eq!(keys[&key("rule")], "ours");
        assert!(!keys.contains_key(&key("middlewares/0")));
    }
}

#[test]
fn closing_takes_the_certificate_along() {
    let backend = faulty(None, None);
    let setup = Setup {
        base: Some(json!({})),
        fallback_certificate: Some(("certificate".into(), "secret".into())),
        ..Setup::new("http")
    };
    backend.open(&setup).unwrap();
    backend.commit(&mut |_, _| vec![add(1)]).unwrap();
    let stored = |backend: &KvBackend<Faulty>| backend.store().store.dump();
    assert!(stored(&backend).values().any(|value| value == "secret"));
    backend.close().unwrap();
    assert!(
        !stored(&backend)
            .values()
            .any(|value| value.contains("secret"))
    );
}

#[test]
fn who_comes_between_the_parts_of_a_batch_loses_nothing() {
    let backend = faulty(Some(1), Some((2, Fault::LostAnswerThenOther)));
    backend
        .commit(&mut |_, _| vec![Change::add("/old/", "http://shared", ()).unwrap()])
        .unwrap();
    backend
        .commit(&mut |_, _| {
            vec![
                add(1),
                Change::add("/old/", "http://elsewhere", ()).unwrap(),
            ]
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
fn what_may_still_be_made_is_not_called_a_conflict() {
    let backend = faulty(None, Some((1, Fault::LostRequest))).conflict_timeout(Duration::ZERO);
    let error = backend.commit(&mut |_, _| vec![add(1)]).unwrap_err();
    assert_eq!(*error.stored(), Stored::Unknown, "{error}");
}

#[test]
fn a_table_whose_last_router_has_ended_is_an_empty_one() {
    let store = MemoryStore::new();
    let [a, b] = [(); 2].map(|()| KvBackend::new(store.clone()));
    for backend in [&a, &b] {
        backend.open(&Setup::new("web")).unwrap();
    }
    a.commit(&mut |_, _| vec![add(1)]).unwrap();
    assert_eq!(b.read().unwrap().len(), 1);
    a.commit(&mut |_, _| vec![Change::delete("/r1/").unwrap()])
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
fn what_others_have_done_meanwhile_is_not_claimed() {
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
fn the_same_version_is_not_enough() {
    let store = MemoryStore::new();
    let backend = KvBackend::new(store.clone());
    backend.commit(&mut |_, _| vec![add(1)]).unwrap();
    store.restore();
    let other = Change::add("/other/", "http://t1", ()).unwrap();
    let writer = KvBackend::new(store.clone());
    writer.commit(&mut |_, _| vec![other.clone()]).unwrap();
    let before = store.dump();
    let gone = Change::delete("/r1/").unwrap();
    let delete = |table: &Table| table.get(gone.spec()).map(|_| gone.clone());
    backend
        .commit(&mut |table, _| delete(table).into_iter().collect())
        .unwrap();
    assert_eq!(store.dump(), before);
}

#[test]
fn reads_may_be_as_old_as_is_allowed() {
    let store = MemoryStore::new();
    let open = |age| KvBackend::new(store.clone()).max_age(age);
    let (fresh, relaxed) = (open(Duration::ZERO), open(Duration::from_secs(3600)));
    let length = |backend: &KvBackend<MemoryStore>| backend.read().unwrap().len();
    fresh.commit(&mut |_, _| vec![add(1)]).unwrap();
    assert_eq!((length(&fresh), length(&relaxed)), (1, 1));
    fresh.commit(&mut |_, _| vec![add(2)]).unwrap();
    assert_eq!((length(&fresh), length(&relaxed)), (2, 1));
    relaxed
        .commit(&mut |table, _| vec![add(1 + table.len())])
        .unwrap();
    assert_eq!((length(&fresh), length(&relaxed)), (3, 3));
}
