//! Files that people wrote, with our table in and out of them.

#[cfg(target_os = "linux")]
mod access;
mod crash;
#[cfg(unix)]
mod kill;
mod odd_files;

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::FileBackend;
use super::table_file::TableFile;
use crate::backend::record::Header;
use crate::backend::{Backend as _, Setup};
use crate::config::dynamic::{ApiAccess, Certificate, Own};
use crate::config::text::{Entries as _, Syntax, unmarked};
use crate::error::ErrorKind;
use crate::route::{Change, Nested, Route, asking, service_name};

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

#[test]
fn foreign_content_stays() {
    for (syntax, text) in samples() {
        let mut file = with_routes(syntax, text);
        let written = file.render().unwrap().to_string();
        let now = value(syntax, &written);
        assert!(holds(&now, &value(syntax, text)), "{text}\n---\n{written}");
        assert!(!written.contains("{{"), "{written}");
        let routers = now["http"]["routers"].as_object().unwrap();
        assert!(
            routers
                .values()
                .filter(|router| router["entryPoints"][0] == "web")
                .count()
                == OURS
        );
        assert_eq!(
            now["http"]["services"]
                .as_object()
                .unwrap()
                .values()
                .filter(|s| s["loadBalancer"]["servers"][0]["url"]
                    .as_str()
                    .unwrap()
                    .starts_with("http://127"))
                .count(),
            2
        );

        let mut again = parse(syntax, &written, "other").unwrap();
        assert_eq!(
            (again.routes(), &again.header),
            (file.routes(), &file.header)
        );
        assert_eq!(again.render().unwrap().to_string(), written);

        let deletions: Vec<_> = again
            .routes()
            .iter()
            .map(|route| Change::Delete(route.spec.clone()))
            .collect();
        again.apply(&deletions).unwrap();
        again.tear_down();
        let emptied = again.render().unwrap().to_string();
        let (rest, _) = crate::config::text::cut(&emptied).unwrap();
        assert_eq!(rest, text);
        assert_eq!(again.foreign(), rest);
    }
}

#[test]
fn entries_are_found_without_marks() {
    for (syntax, text) in samples() {
        let mut file = with_routes(syntax, text);
        let unmarked = unmarked(syntax, file.render().unwrap());
        let mut again = parse(syntax, &unmarked, "other").unwrap();
        assert_eq!(
            (again.routes(), &again.header),
            (file.routes(), &file.header),
            "{unmarked}"
        );
        let written = again.render().unwrap().to_string();
        assert!(
            holds(&value(syntax, &written), &value(syntax, text)),
            "{written}"
        );
        let names = |text: &str| {
            let tree = value(syntax, text);
            ["routers", "services", "middlewares"].map(|part| tree["http"][part].clone())
        };
        assert_eq!(
            names(&written),
            names(&unmarked),
            "an entry is there twice or lost\n{written}"
        );
    }
}

#[cfg(feature = "yaml")]
#[test]
fn large_yaml_merges_small_maps() {
    for text in ["", "http:\n  routers:\n    mine: {rule: x}\n"] {
        let mut file = with_routes(Syntax::Yaml, text);
        let many = (0..300).map(|n| route(&format!("/user/{n}/"), &format!("http://h{n}")));
        file.apply(&many.collect::<Vec<_>>()).unwrap();
        let written = file.render().unwrap().to_string();
        let http = |text: &str| {
            let mut value: yaml_serde::Value = yaml_serde::from_str(text).unwrap();
            value.apply_merge().unwrap();
            serde_json::to_value(value).unwrap()["http"].clone()
        };
        let now = http(&written);
        for route in file.routes() {
            let router =
                &now["routers"][crate::route::router_name(&file.header.namespace, &route.spec)];
            let service = &now["services"][router["service"].as_str().unwrap()];
            let url = &service["loadBalancer"]["servers"][0]["url"];
            assert_eq!(url, route.target.as_str(), "{written}");
        }
        assert!(holds(&now, &value(Syntax::Yaml, text)["http"]), "{written}");
        let again = parse(Syntax::Yaml, &written, "other").unwrap();
        assert_eq!((again.foreign(), again.is_written), (text, true));

        let edited = [
            unmarked(Syntax::Yaml, &written),
            without_record(&format!("{written}# by hand\n")),
        ];
        for edited in edited {
            let mut again = parse(Syntax::Yaml, &edited, "other").unwrap();
            assert!(!again.is_written && !again.foreign().contains("<<"));
            again.apply(&routes()).unwrap();
            assert_eq!(http(again.render().unwrap()), now, "{edited}");
        }
    }
}

/// Somebody deletes a line of a merge by hand.
#[cfg(feature = "yaml")]
#[test]
fn deleted_line_empties_no_map() {
    for count in [255, 256, 257, 384, 385] {
        let mut file = parse(Syntax::Yaml, "", "marker").unwrap();
        let route = |n| route(&format!("/user/{n}/"), "http://h");
        let routes: Vec<_> = (0..count).map(route).collect();
        file.apply(&routes).unwrap();
        let written = file.render().unwrap();
        let lines: Vec<&str> = written.lines().collect();
        let maps = || {
            lines
                .iter()
                .enumerate()
                .filter(|(_, line)| line.trim() == "-")
        };
        assert_eq!(maps().count() > 0, count >= 256, "{written}");
        for (at, _) in maps() {
            let second = lines[at + 2];
            assert!(second.starts_with("      "), "{second}");
        }
    }
}

#[test]
fn moved_mark_duplicates_no_name() {
    let mut read = 0;
    for (syntax, text) in samples() {
        let mut file = with_routes(syntax, text);
        let written = file.render().unwrap().to_string();
        let names = |text: &str| {
            let tree = value(syntax, text);
            ["routers", "services", "middlewares"].map(|part| tree["http"][part].clone())
        };
        let lines: Vec<_> = written.split_inclusive('\n').collect();
        let is_end = |line: &&str| line.trim() == "# traefik-router: end";
        let end = lines.iter().position(is_end).unwrap();
        for at in 0..end {
            let mut moved = lines.clone();
            let mark = moved.remove(end);
            moved.insert(at, mark);
            let moved = moved.concat();
            let Ok(mut again) = parse(syntax, &moved, "other") else {
                continue;
            };
            let header = (again.routes(), &again.header);
            assert_eq!(header, (file.routes(), &file.header), "{moved}");
            let whole = again.render().unwrap();
            assert_eq!(names(whole), names(&moved), "{moved}");
            assert_eq!(names(whole), names(&written), "{moved}");
            read += 1;
        }
    }
    assert!(read > 100, "{read}");
}

#[test]
fn handwritten_replacement_of_extra_stays() {
    let mut file = with_routes(Syntax::Toml, "");
    let written = file.render().unwrap().to_string();
    let lines = written.split_inclusive('\n');
    let without: String = lines.filter(|line| !line.starts_with("extra = ")).collect();
    let theirs = "[http.middlewares.extra.compress]\nminResponseBodyBytes = 7\n";
    let edited = format!("{without}{theirs}# by hand\n");
    let mut again = parse(Syntax::Toml, &without_record(&edited), "other").unwrap();
    assert_eq!(again.foreign(), format!("{theirs}# by hand\n"));
    let now = value(Syntax::Toml, again.render().unwrap());
    let extra = &now["http"]["middlewares"]["extra"];
    assert_eq!(extra, &json!({"compress": {"minResponseBodyBytes": 7}}));
}

#[cfg(feature = "yaml")]
#[test]
fn deleted_entry_spares_the_next() {
    let route = "jupyterhub:\n  routes:\n    a: {routespec: /a, target: 'http://h', router: r, service: s}\n";
    let mine = "    mine: {loadBalancer: {}}\n";
    for servers in [
        "\n        - url: http://h\n",
        "\n          - url: http://h\n            weight: 1\n          # last\n",
        "\n        -\n          url: http://h\n",
        "\n        -\n",
        " [{url: 'http://h'}]\n",
        " [\n          {url: 'http://h'},\n        ]\n",
        " &all [\n          {url: 'http://h'},\n        ]\n",
        " !!seq [\n          {url: 'http://h'},\n        ]\n",
        "\n        - &one {\n          url: 'http://h'\n        }\n",
    ] {
        let service = format!("    s:\n      loadBalancer:\n        servers:{servers}");
        let text = format!("http:\n  services:\n{service}{mine}{route}");
        let file = parse(Syntax::Yaml, &text, "marker").unwrap();
        let left = file.foreign().replace("          # last\n", "");
        assert_eq!(left, format!("http:\n  services:\n{mine}"), "{text}");
    }
}

#[test]
fn content_between_marks_is_replaced() {
    for (syntax, text) in samples() {
        let mut file = with_routes(syntax, text);
        let written = file.render().unwrap().to_string();
        let (begin, end) = ("# traefik-router: begin", "# traefik-router: end");
        let commented = written.replace(end, &format!("  # by hand\n\n{end}"));
        let above = commented.replace(begin, &format!("# above\n{begin}"));
        let mut cases = vec![(without_record(&written), 2), (commented, 3), (above, 3)];
        let header = "[http.routers]\n";
        if syntax == Syntax::Toml && !text.contains(header) {
            let entry = syntax.entry("leftover", &json!({"rule": "x"}));
            let edited = written.replacen(header, &format!("{header}{entry}"), 1);
            cases.push((edited, 3));
        }
        for (edited, routes) in cases {
            let mut again = parse(syntax, &edited, "other").unwrap();
            assert_eq!((again.routes().len(), again.is_written), (routes, false));
            let left = again.foreign().replace("# above\n", "");
            let left = left.replace("# above", "");
            assert_eq!(left.trim_end(), text.trim_end(), "{edited}");
            let routes: Vec<_> = file.routes().iter().cloned().map(Change::Set).collect();
            again.apply(&routes).unwrap();
            let whole = again.render().unwrap();
            assert_eq!(value(syntax, whole), value(syntax, &written), "{edited}");
        }
    }
}

/// A file in which somebody has deleted the record of a route, and has left its router and service.
fn without_record(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    let lines = lines.filter(|line| !line.contains("\"spec\":\"/user/a@b/\""));
    lines.collect()
}

#[cfg(feature = "yaml")]
#[test]
fn text_above_marks_keeps_newline() {
    let written = with_routes(Syntax::Yaml, "x: 1")
        .render()
        .unwrap()
        .to_string();
    let note = "\nnote: |\n  text\n";
    let edited = written.replace("x: 1\n", &format!("x: 1{note}"));
    let again = parse(Syntax::Yaml, &edited, "other").unwrap();
    assert_eq!(again.foreign(), format!("x: 1{note}"));
    let edited = written.replace("x: 1\n", "x: 1\ny: 2\n");
    let again = parse(Syntax::Yaml, &edited, "other").unwrap();
    assert_eq!(again.foreign(), "x: 1\ny: 2");
}

#[test]
fn text_below_marks_keeps_table() {
    let mut file = with_routes(Syntax::Toml, "");
    let written = file.render().unwrap().to_string();
    let appended = format!("{}mine = 1\n", without_record(&written));
    let again = parse(Syntax::Toml, &appended, "other").unwrap();
    assert_eq!(again.foreign(), "[traefik_router]\nmine = 1\n");

    let appended = format!("{written}mine = 1\n[http.routers.mine]\nrule = 'x'\n");
    let mut again = parse(Syntax::Toml, &appended, "other").unwrap();
    assert_eq!(*again.routes(), *file.routes());
    let now = value(Syntax::Toml, again.render().unwrap());
    assert_eq!(
        (
            &now["http"]["routers"]["mine"]["rule"],
            &now["traefik_router"]["mine"]
        ),
        (&json!("x"), &json!(1))
    );
}

#[test]
fn marks_inside_strings_are_text() {
    let begin_to_end = "a\n# traefik-router: begin\n{\"b\":\n# traefik-router: end\nc\n";
    let end_to_begin = "a\n# traefik-router: end\n\n# traefik-router: begin\nc\n";
    let begin = "# traefik-router: begin\n";
    let mut texts = Vec::new();
    for lines in [begin_to_end, end_to_begin, begin] {
        texts.push((Syntax::Toml, format!("x = '''\n{lines}'''\n")));
        let escaped = lines.replace('"', "\\\"");
        texts.push((Syntax::Toml, format!("x = [\"\"\"\n{escaped}\"\"\"]\n")));
        #[cfg(feature = "yaml")]
        for (open, close) in [("|\n", ""), (">-\n", ""), ("'\n", "  '\n")] {
            let indented = lines.replace('\n', "\n  ");
            let text = format!("x: {open}  {}\n{close}", indented.trim_end());
            texts.push((Syntax::Yaml, text));
        }
    }
    for (syntax, text) in texts {
        let mut file = with_routes(syntax, &text);
        let written = file.render().unwrap().to_string();
        let again = parse(syntax, &written, "other").unwrap();
        assert_eq!((again.foreign(), again.is_written), (&*text, true));
        let edited = format!("{written}# by hand\n");
        for (edited, routes) in [(without_record(&edited), 2), (edited, 3)] {
            let mut again = parse(syntax, &edited, "other").unwrap();
            assert_eq!(again.routes().len(), routes, "{edited}");
            assert_eq!(again.foreign(), format!("{text}# by hand\n"), "{edited}");
            let whole = again.render().unwrap().to_string();
            let again = parse(syntax, &whole, "other").unwrap();
            assert_eq!((again.routes().len(), again.is_written), (routes, true));
        }
    }
}

#[test]
fn same_name_entry_is_replaced() {
    let mut file = with_routes(Syntax::Toml, "");
    let written = file.render().unwrap().to_string();
    // A record that was deleted by hand leaves its router behind.
    let orphaned: String = written
        .split_inclusive('\n')
        .filter(|line| !line.contains("\"spec\":\"/user/a@b/\""))
        .collect();
    let mut again = parse(Syntax::Toml, &orphaned, "other").unwrap();
    assert_eq!(again.routes().len(), 2);
    again.apply(&routes()).unwrap();
    assert_eq!(
        value(Syntax::Toml, again.render().unwrap())["http"],
        value(Syntax::Toml, &written)["http"]
    );
}

#[test]
fn inline_tables_are_opened() {
    for text in [
        "http = {routers = {mine = {rule = 'x'}}}\n",
        "http.routers.mine.rule = 'x'\n",
        "[http]\nrouters.mine.rule = 'x'\nservices = {s = {weighted = {}}}\n",
        "[http]\nrouters = {mine = {rule = 'x'}}\n",
    ] {
        let written = with_routes(Syntax::Toml, text)
            .render()
            .unwrap()
            .to_string();
        let now = value(Syntax::Toml, &written);
        assert!(holds(&now, &value(Syntax::Toml, text)), "{written}");
        assert_eq!(
            now["http"]["routers"].as_object().unwrap().len(),
            // And the API's.
            1 + OURS + 1,
            "{written}"
        );
    }
}

#[cfg(feature = "yaml")]
#[test]
fn unextendable_maps_are_refused() {
    for text in [
        "http: {routers: {mine: {rule: x}}}\n",
        "http:\n  routers: {mine: {rule: x}}\n",
        "a: &x\n  routers:\nhttp: *x\n",
        "http: ~\n",
        "http:\n  routers: null # none yet\n",
        "? http\n: middlewares:\n    a: {}\n",
        "http:\n  !!map\n",
        "http:\n  services: !!map\n",
        "b: &b\n  x: 1\nhttp:\n  <<: *b\n",
        "http:\r  routers:\r",
        "~\n",
        "&x\n",
    ] {
        let file = parse(Syntax::Yaml, text, "m");
        let written = file.and_then(|mut file| file.set_up(&Setup::new("web"), "/c.pem", false));
        let error = written.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}");
    }
}

#[test]
fn refusals_name_the_line() {
    let bad = vec![
        (Syntax::Toml, "a = 1\nb = {\n", "line 2"),
        (Syntax::Toml, "a = 1\na = 2\n", "line 2"),
        (
            Syntax::Toml,
            "[traefik_router]\nroutes = '''\n{\"generation\": x}\n'''\n",
            "damaged",
        ),
        (
            Syntax::Toml,
            "[jupyterhub.routes.x]\nroutespec = '/'\ntarget = 'ftp://x'\n",
            "jupyterhub.routes.x",
        ),
    ];
    #[cfg(feature = "yaml")]
    let bad = [
        bad,
        vec![
            (Syntax::Yaml, "a: 1\nb: [\n", "line "),
            (Syntax::Yaml, "- a\n- b\n", "line 1"),
            (Syntax::Yaml, "a: 1\n---\nb: 2\n", "second"),
            (Syntax::Yaml, "a: 1\n...\n", "line 2"),
            (Syntax::Yaml, "a:\n  b: 1\n  c: 1\n  \"b\": 2\n", "line 4"),
        ],
    ]
    .concat();
    for (syntax, text, why) in bad {
        let error = parse(syntax, text, "m").err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}");
        assert!(error.to_string().contains(why), "{text}: {error}");
    }
}

#[test]
fn handwritten_configuration_overrides_extra() {
    let text = "[http.middlewares.extra]\ncompress = {}\n";
    let mut file = parse(Syntax::Toml, text, "m").unwrap();
    let extra = json!({"http": {"middlewares": {"extra": {"retry": {"attempts": 2}}}}});
    let setup = Setup {
        extra: Some(extra),
        ..Setup::new("web")
    };
    let error = file
        .set_up(&setup, "/c.pem", false)
        .and_then(|()| file.render())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(
        error.to_string().contains("http.middlewares.extra"),
        "{error}"
    );
}

proptest! {
    /// The file holds exactly the routes that were added and not deleted, and the rest of it stays.
    #[test]
    fn any_changes_are_held_exactly(
        sample in 0..samples().len(),
        steps in prop::collection::vec((0..6_u8, 0..3_u8, any::<bool>(), any::<bool>()), 0..12),
    ) {
        let (syntax, text) = samples()[sample];
        let mut file = with_routes(syntax, text);
        for (spec, target, delete, reparse) in steps {
            let spec = format!("/r{spec}/");
            let change = if delete {
                Change::delete(spec).unwrap()
            } else {
                route(&spec, &format!("http://t{target}"))
            };
            file.apply(&[change]).unwrap();
            let written = file.render().unwrap().to_string();
            if reparse {
                let again = parse(syntax, &written, "other").unwrap();
                prop_assert_eq!(again.routes(), file.routes());
                file = again;
            }
            let now = value(syntax, &written);
            prop_assert!(holds(&now, &value(syntax, text)));
            for route in file.routes() {
                let router = &now["http"]["routers"][crate::route::router_name(&file.header.namespace, &route.spec)];
                let service = &now["http"]["services"][router["service"].as_str().unwrap()];
                let url = &service["loadBalancer"]["servers"][0]["url"];
                prop_assert_eq!(url.as_str(), Some(route.target.as_str()));
            }
        }
    }

    #[test]
    fn stepwise_changes_equal_one_write(
        sample in 0..samples().len(),
        steps in prop::collection::vec((any::<bool>(), prop::collection::vec(any_change(), 1..4)), 0..20),
    ) {
        let (syntax, text) = samples()[sample];
        let setup = Setup {
            nested: Some(Nested::Always),
            ..Setup::new("web")
        };
        let fresh = || {
            let mut file = parse(syntax, text, "marker").unwrap();
            file.set_up(&setup, "/c.pem", false).unwrap();
            file
        };
        let mut file = fresh();
        for (reparse, changes) in steps {
            if reparse {
                let written = file.render().unwrap().to_string();
                file = parse(syntax, &written, "other").unwrap();
            }
            file.apply(&changes).unwrap();
            let mut anew = fresh();
            let all: Vec<_> = file.routes().iter().cloned().map(Change::Set).collect();
            anew.apply(&all).unwrap();
            prop_assert_eq!(file.render().unwrap(), anew.render().unwrap());
        }
    }
}

#[test]
fn new_target_reaches_all_parents() {
    let file = |target: &str| {
        let mut file = parse(Syntax::Toml, "", "marker").unwrap();
        let setup = Setup {
            nested: Some(Nested::Always),
            ..Setup::new("web")
        };
        file.set_up(&setup, "/c.pem", false).unwrap();
        let others = "/b/ /c/ /d/ /a/aa/ /a/ab/ /a/aba/ /a/b/".split(' ');
        let others: Vec<_> = others.map(|spec| route(spec, "http://t")).collect();
        file.apply(&others).unwrap();
        file.apply(&[route("/a/", target)]).unwrap();
        file
    };
    let (mut file, mut expected) = (file("http://old"), file("http://new"));
    let old = service_name("marker", &Route::new("/a/", "http://old").unwrap());
    let led = file.render().unwrap().matches(&old).count();
    // The service, the router, and what at least two parents leave.
    assert!(led >= 4, "{led}");
    let changes = [
        route("/a/", "http://between"),
        Change::delete("/nobody/").unwrap(),
        route("/a/", "http://new"),
    ];
    file.apply(&changes).unwrap();
    assert_eq!(file.render().unwrap(), expected.render().unwrap());
}

fn any_change() -> impl Strategy<Value = Change> {
    let host = prop::sample::select(vec!["", "", "h.x"]);
    let path = prop::collection::vec(prop::sample::select(vec!["a", "ab", "b", "é@"]), 0..4);
    let target = prop::option::weighted(0.8, (1..4_u8, 0..2_u8, 0..14_u8));
    (host, path, target).prop_map(|(host, path, target)| {
        let spec = format!("{host}/{}", path.join("/"));
        match target {
            Some((target, data, way)) => {
                let route = Route::new(spec, format!("http://t{target}")).unwrap();
                // Half of them ask for nothing.
                asking(way.saturating_sub(7), route.data(data)).into()
            }
            None => Change::delete(spec).unwrap(),
        }
    })
}
