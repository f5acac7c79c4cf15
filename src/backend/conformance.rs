//! What every [`Backend`] must do, as a test to run on it.
//!
//! ```
//! use traefik_router::backend::{MemoryBackend, conformance};
//!
//! let store = MemoryBackend::new();
//! conformance::check(&|| Box::new(store.clone()));
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Backend, Commit, Setup};
use crate::error::{Error, Result};
use crate::route::{Change, Route, Table};

/// Makes another handle on the store under test: what another process would hold.
pub type Handle<'a> = dyn Fn() -> Box<dyn Backend> + Sync + 'a;

/// Runs all checks on one store, which must be empty and is empty again afterwards.
///
/// # Panics
/// If the backend does not do what [`Backend`] promises.
pub fn check(handle: &Handle<'_>) {
    for check in [
        opens_and_keeps_routes,
        changes_are_seen_by_every_handle,
        nothing_to_do_writes_nothing,
        what_is_refused_writes_nothing,
        looking_changes_nothing,
        data_comes_back_as_it_went_in,
        settings_come_back_as_they_went_in,
        a_batch_is_seen_whole_or_not_at_all,
        writers_lose_nothing,
        closing_keeps_routes,
    ] {
        check(handle);
        ok(handle().commit(&mut |table, _| Ok(deletions(table))));
    }
    let last = handle();
    let nothing_more = Setup {
        extra: Some(json!({})),
        started: true,
        ..Setup::new("web")
    };
    ok(last.open(&nothing_more, &mut |_, _| Ok(Vec::new())));
    ok(last.close());
}

fn opens_and_keeps_routes(handle: &Handle<'_>) {
    let first = open(&*handle());
    assert!(ok(handle().read()).is_empty());
    ok(handle().commit(&mut |_, _| Ok(vec![add("/kept/", json!(1))])));
    let kept = ok(handle().commit(&mut |_, _| Ok(Vec::new())));
    let second = open(&*handle());
    assert_eq!(
        state(&kept),
        state(&second),
        "opening again changes nothing"
    );
    assert_eq!(specs(&*handle()), ["/kept/"], "opening keeps routes");
    let mut with = |_: &Table, _: &BTreeSet<_>| Ok(vec![add("/with/", json!(1))]);
    let third = ok(handle().open(&Setup::default(), &mut with));
    assert!(
        third.generation > first.generation,
        "it had a change to make"
    );
    assert_eq!(specs(&*handle()), ["/kept/", "/with/"]);
    if let Some(seen) = ok(handle().inspect()).filter(|seen| seen.commit.is_some()) {
        assert_eq!(seen.entrypoint, "web", "what is left open stays");
    }
    assert!(ok(handle().static_config()).is_object());
    assert!(!handle().provider().is_empty());
}

fn changes_are_seen_by_every_handle(handle: &Handle<'_>) {
    let (one, two) = (handle(), handle());
    open(&*one);
    let first = ok(one.commit(&mut |_, _| Ok(vec![add("/a/", json!(1)), add("h.x/b/", json!(2))])));
    assert_eq!(specs(&*two), ["/a/", "h.x/b/"]);
    let second = ok(two.commit(&mut |table, _| {
        assert_eq!(table.len(), 2, "an edit sees what other handles wrote");
        Ok(vec![
            Change::delete("/a/").unwrap_or_else(fail),
            add("h.x/b/", json!(3)),
            add("/c/", json!(4)),
        ])
    }));
    assert!(
        second.generation > first.generation,
        "generations grow over all handles"
    );
    assert_eq!(first.marker, second.marker);
    assert_eq!(specs(&*one), ["/c/", "h.x/b/"]);
    let table = ok(one.read());
    let changed = table.iter().find(|route| route.spec.as_str() == "h.x/b/");
    assert_eq!(
        changed.map(|route| &route.data),
        Some(&json!(3)),
        "a route is replaced"
    );
}

fn nothing_to_do_writes_nothing(handle: &Handle<'_>) {
    open(&*handle());
    let first = ok(handle().commit(&mut |_, _| Ok(vec![add("/a/", json!(1))])));
    let nothing = Change::delete("/none/").unwrap_or_else(fail);
    for changes in [vec![], vec![add("/a/", json!(1)), nothing]] {
        let second = ok(handle().commit(&mut |_, _| Ok(changes.clone())));
        assert_eq!(state(&first), state(&second));
    }
    let mut same = |_: &Table, _: &BTreeSet<_>| Ok(vec![add("/a/", json!(1))]);
    let opened = ok(handle().open(&Setup::default(), &mut same));
    assert_eq!(state(&first), state(&opened));
    ok(handle().repair());
    if ok(handle().inspect()).is_some_and(|seen| seen.commit.is_some()) {
        let last = ok(handle().last_commit());
        assert_eq!(last.as_ref().map(state), Some(state(&first)));
    }
}

fn what_is_refused_writes_nothing(handle: &Handle<'_>) {
    open(&*handle());
    let before = ok(handle().commit(&mut |_, _| Ok(vec![add("/a/", json!(1))])));
    let mut refuse = |_: &Table, _: &BTreeSet<_>| Err(Error::internal("refused"));
    let refused = [
        handle().open(&Setup::new("other"), &mut refuse),
        handle().commit(&mut refuse),
    ];
    for error in refused.map(Result::err) {
        let message = error.map(|error| error.to_string());
        let is_said = message.is_some_and(|message| message.contains("refused"));
        assert!(is_said, "the error of an edit is returned");
    }
    let now = ok(handle().commit(&mut |_, _| Ok(Vec::new())));
    assert_eq!(state(&now), state(&before), "a refusal is no commit");
    if let Some(seen) = ok(handle().inspect()).filter(|seen| seen.commit.is_some()) {
        assert_eq!(seen.entrypoint, "web");
    }
}

/// What a commit says of the store, however the store came to it.
fn state(commit: &Commit) -> (&str, u64, &str) {
    (&commit.marker, commit.generation, &commit.namespace)
}

fn looking_changes_nothing(handle: &Handle<'_>) {
    open(&*handle());
    let stored = ok(handle().commit(&mut |_, _| Ok(vec![add("/a/", json!(1))])));
    let Some(seen) = ok(handle().inspect()) else {
        panic!("a store that was opened is there");
    };
    assert_eq!(seen.routes, ok(handle().read()));
    if let Some(commit) = seen.commit {
        assert_eq!(state(&commit), state(&stored));
        assert_eq!(seen.entrypoint, "web");
    }
    handle().diagnose();
    let now = ok(handle().commit(&mut |_, _| Ok(Vec::new())));
    assert_eq!(state(&now), state(&stored), "looking is no commit");
}

fn data_comes_back_as_it_went_in(handle: &Handle<'_>) {
    let texts = "\"'`\\ {{env \"HOME\"}} {% %} ''' \"\"\" \u{0} \u{1b} \u{7f} \u{85} \u{2028} é 漢 😀 \n\r\t # : - | >";
    let values = [
        json!(null),
        json!(true),
        json!([]),
        json!({}),
        json!(""),
        json!(texts),
        json!([1, -1, 0.1, 1e300, i64::MIN, u64::MAX, [[[]]], {"a": {"b": [null]}}]),
        json!({texts: texts, "": "", "a/b": 1, "a.b": 2}),
    ];
    let hostile = [
        "/`x`/",
        "/\"/",
        "/{{env \"HOME\"}}/",
        "/line\nbreak/",
        "/é/",
        "/UserA/",
        "/usera/",
        "/123/",
    ];
    let changes: Vec<_> = hostile
        .iter()
        .zip(values)
        .map(|(spec, data)| add(spec, data))
        .collect();
    let backend = handle();
    open(&*backend);
    ok(backend.commit(&mut |_, _| Ok(changes.clone())));
    for backend in [&backend, &handle()] {
        let table = ok(backend.read());
        assert_eq!(table.len(), changes.len());
        for change in &changes {
            let Change::Set(route) = change else { continue };
            assert_eq!(table.get(&route.spec), Some(route));
        }
    }
}

fn settings_come_back_as_they_went_in(handle: &Handle<'_>) {
    let plain = || Route::new("/app/", "http://127.0.0.1:1").unwrap_or_else(fail);
    let steps = [
        Ok(plain()),
        plain().middleware("strip@other"),
        plain()
            .middleware("strip@other")
            .and_then(|route| route.middleware("limit")),
        plain().server("http://127.0.0.1:2", 1),
        plain().server("http://127.0.0.1:2", 3),
        plain().weight(0).server("http://127.0.0.1:2", 3),
        plain().sticky_cookie("app"),
        plain().service_config(json!({"sticky": {"cookie": {"name": "app", "secure": true}}})),
        plain().health_check("/health/{{x}}", Duration::from_secs(10)),
        Ok(plain().pass_host_header(false)),
        plain().servers_transport("theirs@other"),
        plain().cert_resolver("acme"),
        plain()
            .router_config(json!({"tls": {"domains": [{"main": "a.x", "sans": ["b.x", "c.x"]}]}})),
        Ok(plain().observability(false, true, true)),
        Ok(plain().own_service()),
        plain().own_service().server("http://127.0.0.1:2", 1),
        Ok(plain().own_service()),
        Ok(plain().strip_prefix()),
        plain().strip_prefix().middleware("theirs@other"),
        Ok(plain()),
    ];
    let (backend, other) = (handle(), handle());
    let mut last = open(&*backend).generation;
    for route in steps {
        let route = Arc::new(ok(route));
        let change = Change::Set(Arc::clone(&route));
        let commit = ok(backend.commit(&mut |_, _| Ok(vec![change.clone()])));
        assert!(commit.generation > last, "this is a change: {route:?}");
        last = commit.generation;
        for backend in [&backend, &other] {
            assert_eq!(ok(backend.read()).get(&route.spec), Some(&route));
            let same = ok(backend.commit(&mut |_, _| Ok(vec![change.clone()])));
            assert_eq!(same.generation, last, "this is none: {route:?}");
        }
    }
}

fn a_batch_is_seen_whole_or_not_at_all(handle: &Handle<'_>) {
    const ROUTES: usize = 100;
    let batch = |round: usize| -> Vec<Change> {
        (0..ROUTES)
            .map(|n| add(&format!("/batch/{n}/"), json!(round)))
            .collect()
    };
    open(&*handle());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let backend = handle();
            while !done.load(Ordering::Relaxed) {
                let table = ok(backend.read());
                let rounds: BTreeSet<_> = table.iter().map(|route| route.data.as_u64()).collect();
                assert!(
                    matches!(table.len(), 0 | ROUTES),
                    "{} routes are seen",
                    table.len()
                );
                assert!(rounds.len() <= 1, "rounds are mixed: {rounds:?}");
            }
        });
        let writer = handle();
        for round in 0..5 {
            ok(writer.commit(&mut |_, _| Ok(batch(round))));
        }
        done.store(true, Ordering::Relaxed);
        reader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn writers_lose_nothing(handle: &Handle<'_>) {
    const WRITERS: usize = 4;
    const ROUTES: usize = 10;
    open(&*handle());
    let write = |writer: usize| {
        let backend = handle();
        let commit = |n| {
            ok(backend.commit(&mut |_, _| Ok(vec![add(&format!("/w{writer}/{n}/"), json!(n))])))
        };
        (0..ROUTES)
            .map(|n| commit(n).generation)
            .collect::<Vec<_>>()
    };
    let generations: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || write(writer)))
            .collect();
        let join = |writer: std::thread::ScopedJoinHandle<'_, _>| {
            writer
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        writers.into_iter().map(join).collect()
    });
    assert_eq!(
        ok(handle().read()).len(),
        WRITERS * ROUTES,
        "a route is lost"
    );
    assert!(
        generations.iter().all(|own| own.is_sorted()),
        "{generations:?}"
    );
    let distinct: BTreeSet<_> = generations.iter().flatten().collect();
    assert_eq!(
        distinct.len(),
        WRITERS * ROUTES,
        "each commit has a generation of its own"
    );
}

fn closing_keeps_routes(handle: &Handle<'_>) {
    let backend = handle();
    let opened = open(&*backend);
    ok(backend.commit(&mut |_, _| Ok(vec![add("/kept/", json!(1))])));
    ok(backend.close());
    assert_eq!(specs(&*handle()), ["/kept/"]);
    let again = open(&*handle());
    assert!(again.generation > opened.generation);
    assert_eq!(specs(&*handle()), ["/kept/"]);
}

/// Opens with everything that a setup can have.
fn open(backend: &dyn Backend) -> Commit {
    let middleware = json!({"headers": {"customRequestHeaders": {"X-Conformance": "{{yes}}"}}});
    let setup = Setup {
        extra: Some(json!({"http": {"middlewares": {"conformance": middleware}}})),
        serves: true,
        started: true,
        ..Setup::new("web")
    };
    ok(backend.open(&setup, &mut |_, _| Ok(Vec::new())))
}

fn add(spec: &str, data: Value) -> Change {
    Route::new(spec, "http://127.0.0.1:1")
        .unwrap_or_else(fail)
        .data(data)
        .into()
}

fn deletions(table: &Table) -> Vec<Change> {
    table
        .iter()
        .map(|route| Change::Delete(route.spec.clone()))
        .collect()
}

fn specs(backend: &dyn Backend) -> Vec<String> {
    ok(backend.read())
        .iter()
        .map(|route| route.spec.to_string())
        .collect()
}

fn ok<T>(result: Result<T>) -> T {
    result.unwrap_or_else(fail)
}

fn fail<T>(error: crate::Error) -> T {
    panic!("{error}")
}
