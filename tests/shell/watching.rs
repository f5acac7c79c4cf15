//! `routes watch`.

use std::cell::RefCell;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;

use kit::etcd::Cluster;
use kit::process::{self, Watchdog};
use kit::redis::Server;
use kit::tools::ETCD;
use kit::{Process, eventually};
use serde_json::{Value, json};

use crate::support::{Place, Said};
use crate::{STORE, with_routes};

#[test]
fn watch_prints_each_change() {
    let place = with_routes();
    let before = place.files();
    let mut watches = ["", "--json "].map(|option| {
        let arguments = format!("routes watch {option}{STORE}");
        let arguments: Vec<_> = arguments.split(' ').collect();
        let mut command = place.command(&arguments);
        let log = place.path(format!("log{}", option.trim()));
        (Process::start(&mut command, &log), log)
    });
    let text = |log: &Path| fs::read_to_string(log).unwrap();
    let mut port = 0;
    // They are there once they report a change.
    for (watch, log) in &mut watches {
        watch.wait_until("it follows the table", || {
            port += 1;
            let add = format!("routes add /a/ http://t:{} {STORE}", 1 + port % 60000);
            place.run(&add).done();
            text(log).contains("/a/")
        });
    }
    place.run(&format!("routes delete /a/ {STORE}")).done();
    for (mut watch, log) in watches {
        watch.wait_until("the deletion", || {
            let text = text(&log);
            text.ends_with('\n')
                && (text.contains("\n- /a/  http://t:") || text.contains("deleted"))
        });
        // As Ctrl-C does, which a shell may have its jobs ignore.
        process::send_signal(watch.id(), "TERM");
        assert_eq!(watch.wait().signal(), Some(15));
        let text = text(&log);
        if log.ends_with("log--json") {
            let objects: Vec<Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            let last = &objects[objects.len() - 1];
            assert_eq!(
                (&last["change"], &last["to"]),
                (&json!("deleted"), &json!(null))
            );
        } else {
            let marks = text.lines().map(|line| &line[..4]);
            assert!(
                marks
                    .into_iter()
                    .all(|mark| ["+ /a", "~ /a", "- /a"].contains(&mark)),
                "{text}"
            );
        }
        fs::remove_file(log).unwrap();
    }
    assert_eq!(place.files(), before);
}

#[test]
fn watch_ends_with_its_reader() {
    let place = with_routes();
    let arguments = format!("routes watch {STORE}");
    let mut command = place.command(&arguments.split(' ').collect::<Vec<_>>());
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watch = piped.spawn().unwrap();
    let _watchdog = Watchdog::over(&mut watch);
    drop(watch.stdout.take());
    eventually("it ends without a change", || {
        watch.try_wait().unwrap().is_some()
    });
    let said = Said::of(&watch.wait_with_output().unwrap());
    assert_eq!(said.done(), "");
}

/// Follows a table while its store goes `away` and comes `back` without /a/, and until then with it.
fn watch_over(place: &Place, store: &str, away: impl FnOnce(), back: impl FnOnce()) {
    place
        .run(&format!("routes add /a/ http://a {store}"))
        .done();
    let arguments = format!("routes watch {store}");
    let mut command = place.command(&arguments.split(' ').collect::<Vec<_>>());
    let log = place.path("log");
    let mut watch = Process::start(&mut command, &log);
    let text = || fs::read_to_string(&log).unwrap();
    let mut port = 0;
    watch.wait_until("it follows the table", || {
        port += 1;
        let add = format!("routes add /a/ http://t:{port} {store}");
        place.run(&add).done();
        text().contains("/a/")
    });
    away();
    watch.wait_until("it says that the store is away", || {
        text().contains("warning: ")
    });
    back();
    watch.wait_until("it prints what has changed meanwhile", || {
        text().contains("- /a/")
    });
    place
        .run(&format!("routes add /b/ http://b {store}"))
        .done();
    watch.wait_until("it follows the table again", || text().contains("+ /b/"));
    let warnings: Vec<_> = text()
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .map(String::from)
        .collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("Changes are printed once the routes can be read again"),
        "{warnings:?}"
    );
    assert_eq!(warnings[1], "warning: the routes can be read again");
}

#[test]
fn watch_outlasts_a_broken_file() {
    let place = Place::new();
    let empty = with_routes();
    for spec in ["/user/zoe/", "docs.example.org/"] {
        empty.run(&format!("routes delete {spec} {STORE}")).done();
    }
    let replace = |text: &str| {
        place.write("new", text);
        fs::rename(place.path("new"), place.path("rules.toml")).unwrap();
    };
    watch_over(
        &place,
        STORE,
        || replace("[broken"),
        || replace(&empty.text("rules.toml")),
    );
}

#[test]
fn watch_outlasts_its_etcd() {
    let mut etcd = Cluster::start(&ETCD.path());
    let store = format!("--backend etcd:{}", etcd.url());
    let place = Place::new();
    let etcd = RefCell::new(&mut etcd);
    let back = || {
        etcd.borrow_mut().restart(0);
        place.run(&format!("routes delete /a/ {store}")).done();
    };
    watch_over(&place, &store, || etcd.borrow_mut().kill(0), back);
}

#[test]
fn watch_outlasts_its_redis() {
    let mut redis = Server::start(&["--save", ""]);
    let store = format!("--backend redis:{}", redis.url());
    let redis = RefCell::new(&mut redis);
    // Without a disk it comes back empty.
    watch_over(
        &Place::new(),
        &store,
        || redis.borrow_mut().kill(),
        || redis.borrow_mut().restart(),
    );
}

#[test]
fn watch_needs_its_table() {
    let place = Place::new();
    place
        .run(&format!("routes watch {STORE}"))
        .failed(1, "there are no routes in rules.toml");
    let nobody = place.web;
    place
        .run(&format!(
            "routes watch --backend etcd:http://127.0.0.1:{nobody}"
        ))
        .failed(1, "Connection refused");
}
