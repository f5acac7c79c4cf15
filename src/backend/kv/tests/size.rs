//! How many transactions a commit takes, and how large they are.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::{Fault, add, faulty, specs};
use crate::backend::{Backend as _, Setup};
use crate::error::{ErrorKind, Stored};
use crate::route::{Change, Nested, Route};

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
