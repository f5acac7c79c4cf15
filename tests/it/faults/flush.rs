//! What is asked of the disk itself, as a library that the system's calls go through hears it.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use traefik_router::FileBackend;

use crate::support::child::Actor;
use crate::support::{Kind, Rig, on_each_file};

on_each_file! { only_durable_commits_are_flushed }

fn only_durable_commits_are_flushed(kind: Kind) {
    let folder = tempfile::tempdir().unwrap();
    let [source, library, log] =
        ["flush.c", "flush.so", "log"].map(|name| folder.path().join(name));
    fs::write(&source, include_str!("flush.c")).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]);
    compiler.args([&library, &source]).arg("-ldl");
    let compiled = compiler.status().is_ok_and(|status| status.success());
    assert!(compiled, "install a C compiler: {compiler:?} failed");
    for durable in [true, false] {
        let rig = Rig::new(kind);
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.env("LD_PRELOAD", &library).env("FLUSH_LOG", &log);
        let arguments = json!({"rig": rig.to_json(), "log": log, "durable": durable});
        let actor = Actor::start_by(program, "committer", &arguments);
        assert!(actor.finish(), "durable: {durable}");
    }
}

/// A part for another process, whose calls are heard.
pub(crate) fn commit(arguments: &Value) {
    let rig = Rig::from_json(&arguments["rig"]);
    let durable = arguments["durable"].as_bool().unwrap();
    let backend = FileBackend::new(rig.rules()).durable(durable);
    let router = rig.builder_over(backend).offline().unwrap();
    let log = arguments["log"].as_str().unwrap();
    // Opening was a commit as well.
    fs::write(log, "").unwrap();
    router.add_route("/a/", "http://h", ()).unwrap();
    let heard = fs::read_to_string(log).unwrap();
    let renamed = heard.lines().find_map(|call| call.strip_prefix("rename "));
    let rules = rig.rules().display().to_string();
    let temp = renamed.unwrap().strip_suffix(&format!(" {rules}")).unwrap();
    let rename = format!("rename {temp} {rules}");
    let flushes = [
        format!("fsync {temp}"),
        format!("fsync {}", rig.folder.display()),
    ];
    let expected = match durable {
        true => vec![&flushes[0], &rename, &flushes[1]],
        false => vec![&rename],
    };
    assert_eq!(heard.lines().collect::<Vec<_>>(), expected);
}
