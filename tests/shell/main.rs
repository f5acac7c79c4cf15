//! The program's shell, from outside.

#![allow(clippy::unwrap_used)]

mod completions;
mod confined;
mod doctor;
mod pages;
mod pushing;
mod settings;
mod setup;
mod support;
mod traefik;
mod watching;
mod whole_table;

use serde_json::json;

use support::Place;

/// The commands of the shell.
const COMMANDS: [&str; 16] = [
    "routes list",
    "routes get",
    "routes add",
    "routes apply",
    "routes export",
    "routes watch",
    "routes delete",
    "routes clear",
    "setup",
    "routes resolve",
    "status",
    "doctor",
    "config static",
    "config dynamic",
    "completions",
    "man",
];

const STORE: &str = "--backend toml:rules.toml";

fn with_routes() -> Place {
    let place = Place::new();
    place
        .run(&format!(
            "routes add /user/zoe/ http://127.0.0.1:9001 {STORE} --data {{\"user\":\"zoe\"}}"
        ))
        .done();
    place
        .run(&format!("routes add docs.example.org/ http://docs {STORE}"))
        .done();
    place
}

#[test]
fn help_shows_examples_and_codes() {
    let place = Place::new();
    let help = place.run("--help").done();
    assert!(
        help.contains("Exit codes") && help.contains("Examples:"),
        "{help}"
    );
    for command in COMMANDS {
        let help = place.run(&format!("{command} --help")).done();
        assert!(help.contains("Example"), "{command}: {help}");
    }
    place.run("routes lst").failed(2, "lst");
    place.run("status --bogus").failed(2, "--bogus");
}

/// A command's own options come before those that commands share, and `chp` has headings.
#[test]
fn help_groups_options() {
    let place = Place::new();
    for (command, in_order) in [
        (
            "routes add",
            &["--data", "--strip-prefix", "--no-wait", "--backend"][..],
        ),
        (
            "chp",
            &[
                "--config",
                "Requests:",
                "--ssl-key <",
                "--ssl-cert <",
                "REST API:",
                "Traefik:",
                "--api-url",
            ],
        ),
    ] {
        let help = place.run(&format!("{command} --help")).done();
        let places = in_order.iter().map(|part| help.find(part).unwrap());
        let places: Vec<_> = places.collect();
        assert!(places.is_sorted(), "{command}: {help}");
    }
}

#[test]
fn long_data_is_listed() {
    let place = Place::new();
    let data = format!("[{}1]", "1,".repeat(40_000));
    place
        .run(&format!("routes add /a/ http://h --data {data} {STORE}"))
        .done();
    let shown = place.run(&format!("routes list {STORE}")).done();
    assert!(shown.contains(&data), "{} bytes", shown.len());
    assert!(shown.starts_with("ROUTE  TARGET    DATA\n"), "{shown:.99}");
}

#[test]
fn lists_are_readable_tables() {
    let place = with_routes();
    assert_eq!(
        place.run(&format!("routes list {STORE}")).done(),
        "\
ROUTE              TARGET                 DATA
/user/zoe/         http://127.0.0.1:9001  {\"user\":\"zoe\"}
docs.example.org/  http://docs
"
    );
}

#[test]
fn json_is_for_programs() {
    let place = with_routes();
    let zoe = json!({"routespec": "/user/zoe/", "target": "http://127.0.0.1:9001", "data": {"user": "zoe"}});
    let docs = json!({"routespec": "docs.example.org/", "target": "http://docs", "data": null});
    let json = |command: &str| place.run(&format!("{command} --json {STORE}")).json();
    assert_eq!(json("routes list"), json!([zoe, docs]));
    assert_eq!(json("routes get /user/zoe"), zoe);
    assert_eq!(json("routes resolve http://DOCS.example.org:80/x?y"), docs);
    assert_eq!(json("routes resolve /user/zoe/lab"), zoe);
    let added = json("routes add /user/zoe/ http://127.0.0.1:9002");
    assert_eq!(added["changed"], json!(["/user/zoe/"]));
    assert_eq!(
        (&added["added"], &added["served_ms"]),
        (&json!([]), &json!(null))
    );
    assert!(added["generation"].as_u64().unwrap() > 0 && added["stored_ms"].is_number());
    assert_eq!(
        json("routes delete /user/zoe/")["deleted"],
        json!(["/user/zoe/"])
    );
    assert_eq!(json("routes list"), json!([docs]));
}

#[test]
fn settings_are_set_and_shown() {
    let place = Place::new();
    let sticky = json!({"sticky": {"cookie": {"name": "app"}}});
    let tls = json!({"tls": {"certResolver": "acme"}});
    let run = |command: &[&str]| {
        let all = command.iter().copied().chain(STORE.split(' '));
        place.run_with(&all.collect::<Vec<_>>(), &[])
    };
    let add = [
        "routes",
        "add",
        "/app/",
        "http://blue",
        "--weight",
        "9",
        "--server",
        "http://green,2",
    ];
    let more = [
        "--middleware",
        "strip@file",
        "--middleware",
        "limit",
        "--own-service",
    ];
    let service = sticky.to_string();
    let router = tls.to_string();
    let maps = ["--service", &service, "--router", &router];
    run(&[&add[..], &more, &maps].concat()).done();
    let app = json!({
        "routespec": "/app/", "target": "http://blue", "data": null,
        "servers": [{"url": "http://blue", "weight": 9}, {"url": "http://green", "weight": 2}],
        "middlewares": ["strip@file", "limit"], "service": sticky, "router": tls, "own_service": true,
    });
    assert_eq!(run(&["routes", "list", "--json"]).json(), json!([app]));
    assert_eq!(run(&["routes", "resolve", "/app/x", "--json"]).json(), app);
    let shown = run(&["routes", "list"]).done();
    let [head, row] = shown.lines().collect::<Vec<_>>()[..] else {
        panic!("{shown}")
    };
    assert!(
        head.starts_with("ROUTE") && head.contains("SETTINGS"),
        "{shown}"
    );
    assert!(
        row.contains("\"middlewares\":[\"strip@file\",\"limit\"]"),
        "{shown}"
    );
    // The same again without them is a change.
    let changed = run(&["routes", "add", "/app/", "http://blue", "--json"]).json();
    assert_eq!(changed["changed"], json!(["/app/"]));
    let shown = run(&["routes", "list"]).done();
    assert!(!shown.contains("SETTINGS"), "{shown}");
}

#[test]
fn quiet_prints_what_is_asked() {
    let place = with_routes();
    let quiet = |command: &str| place.run(&format!("{command} {STORE}")).done();
    // Without it there would be a warning, and a report.
    assert_eq!(quiet("routes add -q user/zoe http://t"), "");
    assert_eq!(quiet("routes delete --quiet user/zoe"), "");
    place.write("t.toml", "[routes]\n'/a/' = {target = 'http://t'}\n");
    assert!(quiet("routes apply t.toml -q --dry-run").starts_with("+ /a/"));
    assert_eq!(quiet("routes apply t.toml -q"), "");
    assert!(quiet("routes get /a/ -q").contains("http://t"));
    assert!(quiet("routes delete /a/ -q --json").contains("\"deleted\""));
    place
        .run(&format!("routes get /a/ -q {STORE}"))
        .failed(3, "there is no route");
    assert_eq!(quiet("routes clear -q"), "");
}

#[test]
fn verbose_logs_what_is_done() {
    let place = with_routes();
    let quiet = place.run(&format!("routes list {STORE}")).done();
    let said = place.run(&format!("routes list -v {STORE}"));
    assert_eq!((said.code, said.out), (0, quiet));
    assert_eq!(said.err, "info: routes are kept in rules.toml\n");
    place
        .run(&format!("routes list -v -q {STORE}"))
        .failed(2, "--quiet");
}

#[test]
fn missing_route_exits_with_3() {
    let place = with_routes();
    let before = place.text("rules.toml");
    for command in [
        "routes get /nobody/",
        "routes delete /nobody/",
        "routes resolve /nobody/",
    ] {
        place.run(&format!("{command} {STORE}")).failed(3, "nobody");
    }
    assert_eq!(place.text("rules.toml"), before);
}

#[test]
fn bad_input_exits_with_2() {
    let place = Place::new();
    for (command, says) in [
        ("routes add /a/ ftp://t", "use http, https or h2c"),
        ("routes add a`b/ http://t", "a`b"),
        ("routes add http://h/a http://t", "write \"h/a\""),
        ("routes get /a?b", "no query"),
        ("routes delete a.*.org/", "wildcard"),
        ("routes add /a/ http://t --data {", "--data is not JSON"),
        (
            "routes add /a/ http://t --service {",
            "--service is not JSON",
        ),
        (
            "routes add /a/ http://t --router {\"rule\":1}",
            "\"rule\" is no setting",
        ),
        (
            "routes add /a/ http://t --server http://t",
            "has the server http://t already",
        ),
        ("routes add /a/ http://t --weight 0", "have the weight 0"),
        ("routes add /a/ http://t --entrypoint a.b", "a.b"),
        ("routes add /a/ http://t --timeout soon", "soon"),
    ] {
        place.run(&format!("{command} {STORE}")).failed(2, says);
    }
    place
        .run("routes list")
        .failed(2, "say where routes are kept");
    place
        .run("routes list --backend rules.toml")
        .failed(2, "does not begin with");
    assert_eq!(place.files(), Vec::<String>::new());
    let place = with_routes();
    place
        .run(&format!("routes resolve /%zz {STORE}"))
        .failed(2, "%zz");
}

#[test]
fn unread_store_changes_nothing() {
    let place = Place::new();
    place.write("table.toml", "[routes]\n");
    for command in [
        "routes add /a/ http://t",
        "routes add /a/ http://t --entrypoint web",
        "routes add /a/ http://t --api-url http://127.0.0.1:1",
        "routes delete /a/",
        "routes apply table.toml",
        "routes clear",
        "setup --api-url http://127.0.0.1:1",
    ] {
        let store = "--backend etcd:http://127.0.0.1:1";
        let says = "nothing was changed: etcd does not answer";
        place.run(&format!("{command} {store}")).failed(1, says);
    }
    let list = "routes list --backend etcd:http://127.0.0.1:";
    place.run(&format!("{list}1")).failed(1, "etcd does not");
    place.run(&format!("{list}65536")).failed(2, "65535");
}

#[test]
fn slashless_path_brings_one_warning() {
    let place = Place::new();
    let added = place.run(&format!("routes add user/zoe http://t {STORE}"));
    assert_eq!(added.code, 0, "{added:?}");
    assert!(added.err.starts_with("warning: "), "{added:?}");
    assert_eq!(added.err.lines().count(), 1, "{added:?}");
    assert!(added.err.contains("\"/user/zoe/\""), "{added:?}");
    assert!(added.out.starts_with("added user/zoe/"), "{added:?}");
    for spec in ["/user/zoe", "localhost/zoe", "h.x/zoe"] {
        place
            .run(&format!("routes add {spec} http://t {STORE}"))
            .done();
    }
    place.run(&format!("routes delete user/zoe {STORE}")).done();
}

#[test]
fn reading_changes_nothing() {
    let place = Place::new();
    for command in [
        "routes list",
        "routes get /a/",
        "routes resolve /a/",
        "routes delete /a/",
    ] {
        place
            .run(&format!("{command} {STORE}"))
            .failed(1, "`routes add` begins a new table");
    }
    assert_eq!(place.run(&format!("status {STORE}")).code, 1);
    assert_eq!(place.run(&format!("doctor {STORE}")).code, 1);
    assert_eq!(place.files(), Vec::<String>::new());

    let legacy = include_str!("../data/legacy.toml");
    place.write("rules.toml", legacy);
    let listed = place.run(&format!("routes list --json {STORE}"));
    assert_eq!(listed.json().as_array().unwrap().len(), 5);
    for command in [
        "routes get /user/zoe/",
        "routes resolve /user/zoe/x",
        "status",
        "doctor",
    ] {
        assert_eq!(
            place.run(&format!("{command} {STORE}")).code,
            0,
            "{command}"
        );
    }
    assert_eq!(place.files(), ["rules.toml"]);
    assert_eq!(place.text("rules.toml"), legacy);
}

#[test]
fn data_cannot_control_the_terminal() {
    let place = Place::new();
    let data = "\"\\u001b]0;x\\u0007\u{9b}31m\"";
    place
        .run_with(
            &[
                "routes",
                "add",
                "/a/",
                "http://t",
                "--data",
                data,
                "--backend",
                "toml:rules.toml",
            ],
            &[],
        )
        .done();
    for command in [
        "routes list",
        "routes list --json",
        "routes export",
        "routes export --json",
        "routes export --format yaml",
    ] {
        let out = place.run(&format!("{command} {STORE}")).done();
        assert!(
            out.chars().all(|char| char == '\n' || !char.is_control()),
            "{out:?}"
        );
    }
    let listed = place.run(&format!("routes list --json {STORE}")).json();
    assert_eq!(listed[0]["data"], "\u{1b}]0;x\u{7}\u{9b}31m");
}

#[test]
fn change_keeps_the_entrypoint() {
    let place = Place::new();
    place
        .run(&format!("routes add /a/ http://t {STORE} --entrypoint web"))
        .done();
    place
        .run(&format!("routes add /b/ http://t {STORE}"))
        .done();
    let text = place.text("rules.toml");
    assert!(text.contains("'web'") && !text.contains("'http'"), "{text}");
    let command = format!("routes add /b/ http://t {STORE} --entrypoint http");
    let said = place.run(&command).done();
    assert!(
        said.starts_with("moved all routes to the entrypoint \"http\": stored"),
        "{said}"
    );
    let said = place.run(&command).done();
    assert!(said.starts_with("nothing to change: stored"), "{said}");
    let text = place.text("rules.toml");
    assert!(!text.contains("'web'"), "{text}");
}

#[test]
fn refused_change_moves_nothing() {
    let place = Place::new();
    let strict = r#"{"options":"strict@file"}"#;
    let add = |path: &str, more: &str| {
        let router = format!("{{\"tls\":{strict}}}");
        let command = format!("routes add h.x{path} http://t {STORE}{more} --router");
        let mut arguments: Vec<_> = command.split(' ').collect();
        arguments.push(&router);
        place.run_with(&arguments, &[])
    };
    add("/a/", " --entrypoint web").done();
    let before = place.text("rules.toml");
    let said = place.run(&format!(
        "routes add h.x/b/ http://t {STORE} --entrypoint other"
    ));
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("TLS options"), "{said:?}");
    // Before a Traefik is asked.
    let attached = "--api-url http://127.0.0.1:1 --entrypoint other";
    for add in ["h.x/b/ http://t", "/b/ http://t --host h.x"] {
        let said = place.run(&format!("routes add {add} {STORE} {attached}"));
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.contains("TLS options"), "{said:?}");
    }
    assert_eq!(place.text("rules.toml"), before);
}
