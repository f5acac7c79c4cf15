//! Files that people wrote, with our table in and out of them.

#[cfg(target_os = "linux")]
mod access;
mod changes;
mod crash;
mod edited;
mod foreign;
#[cfg(unix)]
mod kill;
#[cfg(feature = "yaml")]
mod merges;
mod odd_files;

use std::path::Path;

use serde_json::{Value, json};

use super::FileBackend;
use super::table_file::TableFile;
use crate::backend::record::Header;
use crate::backend::{Backend as _, Setup};
use crate::config::dynamic::{ApiAccess, Certificate, Own};
use crate::config::text::Syntax;
use crate::route::{Change, Route};

const TOML: &[&str] = &[
    "",
    "\n",
    "# only a comment",
    "# first\n\n[http.routers.mine] # here\n  rule = \"Path(`/x`)\" # there\n  service = \"s\"\n\n# last\n",
    "[http]\n  [http.routers]\n    # inside\n    [http.routers.mine]\n      rule = 'x'\n[http.services.s]\n[[http.services.s.loadBalancer.servers]]\nurl = 'http://a'\n",
    "[http.middlewares]\nmine = {compress = {minResponseBodyBytes = 1}}\n[http.routers]\nmine = {rule = 'x', service = 's'}",
    "[[tls.certificates]]\ncertFile = 'a'\n[tls.stores.other.defaultCertificate]\ncertFile = 'b'\n[unknown]\nx = 1\n",
    "title = 'x'\n[tcp.routers.t]\nrule = 'HostSNI(`*`)'\n",
    "\"quoted key\" = '''\nmany\nlines\n'''\n[http.services]\n",
];

#[cfg(feature = "yaml")]
const YAML: &[&str] = &[
    "",
    "\n",
    "# only a comment",
    "---\n# first\nhttp:\n  # inside\n  routers:\n    # deeper\n    mine: # here\n      rule: Path(`/x`) # there\n      service: s\n\n# last\n",
    "http:\n    services:\n        s:\n            loadBalancer:\n                servers:\n                - url: http://a\n                - url: 'http://b'\n\n    middlewares:\n        m: {compress: {minResponseBodyBytes: 1}}\n",
    "tls:\n  certificates:\n    - certFile: a\n  stores:\n    other:\n      defaultCertificate:\n        certFile: b",
    "http:\n",
    "http:\n  routers:\n  services:\ntls:",
    "unknown: |\n  text # no comment\n\n   more\nother: >-\n  folded\n  text\nanchor: &a {x: 1}\nalias: *a\n\"é漢\": ü # 😀\nlist: [1,\n  2]\n",
    "  http:\n    routers:\n      mine: {rule: x}\n  x: 1\n",
];

/// A backend on a file that it has opened.
fn opened(path: &Path) -> FileBackend {
    let backend = FileBackend::new(path);
    backend
        .open(&Setup::new("web"), &mut |_, _| Ok(Vec::new()))
        .unwrap();
    backend
}

/// The names of the files in a folder, sorted.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn samples() -> Vec<(Syntax, &'static str)> {
    let samples = TOML.iter().map(|text| (Syntax::Toml, *text));
    #[cfg(feature = "yaml")]
    let samples = samples.chain(YAML.iter().map(|text| (Syntax::Yaml, *text)));
    samples.collect()
}

fn parse(syntax: Syntax, text: &str, marker: &str) -> crate::Result<TableFile> {
    TableFile::parse(syntax, text, &Header::new(marker, marker.into()))
}

fn route(spec: &str, target: &str) -> Change {
    let data = json!({"user": "zoë", "{{x}}": ["'''", null]});
    Route::new(spec, target).unwrap().data(data).into()
}

fn routes() -> Vec<Change> {
    vec![
        route("/", "http://127.0.0.1:1"),
        route("/user/a@b/", "http://127.0.0.1:2/base"),
        route("h.x/{{y}}/", "http://127.0.0.1:1"),
    ]
}

fn with_routes(syntax: Syntax, text: &str) -> TableFile {
    let mut file = parse(syntax, text, "marker").unwrap_or_else(|e| panic!("{e}\n{text}"));
    let extra = json!({"headers": {"customRequestHeaders": {"X": "😀 {{z}}"}}});
    let setup = Setup {
        extra: Some(json!({"http": {"middlewares": {"extra": extra}}})),
        own: Some(own()),
        ..Setup::new("web")
    };
    file.set_up(&setup, "/c.pem", false).unwrap();
    file.apply(&routes()).unwrap();
    file
}

/// What a Traefik needs that is started on a file.
fn own() -> Own {
    Own {
        api: ApiAccess {
            entrypoint: "auth_api".into(),
            username: "jupyterhub".into(),
            password: "secret".into(),
            given: false,
            password_hash: "{SHA}x".into(),
            metrics: false,
        },
        extra: json!({"http": {"middlewares": {"own": {"compress": {"minResponseBodyBytes": 1}}}}}),
        certificate: Certificate {
            pem: "pem".into(),
            made_up: true,
        },
    }
}

fn value(syntax: Syntax, text: &str) -> Value {
    let ours = syntax
        .parse(text)
        .unwrap_or_else(|e| panic!("{e}\n{text}"))
        .to_value();
    #[cfg(feature = "yaml")]
    if syntax == Syntax::Yaml {
        // The oracle: another parser reads the same.
        let theirs: Value = yaml_serde::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert!(ours == theirs || theirs.is_null(), "{text}");
    }
    ours
}

/// The routers of three routes, and the one that tells the generation.
const OURS: usize = 3 + 1;

/// Whether all of `part` is in `whole`.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, part)| whole.get(key).is_some_and(|whole| holds(whole, part))),
        (_, Value::Null) => true,
        (whole, part) => whole == part,
    }
}

/// A file in which somebody has deleted the record of a route, and has left its router and service.
fn without_record(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    let lines = lines.filter(|line| !line.contains("\"spec\":\"/user/a@b/\""));
    lines.collect()
}
