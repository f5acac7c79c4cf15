//! Writers that are killed at any moment.

use std::collections::BTreeMap;
use std::time::Duration;

use kit::Random;
use serde_json::{Value, json};
use traefik_router::backend::Setup;
use traefik_router::{Backend as _, Change, FileBackend, Route, Table};

use crate::support::child::{Actor, say};
use crate::support::{Kind, Rig};

const KILLS: usize = 300;

/// What the next Router finds: the lock is free, and what lay around is gone once it is open.
#[track_caller]
fn is_whole(rig: &Rig) -> Table {
    let backend = FileBackend::new(rig.rules()).lock_timeout(Duration::ZERO);
    let table = backend.read().unwrap();
    backend
        .open(&Setup::new("http"), &mut |_, _| Ok(Vec::new()))
        .unwrap();
    assert_eq!(backend.read().unwrap(), table);
    let rules = format!("rules.{}", rig.kind.ending());
    let mut files = rig.files();
    // It says nothing unless it is locked, too.
    files.retain(|name| {
        ![".serving", ".started"]
            .iter()
            .any(|end| name.ends_with(end))
    });
    assert_eq!(files, [rules.clone(), format!("{rules}.lock")]);
    table
}

/// The n-th change of a sequence that adds, replaces and deletes.
fn change(n: usize) -> Change {
    let spec = format!("/{}/", n * 7 % 10);
    match n % 3 {
        2 => Change::delete(spec).unwrap(),
        _ => Route::new(spec, format!("http://h{n}"))
            .unwrap()
            .data(json!({"n": n}))
            .into(),
    }
}

/// What the first of these changes come to.
fn table_after(changes: usize) -> Table {
    let mut routes = BTreeMap::new();
    // The last 30 touch all routespecs.
    for change in (changes.saturating_sub(30)..changes).map(change) {
        routes.insert(change.spec().clone(), change);
    }
    let set = |change| match change {
        Change::Set(route) => Some(route),
        _ => None,
    };
    routes.into_values().filter_map(set).collect()
}

#[test]
fn random_kills_lose_no_commit() {
    let mut random = Random::printed();
    let rig = Rig::new(Kind::Toml);
    rig.backend()
        .open(&Setup::new("http"), &mut |_, _| Ok(Vec::new()))
        .unwrap();
    let (mut made, mut unacknowledged) = (0, 0);
    for kill in 0..KILLS {
        let mut churner = Actor::start("churner", &json!({"rig": rig.to_json(), "from": made}));
        let first = churner.hear().unwrap();
        std::thread::sleep(Duration::from_micros(random.below(15_000)));
        churner.process.kill().unwrap();
        let last = std::iter::from_fn(|| churner.hear()).last();
        let acknowledged: usize = last.unwrap_or(first).parse().unwrap();
        let table = is_whole(&rig);
        let lost = table != table_after(acknowledged);
        assert!(
            !lost || table == table_after(acknowledged + 1),
            "kill {kill}: {acknowledged} changes were made, then {table:?}"
        );
        unacknowledged += usize::from(lost);
        made = acknowledged + usize::from(lost);
    }
    println!("{KILLS} kills, {made} commits, {unacknowledged} made that were not acknowledged");
    assert!(made > KILLS, "{made}");
}

/// A part for another process: makes changes, and says how many, until it is killed.
pub(crate) fn churn(arguments: &Value) {
    let backend = Rig::from_json(&arguments["rig"]).backend();
    let from = arguments["from"].as_u64().unwrap() as usize;
    for n in from.. {
        backend.commit(&mut |_, _| Ok(vec![change(n)])).unwrap();
        say(n + 1);
    }
}
