//! Where users come in: TLS that the entrypoint has or has not, redirects, and what answers there.

use kit::{Echo, ports};
use serde_json::{Value, json};
use traefik_router::{Builder, ErrorKind, Level, Nested, Verified};

use super::{plain, refused};
use crate::protocols::{get_https, https};
use crate::support::rig::PASSWORD;
use crate::support::{External, Kind, Rig, on_each_backend, on_push};

on_each_backend! {
    routers_supply_missing_tls,
    redirecting_entrypoint_is_refused,
    tls_only_entrypoint_refuses_http,
    mixed_tls_is_refused,
    served_routers_keep_their_scheme,
}

on_push! {
    redirecting_entrypoint_is_refused,
    tls_only_entrypoint_refuses_http,
    mixed_tls_is_refused,
}

/// A Traefik of others whose entrypoint for routes has these settings.
fn external(rig: &Rig, name: &str, http: &Value) -> External {
    let mut config = External::config(rig);
    if *http != json!({}) {
        config["entryPoints"]["http"]["http"] = http.clone();
    }
    config["entryPoints"]["other"] = json!({"address": format!("127.0.0.1:{}", ports::free())});
    External::start_with(rig, name, &config)
}

fn routers_supply_missing_tls(kind: Kind) {
    let rig = Rig::new(kind);
    let echo = Echo::start();
    let bare = external(&rig, "bare", &json!({}));
    let attach = |builder: Builder| builder.traefik_entrypoint("http").attach().unwrap();
    let secure = |path: &str| get_https(&rig, path, None).map(|echo| echo["port"].clone());
    let router = attach(https(&rig).nested_routers(Nested::Always));
    // Enough to stand behind gates, whose children may not have it.
    let specs: Vec<_> = (0..12).map(|n| format!("/user/n{n}/")).collect();
    let add = |spec: &String| traefik_router::Change::set(spec, echo.url()).unwrap();
    let applied = router.apply(specs.iter().map(add)).unwrap();
    assert_eq!(applied.verified, Verified::Seen);
    for spec in &specs {
        assert_eq!(secure(spec).unwrap(), echo.port);
    }
    assert_eq!(rig.get("h", "/user/n1/").status, 404, "it is for TLS alone");
    let said = problem(&rig.builder()).unwrap();
    assert!(said.contains("HTTP answers 404"), "{said}");
    assert_eq!(problem(&https(&rig)), None);
    // A later Router without the option keeps it; also what is written with no Traefik asked.
    plain(&rig)
        .offline()
        .unwrap()
        .add_route("/off/", echo.url(), ())
        .unwrap();
    let silent = plain(&rig)
        .traefik_api_url(rig.api_url())
        .traefik_api_password(PASSWORD);
    silent
        .attach()
        .unwrap()
        .add_route("/later/", echo.url(), ())
        .unwrap();
    for path in ["/off/", "/later/", "/user/n3/"] {
        assert_eq!(secure(path).unwrap(), echo.port, "{path}");
    }
    let mut started = rig.sibling();
    started.web = ports::free();
    let http_alone = started.builder().static_config_file(rig.path("other.toml"));
    refused(
        &rig,
        ErrorKind::InvalidConfig,
        &["HTTPS", "public_url"],
        || http_alone.start(),
    );
    router
        .apply(
            specs
                .iter()
                .map(|spec| traefik_router::Change::delete(spec).unwrap()),
        )
        .unwrap();
    drop((router, bare));

    // The entrypoint has it now: this is asked again at each open.
    let _tls = external(&rig, "tls", &json!({"tls": {}}));
    let router = attach(https(&rig));
    router.add_route("/b/", echo.url(), ()).unwrap();
    assert_eq!(secure("/b/").unwrap(), echo.port);
    assert_eq!(secure("/off/").unwrap(), echo.port);
    let infos = rig.api().routers().unwrap();
    assert!(infos.iter().any(|router| router.rule.contains("/b/")));
    assert!(!rig.rules_text().contains("tls"), "{}", rig.rules_text());
}

/// What the doctor finds wrong with the entrypoint.
fn problem(builder: &Builder) -> Option<String> {
    let mut findings = builder.diagnose().into_iter();
    let found = findings.find(|one| one.check == "entrypoint" && one.level == Level::Problem);
    found.map(|found| found.message)
}

fn redirecting_entrypoint_is_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let to = json!({"redirections": {"entryPoint": {"to": "other", "scheme": "https"}}});
    let _traefik = external(&rig, "redirects", &to);
    // The API is there, with any store.
    let default = plain(&rig)
        .traefik_api_url(rig.api_url())
        .traefik_api_password(PASSWORD);
    let router = default.attach().unwrap();
    let echo = Echo::start();
    router.add_route("/a/", echo.url(), ()).unwrap();
    assert_eq!(rig.get("h", "/a/").status, 301);
    drop(router);
    let says = ["redirect", "public_url", "\"http\""];
    refused(&rig, ErrorKind::InvalidConfig, &says, || {
        rig.builder().attach()
    });
    let findings = rig.builder().diagnose();
    let found = findings
        .iter()
        .find(|finding| finding.message.contains("redirect"));
    assert_eq!(
        found.map(|found| found.level),
        Some(traefik_router::Level::Problem),
        "{findings:?}"
    );
}

fn tls_only_entrypoint_refuses_http(kind: Kind) {
    let rig = Rig::new(kind);
    let _traefik = external(&rig, "tls", &json!({"tls": {}}));
    let says = ["TLS alone", "public_url"];
    refused(&rig, ErrorKind::InvalidConfig, &says, || {
        rig.builder().attach()
    });
    let echo = Echo::start();
    let router = https(&rig).traefik_entrypoint("http").attach().unwrap();
    router.add_route("/a/", echo.url(), ()).unwrap();
    assert_eq!(get_https(&rig, "/a/", None).unwrap()["port"], echo.port);
    let said = problem(&rig.builder()).unwrap();
    assert!(said.contains("serves TLS alone"), "{said}");
    assert_eq!(problem(&https(&rig)), None);
}

fn mixed_tls_is_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let second = rig.sibling();
    let _one = external(&rig, "one", &json!({}));
    let _two = external(&second, "two", &json!({"tls": {}}));
    let both = https(&rig)
        .traefik_entrypoint("http")
        .traefik_api_urls([rig.api_url(), second.api_url()]);
    let says = ["TLS of its own in some", "traefik_api_urls"];
    refused(&rig, ErrorKind::InvalidConfig, &says, || both.attach());
}

fn served_routers_keep_their_scheme(kind: Kind) {
    let rig = Rig::new(kind);
    let second = rig.sibling();
    let echo = Echo::start();
    let _bare = external(&rig, "bare", &json!({}));
    let _tls = external(&second, "tls", &json!({"tls": {}}));
    // Over HTTP: a Router that asks for HTTPS would end that.
    let http = rig.builder().attach().unwrap();
    http.add_route("/a/", echo.url(), ()).unwrap();
    let secure = || https(&rig).traefik_entrypoint("http");
    refused(&rig, ErrorKind::InUse, &["HTTP", "public_url"], || {
        secure().attach()
    });
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    drop(http);
    // Where nobody can see what comes of it, too.
    let unseen = secure().public_url("https://127.0.0.1:1");
    refused(&rig, ErrorKind::Unavailable, &["can't be seen"], || {
        unseen.attach()
    });
    kit::eventually("it is as it was", || {
        rig.landed("h", "/a/") == Some(echo.port)
    });
    // Over HTTPS: an entrypoint that has TLS of its own does not mind.
    let one = secure().attach().unwrap();
    let two = https(&second).traefik_entrypoint("http").attach().unwrap();
    for router in [&one, &two] {
        router.add_route("/b/", echo.url(), super::rand()).unwrap();
        for rig in [&rig, &second] {
            let served = || get_https(rig, "/b/", None).is_ok_and(|echo| !echo["port"].is_null());
            kit::eventually("it is served", served);
        }
    }
}
