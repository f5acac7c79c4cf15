//! The file that is shared with people, other programs and the operating system.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kit::{Echo, eventually};
use serde_json::{Value, json};
use traefik_router::{Backend as _, Change, ErrorKind, FileBackend, Stored};

use crate::support::child::{Actor, say, wait_to_be_told};
use crate::support::{Kind, Rig, on_each_file};

on_each_file! {
    handwritten_content_stays_served,
    odd_files_stay_served,
    leftover_between_marks_is_removed,
    edit_under_running_router_stays,
    emptied_table_can_be_refilled,
    whole_directory_can_be_watched,
    links_and_modes_are_kept,
    only_writers_may_lock,
    syntax_error_names_its_line,
    held_lock_is_reported,
    removed_lock_loses_no_change,
    full_disk_changes_nothing,
    replaced_file_is_used,
    removed_file_is_written_again,
    foreign_temporary_files_block_nothing,
}

/// A file as a person would write it, with a router to this target.
fn hand_written(kind: Kind, target: &str) -> String {
    match kind {
        Kind::Toml => format!(
            r#"# Ours since 2019; ask before you touch it.

[http.services.hand.loadBalancer]   # after its router in the alphabet
  servers = [{{url = "{target}"}}]

[http.routers]
  [http.routers.hand]
  rule = 'PathPrefix(`/hand`)' # a backtick is fine here
  service   =   "hand"
  entryPoints = ["http"]
  middlewares = ["strip"]

[http.middlewares.strip.headers.customRequestHeaders]
X-By-Hand = '''yes'''

[unknown.to.traefik]
number = 0x10
date = 1979-05-27T07:32:00Z
# the end
"#
        ),
        #[cfg(feature = "yaml")]
        Kind::Yaml => format!(
            r#"# Ours since 2019; ask before you touch it.
---
http:
    services:    # indented by four
        hand:
            loadBalancer:
                servers:
                - url: "{target}"
    # between
    routers:
        hand: {{rule: "PathPrefix(`/hand`)", service: hand, entryPoints: [http], middlewares: [strip]}}

    middlewares:
        strip:
            headers:
                customRequestHeaders: {{X-By-Hand: 'yes'}}

unknown:
  - to: traefik
    text: |
      line

      line
# the end
"#
        ),
        _ => unreachable!("no file"),
    }
}

/// The text outside of what is marked as ours.
fn without_ours(text: &str) -> String {
    let mut ours = false;
    let theirs = text.split_inclusive('\n').filter(|line| {
        let line = line.trim();
        let marked = line.starts_with("# traefik-router: ");
        ours = (ours || line.starts_with("# traefik-router: begin"))
            && line != "# traefik-router: end";
        !ours && !marked
    });
    theirs.collect()
}

fn check_hand_written(rig: &Rig, echo: &Echo) {
    let received = rig.get("h", "/hand/x").echo();
    assert_eq!(received["port"], echo.port);
    assert_eq!(received["headers"]["x-by-hand"], "yes");
}

fn handwritten_content_stays_served(kind: Kind) {
    let rig = Rig::new(kind);
    let [hand, echo] = [(); 2].map(|()| Echo::start());
    let text = hand_written(kind, &hand.url());
    rig.write_rules(&text);
    let router = rig.start();
    check_hand_written(&rig, &hand);
    assert_eq!(without_ours(&rig.rules_text()), text);
    for spec in ["/a/", "/b/", "host.x/"] {
        router.add_route(spec, echo.url(), json!({"n": 1})).unwrap();
        assert_eq!(without_ours(&rig.rules_text()), text);
    }
    check_hand_written(&rig, &hand);
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    for spec in ["/a/", "/b/", "host.x/"] {
        router.delete_route(spec).unwrap();
        assert_eq!(without_ours(&rig.rules_text()), text);
    }
    check_hand_written(&rig, &hand);
    router.stop().unwrap();
    assert_eq!(rig.rules_text(), text, "without routes our part is gone");
    let rules = rig
        .rules()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_string();
    assert_eq!(rig.files(), [rules]);
}

/// Odd files that Traefik reads; each has a router to this target, at `/hand`.
fn odd_files(kind: Kind, target: &str) -> Vec<String> {
    let (router, service) = match kind {
        Kind::Toml => (
            "rule = 'PathPrefix(`/hand`)'\nservice = 'hand'\n".to_string(),
            format!("servers = [{{url = \"{target}\"}}]\n"),
        ),
        _ => (
            "{rule: 'PathPrefix(`/hand`)', service: hand}\n".to_string(),
            format!("{{loadBalancer: {{servers: [{{url: '{target}'}}]}}}}\n"),
        ),
    };
    let ends: &[&str] = match kind {
        Kind::Toml => &[
            "[http]",
            "[note]\nx = '''\n# traefik-router: begin\n# traefik-router: end'''",
        ],
        _ => &[
            "note: |\n  text",
            "note: |+\n  # traefik-router: begin\n\n\n",
            "note: >\n  a\n  ",
        ],
    };
    let bodies = match kind {
        Kind::Toml => vec![
            format!("[http.routers.hand]\n{router}[http.services.hand.loadBalancer]\n{service}"),
            format!(
                "\u{feff}[ 'http' . \"routers\".hand]\n{router}[http.services]\n[http.services.hand.loadBalancer]\n{service}"
            ),
        ],
        _ => vec![
            format!(
                "http:\n  routers:\n    !!map\n    hand: {router}  services: !!map\n    hand: {service}"
            ),
            format!(
                "\u{feff}\"http\" :\n      # deep\n   routers:\n    hand: {router} # shallow\n   services:\n    hand: {service}"
            ),
            format!(
                "--- !!map\nhttp:\n    !!map\n    services:\n          hand: {service}    routers:\n      hand: {router}"
            ),
        ],
    };
    let files = bodies
        .iter()
        .flat_map(|body| ends.iter().map(move |end| format!("{body}{end}")));
    let files: Vec<_> = files.collect();
    let windows = files.iter().map(|text| text.replace('\n', "\r\n"));
    windows.step_by(3).chain(files.iter().cloned()).collect()
}

fn odd_files_stay_served(kind: Kind) {
    let rig = Rig::new(kind);
    let [hand, echo] = [(); 2].map(|()| Echo::start());
    for text in odd_files(kind, &hand.url()) {
        rig.write_rules(&text);
        let router = rig.start();
        assert_eq!(rig.landed("h", "/hand/x"), Some(hand.port), "{text:?}");
        router.add_route("/a/", echo.url(), json!(1)).unwrap();
        assert_eq!(rig.landed("h", "/hand/x"), Some(hand.port), "{text:?}");
        assert_eq!(rig.landed("h", "/a/"), Some(echo.port), "{text:?}");
        router.delete_route("/a/").unwrap();
        router.stop().unwrap();
        assert_eq!(rig.rules_text(), text);
    }
}

fn leftover_between_marks_is_removed(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    let text = "# mine\n";
    rig.write_rules(text);
    let router = rig.start();
    for spec in ["/a/", "/b/"] {
        router.add_route(spec, echo.url(), json!(1)).unwrap();
    }
    let written = rig.rules_text();
    let lines = written.split_inclusive('\n');
    let lines = lines.filter(|line| !line.contains("\"spec\":\"/a/\""));
    rig.write_rules(&lines.collect::<String>());
    assert_eq!(router.get_all_routes().unwrap().len(), 1);
    router.delete_route("/b/").unwrap();
    assert_eq!(rig.landed("h", "/a/"), None, "its record was deleted");
    router.stop().unwrap();
    assert_eq!(rig.rules_text(), text);
}

fn replaced_file_is_used(kind: Kind) {
    let rig = Rig::new(kind);
    let [hand, echo] = [(); 2].map(|()| Echo::start());
    let router = rig.start();
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    let text = hand_written(kind, &hand.url());
    rig.write_rules(&text);
    assert!(
        router.get_all_routes().unwrap().is_empty(),
        "the file says what there is"
    );
    router.delete_route("/never/was/").unwrap();
    rig.write_rules(&text);
    router.add_route("/b/", echo.url(), json!(2)).unwrap();
    check_hand_written(&rig, &hand);
    assert_eq!(rig.landed("h", "/b/"), Some(echo.port));
    assert_eq!(rig.landed("h", "/a/"), None);
    assert_eq!(without_ours(&rig.rules_text()), text);
    rig.write_rules("");
    router.add_route("/c/", echo.url(), json!(3)).unwrap();
    assert_eq!(rig.landed("h", "/c/"), Some(echo.port));
}

fn edit_under_running_router_stays(kind: Kind) {
    let rig = Rig::new(kind);
    let [hand, echo] = [(); 2].map(|()| Echo::start());
    let before = hand_written(kind, "http://127.0.0.1:1");
    rig.write_rules(&before);
    let router = rig.start();
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    let edited = rig
        .rules_text()
        .replace("http://127.0.0.1:1\"", &format!("{}\"", hand.url()));
    let edited = edited.replace("# the end", "# the very end\n# of it");
    rig.write_rules(&edited);
    eventually("Traefik serves the edit", || {
        rig.landed_or_error("/hand") == Some(hand.port)
    });
    router.add_route("/b/", echo.url(), json!(2)).unwrap();
    check_hand_written(&rig, &hand);
    assert_eq!(without_ours(&rig.rules_text()), without_ours(&edited));
    assert!(rig.rules_text().contains("# the very end\n# of it\n"));
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    assert_eq!(rig.landed("h", "/b/"), Some(echo.port));
}

fn emptied_table_can_be_refilled(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    for round in 0..3 {
        router
            .add_route("/only/", echo.url(), json!(round))
            .unwrap();
        assert_eq!(rig.landed("h", "/only/"), Some(echo.port));
        router.delete_route("/only/").unwrap();
        assert_eq!(rig.landed("h", "/only/"), None);
        assert!(router.status().is_healthy());
    }
}

fn whole_directory_can_be_watched(kind: Kind) {
    let rig = Rig::new(kind);
    let [hand, echo] = [(); 2].map(|()| Echo::start());
    let folder = rig.path("dynamic");
    fs::create_dir(&folder).unwrap();
    let hand_file = folder.join(format!("a-hand.{}", kind.ending()));
    let text = hand_written(kind, &hand.url());
    fs::write(&hand_file, &text).unwrap();
    let ours = folder.join(format!("routes.{}", kind.ending()));
    let router = rig
        .builder_over(FileBackend::new(&ours).directory(true))
        .start()
        .unwrap();
    for n in 0..10 {
        router
            .add_route(format!("/n/{n}/"), echo.url(), json!(n))
            .unwrap();
        assert_eq!(rig.landed("h", &format!("/n/{n}")), Some(echo.port));
        check_hand_written(&rig, &hand);
    }
    router.delete_route("/n/5/").unwrap();
    assert_eq!(rig.landed("h", "/n/5"), None);
    check_hand_written(&rig, &hand);
    router.stop().unwrap();
    assert_eq!(fs::read_to_string(hand_file).unwrap(), text);
}

fn mode(path: impl AsRef<std::path::Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn links_and_modes_are_kept(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    let real = rig.path(format!("real.{}", kind.ending()));
    let text = hand_written(kind, &echo.url());
    fs::write(&real, &text).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
    symlink(real.file_name().unwrap(), rig.rules()).unwrap();
    let router = rig.start();
    assert_eq!(
        mode(rig.path("traefik.toml")),
        0o600,
        "the static configuration"
    );
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    assert!(fs::symlink_metadata(rig.rules()).unwrap().is_symlink());
    assert!(!fs::symlink_metadata(&real).unwrap().is_symlink());
    assert_eq!(mode(&real), 0o644);
    assert_eq!(without_ours(&fs::read_to_string(&real).unwrap()), text);

    let fresh = Rig::new(kind);
    let router = fresh.start();
    assert_eq!(mode(fresh.rules()), 0o600, "a new file");
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    assert_eq!(mode(fresh.rules()), 0o600);
}

/// Whoever can open it can hold it, and keep us from writing.
fn only_writers_may_lock(kind: Kind) {
    let rig = Rig::new(kind);
    let router = rig.builder().offline().unwrap();
    router.apply([]).unwrap();
    let lock = rig.path(format!("{}.lock", rig.rules().display()));
    for (rules, expected) in [(0o600, 0o600), (0o644, 0o600), (0o664, 0o660)] {
        fs::remove_file(&lock).unwrap();
        fs::set_permissions(rig.rules(), fs::Permissions::from_mode(rules)).unwrap();
        router.add_route("/a/", "http://h", json!(rules)).unwrap();
        assert_eq!((mode(&lock), mode(rig.rules())), (expected, rules));
    }
}

fn syntax_error_names_its_line(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    let broken = match kind {
        Kind::Toml => "# one\n# two\n[http.routers\nrule = 1\n",
        #[cfg(feature = "yaml")]
        Kind::Yaml => "# one\nhttp:\n  routers: {a: [1}\n",
        _ => unreachable!("no file"),
    };
    rig.write_rules(broken);
    let check = |error: traefik_router::Error| {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let text = error.to_string();
        let file = rig.rules().display().to_string();
        assert!(text.contains(&file) && text.contains("line 3"), "{text}");
        assert_eq!(*error.stored(), Stored::Nothing);
        assert_eq!(rig.rules_text(), broken);
    };
    check(rig.builder().start().unwrap_err());
    assert!(!rig.path("traefik.toml").exists());
    fs::remove_file(rig.rules()).unwrap();
    let router = rig.start();
    rig.write_rules(broken);
    check(router.add_route("/a/", echo.url(), json!(1)).unwrap_err());
    check(router.get_all_routes().unwrap_err());
}

#[test]
fn unwritable_folder_is_reported() {
    let rig = Rig::new(Kind::Toml);
    let backend = FileBackend::new("/proc/rules.toml");
    let error = rig.builder_over(backend).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("/proc/rules.toml"), "{error}");
    let error = rig
        .builder_over(FileBackend::new(rig.path("none/rules.toml")))
        .start()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("none"), "{error}");
}

fn held_lock_is_reported(kind: Kind) {
    let rig = Rig::new(kind);
    let backend = FileBackend::new(rig.rules()).lock_timeout(Duration::from_millis(300));
    let (router, echo) = (rig.builder_over(backend).start().unwrap(), Echo::start());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    let before = rig.rules_text();
    let lock = format!("{}.lock", rig.rules().display());
    let mut holder = Actor::start("locker", &json!({"lock": lock}));
    assert_eq!(holder.hear().as_deref(), Some("locked"));
    let start = Instant::now();
    let error = router.add_route("/b/", echo.url(), json!(1)).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        (error.kind(), error.stored()),
        (ErrorKind::Locked, &Stored::Nothing)
    );
    assert!(error.to_string().contains(&lock), "{error}");
    assert_eq!(rig.rules_text(), before);
    assert_eq!(
        router.get_all_routes().unwrap().len(),
        1,
        "readers do not wait"
    );
    // A holder that is killed leaves no lock behind.
    drop(holder);
    router.add_route("/b/", echo.url(), json!(1)).unwrap();
    assert_eq!(rig.landed("h", "/b/"), Some(echo.port));
}

/// A part for another process: holds a lock until it is killed.
pub(crate) fn hold_the_lock(arguments: &Value) {
    let path = arguments["lock"].as_str().unwrap();
    let file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    fs2::FileExt::lock_exclusive(&file).unwrap();
    say("locked");
    wait_to_be_told();
}

/// Tidy people and programs remove lock files, also of writers at work.
fn removed_lock_loses_no_change(kind: Kind) {
    const WRITERS: usize = 4;
    const CHANGES: usize = 60;
    let rig = Rig::new(kind);
    let lock = rig.path(format!("{}.lock", rig.rules().display()));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let tidy = scope.spawn(|| {
            let start = Instant::now();
            while !done.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(60) {
                fs::remove_file(&lock).ok();
                // No commit takes longer.
                std::thread::sleep(Duration::from_millis(40));
            }
        });
        let write = |writer: usize| {
            let backend = FileBackend::new(rig.rules()).durable(false);
            let router = rig.builder_over(backend).offline().unwrap();
            for n in 0..CHANGES {
                let spec = format!("/{writer}/{n}/");
                let applied = router.add_route(&spec, "http://h", ()).unwrap();
                assert_eq!(applied.added.len(), 1, "{applied:?}");
            }
        };
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| scope.spawn(move || write(n)))
            .collect();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        tidy.join().unwrap();
    });
    assert_eq!(rig.backend().read().unwrap().len(), WRITERS * CHANGES);
}

fn full_disk_changes_nothing(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    router
        .add_route("/a/", echo.url(), json!("x".repeat(20_000)))
        .unwrap();
    let before = rig.rules_text();
    // No file may grow beyond 8 KB there, as if the disk were full; the signal would say the same.
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""]);
    limited.arg(std::env::current_exe().unwrap());
    let arguments = json!({"rules": rig.rules()});
    let mut writer = Actor::start_by(limited, "writer", &arguments);
    let said = writer.hear().unwrap_or_default();
    assert!(said.starts_with("Store Nothing: can't write"), "{said}");
    assert!(said.contains("too large"), "{said}");
    assert!(writer.finish());
    assert_eq!(rig.rules_text(), before);
    let temps: Vec<_> = rig
        .files()
        .into_iter()
        .filter(|name| name.ends_with(".tmp"))
        .collect();
    assert!(temps.is_empty(), "{temps:?}");
    // Nobody was hurt.
    router.add_route("/b/", echo.url(), json!(1)).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    assert_eq!(rig.landed("h", "/b/"), Some(echo.port));
}

/// A part for another process: tries to write where no room is left.
pub(crate) fn write_to_a_full_disk(arguments: &Value) {
    let backend = FileBackend::new(arguments["rules"].as_str().unwrap());
    let change = Change::set("/full/", "http://127.0.0.1:1").unwrap();
    let error = backend
        .commit(&mut |_, _| Ok(vec![change.clone()]))
        .unwrap_err();
    say(format!("{:?} {:?}: {error}", error.kind(), error.stored()));
}

fn removed_file_is_written_again(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    fs::remove_file(rig.rules()).unwrap();
    assert_eq!(router.get_all_routes().unwrap().len(), 1);
    router.add_route("/b/", echo.url(), json!(2)).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    assert_eq!(rig.landed("h", "/b/"), Some(echo.port));
    assert_eq!(rig.backend().read().unwrap().len(), 2);
}

/// Containers that share a folder have the same process numbers.
fn foreign_temporary_files_block_nothing(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    let rules = rig.rules();
    let name = rules.file_name().unwrap().to_str().unwrap();
    for n in 0..2_000 {
        let left = format!(".{name}.{}.{n}.tmp", std::process::id());
        fs::write(rig.path(left), "").unwrap();
    }
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    router.stop().unwrap();
    // The next one removes them.
    rig.start().stop().unwrap();
    assert!(rig.files().iter().all(|file| !file.ends_with(".tmp")));
}
