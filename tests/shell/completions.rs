//! `completions`, in a bash with a terminal, and `man`.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::Place;
use crate::with_routes;

/// Has a bash with a terminal of its own read these keys, one line after the other; returns what stands on it.
fn typed(place: &Place, keys: &str) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_traefik-router"));
    let programs = programs.parent().unwrap().display();
    let rc =
        format!("PATH={programs}:$PATH\nsource <(traefik-router completions bash)\nPS1='$ '\n");
    place.write("rc", &rc);
    let mut bash = Command::new("script")
        .args([
            "-qc",
            "stty cols 300; bash --noprofile --rcfile rc -i",
            "/dev/null",
        ])
        .current_dir(place.dir.path())
        .env("TERM", "dumb")
        .env("INPUTRC", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("script is missing; on Debian: apt-get install bsdutils");
    let mut input = bash.stdin.take().unwrap();
    input.write_all(keys.as_bytes()).unwrap();
    input.write_all(b"\rexit\r").unwrap();
    // Its end would end bash at once.
    let said = bash.wait_with_output().unwrap();
    drop(input);
    // The bell rings where a completion is not the only one.
    String::from_utf8(said.stdout).unwrap().replace('\x07', "")
}

#[test]
fn bash_completes_routespecs() {
    let place = with_routes();
    fs::copy(place.path("rules.toml"), place.path("my rules.toml")).unwrap();
    for (keys, line) in [
        (
            "traefik-router routes get --backend \"toml:my rules.toml\" /us\t",
            "rules.toml\" /user/zoe/ ",
        ),
        (
            "traefik-router routes get --backend='toml:my rules.toml' doc\t",
            "rules.toml' docs.example.org/ ",
        ),
        (
            "traefik-router routes get --backend toml:my\\ rules.toml doc\t",
            "rules.toml docs.example.org/ ",
        ),
        (
            "traefik-router routes add /a/ \"it's here\" --data '{}' --backend toml:rules.toml /us\t",
            "toml:rules.toml /us",
        ),
        (
            "traefik-router routes get --backend toml:rules.toml /us\t",
            "get --backend toml:rules.toml /user/zoe/ ",
        ),
        (
            "traefik-router routes get --backend=toml:rules.toml doc\t--js\t",
            "get --backend=toml:rules.toml docs.example.org/ --json ",
        ),
        // The target of a route is no routespec.
        (
            "traefik-router routes add --backend toml:rules.toml /a/ /us\t",
            "/a/ /us",
        ),
        (
            "traefik-router rou\tli\t--backend toml:rul\t",
            "routes list --backend toml:rules.toml",
        ),
    ] {
        let said = typed(&place, keys);
        assert!(said.contains(line), "{keys:?}: {said}");
    }
}

#[test]
fn scripts_ask_the_named_store() {
    let place = Place::new();
    for shell in ["zsh", "fish"] {
        let script = place.run(&format!("completions {shell}")).done();
        assert!(script.contains("routes list --json"), "{shell}");
        assert!(
            script.contains("--backend") && !script.contains("@LIST@"),
            "{shell}"
        );
    }
}

#[test]
fn man_writes_a_page_a_command() {
    let place = Place::new();
    place.run("man .").done();
    let page = fs::read_to_string(place.path("traefik-router-routes-add.1")).unwrap();
    assert!(
        page.contains("\\-\\-middleware") && page.contains("Examples:"),
        "{page}"
    );
    assert!(place.files().contains(&"traefik-router.1".into()));
    for file in place.files() {
        let page = fs::read_to_string(place.path(&file)).unwrap();
        let options = page.split(".TP\n").skip(1);
        for option in options.filter(|option| option.starts_with("\\fB")) {
            assert!(option.trim_end().lines().count() > 1, "{file}: {option}");
        }
    }
    place.run("man none").failed(1, "into none: ");
}
