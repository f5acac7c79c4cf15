//! A disk that is full, read-only or not ours, and files that are something else than before.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use kit::Echo;
use kit::process::send_signal;
use serde_json::{Value, json};
use traefik_router::{Backend as _, Error, ErrorKind, FileBackend, Router, Stored};

use crate::support::child::{Actor, say};
use crate::support::{Kind, Rig, on_each_file};

on_each_file! {
    table_outlives_a_replacing_folder,
    broken_file_can_begin_anew,
    table_outlives_a_circular_link,
    clock_set_back_stops_nothing,
    stopped_lock_holder_is_awaited,
    readers_overtake_waiting_writers,
}

/// A change fails and leaves everything as it was; the error says all of these.
#[track_caller]
fn fails(router: &Router, says: &[&str]) {
    let error: Error = router.add_route("/failed/", "http://h", ()).unwrap_err();
    let reported = (error.kind(), error.stored());
    assert_eq!(reported, (ErrorKind::Store, &Stored::Nothing), "{error}");
    for text in says {
        assert!(error.to_string().contains(text), "{text:?} in {error}");
    }
}

/// A route from before is served, and so is a new one, of the same Router.
#[track_caller]
fn goes_on(rig: &Rig, router: &Router, echo: &Echo) {
    router.add_route("/after/", echo.url(), ()).unwrap();
    let routes = router.get_all_routes().unwrap();
    let specs: Vec<_> = routes.iter().map(|route| route.spec.as_str()).collect();
    assert_eq!(specs, ["/after/", "/before/"]);
    for path in ["/before/", "/after/"] {
        assert_eq!(rig.landed("h", path), Some(echo.port), "{path}");
    }
    let temps = rig.files().into_iter().filter(|name| name.ends_with("tmp"));
    assert_eq!(temps.count(), 0);
}

fn with_a_route(rig: &Rig, backend: FileBackend) -> (Router, Echo) {
    let (router, echo) = (rig.builder_over(backend).start().unwrap(), Echo::start());
    router.add_route("/before/", echo.url(), ()).unwrap();
    (router, echo)
}

fn table_outlives_a_replacing_folder(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = with_a_route(&rig, FileBackend::new(rig.rules()));
    fs::remove_file(rig.rules()).unwrap();
    fs::create_dir(rig.rules()).unwrap();
    let path = rig.rules().display().to_string();
    fails(&router, &[&path, "not a regular file"]);
    assert!(router.get_all_routes().is_err());
    assert_eq!(
        rig.landed("h", "/before/"),
        Some(echo.port),
        "Traefik goes on"
    );
    fs::remove_dir(rig.rules()).unwrap();
    goes_on(&rig, &router, &echo);
}

/// Somebody breaks the file, sees what it has led to, and starts it again without anything of ours.
fn broken_file_can_begin_anew(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = with_a_route(&rig, FileBackend::new(rig.rules()));
    rig.write_rules("a: [b\n[c");
    let error = router.add_route("/failed/", "http://h", ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    rig.write_rules("");
    // The API's router is back, or else this would not be confirmed.
    router.add_route("/before/", echo.url(), ()).unwrap();
    goes_on(&rig, &router, &echo);
}

fn table_outlives_a_circular_link(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = with_a_route(&rig, FileBackend::new(rig.rules()));
    let aside = rig.path("aside");
    fs::rename(rig.rules(), &aside).unwrap();
    symlink(rig.rules().file_name().unwrap(), rig.rules()).unwrap();
    let path = rig.rules().display().to_string();
    fails(&router, &[&path, "symbolic link"]);
    fs::remove_file(rig.rules()).unwrap();
    fs::rename(&aside, rig.rules()).unwrap();
    goes_on(&rig, &router, &echo);
}

/// The generation and the file's times are those of a time to come.
fn clock_set_back_stops_nothing(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = with_a_route(&rig, FileBackend::new(rig.rules()));
    let now = router.apply([]).unwrap().generation;
    let later = now + 1_000_000_000_000;
    let text = rig.rules_text();
    rig.write_rules(&text.replace(&now.to_string(), &later.to_string()));
    let future = SystemTime::now() + Duration::from_secs(1_000_000_000);
    let file = fs::File::options().append(true).open(rig.rules()).unwrap();
    file.set_modified(future).unwrap();
    for n in 1..4 {
        let done = router.add_route("/before/", echo.url(), n).unwrap();
        assert_eq!(done.generation, later + n);
    }
    let other = rig.builder().offline().unwrap();
    let done = other.add_route("/other/", "http://h", ()).unwrap();
    assert_eq!(done.generation, later + 4);
    assert!(router.get_route("/other/").unwrap().is_some());
    router.delete_route("/other/").unwrap();
    goes_on(&rig, &router, &echo);
}

fn stopped_lock_holder_is_awaited(kind: Kind) {
    let rig = Rig::new(kind);
    let patience = Duration::from_millis(300);
    let backend = FileBackend::new(rig.rules()).lock_timeout(patience);
    let (router, echo) = with_a_route(&rig, backend);
    let before = rig.rules_text();
    let lock = format!("{}.lock", rig.rules().display());
    let mut holder = Actor::start("locker", &json!({"lock": lock}));
    assert_eq!(holder.hear().as_deref(), Some("locked"));
    send_signal(holder.process.id(), "STOP");
    let error = router.add_route("/failed/", "http://h", ()).unwrap_err();
    let reported = (error.kind(), error.stored());
    assert_eq!(reported, (ErrorKind::Locked, &Stored::Nothing), "{error}");
    assert!(error.to_string().contains(&lock), "{error}");
    assert_eq!(rig.rules_text(), before);
    assert_eq!(router.get_all_routes().unwrap().len(), 1, "it can be read");
    send_signal(holder.process.id(), "CONT");
    holder.tell();
    assert!(holder.finish());
    goes_on(&rig, &router, &echo);
}

fn readers_overtake_waiting_writers(kind: Kind) {
    let rig = Rig::new(kind);
    let backend = FileBackend::new(rig.rules()).lock_timeout(Duration::from_secs(10));
    let router = rig.builder_over(backend).offline().unwrap();
    // What it knows of the file is out of date.
    let other = rig.builder().offline().unwrap();
    other.add_route("/other/", "http://h", ()).unwrap();
    let lock = format!("{}.lock", rig.rules().display());
    let mut holder = Actor::start("locker", &json!({"lock": lock}));
    assert_eq!(holder.hear().as_deref(), Some("locked"));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| router.add_route("/a/", "http://h", ()));
        std::thread::sleep(Duration::from_millis(300));
        assert!(router.get_route("/other/").unwrap().is_some());
        assert!(!writer.is_finished());
        holder.tell();
        writer.join().unwrap().unwrap();
    });
    assert!(holder.finish());
}

/// Plays a scene where it may mount what it likes: nobody else sees it, and it ends with the scene.
fn with_mounts_of_its_own(scene: &str) {
    let mut program = Command::new("unshare");
    program
        .args(["--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap());
    let rig = Rig::new(Kind::Toml);
    let arguments = json!({"rig": rig.to_json(), "scene": scene});
    let mut actor = Actor::start_by(program, "disk", &arguments);
    let heard = actor.hear();
    assert_eq!(
        (heard.as_deref(), actor.finish()),
        (Some("played"), true),
        "the scene failed, see above; it needs `unshare` and `mount` (Debian's util-linux and mount), \
         and a kernel that lets users have namespaces"
    );
}

#[test]
fn writing_resumes_after_full_disk() {
    with_mounts_of_its_own("full");
}

#[test]
fn writing_resumes_after_read_only() {
    with_mounts_of_its_own("read-only");
}

#[test]
fn file_stays_on_other_disk() {
    with_mounts_of_its_own("elsewhere");
}

#[test]
fn mounted_file_brings_advice() {
    with_mounts_of_its_own("mounted file");
}

/// A part for another process, with mounts of its own.
pub(crate) fn play(arguments: &Value) {
    let rig = Rig::from_json(&arguments["rig"]);
    match arguments["scene"].as_str().unwrap() {
        "full" => a_full_disk(&rig),
        "read-only" => a_read_only_disk(&rig),
        "elsewhere" => a_file_on_another_disk(&rig),
        "mounted file" => a_mounted_file(&rig),
        other => panic!("{other}"),
    }
    say("played");
}

#[track_caller]
fn mount(arguments: &str, place: &Path) {
    let mut mount = Command::new("mount");
    let mount = mount.args(arguments.split(' ')).arg(place);
    assert!(mount.status().unwrap().success(), "{mount:?}");
}

fn a_full_disk(rig: &Rig) {
    mount("-t tmpfs -o size=128k tmpfs", &rig.folder);
    let (router, echo) = with_a_route(rig, FileBackend::new(rig.rules()));
    let before = rig.rules_text();
    let large = || router.add_route("/failed/", "http://h", "x".repeat(150_000));
    let error = large().unwrap_err();
    let reported = (error.kind(), error.stored());
    assert_eq!(reported, (ErrorKind::Store, &Stored::Nothing), "{error}");
    let path = rig.rules().display().to_string();
    let reported = error.to_string();
    assert!(
        reported.contains(&path) && reported.contains("No space left"),
        "{reported}"
    );
    assert_eq!(rig.rules_text(), before);
    // Not even a byte more.
    fs::write(rig.path("ballast"), vec![0; 1 << 20]).unwrap_err();
    fails(&router, &[&path, "No space left"]);
    assert_eq!(rig.rules_text(), before);
    assert_eq!(rig.landed("h", "/before/"), Some(echo.port));
    mount("-o remount,size=1m", &rig.folder);
    large().unwrap();
    router.delete_route("/failed/").unwrap();
    fs::remove_file(rig.path("ballast")).unwrap();
    goes_on(rig, &router, &echo);
}

fn a_read_only_disk(rig: &Rig) {
    mount("-t tmpfs tmpfs", &rig.folder);
    let (router, echo) = with_a_route(rig, FileBackend::new(rig.rules()));
    let before = rig.rules_text();
    mount("-o remount,ro", &rig.folder);
    fails(&router, &[&rig.rules().display().to_string(), "Read-only"]);
    assert_eq!(rig.rules_text(), before);
    assert_eq!(router.get_all_routes().unwrap().len(), 1);
    assert_eq!(rig.landed("h", "/before/"), Some(echo.port));
    mount("-o remount,rw", &rig.folder);
    goes_on(rig, &router, &echo);
}

fn a_file_on_another_disk(rig: &Rig) {
    let disk = rig.path("disk");
    fs::create_dir(&disk).unwrap();
    mount("-t tmpfs tmpfs", &disk);
    let real = disk.join("real.toml");
    symlink(&real, rig.rules()).unwrap();
    fs::write(&real, "# by hand\n").unwrap();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_ne!(device(&real), device(&rig.folder));
    let (router, echo) = with_a_route(rig, FileBackend::new(rig.rules()));
    goes_on(rig, &router, &echo);
    assert!(fs::symlink_metadata(rig.rules()).unwrap().is_symlink());
    assert!(rig.rules_text().starts_with("# by hand\n"));
    assert_eq!(
        FileBackend::new(rig.rules()).read().unwrap(),
        FileBackend::new(&real).read().unwrap()
    );
}

fn a_mounted_file(rig: &Rig) {
    let (router, echo) = with_a_route(rig, FileBackend::new(rig.rules()));
    let before = rig.rules_text();
    let rules = rig.rules().display().to_string();
    mount(&format!("--bind {rules}"), &rig.rules());
    fails(&router, &[&rules, "mount its folder"]);
    assert_eq!(rig.rules_text(), before);
    let unmounted = Command::new("umount").arg(rig.rules()).status();
    assert!(unmounted.unwrap().success());
    goes_on(rig, &router, &echo);
}

#[test]
fn writing_resumes_with_permission() {
    let rig = Rig::new(Kind::Toml);
    // Nothing is forbidden to root.
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut program = Command::new(if is_root { "setpriv" } else { "env" });
    if is_root {
        const NOBODY: u32 = 65534;
        chown(&rig.folder, Some(NOBODY), Some(NOBODY)).unwrap();
        program.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    program.arg(std::env::current_exe().unwrap());
    let mut actor = Actor::start_by(program, "nobody", &json!({"rig": rig.to_json()}));
    assert_eq!(actor.hear().as_deref(), Some("played"), "see above");
    assert!(actor.finish());
}

/// A part for another process, of a user whom things are forbidden to.
pub(crate) fn may_not_touch_it(arguments: &Value) {
    let rig = Rig::from_json(&arguments["rig"]);
    let router = rig.builder().offline().unwrap();
    router.add_route("/before/", "http://h", ()).unwrap();
    let path = rig.rules().display().to_string();
    let modes = |folder: u32, rules: u32| {
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        set(&rig.rules(), rules).unwrap();
        set(&rig.folder, folder).unwrap();
    };
    // Nobody may write into the folder.
    modes(0o500, 0o600);
    fails(&router, &[&path, "Permission denied"]);
    assert_eq!(router.get_all_routes().unwrap().len(), 1);
    fs::set_permissions(&rig.folder, fs::Permissions::from_mode(0o700)).unwrap();
    // Nobody may read the file, and another program has replaced it.
    rig.write_rules(&rig.rules_text());
    modes(0o700, 0o000);
    fails(&router, &[&path, "Permission denied"]);
    modes(0o700, 0o600);
    router.add_route("/after/", "http://h", ()).unwrap();
    assert_eq!(router.get_all_routes().unwrap().len(), 2);
    assert_eq!(rig.files(), ["rules.toml", "rules.toml.lock"]);
    say("played");
}
