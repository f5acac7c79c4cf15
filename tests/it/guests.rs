//! What a program inherits, and what its host does, leaves Traefik and its watchdog as they should be.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use kit::process::{processes_naming, send_signal};
use kit::{Echo, eventually};
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};
use serde_json::{Value, json};
use traefik_router::{ProcessStatus, Router};

use crate::support::child::{Actor, say, wait_to_be_told};
use crate::support::{Kind, Rig};

/// This test program, started by GNU's `env` with this change of what it inherits.
fn with(changes: &[String]) -> Command {
    let mut env = Command::new("env");
    env.args(changes).arg(std::env::current_exe().unwrap());
    env
}

fn pid_of(router: &Router) -> u32 {
    match router.process() {
        Some(ProcessStatus::Running { pid, .. }) => pid,
        other => panic!("{other:?}"),
    }
}

/// A part for another process: has its Traefik killed, then with its watchdog, revived and stopped.
pub(crate) fn be_a_host(arguments: &Value) {
    let rig = Rig::from_json(&arguments["rig"]);
    let router = rig.start();
    for with_watchdog in [false, true] {
        // A command could not be waited for.
        let traefik = Pid::from_raw(pid_of(&router).cast_signed()).unwrap();
        match with_watchdog {
            true => kill_process_group(getpgid(Some(traefik)).unwrap(), Signal::KILL).unwrap(),
            false => kill_process(traefik, Signal::KILL).unwrap(),
        }
        eventually("it has ended", || {
            matches!(router.process(), Some(ProcessStatus::Ended { .. }))
        });
        assert!(router.revive().unwrap());
    }
    let begun = Instant::now();
    router.stop().unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    drop(router);
    eventually("no child is left", || children().is_empty());
    say("ended well");
}

/// The children of this process, those that nobody has reaped among them.
fn children() -> Vec<String> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter(|stat| {
            let fields = stat.rsplit_once(") ").map(|(_, rest)| rest);
            fields.and_then(|rest| rest.split(' ').nth(1)) == Some(&*own)
        })
        .collect()
}

#[test]
fn host_ignoring_sigchld_sees_end() {
    let rig = Rig::new(Kind::Toml);
    let arguments = json!({"rig": rig.to_json()});
    let mut host = Actor::start_by(with(&["--ignore-signal=CHLD".into()]), "host", &arguments);
    assert_eq!(host.hear().as_deref(), Some("ended well"));
    assert!(host.finish());
}

#[test]
fn host_ignoring_signals_ends_traefik() {
    let rig = Rig::new(Kind::Toml);
    let arguments = json!({"rig": rig.to_json()});
    let signals = ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "PIPE"];
    let ignored = signals.map(|signal| format!("--ignore-signal={signal}"));
    let mut host = Actor::start_by(with(&ignored), "host", &arguments);
    assert_eq!(host.hear().as_deref(), Some("ended well"));
    assert!(host.finish());
}

/// As in a container, whose first process is the parent of all that lose their own.
#[test]
fn first_process_inherits_no_zombie() {
    let rig = Rig::new(Kind::Toml);
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
    ]);
    unshare.arg(std::env::current_exe().unwrap());
    let mut host = Actor::start_by(unshare, "host", &json!({"rig": rig.to_json()}));
    assert_eq!(host.hear().as_deref(), Some("ended well"));
    assert!(host.finish());
}

/// A part for another process: starts a Traefik, and waits.
pub(crate) fn own(arguments: &Value) {
    let rig = Rig::from_json(&arguments["rig"]);
    let router = rig.start();
    say(pid_of(&router));
    wait_to_be_told();
    drop(router);
}

/// As a child that the host has forked without exec does.
#[test]
fn inherited_files_keep_nothing_alive() {
    let rig = Rig::new(Kind::Toml);
    let mut owner = Actor::start("owner_of_one", &json!({"rig": rig.to_json()}));
    owner.hear().unwrap();
    let held: Vec<_> = fs::read_dir(format!("/proc/{}/fd", owner.process.id()))
        .unwrap()
        .flatten()
        .filter_map(|fd| fs::OpenOptions::new().write(true).open(fd.path()).ok())
        .collect();
    assert!(!held.is_empty());
    send_signal(owner.process.id(), "KILL");
    eventually("Traefik and its watchdog are gone", || {
        processes_naming(rig.folder.to_str().unwrap()).is_empty()
    });
}

/// Such a proxy would get users' cookies and tokens.
#[test]
fn proxy_of_environment_is_ignored() {
    let rig = Rig::new(Kind::Toml);
    let echo = Echo::start();
    let arguments = json!({"rig": rig.to_json()});
    let proxies = [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ];
    let named = proxies.map(|name| format!("{name}={}", echo.url()));
    let mut owner = Actor::start_by(with(&named), "owner_of_one", &arguments);
    let pid = owner.hear().unwrap();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment).to_lowercase();
    assert!(!environment.contains("_proxy="), "{environment}");
    owner.tell();
    assert!(owner.finish());
}

#[test]
fn proxy_of_traefik_env_works() {
    let rig = Rig::new(Kind::Toml);
    let named = rig
        .builder()
        .traefik_env("HTTPS_PROXY", "http://127.0.0.1:1");
    let router = named.start().unwrap();
    let environment = fs::read(format!("/proc/{}/environ", pid_of(&router))).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("HTTPS_PROXY=http://127.0.0.1:1"));
}
