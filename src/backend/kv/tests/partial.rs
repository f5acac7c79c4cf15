//! The states of a store between the transactions of one commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use proptest::prelude::*;
use serde_json::json;

use super::{Fault, Faulty, MARKER, State, faulty};
use crate::backend::kv::{KvBackend, MemoryStore};
use crate::backend::{Backend as _, Commit, Setup};
use crate::error::{Result, Stored};
use crate::route::{Nested, Route, Table, asking, matches};

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
