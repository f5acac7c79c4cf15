//! The whole table: `routes apply` and `routes export`.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::json;

use crate::support::{Place, Said};
use crate::{STORE, with_routes};

const TABLE: &str = "\
[routes]
'/user/zoe/' = {target = 'http://127.0.0.1:9009', data = {user = 'zoe'}}
'/new/' = {target = 'http://new', settings = {middlewares = ['strip@file']}}
";

#[test]
fn apply_shows_and_makes_changes() {
    let place = with_routes();
    place.write("table.toml", TABLE);
    let before = place.text("rules.toml");
    let lines = "\
+ /new/  http://new {\"middlewares\":[\"strip@file\"]}
~ /user/zoe/  http://127.0.0.1:9001 data {\"user\":\"zoe\"} → http://127.0.0.1:9009 data {\"user\":\"zoe\"}
";
    let gone = "- docs.example.org/  http://docs\n";
    let run = |options: &str| place.run(&format!("routes apply table.toml {options}{STORE}"));
    assert_eq!(run("--dry-run ").done(), lines);
    assert_eq!(run("--dry-run --delete ").done(), [lines, gone].concat());
    let events = run("--dry-run --delete --json ").json();
    assert_eq!(
        events[2],
        json!({
            "change": "deleted", "routespec": "docs.example.org/", "to": null,
            "from": {"routespec": "docs.example.org/", "target": "http://docs", "data": null},
        })
    );
    assert_eq!(events[0]["to"]["middlewares"], json!(["strip@file"]));
    assert_eq!(place.text("rules.toml"), before);
    let said = run("").done();
    let (answer, result) = said.split_at(lines.len());
    assert_eq!(answer, lines);
    assert!(result.starts_with("1 added, 1 changed: stored"), "{said}");
    assert_eq!(run("--dry-run ").done(), "nothing to change\n");
    let applied = run("--delete --json ").json();
    assert_eq!(applied["deleted"], json!(["docs.example.org/"]));
    assert_eq!(run("--dry-run --delete ").done(), "nothing to change\n");
}

#[test]
fn dry_run_shows_moved_routes() {
    let place = with_routes();
    place.write("table.toml", TABLE);
    let run = |options: &str| {
        place.run(&format!(
            "routes apply table.toml --dry-run {options}{STORE}"
        ))
    };
    let before = place.text("rules.toml");
    let said = run("--entrypoint web ").done();
    assert!(
        said.ends_with("~ all routes  entrypoint http → web\n"),
        "{said}"
    );
    assert!(said.starts_with("+ /new/"), "{said}");
    let events = run("--entrypoint web --json ").json();
    let moved = json!({
        "change": "changed", "routespec": null, "from": {"entrypoint": "http"}, "to": {"entrypoint": "web"},
    });
    assert_eq!(events[2], moved);
    assert_eq!(place.text("rules.toml"), before);
    let same = run("--entrypoint http ").done();
    assert!(!same.contains("entrypoint"), "{same}");
}

#[test]
fn apply_waits_for_traefik() {
    let place = Place::new();
    let _traefik = place.start_external("rules.toml", "0s");
    place.configure("");
    place.run("routes add /old/ http://t").done();
    let table = "[routes]\n'/a/' = {target = 'http://t'}\n'/b/' = {target = 'http://t'}\n";
    place.write("table.toml", table);
    let said = place.run("routes apply table.toml --delete").done();
    let result = said.lines().last().unwrap();
    assert!(
        result.starts_with("2 added, 1 deleted: served after"),
        "{said}"
    );
    let status = place.run("status --json").json();
    assert_eq!(status["store"]["routes"], 2);
}

#[test]
fn apply_reads_all_syntaxes() {
    let json = r#"{"routes": {"/a/": {"target": "http://t", "data": [null, "\ud83d\ude00"]}}}"#;
    let yaml = "routes:\n  /a/:\n    target: http://t\n    data: [null, 😀]\n";
    let toml = "[routes.'/a/']\ntarget = 'http://t'\ndata_json = '[null, \"😀\"]'\n";
    for (name, text) in [("t.json", json), ("t.yml", yaml), ("t.toml", toml)] {
        let place = Place::new();
        place.write(name, text);
        place.run(&format!("routes apply {name} {STORE}")).done();
        let listed = place.run(&format!("routes get /a/ --json {STORE}")).json();
        assert_eq!(listed["data"], json!([null, "😀"]), "{name}");
        // And from standard input.
        let place = Place::new();
        let format = match name {
            "t.yml" => "--format yaml ",
            _ => "",
        };
        from_input(&place, &format!("routes apply - {format}{STORE}"), text).done();
        let again = place.run(&format!("routes get /a/ --json {STORE}")).json();
        assert_eq!(again, listed, "{name}");
    }
}

#[test]
fn mistake_in_file_changes_nothing() {
    let place = with_routes();
    let before = place.text("rules.toml");
    for (name, text, says) in [
        (
            "t.toml",
            "[routes]\n'/a/' = {target = 'http://t'}\n'/b/' = {target = 'x'}\n",
            "t.toml: line 3: \"/b/\": \"target\": ",
        ),
        (
            "t.yaml",
            "routes:\n  /a/:\n    tarjet: http://t\n",
            "t.yaml: line 3: \"/a/\": \"tarjet\": ",
        ),
        (
            "t.json",
            "{\"routes\":\n {\"/a/\": {\"target\": 1}}}",
            "\"/a/\": \"target\": it must be a URL in quotes at line 2",
        ),
        (
            "t.json",
            "{\"routes\":\n {\"/a/\": {\"target\": \"http://t\",\n \"target\": \"http://u\"}}}",
            "t.json: the key \"target\" is there twice at line 3",
        ),
        (
            "t.toml",
            "[http.routers]\n",
            "t.toml: line 1: unknown key \"http\"",
        ),
        ("t.txt", "", "give --format"),
    ] {
        place.write(name, text);
        for options in ["", "--delete --dry-run "] {
            place
                .run(&format!("routes apply {name} {options}{STORE}"))
                .failed(2, says);
        }
    }
    place
        .run(&format!("routes apply none.toml {STORE}"))
        .failed(2, "can't read none.toml");
    assert_eq!(place.text("rules.toml"), before);
}

#[test]
fn export_gives_the_same_table() {
    let from = with_routes();
    from.write("table.toml", TABLE);
    from.run(&format!("routes apply table.toml {STORE}")).done();
    let before = from.text("rules.toml");
    let listed = from.run(&format!("routes list --json {STORE}")).json();
    for (option, format, comment) in [
        ("", "toml", true),
        ("--format yaml ", "yaml", true),
        ("--format json ", "json", false),
        ("--json ", "json", false),
    ] {
        let text = from.run(&format!("routes export {option}{STORE}")).done();
        assert_eq!(text.starts_with("# Routes of traefik-router"), comment);
        let to = Place::new();
        let apply = format!("routes apply - --format {format} {STORE}");
        from_input(&to, &apply, &text).done();
        let again = to.run(&format!("routes list --json {STORE}")).json();
        assert_eq!(again, listed, "{text}");
    }
    assert_eq!(from.text("rules.toml"), before);
    Place::new()
        .run(&format!("routes export {STORE}"))
        .failed(1, "there are no routes");
}

#[test]
fn apply_outlives_its_reader() {
    let place = Place::new();
    place.write(
        "table.json",
        r#"{"routes": {"/a/": {"target": "http://a"}}}"#,
    );
    let arguments = format!("routes apply table.json {STORE} --no-wait");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = place.command(&arguments.split(' ').collect::<Vec<_>>());
    let output = command.stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let listed = place.run(&format!("routes list {STORE}")).done();
    assert!(listed.contains("/a/"), "{listed}");
}

#[test]
fn refused_files_change_nothing() {
    let place = Place::new();
    let tls = |name: &str| json!({"target": "http://a", "settings": {"router": {"tls": {"options": name}}}});
    let clash = json!({"routes": {"h.x/a/": tls("one@file"), "h.x/b/": tls("two@file")}});
    let twice =
        json!({"routes": {"/a/": {"target": "http://a"}, "h.x/a/": {"target": "http://b"}}});
    let other = json!({"routes": {"o.x/a/": {"target": "http://a"}}});
    for (table, options, says) in [
        (&clash, "", "the TLS options"),
        (&twice, "--host h.x", "stands there twice"),
        (&other, "--host h.x", "--host allows routes for h.x alone"),
    ] {
        place.write("table.json", &format!("\u{feff}{table}"));
        let command = format!("routes apply table.json {STORE} {options}");
        place.run(command.trim_end()).failed(2, says);
        place
            .run(&format!("{} --dry-run", command.trim_end()))
            .failed(2, says);
        assert!(!place.path("rules.toml").exists());
    }
    let first = json!({"routes": {"h.x/a/": tls("one@file")}});
    place.write("table.json", &first.to_string());
    let command = format!("routes apply table.json {STORE} --no-wait");
    place.run(&command).done();
    let stored = place.text("rules.toml");
    let second = json!({"routes": {"h.x/b/": tls("two@file")}});
    place.write("table.json", &second.to_string());
    for options in ["", " --dry-run", " --entrypoint web"] {
        place
            .run(&format!("{command}{options}"))
            .failed(2, "the TLS options");
        assert_eq!(place.text("rules.toml"), stored);
    }
}

/// Runs the program in the folder with this on its standard input.
fn from_input(place: &Place, arguments: &str, text: &str) -> Said {
    let arguments: Vec<_> = arguments.split(' ').collect();
    let mut command = place.command(&arguments);
    let mut program = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = program.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    Said::of(&program.wait_with_output().unwrap())
}
