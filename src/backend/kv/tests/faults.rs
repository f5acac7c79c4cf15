//! What is stored when the store loses a request or an answer, or when another writer commits first.

use std::time::Duration;

use super::{Fault, add, faulty, specs};
use crate::backend::{Backend as _, Setup};
use crate::error::Stored;
use crate::route::Change;

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

/// The lost request may still reach the store.
#[test]
fn later_failure_leaves_commit_uncertain() {
    let backend = faulty(None, Some((1, Fault::LostRequestThenDown)));
    let error = backend.commit(&mut |_, _| Ok(vec![add(1)])).unwrap_err();
    assert!(error.to_string().contains("down"), "{error}");
    assert_eq!(*error.stored(), Stored::Unknown, "{error}");
}

#[test]
fn outage_after_open_leaves_uncertainty() {
    let backend = faulty(None, Some((1, Fault::ThenDown)));
    let setup = Setup {
        serves: true,
        ..Setup::new("web")
    };
    let opened = backend.open(&setup, &mut |_, _| Ok(vec![add(1)]));
    let error = opened.unwrap_err();
    assert_eq!(specs(&backend), ["/r1/"]);
    assert_eq!(*error.stored(), Stored::Unknown, "{error}");
}
