//! Any JSON as data, any text as routespec and target: what a store of each kind gives back, to
//! another program too, is what went in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use traefik_router::backend::MemoryStore;
use traefik_router::{Backend, Change, FileBackend, KvBackend, Route, Router};

fuzz_target!(|input: (&str, &str, &str)| {
    let (spec, target, data) = input;
    let data: Value = serde_json::from_str(data).unwrap_or_else(|_| data.into());
    let Ok(route) = Route::new(spec, target) else {
        return;
    };
    let change = Change::from(route.data(data));
    let folder = fuzz::folder();
    let file = |name: &str| FileBackend::new(folder.path().join(name));
    for name in ["rules.toml", "rules.yaml"] {
        comes_back(file(name), file(name), &change);
        let text = std::fs::read_to_string(folder.path().join(name)).expect("it was written");
        assert!(!text.contains("{{"), "a template: {text}");
    }
    let store = MemoryStore::new();
    let keys = || KvBackend::new(store.clone());
    comes_back(keys(), keys(), &change);
});

fn comes_back(ours: impl Backend, theirs: impl Backend, change: &Change) {
    let open = |error| panic!("an empty store: {error}");
    let ours = Router::builder(ours).offline().unwrap_or_else(open);
    // Too deep, or more than a transaction holds.
    if ours.apply([change.clone()]).is_err() {
        return;
    }
    let theirs = Router::builder(theirs).offline().expect("a readable store");
    for router in [&ours, &theirs] {
        let route = router.get_route(change.spec()).expect("a readable store");
        let Change::Set(sent) = change else { return };
        assert_eq!(route.as_ref(), Some(sent));
    }
    theirs
        .delete_route(change.spec())
        .expect("a readable store");
    assert!(ours.get_all_routes().expect("a readable store").is_empty());
}
