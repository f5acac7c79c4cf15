//! Copies of the rules file in a folder that Traefik watches.

use std::fs;
use std::path::Path;
use std::time::Duration;

use kit::{Echo, eventually};
use serde_json::json;
use traefik_router::{Backend as _, Change, ErrorKind, FileBackend, Router, Stored};

use crate::support::{External, Kind, Rig, on_each_file};

const SHORT: Duration = Duration::from_secs(2);

on_each_file! {
    deletion_behind_copy_is_reported,
    preferred_copy_is_named,
    copies_are_found_where_loaded,
}

/// A Router on a file of this folder, and a Traefik of others that watches the folder.
fn attach(rig: &Rig, folder: &Path) -> (External, Router) {
    fs::create_dir(folder).unwrap();
    let config = External::open_config(rig, &json!({"file": {"directory": folder}}));
    let traefik = External::start_with(rig, "external", &config);
    let rules = folder.join(format!("rules.{}", rig.kind.ending()));
    let router = rig
        .builder_over(FileBackend::new(rules))
        .check_route_timeout(SHORT)
        .attach()
        .unwrap();
    (traefik, router)
}

/// Traefik served deleted routes from the copy, and each deletion was reported as served.
fn deletion_behind_copy_is_reported(kind: Kind) {
    let rig = Rig::new(kind);
    let folder = rig.path("dynamic");
    let (_traefik, router) = attach(&rig, &folder);
    let echo = Echo::start();
    let routes = ["/a/", "/b/", "/c/", "/d/"];
    let add = |spec: &&str| Change::set(*spec, echo.url()).unwrap();
    router.apply(routes.iter().map(add)).unwrap();
    router.delete_route("/d/").unwrap();
    let rules = folder.join(format!("rules.{}", kind.ending()));
    let copy = folder.join(format!("z.{}", kind.ending()));
    fs::copy(&rules, &copy).unwrap();

    let says = |what: &str, spec: &str, deleted: Result<_, traefik_router::Error>| {
        let error = deleted.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotLoaded, "{what}: {error}");
        assert_eq!(*error.stored(), Stored::All, "{what}");
        for part in [&copy.display().to_string(), spec] {
            assert!(error.to_string().contains(part), "{part} in {error}");
        }
        assert_eq!(rig.landed("h", spec), Some(echo.port), "{what}");
    };
    says("one", "/a/", router.delete_route("/a/").map(drop));
    says("again", "/a/", router.delete_route("/a/").map(drop));
    let several = ["/b/", "/never/"].map(|spec| Change::delete(spec).unwrap());
    says("several", "/b/", router.apply(several).map(drop));
    says("all", "/c/", router.reconcile([]).map(drop));
    // Those that are not in the copy.
    router.delete_route("/d/").unwrap();
    router.add_route("/e/", echo.url(), ()).unwrap();
    router.delete_route("/e/").unwrap();

    fs::remove_file(copy).unwrap();
    for spec in routes {
        router.delete_route(spec).unwrap();
    }
    eventually("the copy is gone", || rig.landed("h", "/a/").is_none());
}

/// Traefik takes the first file that has a name.
fn preferred_copy_is_named(kind: Kind) {
    let rig = Rig::new(kind);
    let folder = rig.path("dynamic");
    let (_traefik, router) = attach(&rig, &folder);
    let copy = format!("a.{}", kind.ending());
    let rules = folder.join(format!("rules.{}", kind.ending()));
    fs::copy(rules, folder.join(&copy)).unwrap();
    let error = router.add_route("/a/", "http://127.0.0.1:1", ());
    let error = error.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotLoaded);
    assert!(error.to_string().contains(&copy), "{error}");
}

/// Traefik loads files of subfolders as well, of which it watches none.
fn copies_are_found_where_loaded(kind: Kind) {
    let rig = Rig::new(kind);
    let folder = rig.path("dynamic");
    let outside = rig.path("outside");
    fs::create_dir(&outside).unwrap();
    let (ending, upper) = (kind.ending(), kind.ending().to_uppercase());
    let places = [
        format!("x.{ending}"),
        format!("x.{upper}"),
        format!(".x.{ending}"),
        format!("below/.deep/x.{ending}"),
        format!("a.{ending}/x.{ending}"),
        format!("x.{ending}.bak"),
        "x.txt".into(),
        format!("link.{ending}"),
        format!("linked/x.{ending}"),
    ];
    let mut found = Vec::new();
    for (n, place) in places.iter().enumerate() {
        let folder = folder.join(n.to_string());
        fs::create_dir_all(&folder).unwrap();
        let backend = || FileBackend::new(folder.join(format!("rules.{ending}")));
        let table = Router::builder(backend()).offline().unwrap();
        table.apply([]).unwrap();
        let marker = backend().last_commit().unwrap().unwrap().marker;
        let rule = format!("PathPrefix(`/{n}/`)");
        let text = match kind {
            Kind::Toml => format!(
                "# {marker}\n[http.routers.r{n}]\nrule = '{rule}'\nservice = 'ping@internal'\n"
            ),
            _ => format!(
                "# {marker}\nhttp:\n  routers:\n    r{n}:\n      rule: {rule}\n      service: ping@internal\n"
            ),
        };
        let file = folder.join(place);
        match place.split_once('/') {
            _ if place.starts_with("link.") => {
                fs::write(outside.join("x"), text).unwrap();
                std::os::unix::fs::symlink(outside.join("x"), file).unwrap();
            }
            Some(("linked", name)) => {
                fs::write(outside.join(name), text).unwrap();
                std::os::unix::fs::symlink(&outside, folder.join("linked")).unwrap();
            }
            _ => {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
        }
        let findings = backend().diagnose();
        found.push(findings.iter().any(|finding| finding.check == "copies"));
    }
    let mut config = External::open_config(&rig, &json!({"file": {"directory": folder}}));
    config["ping"] = json!({"manualRouting": true});
    let _traefik = External::start_with(&rig, "external", &config);
    let loaded = |n: usize| rig.get("h", &format!("/{n}/")).status == 200;
    eventually("all is loaded", || loaded(0));
    for (n, place) in places.iter().enumerate() {
        assert_eq!(found[n], loaded(n), "{place}");
    }
}
