//! Whose is what: a Router takes nothing from others, and what is refused leaves all as it was.

mod certificates;
mod entrances;
mod random;
mod sharing;
mod versions;

use kit::Echo;
use serde_json::{Value, json};
use traefik_router::{Builder, ErrorKind, NotAsked, Route, Router, Stored, Verified};

use crate::support::{External, Kind, Rig, on_each_backend, on_each_file};

on_each_file! {
    file_with_templates_is_refused,
    reader_changes_nothing,
    unset_options_keep_stored_values,
    refused_attach_changes_nothing,
    unserved_api_router_is_withdrawn,
    wrong_password_locks_nobody_out,
    handwritten_guards_stay,
    api_password_replacement_is_explicit,
    attach_stores_no_certificate,
    verification_method_is_reported,
}

on_each_backend!(
    etcd,
    crate::support::Kind::Etcd,
    reader_changes_nothing
    unset_options_keep_stored_values
    refused_attach_changes_nothing
    unserved_api_router_is_withdrawn
    wrong_password_locks_nobody_out
    handwritten_guards_stay
    api_password_replacement_is_explicit
    attach_stores_no_certificate
    verification_method_is_reported
);

fn file_with_templates_is_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let text = "{{ range $i, $e := until 3 }}\n# {{ $i }}\n{{ end }}\n";
    rig.write_rules(text);
    let says = ["Go templates", "another file", "rules."];
    let offline = plain(&rig).offline().unwrap();
    let error = offline.apply([]).unwrap_err();
    for text in says {
        assert!(error.to_string().contains(text), "{error}");
    }
    refused(&rig, ErrorKind::Corrupt, &says, || rig.builder().start());
    assert_eq!(rig.rules_text(), text);
    // In a string they are data.
    let harmless = match kind {
        Kind::Toml => {
            "# {{ env \"HOME\" }}\n[http.middlewares.m.compress]\nminResponseBodyBytes = 1\n"
        }
        _ => {
            "# {{ env \"HOME\" }}\nhttp:\n  middlewares:\n    m: {compress: {minResponseBodyBytes: 1}}\n"
        }
    };
    rig.write_rules(harmless);
    drop(rig.start());
    assert_eq!(rig.rules_text(), harmless);
    let says = ["{{ if … }}", "another file", "rules."];
    let http = match kind {
        Kind::Toml => "[http.routers]\n[http.routers.x]\nrule = 'Path(`/x`)'\nservice = 'x'\n",
        _ => {
            "http:\n  routers:\n    x:\n      rule: Path(`/x`)\n      priority: {{ 5 }}\n      service: x\n"
        }
    };
    let around = format!("# {{{{ if false }}}}\n{http}# {{{{ end }}}}\n");
    rig.write_rules(&around);
    refused(&rig, ErrorKind::Corrupt, &says, || rig.builder().start());
    for above in [
        "# {{ if true }}\n# {{ end }}\n",
        "# {{/* {{ if true }} */}}\n",
    ] {
        rig.write_rules(&format!("{above}{http}"));
        plain(&rig)
            .offline()
            .unwrap()
            .add_route("/a/", "http://127.0.0.1:1", ())
            .unwrap();
    }
}

/// An `attach` or `start` that was refused: it says this, of this kind, and nothing was stored.
#[track_caller]
pub(crate) fn refused(rig: &Rig, kind: ErrorKind, says: &[&str], open: impl FnOnce() -> Outcome) {
    let (before, files) = (rig.rules_text(), rig.files());
    let error = open().expect_err("it is refused");
    let reported = (error.kind(), error.stored());
    assert_eq!(reported, (kind, &Stored::Nothing), "{error}");
    for text in says {
        assert!(error.to_string().contains(text), "{text:?} in {error}");
    }
    assert!(!error.to_string().contains("stored, but"), "{error}");
    assert_eq!(rig.rules_text(), before);
    no_file_more(rig, &files);
}

/// The files are those; that of the lock may be gone.
#[track_caller]
fn no_file_more(rig: &Rig, files: &[String]) {
    let now = rig.files();
    let gone = files.iter().filter(|name| !now.contains(name));
    assert!(
        gone.clone().all(|name| name.ends_with(".lock")),
        "{now:?} {files:?}"
    );
    assert!(
        now.iter().all(|name| files.contains(name)),
        "{now:?} {files:?}"
    );
}

type Outcome = traefik_router::Result<Router>;

/// A Router over the rig's store, with no options but the ports.
pub(crate) fn plain(rig: &Rig) -> Builder {
    Router::builder(rig.backend())
}

fn reader_changes_nothing(kind: Kind) {
    let rig = Rig::new(kind);
    // Where there is nothing, nothing is made.
    let reader = plain(&rig).offline().unwrap();
    assert_eq!(reader.get_all_routes().unwrap().len(), 0);
    assert_eq!(reader.resolve("h", "/a/").unwrap(), None);
    assert_eq!((rig.rules_text(), rig.files()), (String::new(), vec![]));

    let echo = Echo::start();
    let router = rig.builder().traefik_entrypoint("web").start().unwrap();
    router.add_route("/a/", echo.url(), ()).unwrap();
    let (before, files) = (rig.rules_text(), rig.files());
    for builder in [plain(&rig), plain(&rig).public_url("https://h.example.org")] {
        let reader = builder.offline().unwrap();
        assert!(reader.get_route("/a/").unwrap().is_some());
        assert_eq!(reader.get_all_routes().unwrap().len(), 1);
        assert!(reader.resolve("h", "/a/x").unwrap().is_some());
        drop(reader.watch().unwrap());
        drop(reader);
        assert_eq!(
            (rig.rules_text(), rig.files()),
            (before.clone(), files.clone())
        );
    }
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    router.add_route("/b/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/b/"), Some(echo.port));
}

fn unset_options_keep_stored_values(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    let router = rig
        .builder()
        .traefik_entrypoint("web")
        .extra_service_config(json!({"passHostHeader": false}))
        .start()
        .unwrap();
    router.add_route("/a/", echo.url(), ()).unwrap();
    let host = |path: &str| rig.get("h.example.org", path).echo()["headers"]["host"].clone();
    assert_eq!(host("/a/"), format!("127.0.0.1:{}", echo.port));
    let attached = plain(&rig)
        .traefik_api_url(rig.api_url())
        .traefik_api_password(crate::support::rig::PASSWORD)
        .attach()
        .unwrap();
    attached.add_route("/b/", echo.url(), ()).unwrap();
    let offline = plain(&rig).public_url("https://h").offline().unwrap();
    offline.add_route("/c/", echo.url(), ()).unwrap();
    router.add_route("/d/", echo.url(), ()).unwrap();
    for path in ["/a/", "/b/", "/c/", "/d/"] {
        assert_eq!(host(path), format!("127.0.0.1:{}", echo.port), "{path}");
    }
    drop(router);
    // The next one starts Traefik with the entrypoint that the table has.
    let _router = rig.start();
    assert_eq!(host("/a/"), format!("127.0.0.1:{}", echo.port));
}

/// A Traefik of others whose table is served, and a Router that is attached to it.
fn served(rig: &Rig) -> (External, Router, Echo) {
    let (traefik, echo) = (External::start(rig), Echo::start());
    let router = rig.builder().attach().unwrap();
    router.add_route("/a/", echo.url(), ()).unwrap();
    (traefik, router, echo)
}

#[track_caller]
fn still_served(rig: &Rig, router: &Router, echo: &Echo) {
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    router.add_route("/still/", echo.url(), ()).unwrap();
    assert_eq!(rig.landed("h", "/still/"), Some(echo.port));
    router.delete_route("/still/").unwrap();
}

fn refused_attach_changes_nothing(kind: Kind) {
    let rig = Rig::new(kind);
    let (_traefik, router, echo) = served(&rig);
    let (invalid, taken) = (ErrorKind::InvalidConfig, rig.api_url());
    let name = |name: &str| rig.builder().traefik_entrypoint(name);
    let cases: [(Builder, &[&str]); 7] = [
        (name("vanished"), &["vanished", &taken, "auth_api, http"]),
        (
            name("auth_api"),
            &["traefik_entrypoint", "traefik_api_entrypoint"],
        ),
        (rig.builder().traefik_api_entrypoint("http"), &["\"http\""]),
        (rig.builder().traefik_quorum(0), &["traefik_quorum"]),
        (rig.builder().traefik_quorum(2), &["`traefik_quorum` is 2"]),
        (rig.builder().traefik_api_username(" x"), &["username"]),
        (
            rig.builder().traefik_api_hashed_password("{SHA}short"),
            &["traefik_api_hashed_password"],
        ),
    ];
    for (builder, says) in cases {
        refused(&rig, invalid, says, || builder.attach());
        still_served(&rig, &router, &echo);
    }
    // Nobody listens there: the error comes at once.
    let nobody = rig.builder().traefik_api_url("http://127.0.0.1:1");
    let says = ["http://127.0.0.1:1", "start Traefik before"];
    refused(&rig, ErrorKind::Unavailable, &says, || nobody.attach());
    still_served(&rig, &router, &echo);
}

fn unserved_api_router_is_withdrawn(kind: Kind) {
    let rig = Rig::new(kind);
    let _traefik = External::start(&rig);
    let elsewhere = rig.builder().traefik_api_entrypoint("elsewhere");
    let elsewhere = elsewhere.check_route_timeout(std::time::Duration::from_secs(2));
    let says = ["404", "elsewhere", "taken back"];
    refused(&rig, ErrorKind::Protocol, &says, || elsewhere.attach());
    // Without a password there is none to set up.
    let none = plain(&rig).traefik_api_url(rig.api_url());
    refused(
        &rig,
        ErrorKind::Protocol,
        &["404", "traefik_api_password"],
        || none.attach(),
    );
    let forbidden = rig.builder().enable_setup_dynamic_config(false);
    refused(&rig, ErrorKind::Protocol, &["404"], || forbidden.attach());
    drop(rig.builder().attach().unwrap());
}

fn wrong_password_locks_nobody_out(kind: Kind) {
    let rig = Rig::new(kind);
    let (_traefik, router, echo) = served(&rig);
    let wrong = rig.builder().traefik_api_password("mistyped");
    refused(&rig, ErrorKind::Unauthorized, &[&rig.api_url()], || {
        wrong.attach()
    });
    still_served(&rig, &router, &echo);
    drop(rig.builder().attach().unwrap());
}

/// What is stored for one is the others', too: theirs come first.
#[test]
fn setup_displaces_no_open_api() {
    let rig = Rig::new(Kind::Etcd);
    let second = rig.sibling();
    let open = rig.path("open.toml");
    let text = "[http.routers.open]\nrule = 'PathPrefix(`/api`)'\nentryPoints = ['auth_api']\n\
                service = 'api@internal'\n";
    std::fs::write(&open, text).unwrap();
    let mut config = External::config(&rig);
    config["providers"]["file"] = json!({"filename": open});
    let (_one, _two) = (
        External::start_with(&rig, "open", &config),
        External::start(&second),
    );
    let both = || {
        rig.builder()
            .traefik_api_urls([rig.api_url(), second.api_url()])
    };
    let router = both().attach().unwrap();
    router.add_route("/a/", Echo::start().url(), ()).unwrap();
    let anonymous = |rig: &Rig| {
        traefik_router::traefik::Api::new(rig.api_url())
            .unwrap()
            .version()
    };
    assert!(anonymous(&rig).is_ok(), "it is open as before");
    let error = anonymous(&second).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
}

/// A router by hand that leads to the API by another host stays in front of ours.
#[test]
fn handwritten_api_router_comes_first() {
    let rig = Rig::new(Kind::Etcd);
    let theirs = rig.path("theirs.toml");
    let text = "[http.routers.dash]\nrule = 'Host(`dash.example`)'\nentryPoints = ['auth_api']\n\
                service = 'api@internal'\n";
    std::fs::write(&theirs, text).unwrap();
    let mut config = External::config(&rig);
    config["providers"]["file"] = json!({"filename": theirs});
    let _traefik = External::start_with(&rig, "external", &config);
    let dash = || kit::client::get(rig.api, "dash.example", "/api/version").status;
    kit::eventually("it is loaded", || dash() == 200);
    let router = rig.builder().attach().unwrap();
    router.add_route("/a/", Echo::start().url(), ()).unwrap();
    assert_eq!(dash(), 200);
}

/// A guard that others use for routers of their own goes by the name that ours had once.
fn handwritten_guards_stay(kind: Kind) {
    let rig = Rig::new(kind);
    let by_hand = json!({
        "routers": {
            "route_api": {
                "rule": "PathPrefix(`/api`)", "entryPoints": ["auth_api"],
                "service": "api@internal",
            },
            "theirs": {
                "rule": "PathPrefix(`/theirs`)", "entryPoints": ["http"],
                "service": "noop@internal", "middlewares": ["auth_api"],
            },
        },
        "middlewares": {"auth_api": {"basicAuth": {"users": ["u:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="]}}},
    });
    write_by_hand(&rig, &by_hand);
    let (_traefik, echo) = (External::start(&rig), Echo::start());
    let theirs = || rig.get("h", "/theirs").status;
    kit::eventually("it is loaded", || theirs() == 401);
    for builder in [plain(&rig), rig.builder()] {
        let router = builder
            .traefik_api_url(rig.api_url())
            .public_url(rig.web_url())
            .attach()
            .unwrap();
        router.add_route("/a/", echo.url(), ()).unwrap();
        assert_eq!((theirs(), rig.landed("h", "/a/")), (401, Some(echo.port)));
        let text = rig.rules_text();
        assert!(
            text.contains("route_api") && !text.contains("traefik-router-api"),
            "{text}"
        );
    }
}

/// Writes `http` configuration as a person would.
pub(crate) fn write_by_hand(rig: &Rig, http: &Value) {
    if rig.kind.is_file() {
        // One line of TOML or YAML: JSON is YAML, and close to TOML's inline tables.
        let text = match rig.kind {
            Kind::Toml => toml_of(http),
            _ => format!("http:\n{}", yaml_of(http)),
        };
        return rig.write_rules(&text);
    }
    let [root, _] = rig.prefixes();
    let mut lines = Vec::new();
    keys_of(&format!("{root}/http"), http, &mut lines);
    rig.write_rules(&lines.concat());
}

fn toml_of(http: &Value) -> String {
    let mut text = String::new();
    for (section, named) in http.as_object().unwrap() {
        for (name, entry) in named.as_object().unwrap() {
            text += &format!("[http.{section}.{name}]\n");
            for (key, value) in entry.as_object().unwrap() {
                text += &format!("{key} = {}\n", inline(value));
            }
        }
    }
    text
}

fn inline(value: &Value) -> String {
    match value.as_object() {
        Some(map) => {
            let fields = map
                .iter()
                .map(|(key, value)| format!("{key} = {}", inline(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        None => value.to_string(),
    }
}

fn yaml_of(http: &Value) -> String {
    let mut text = String::new();
    for (section, named) in http.as_object().unwrap() {
        text += &format!("  {section}:\n");
        for (name, entry) in named.as_object().unwrap() {
            text += &format!("    {name}: {entry}\n");
        }
    }
    text
}

fn keys_of(key: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(name, value)| keys_of(&format!("{key}/{name}"), value, lines)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(n, value)| keys_of(&format!("{key}/{n}"), value, lines)),
        Value::String(text) => lines.push(format!("{key} {text:?}\n")),
        other => lines.push(format!("{key} {:?}\n", other.to_string())),
    }
}

fn api_password_replacement_is_explicit(kind: Kind) {
    let rig = Rig::new(kind);
    let (_traefik, router, echo) = served(&rig);
    drop(router);
    let new = || rig.builder().traefik_api_password("new");
    refused(&rig, ErrorKind::Unauthorized, &[], || new().attach());
    let router = new().replace_api_router(true).attach().unwrap();
    still_served(&rig, &router, &echo);
    refused(&rig, ErrorKind::Unauthorized, &[], || {
        rig.builder().attach()
    });
    drop(new().attach().unwrap());
}

fn attach_stores_no_certificate(kind: Kind) {
    let rig = Rig::new(kind);
    let (_traefik, router, echo) = served(&rig);
    for trace in ["certFile", "keyFile", "CERTIFICATE", "PRIVATE", "tls"] {
        assert!(
            !rig.rules_text().contains(trace),
            "{trace} in {}",
            rig.rules_text()
        );
    }
    assert!(rig.files().iter().all(|name| !name.ends_with(".pem")));
    still_served(&rig, &router, &echo);
    let given = rig.builder().ssl("a.crt", "a.key");
    refused(&rig, ErrorKind::InvalidConfig, &["ssl"], || given.attach());
    let findings = rig.builder().diagnose();
    let cost = findings
        .iter()
        .find(|finding| finding.check == "certificate");
    let cost = cost.unwrap();
    assert!(cost.message.contains("at every change"), "{cost:?}");
}

fn verification_method_is_reported(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    let change = || [Route::new("/a/", echo.url()).unwrap().data(rand()).into()];
    let started = rig.start();
    let verified = |router: &Router| router.apply(change()).unwrap().verified;
    assert_eq!(verified(&started), Verified::Seen);
    let attached = rig.builder().attach().unwrap();
    assert_eq!(verified(&attached), Verified::Seen);
    let default = plain(&rig)
        .traefik_api_url(rig.api_url())
        .traefik_api_password(crate::support::rig::PASSWORD)
        .attach()
        .unwrap();
    let not_asked = |router: &Router| match verified(router) {
        Verified::NotAsked(why) => why,
        seen => panic!("{seen:?}"),
    };
    assert_eq!(not_asked(&default), NotAsked::DefaultUrl);
    let several = rig
        .builder()
        .traefik_api_urls([rig.api_url(), rig.api_url()]);
    assert_eq!(
        not_asked(&several.attach().unwrap()),
        NotAsked::SeveralTraefiks
    );
    let nowhere = rig
        .builder()
        .public_url("http://127.0.0.1:1")
        .attach()
        .unwrap();
    let why = not_asked(&nowhere);
    assert!(
        matches!(&why, NotAsked::Unreachable { reason, .. } if reason.contains("127.0.0.1:1")),
        "{why:?}"
    );
    let offline = plain(&rig).offline().unwrap();
    assert_eq!(not_asked(&offline), NotAsked::Offline);
}

/// Another value each time.
fn rand() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
