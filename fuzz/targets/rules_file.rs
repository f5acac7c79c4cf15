//! Any text as the rules file: it is refused and stays as it is, or routes come and go, and all that
//! others wrote stays.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use traefik_router::{FileBackend, Router};

fuzz_target!(|input: (bool, &str)| {
    let (yaml, text) = input;
    let folder = fuzz::folder();
    let name = if yaml { "rules.yaml" } else { "rules.toml" };
    let path = fuzz::file(&folder, name, text);
    let now = || std::fs::read_to_string(&path).expect("the file is there");

    let router = Router::builder(FileBackend::new(&path)).offline();
    // The first change, of no routes here, makes the file ready.
    let router = router.and_then(|router| router.apply([]).map(|_| router));
    let Ok(router) = router else {
        assert_eq!(now(), text, "refused, but changed");
        return;
    };
    for spec in ["/user/zoe/", "h.example.org/a b/"] {
        let added = router.add_route(spec, "http://127.0.0.1:9001", "data");
        added.expect("what is opened has room for routes");
        check_kept(yaml, text, &now());
        assert!(
            router.get_all_routes().is_ok(),
            "what we wrote we can't read"
        );
    }
    if router.delete_route("/user/zoe/").is_ok() {
        check_kept(yaml, text, &now());
    }
    let again = Router::builder(FileBackend::new(&path)).offline();
    let again = again.and_then(|again| again.get_all_routes());
    let all = router.get_all_routes().expect("it was read before");
    assert_eq!(again.expect("what we wrote we can't read").len(), all.len());
});

/// What others wrote is in `after` as it was in `before`.
fn check_kept(yaml: bool, before: &str, after: &str) {
    let (Some(before), after) = (parse(yaml, before), parse(yaml, after)) else {
        return;
    };
    let after = after.expect("what was a document is one");
    let (before, after) = (leaves(&before), leaves(&after));
    if let Some(lost) = before.difference(&after).next() {
        panic!("lost: {lost}");
    }
}

fn parse(yaml: bool, text: &str) -> Option<Value> {
    match yaml {
        // A byte order mark counts as a column to it, though to no other parser.
        true => yaml_serde::from_str(text.trim_start_matches('\u{feff}')).ok(),
        false => toml_edit::de::from_str(text).ok(),
    }
}

/// Each scalar with its path, but for what is ours or jupyterhub-traefik-proxy's.
fn leaves(document: &Value) -> BTreeSet<String> {
    let mut leaves = BTreeSet::new();
    collect("", document, &mut leaves);
    leaves
}

fn collect(path: &str, value: &Value, leaves: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if !(path.is_empty() && matches!(&**key, "traefik_router" | "jupyterhub")) {
                    collect(&format!("{path}/{key}"), value, leaves);
                }
            }
        }
        // An empty map in other words; Traefik rejects those.
        Value::Null => {}
        scalar => drop(leaves.insert(format!("{path} = {scalar}"))),
    }
}
