//! What a handle knows of its store, while other handles change it.

use std::time::Duration;

use super::add;
use crate::Router;
use crate::backend::kv::{KvBackend, KvStore as _, MemoryStore, Transaction};
use crate::backend::{Backend as _, Setup};
use crate::route::{Change, Table};

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
