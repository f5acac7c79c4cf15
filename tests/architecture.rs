//! The layers that ARCHITECTURE.md lists: which module may use which, and which crate is named where.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

/// The modules of the library, from the bottom up, each with those that it may use.
const LIBRARY: &[(&str, &[&str])] = &[
    ("client_tls", &[]),
    ("error", &[]),
    ("fault", &[]),
    ("finding", &[]),
    ("logging", &[]),
    ("random", &[]),
    ("sync", &[]),
    ("url", &[]),
    ("threads", &["error"]),
    ("atomic", &["error", "fault", "random"]),
    ("lock", &["atomic", "error", "fault"]),
    ("route", &["error", "url"]),
    ("config", &["error", "route"]),
    ("http", &["client_tls", "config", "error", "url"]),
    ("etcd", &["error", "http", "sync", "threads"]),
    ("traefik", &["config", "error", "http", "sync", "url"]),
    (
        "backend",
        &[
            "atomic", "config", "error", "etcd", "fault", "finding", "http", "lock", "random",
            "route", "sync", "threads", "url",
        ],
    ),
    (
        "router",
        &[
            "atomic", "backend", "config", "error", "finding", "http", "lock", "random", "route",
            "sync", "threads", "traefik", "url",
        ],
    ),
    ("table_text", &["config", "error", "route"]),
    ("guide", &[]),
];
/// The same for the program.
const PROGRAM: &[(&str, &[&str])] = &[
    ("client_tls", &[]),
    ("random", &[]),
    ("sync", &[]),
    ("url", &[]),
    ("failure", &[]),
    ("store", &[]),
    ("wording", &[]),
    ("needs", &[]),
    ("settings", &["store"]),
    ("shell", &["failure", "needs", "settings", "url", "wording"]),
    (
        "chp",
        &[
            "client_tls",
            "failure",
            "needs",
            "random",
            "settings",
            "store",
            "sync",
            "url",
            "wording",
        ],
    ),
];

/// A crate, and the only files or folders that name it.
const CRATES: &[(&str, &[&str])] = &[
    ("anstream", &["src/bin/traefik-router/shell/output.rs"]),
    ("anstyle", &["src/bin/traefik-router/shell/output.rs"]),
    (
        "base64",
        &[
            "src/config/certificate.rs",
            "src/config/dynamic/password.rs",
            "src/etcd/wire.rs",
            "src/http/mod.rs",
        ],
    ),
    (
        "bcrypt",
        &[
            "src/config/dynamic/password.rs",
            "src/router/builder/api_access.rs",
        ],
    ),
    ("clap", &["src/bin"]),
    (
        "clap_complete",
        &["src/bin/traefik-router/shell/completions.rs"],
    ),
    ("clap_mangen", &["src/bin/traefik-router/shell/mod.rs"]),
    (
        "fs2",
        &["src/lock.rs", "src/bin/traefik-router/chp/folder.rs"],
    ),
    ("http_body_util", &["src/bin/traefik-router/chp/server"]),
    ("hyper", &["src/bin/traefik-router/chp/server"]),
    ("hyper_util", &["src/bin/traefik-router/chp/server"]),
    ("idna", &["src/route/spec.rs"]),
    ("jiff", &["src/bin/traefik-router/chp"]),
    (
        "netlink_packet_core",
        &["src/bin/traefik-router/chp/sockets.rs"],
    ),
    (
        "netlink_packet_sock_diag",
        &["src/bin/traefik-router/chp/sockets.rs"],
    ),
    ("netlink_sys", &["src/bin/traefik-router/chp/sockets.rs"]),
    ("nix", &["src/bin/traefik-router/chp/mod.rs"]),
    (
        "percent_encoding",
        &["src/url.rs", "src/bin/traefik-router/chp/routes.rs"],
    ),
    ("rcgen", &["src/router/certificate.rs"]),
    ("redis", &["src/backend/kv/redis"]),
    (
        "ring",
        &[
            "src/config/dynamic/password.rs",
            "src/random.rs",
            "src/route/names.rs",
        ],
    ),
    (
        "rustix",
        &[
            "src/atomic/access.rs",
            "src/traefik/watchdog.rs",
            "src/bin/traefik-router/chp",
            "src/bin/traefik-router/shell/output.rs",
        ],
    ),
    (
        "rustls",
        &["src/config/certificate.rs", "src/bin/traefik-router/chp"],
    ),
    (
        "rustls_pki_types",
        &["src/client_tls.rs", "src/config/certificate.rs"],
    ),
    ("saphyr_parser", &["src/config/text/yaml.rs"]),
    (
        "signal_hook",
        &[
            "src/bin/traefik-router/chp/init.rs",
            "src/bin/traefik-router/chp/mod.rs",
        ],
    ),
    ("subtle", &["src/bin/traefik-router/chp/api.rs"]),
    ("tempfile", &["src/bin/traefik-router/chp/folder.rs"]),
    ("tokio", &["src/bin/traefik-router/chp"]),
    ("tokio_rustls", &["src/bin/traefik-router/chp/server"]),
    (
        "toml_edit",
        &[
            "src/config/text/toml.rs",
            "src/bin/traefik-router/settings/file.rs",
        ],
    ),
    (
        "ureq",
        &[
            "src/client_tls.rs",
            "src/http",
            "src/bin/traefik-router/chp",
        ],
    ),
    ("yasna", &["src/config/certificate.rs"]),
];

/// A source file without tests.
struct File {
    path: String,
    /// What it names: whole paths from `crate` on, and those of other crates.
    names: BTreeSet<Vec<String>>,
    /// The same of what it only hands on: `pub use`.
    hands_on: BTreeSet<Vec<String>>,
}

#[test]
fn modules_use_only_lower_modules() {
    for (root, layers) in [("src", LIBRARY), ("src/bin/traefik-router", PROGRAM)] {
        let mut above = Vec::new();
        for (user, used, name) in uses(root) {
            let [from, to] = [&user, &used].map(|path| top(path, root));
            let may_use = layers.iter().find(|(module, _)| *module == from);
            let is_root = ["lib", "main"].contains(&&*from);
            let is_allowed = may_use.is_some_and(|(_, used)| used.contains(&&*to));
            if from != to && !is_root && !is_allowed {
                above.push(format!("{user} uses {name}, which it may not"));
            }
        }
        assert!(above.is_empty(), "{}", above.join("\n"));
    }
}

#[test]
fn no_files_use_each_other() {
    for root in ["src", "src/bin/traefik-router"] {
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (user, used, _) in uses(root) {
            graph.entry(user).or_default().insert(used);
        }
        // A file that uses no other file of the graph, or that none uses, is in no circle.
        loop {
            let before = graph.len();
            let users: BTreeSet<_> = graph.keys().cloned().collect();
            for used in graph.values_mut() {
                used.retain(|one| users.contains(one));
            }
            let used: BTreeSet<_> = graph.values().flatten().cloned().collect();
            graph.retain(|user, uses| used.contains(user) && !uses.is_empty());
            if graph.len() == before {
                break;
            }
        }
        assert!(graph.is_empty(), "in a circle: {graph:#?}");
    }
}

#[test]
fn crates_keep_to_their_place() {
    let program = files("src/bin/traefik-router");
    for file in files("src").iter().chain(&program) {
        for name in file.names.iter().chain(&file.hands_on) {
            let Some((_, places)) = CRATES.iter().find(|(one, _)| *one == name[0]) else {
                continue;
            };
            assert!(
                places
                    .iter()
                    .any(|place| Path::new(&file.path).starts_with(place)),
                "{} names {}",
                file.path,
                name.join("::")
            );
        }
    }
}

#[test]
fn every_dependency_has_its_place() {
    let manifest = fs::read_to_string("Cargo.toml").unwrap();
    let sections = manifest.split("\n[").filter(|section| {
        let name = section.lines().next().unwrap();
        name.ends_with("dependencies]") && !name.starts_with("dev-")
    });
    let everywhere = ["log", "serde", "serde_json"];
    for line in sections.flat_map(|section| section.lines().skip(1)) {
        let Some((name, _)) = line.split_once(" = ") else {
            continue;
        };
        let name = name.replace('-', "_");
        let is_listed = CRATES.iter().any(|(one, _)| *one == name);
        assert!(is_listed || everywhere.contains(&&*name), "{name}");
    }
}

/// The module right below the root that a file belongs to.
fn top(path: &str, root: &str) -> String {
    let first = below(path, root).split('/').next().unwrap();
    first.trim_end_matches(".rs").to_string()
}

/// The path from the root on. Files of the library that the program compiles too are modules right below
/// its root.
fn below<'a>(path: &'a str, root: &str) -> &'a str {
    let path = path.strip_prefix(root).or(path.strip_prefix("src"));
    path.unwrap().trim_start_matches('/')
}

/// Files of the library that the program compiles too.
fn shared() -> Vec<String> {
    let main = fs::read_to_string("src/bin/traefik-router/main.rs").unwrap();
    let paths = main
        .lines()
        .filter_map(|line| line.strip_prefix("#[path = \"../../")?.strip_suffix("\"]"));
    paths.map(|path| format!("src/{path}")).collect()
}

/// Which file uses which other one of the same root, and by which name.
fn uses(root: &str) -> Vec<(String, String, String)> {
    let mut files = files(root);
    if root != "src" {
        files.extend(shared().into_iter().map(|path| read(path, root)));
    }
    let by_module: BTreeMap<Vec<String>, &File> = files
        .iter()
        .map(|file| (module(&file.path, root), file))
        .collect();
    let mut uses = Vec::new();
    for file in &files {
        for name in &file.names {
            let Some(used) = resolve(name, &by_module, 8) else {
                continue;
            };
            if used != file.path {
                uses.push((file.path.clone(), used, name.join("::")));
            }
        }
    }
    uses
}

/// The file that a path from `crate` on leads to, through those that hand it on.
fn resolve(
    name: &[String],
    by_module: &BTreeMap<Vec<String>, &File>,
    depth: usize,
) -> Option<String> {
    let name = name.strip_prefix(&["crate".to_string()])?;
    let (module, file) = (0..=name.len())
        .rev()
        .find_map(|length| by_module.get_key_value(&name[..length]))?;
    let Some(item) = name.get(module.len()) else {
        return Some(file.path.clone());
    };
    let handed_on = file.hands_on.iter().find(|one| one.last() == Some(item));
    match handed_on.filter(|_| depth > 0) {
        Some(further) => resolve(further, by_module, depth - 1),
        None => Some(file.path.clone()),
    }
}

fn module(path: &str, root: &str) -> Vec<String> {
    let mut parts: Vec<String> = below(path, root)
        .trim_end_matches(".rs")
        .split('/')
        .map(Into::into)
        .collect();
    if ["mod", "lib", "main"].contains(&&**parts.last().unwrap()) {
        parts.pop();
    }
    parts
}

/// All source files below a folder; those of the program are not the library's.
fn files(root: &str) -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_string()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                if path != "src/bin" || root == "src/bin" {
                    folders.push(path);
                }
            } else if path.ends_with(".rs") && !is_for_tests(&path) {
                files.push(read(path, root));
            }
        }
    }
    assert!(files.len() > 10, "{root}: {}", files.len());
    files
}

/// Whether the file that declares this module does so for tests only.
fn is_for_tests(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap();
    let declared = format!("\nmod {};", name.trim_end_matches(".rs"));
    let parents = ["/mod.rs", ".rs", "/lib.rs"].map(|end| format!("{folder}{end}"));
    let mut texts = parents
        .iter()
        .filter_map(|parent| fs::read_to_string(parent).ok());
    let is_for_tests = |text: String| {
        let before = text.split_once(&declared).map(|(before, _)| before);
        let line = before.and_then(|before| before.lines().last());
        line.is_some_and(|line| line.starts_with("#[cfg(") && line.contains("test"))
    };
    texts.any(is_for_tests) || folder.ends_with("/tests")
}

/// Comments and text.
static NO_CODE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"//.*|'\\?"'|"(?s:\\.|[^"\\])*""#).unwrap());
static TESTS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:#\[cfg\([^\n]*\)\]\n)+(?:pub\(super\) )?mod tests \{").unwrap()
});
static USES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^( *)(pub(?:\([^)]*\))? )?use ([^;]+);").unwrap());
static RENAMED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\s+as\s+\w+").unwrap());
/// `pub(in path)`, whose path uses nothing.
static VISIBLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"pub\(in [^)]*\)").unwrap());
static CHILDREN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^(?:pub(?:\([^)]*\))? )?mod (\w+);").unwrap());
static PATHS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b[a-z_0-9]+(?:::[A-Za-z_0-9]+)+").unwrap());

fn read(path: String, root: &str) -> File {
    let text = fs::read_to_string(&path).unwrap();
    let text = NO_CODE.replace_all(TESTS.split(&text).next().unwrap(), "");
    let text = VISIBLE.replace_all(&text, "pub(crate)");
    let here = module(&path, root);
    let (mut names, mut hands_on) = (BTreeSet::new(), BTreeSet::new());
    for found in USES.captures_iter(&text) {
        let into = match found.get(2) {
            Some(_) => &mut hands_on,
            None => &mut names,
        };
        let tree = RENAMED.replace_all(&found[3], "");
        let tree: String = tree.split_whitespace().collect();
        // In a module within a file, `super` is the file.
        let inner: Vec<_> = match found[1].is_empty() {
            true => here.clone(),
            false => [&here[..], &["inner".to_string()]].concat(),
        };
        into.extend(leaves(&tree).iter().map(|leaf| whole(leaf, &inner)));
    }
    let rest = USES.replace_all(&text, "");
    let paths = PATHS.find_iter(&rest);
    names.extend(paths.map(|path| whole(path.as_str(), &here)));
    let children: BTreeSet<_> = (CHILDREN.captures_iter(&text))
        .map(|child| child[1].to_string())
        .collect();
    // Only the file of a folder, or of the crate, hands on what others define.
    if !["/mod.rs", "/lib.rs"].iter().any(|end| path.ends_with(end)) {
        names.append(&mut hands_on);
    }
    let from_crate = |name: Vec<String>| match children.contains(&name[0]) {
        true => [vec!["crate".to_string()], here.clone(), name].concat(),
        false => name,
    };
    File {
        path,
        names: names.into_iter().map(from_crate).collect(),
        hands_on: hands_on.into_iter().map(from_crate).collect(),
    }
}

/// The paths of a `use`, whose braces may be nested.
fn leaves(tree: &str) -> Vec<String> {
    let Some((start, rest)) = tree.split_once('{') else {
        return vec![tree.to_string()];
    };
    let inner = rest.strip_suffix('}').unwrap();
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for character in inner.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(character);
    }
    let parts = parts.iter().filter(|part| !part.is_empty());
    parts
        .flat_map(|part| leaves(&format!("{start}{part}")))
        .collect()
}

/// A path from `crate` on, or from another crate on.
fn whole(path: &str, here: &[String]) -> Vec<String> {
    let path = path.trim_start_matches("::");
    let mut parts: Vec<_> = path.split("::").map(str::to_string).collect();
    let mut base = here.to_vec();
    match &*parts[0] {
        "self" => drop(parts.remove(0)),
        "super" => {
            while parts.first().is_some_and(|part| part == "super") {
                base.pop();
                parts.remove(0);
            }
        }
        _ => return parts,
    }
    [vec!["crate".to_string()], base, parts].concat()
}
