//! A table that is confined to one host.

use std::fs;

use serde_json::json;

use crate::support::Place;

const STORE: &str = "--backend toml:rules.toml";
const HUB: &str = "--backend toml:rules.toml --host Hub.example.org";

#[test]
fn confined_routes_show_no_host() {
    let place = Place::new();
    let run = |command: &str| place.run(&format!("{command} {HUB}"));
    assert!(
        run("routes add /user/zoe/ http://127.0.0.1:9001")
            .done()
            .starts_with("added /user/zoe/")
    );
    run("routes add hub.example.org/b/ http://b").done();
    let open = place.run(&format!(
        "routes get hub.example.org/user/zoe/ --json {STORE}"
    ));
    assert_eq!(open.json()["routespec"], "hub.example.org/user/zoe/");
    let zoe = json!({"routespec": "/user/zoe/", "target": "http://127.0.0.1:9001", "data": null});
    for command in [
        "routes get /user/zoe/",
        "routes get hub.example.org/user/zoe",
        "routes resolve http://hub.example.org/user/zoe/lab",
    ] {
        assert_eq!(run(&format!("{command} --json")).json(), zoe, "{command}");
    }
    run("routes resolve http://u:secret@other.example.org/user/zoe/")
        .failed(3, "no route is for other.example.org/user/zoe/");
    assert_eq!(run("routes list --json").json()[1], zoe);
    let text = run("routes export").done();
    assert!(
        text.contains("/user/zoe/") && !text.contains("hub.example.org"),
        "{text}"
    );
    // What is exported changes nothing, and goes elsewhere.
    place.write("table.toml", &text);
    assert_eq!(
        run("routes apply table.toml --delete --dry-run").done(),
        "nothing to change\n"
    );
    let moved = "routes apply table.toml --backend toml:moved.toml --host new.example.org";
    place.run(moved).done();
    let moved = fs::read_to_string(place.path("moved.toml")).unwrap();
    assert!(moved.contains("new.example.org/user/zoe/"), "{moved}");
    run("routes delete /b/").done();
    run("routes delete hub.example.org/user/zoe/").done();
    run("routes delete /b/").failed(3, "there is no route hub.example.org/b/");
}

#[test]
fn other_hosts_are_refused() {
    let place = Place::new();
    place.run(&format!("routes add /a/ http://t {HUB}")).done();
    let other = "routes add other.example.org/ http://t";
    place
        .run(&format!("{other} {HUB}"))
        .failed(2, "to which its table is confined (--host)");
    place.run(&format!("{other} {STORE}")).done();
    for command in [
        "list",
        "get /a/",
        "export",
        "add /b/ http://t",
        "delete /a/",
        "clear",
    ] {
        let says = "the route other.example.org/";
        place
            .run(&format!("routes {command} {HUB}"))
            .failed(1, says);
    }
    for host in ["hub/x", "*.example.org", "http://hub", "/"] {
        let list = format!("routes list {STORE} --host {host}");
        place.run(&list).failed(2, "--host");
    }
    place.configure("host = \"hub.example.org\"\n");
    place
        .run("routes list")
        .failed(1, "the route other.example.org/");
}
