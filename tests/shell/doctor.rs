//! What the doctor finds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use kit::eventually;
use kit::tools::TRAEFIK;
use traefik_router::Router;

use crate::support::{Place, Said, finds, on};

#[test]
fn good_setup_has_no_problem() {
    let place = Place::new();
    let _router = place.start();
    place.configure("");
    fs::set_permissions(place.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
    place.run("routes add /a/ http://t").done();
    let said = place.run("doctor --json");
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(
        (&said.json()["problems"], &said.json()["warnings"]),
        (&0.into(), &0.into()),
        "{said:?}"
    );
    for (check, says) in [
        ("traefik", "Traefik 3."),
        ("permissions", "password"),
        ("lock", "no writer"),
        ("store", "1 route on the entrypoint \"http\""),
        ("certificate", "is set"),
        ("password-hash", "{SHA}"),
        ("api", "Traefik 3."),
        ("password", "the given one is right"),
        ("provider", "\"file\""),
        ("entrypoint", "\"http\""),
        ("generation", "has loaded generation"),
        ("routers", "refuses no router"),
    ] {
        finds(&said, check, "ok", says);
    }
    finds(&said, "throttle", "note", "can't be seen");
    let text = place.run("doctor").done();
    assert!(
        text.contains("ok       generation     ") && text.contains("0 problems, 0 warnings"),
        "{text}"
    );
}

#[test]
fn unserved_routes_are_a_problem() {
    let place = Place::new();
    let _traefik = place.start_external("other.toml", "0s");
    place.configure("");
    place.run("routes add /a/ http://t --no-wait").done();
    let said = place.run("doctor --json");
    assert_eq!(said.code, 1);
    finds(
        &said,
        "generation",
        "problem",
        "has loaded nothing of this store",
    );
    finds(&said, "password", "warning", "answers without a password");
    finds(&said, "certificate", "warning", "no default certificate");
    finds(&said, "permissions", "warning", "password holds a secret");
    place
        .run("routes add /a/ http://t --no-wait --entrypoint gone")
        .done();
    finds(
        &place.run("doctor --json"),
        "entrypoint",
        "problem",
        "no entrypoint \"gone\"",
    );
}

#[test]
fn traefik_explains_refused_routers() {
    let place = Place::new();
    let router = place.start();
    place.configure("");
    place.run("routes add /a/ http://t").done();
    // Another program sets the table up for an entrypoint that this Traefik does not have.
    let other = traefik_router::FileBackend::new(place.path("rules.toml"));
    let other = Router::builder(other).traefik_entrypoint("vanished");
    other.offline().unwrap().apply([]).unwrap();
    let text = place.text("rules.toml");
    let foreign = "[http.routers.mine]\nrule = \"Nonsense(\"\nservice = \"x\"\n\n";
    fs::write(place.path("new"), format!("{foreign}{text}")).unwrap();
    fs::rename(place.path("new"), place.path("rules.toml")).unwrap();
    eventually("all are refused", || {
        let said = place.run("doctor --json");
        on(&said, "routers").len() == 3
    });
    let said = place.run("doctor --json");
    assert_eq!(said.code, 1);
    finds(&said, "routers", "problem", "the route /a/: ");
    finds(&said, "routers", "problem", "vanished");
    finds(&said, "routers", "problem", "shows the generation");
    finds(
        &said,
        "routers",
        "warning",
        "mine@file, which is not of this table",
    );
    drop(router);
}

#[test]
fn file_problems_are_found() {
    let place = Place::new();
    place.write("rules.toml", include_str!("../data/legacy.toml"));
    let bin = format!("--traefik-bin {}", TRAEFIK.path().display());
    let run = || place.run(&format!("doctor --json --backend toml:rules.toml {bin}"));
    let said = run();
    finds(&said, "permissions", "warning", "can be read by everybody");
    finds(&said, "legacy", "warning", "5 routes");
    finds(&said, "password-hash", "warning", "bcrypt of cost 12");
    assert!(!said.out.contains("$2b$"), "{said:?}");
    finds(&said, "api", "note", "no Traefik was asked");
    assert_eq!(said.code, 0);

    place.write(".rules.toml.1.2.tmp", "");
    finds(&run(), "leftovers", "warning", ".rules.toml.1.2.tmp");
    let lock = fs::File::create(place.path("rules.toml.lock")).unwrap();
    fs2::FileExt::lock_exclusive(&lock).unwrap();
    let said = run();
    assert_eq!(said.code, 1);
    finds(&said, "lock", "problem", "fuser");
    assert!(on(&said, "leftovers").is_empty(), "a writer may be at work");
    drop(lock);

    place
        .run("routes add /a/ http://t --backend toml:rules.toml")
        .done();
    std::os::unix::fs::symlink("rules.toml", place.path("link.toml")).unwrap();
    assert!(on(&run(), "copies").is_empty());
    place.write("old.toml", &place.text("rules.toml"));
    place.write("old.txt", &place.text("rules.toml"));
    finds(
        &run(),
        "copies",
        "warning",
        "old.toml has a copy of this table",
    );

    place.write("rules.toml", "[http\n");
    finds(&run(), "store", "problem", "line 1");
    fs::remove_file(place.path("rules.toml")).unwrap();
    finds(&run(), "store", "problem", "there is no table");
}

#[test]
fn endless_program_is_not_awaited() {
    let place = Place::new();
    let run = |script: &str| {
        fs::write(place.path("odd"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(place.path("odd"), fs::Permissions::from_mode(0o755)).unwrap();
        place.run("doctor --json --backend toml:r.toml --traefik-bin ./odd --api-timeout 0.5")
    };
    finds(&run("exec sleep 60"), "traefik", "warning", "does not end");
    let said = run("sleep 5 & echo 'Version: 3.1.4'");
    finds(&said, "traefik", "ok", "Traefik 3.1.4");
}

/// As in a Python environment, which need not be on PATH.
#[test]
fn traefik_beside_program_is_found() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = folder.path().join("traefik-router");
    fs::hard_link(env!("CARGO_BIN_EXE_traefik-router"), &program).unwrap();
    std::os::unix::fs::symlink(TRAEFIK.path(), folder.path().join("traefik")).unwrap();
    let doctor = |path: &Path| {
        let mut command = Command::new(&program);
        command.args("doctor --json --backend toml:r.toml".split(' '));
        command.current_dir(folder.path());
        command.env_remove("TRAEFIK_BIN").env("PATH", path);
        Said::of(&command.output().unwrap())
    };
    finds(&doctor(Path::new("")), "traefik", "ok", "is installed");
    // It comes before another one on PATH.
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    std::os::unix::fs::symlink("/bin/true", other.join("traefik")).unwrap();
    finds(&doctor(&other), "traefik", "ok", "is installed");
    fs::remove_file(folder.path().join("traefik")).unwrap();
    finds(
        &doctor(&other),
        "traefik",
        "warning",
        "does not answer as Traefik",
    );
}

#[test]
fn wrong_program_is_reported() {
    let place = Place::new();
    place
        .run("routes add /a/ http://t --backend toml:rules.toml")
        .done();
    let run = |bin: &str| {
        place.run(&format!(
            "doctor --json --backend toml:rules.toml --traefik-bin {bin}"
        ))
    };
    finds(
        &run("/bin/true"),
        "traefik",
        "warning",
        "does not answer as Traefik does",
    );
    finds(&run("./none"), "traefik", "warning", "there is no program");
    let script = place.path("old");
    fs::write(&script, "#!/bin/sh\necho 'Version: 2.11.0'\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let said = run("./old");
    finds(&said, "traefik", "problem", "2.11.0");
    assert_eq!(said.code, 1);
}

#[test]
fn failed_loading_brings_advice() {
    let place = Place::new();
    place.configure("");
    place.run("routes add /a/ http://t --no-wait").done();
    std::os::unix::fs::symlink(place.path("rules.toml"), place.path("link.toml")).unwrap();
    let linked = place.start_external("link.toml", "0s");
    let add = "routes add /b/ http://t --timeout 1 --backend toml:link.toml";
    place.run(add).failed(4, "reads a symbolic link");
    let said = place.run("doctor --json --backend toml:link.toml");
    finds(&said, "generation", "problem", "still has generation");
    finds(&said, "link", "note", "is a symbolic link to");
    drop(linked);

    fs::rename(place.path("rules.toml"), place.path("saved")).unwrap();
    let early = place.start_on("rules.toml", "0s");
    fs::rename(place.path("saved"), place.path("rules.toml")).unwrap();
    let add = "routes add /b/ http://t --timeout 1";
    place
        .run(add)
        .failed(1, "was not there when it started: restart it");
    drop(early);
}
