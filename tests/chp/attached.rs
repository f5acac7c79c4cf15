//! Traefiks that others run.

use std::fs;
use std::time::Duration;

use kit::client::{self, Request, Response};
use kit::etcd::Cluster;
use kit::process::send_signal;
use kit::tools::{ETCD, TRAEFIK_3_5};
use kit::traefik::External;
use kit::{Echo, eventually, ports};
use serde_json::json;
use tempfile::TempDir;

use crate::support::Proxy;
use crate::support::proxy::{ours, reading};

/// Traefiks that take a table, or read this etcd.
fn traefiks<const N: usize>(etcd: Option<&Cluster>) -> ([External; N], TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let start = |()| External::start(folder.path(), etcd.map(Cluster::url));
    ([(); N].map(start), folder)
}

fn get(traefik: &External, path: &str) -> Response {
    client::get(traefik.web, "any.example", path)
}

/// Whether the answer has a cookie.
fn gives_cookie(traefik: &External, path: &str) -> bool {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    let agent = config.proxy(None).build().new_agent();
    let url = format!("http://127.0.0.1:{}{path}", traefik.web);
    let answer = agent.get(url).call().unwrap();
    answer.headers().contains_key("set-cookie")
}

#[track_caller]
fn all_serve(traefiks: &[External], path: &str, echo: &Echo) {
    for traefik in traefiks {
        assert_eq!(get(traefik, path).landed(), Some(echo.port), "{path}");
    }
}

/// A program that has to end by itself, with this exit code; what it has written until then.
fn ends_at_once(arguments: &[&str], code: i32, why: &str) {
    let mut command = ours();
    command.env("TRAEFIK_API_PASSWORD", External::PASSWORD);
    command.args(["chp", "--api-port", &ports::free().to_string()]);
    let output = command.args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let log = [output.stdout, output.stderr].concat();
    let log = String::from_utf8_lossy(&log);
    assert!(log.contains(why), "{log}");
}

#[test]
fn routes_outlive_the_program() {
    let (mut both, _folder) = traefiks::<2>(None);
    let echo = Echo::start();
    let proxy = Proxy::attach(&[&both[0], &both[1]], &[]);
    assert_eq!(proxy.get("").body, "{}");
    proxy.add("/a", &echo.url());
    all_serve(&both, "/a/x", &echo);
    drop(proxy);
    all_serve(&both, "/a/x", &echo);

    let mut proxy = Proxy::attach(&[&both[0], &both[1]], &[]);
    assert_eq!(proxy.get("/a").json()["target"], echo.url());
    proxy.add("/b", &echo.url());
    all_serve(&both, "/a/x", &echo);
    all_serve(&both, "/b/x", &echo);
    both[1].restart();
    eventually("the restarted one serves", || {
        get(&both[1], "/b/x").landed() == Some(echo.port)
    });
    assert_eq!(proxy.rest("DELETE", "/b", "").status, 204);
    for traefik in &both {
        assert_eq!(get(traefik, "/b").landed(), None);
    }
    proxy.signal("TERM");
    assert!(proxy.wait_for_end().success());
    all_serve(&both, "/a/x", &echo);
}

#[test]
fn table_taken_over_stays_so() {
    let ([traefik], _folder) = traefiks::<1>(None);
    let echo = Echo::start();
    let older = Proxy::attach(&[&traefik], &[]);
    older.add("/a", &echo.url());
    let newer = Proxy::attach(&[&traefik], &[]);
    let target = json!({"target": echo.url()}).to_string();
    // The older one does not ask right after a change of its own.
    std::thread::sleep(Duration::from_millis(200));
    let refused = older.rest("POST", "/b", &target);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.body.contains("another program has pushed a table"));
    newer.add("/c", &echo.url());
    for (path, expected) in [
        ("/a", Some(echo.port)),
        ("/b", None),
        ("/c", Some(echo.port)),
    ] {
        assert_eq!(get(&traefik, path).landed(), expected, "{path}");
    }
}

#[test]
fn quorum_goes_on_without_one() {
    let (mut both, _folder) = traefiks::<2>(None);
    let echo = Echo::start();
    let proxy = Proxy::attach(&[&both[0], &both[1]], &["--quorum", "1"]);
    both[1].kill();
    proxy.add("/a", &echo.url());
    assert_eq!(get(&both[0], "/a").landed(), Some(echo.port));
    both[1].restart();
    eventually("the other one has it, too", || {
        get(&both[1], "/a").landed() == Some(echo.port)
    });
}

/// The other one has lost it.
#[test]
fn silent_traefik_with_table_is_awaited() {
    let (mut both, _folder) = traefiks::<2>(None);
    let echo = Echo::start();
    let quorum = ["--quorum", "1", "--api-timeout", "1"];
    let proxy = Proxy::attach(&[&both[0], &both[1]], &quorum);
    proxy.add("/a", &echo.url());
    eventually("both serve", || {
        get(&both[1], "/a").landed() == Some(echo.port)
    });
    drop(proxy);
    both[0].restart();
    send_signal(both[1].id(), "STOP");
    let proxy = Proxy::attach_unready(&[&both[0], &both[1]], &quorum);
    eventually("it waits", || proxy.log().contains("that have a table: 0"));
    send_signal(both[1].id(), "CONT");
    proxy.wait_until_ready();
    assert_eq!(proxy.get("/a").json()["target"], echo.url());
    for traefik in &both {
        eventually("it serves", || {
            get(traefik, "/a").landed() == Some(echo.port)
        });
    }
}

#[test]
fn probes_tell_alive_from_ready() {
    let (mut both, _folder) = traefiks::<2>(None);
    both.iter_mut().for_each(External::kill);
    let urls = both.each_ref().map(External::api_url);
    let start = |quorum: &str| {
        let metrics = ports::free();
        let mut command = ours();
        command.args(["chp", "--api-url", &urls[0], "--api-url", &urls[1]]);
        command.args(["--quorum", quorum]);
        command.args([
            "--metrics-ip",
            "127.0.0.1",
            "--metrics-port",
            &metrics.to_string(),
        ]);
        command.env("TRAEFIK_API_PASSWORD", External::PASSWORD);
        (Proxy::spawn(command, &[]), metrics)
    };
    let probe = |metrics, path| client::get(metrics, "h", path);
    let is_ready = |metrics, expected| {
        eventually("the answer is right", || {
            let status = if expected { 200 } else { 503 };
            ports::is_open(metrics) && probe(metrics, "/readyz").status == status
        });
        assert_eq!(probe(metrics, "/livez").status, 200);
    };
    let (proxy, metrics) = start("1");
    eventually("it waits", || proxy.log().contains("until it works"));
    is_ready(metrics, false);
    assert!(!ports::is_open(proxy.api), "it would not answer");
    both.iter_mut().for_each(External::restart);
    is_ready(metrics, true);
    let line = format!(
        "routes in memory, for Traefik at {}, {}, of which 1",
        urls[0], urls[1]
    );
    // One of them is enough, and the other one may be too late.
    let is_told = |log: &str, url: &String| log.contains(&format!("Traefik at {url}: 3."));
    eventually("it says what it runs with", || {
        let log = proxy.log();
        log.contains(&line) && urls.iter().any(|url| is_told(&log, url))
    });
    both[1].kill();
    is_ready(metrics, true);
    let text = probe(metrics, "/metrics").body;
    for (url, up) in [(&urls[0], 1), (&urls[1], 0)] {
        let line = format!("traefik_router_chp_traefik_up{{traefik=\"{url}\"}} {up}\n");
        assert!(text.contains(&line), "{text}");
    }
    let lag = |url| format!("traefik_router_chp_traefik_lag_seconds{{traefik=\"{url}\"}}");
    assert!(text.contains(&format!("{} 0\n", lag(&urls[0]))), "{text}");
    assert!(!text.contains(&lag(&urls[1])), "{text}");
    both[0].kill();
    is_ready(metrics, false);
    drop(proxy);
    both.iter_mut().for_each(External::restart);
    let (_proxy, metrics) = start("2");
    is_ready(metrics, true);
    both[1].kill();
    is_ready(metrics, false);
}

#[test]
fn traefik_that_comes_later_is_awaited() {
    let ([mut traefik], _folder) = traefiks::<1>(None);
    let echo = Echo::start();
    traefik.kill();
    let url = traefik.api_url();
    let proxy = Proxy::attach_unready(&[&traefik], &[]);
    eventually("it says what it waits for", || proxy.log().contains(&url));
    traefik.restart();
    proxy.wait_until_ready();
    proxy.add("/a", &echo.url());
    assert_eq!(proxy.through("/a").landed(), Some(echo.port));
}

#[test]
fn pages_need_nothing_of_ours() {
    let (both, _folder) = traefiks::<2>(None);
    let (pages, echo) = (Echo::start(), Echo::start());
    let target = format!("{}/hub/error", pages.url());
    // As with hundreds of routes, routers stand below others.
    let arguments = ["--error-target", &target, "--nested-routers", "always"];
    let proxy = Proxy::attach(&[&both[0], &both[1]], &arguments);
    for n in 0..20 {
        proxy.add(&format!("/user/n{n}"), &echo.url());
    }
    proxy.add(
        "/user/n-down",
        &format!("http://127.0.0.1:{}", ports::free()),
    );
    proxy.add("/up", &echo.url());
    let secret = [
        ("Cookie", "jupyterhub-session-id=made-up"),
        ("Authorization", "token made-up"),
        ("X-XSRFToken", "made-up"),
        ("Accept", "text/html"),
        ("Sec-Fetch-Mode", "cors"),
    ];
    let asked = |traefik: &External, path| {
        let request = Request {
            host: "hub.example",
            path,
            headers: &secret,
            body: b"",
        };
        let answer = request.send(traefik.web);
        (answer.status, answer.body)
    };
    let check = || {
        for traefik in &both {
            let health = get(traefik, "/_chp_healthz");
            assert_eq!(health.status, 200, "{health:?}");
            for (path, status) in [("/none/x?a=b", 404), ("/user/n-down/x?a=b", 503)] {
                let (answered, body) = asked(traefik, path);
                assert_eq!(answered, status, "{path}: {body}");
                let page: serde_json::Value = serde_json::from_str(&body).unwrap();
                let path = page["path"].as_str().unwrap();
                assert!(
                    path.starts_with(&format!("/hub/error/{status}?url=")),
                    "{path}"
                );
                assert!(path.contains("?url=http%3A%2F%2Fhub.example%2F"), "{path}");
                assert!(path.ends_with("%2Fx%3Fa%3Db"), "{path}");
                assert!(!page["headers"].to_string().contains("made-up"), "{page}");
                assert_eq!(page["headers"]["accept"], "text/html");
                assert_eq!(page["headers"]["sec-fetch-mode"], "cors");
            }
            assert!(gives_cookie(traefik, "/up"));
            assert!(!gives_cookie(traefik, "/none"));
        }
        all_serve(&both, "/up", &echo);
    };
    check();
    drop(proxy);
    check();
    drop(pages);
    for traefik in &both {
        assert_eq!(asked(traefik, "/none").0, 404);
        assert_eq!(asked(traefik, "/user/n-down").0, 503);
    }
    // Without a server of pages they are Traefik's own.
    let proxy = Proxy::attach(&[&both[0], &both[1]], &[]);
    assert_eq!(proxy.through("/none").status, 404);
    assert_eq!(proxy.through("/user/n-down").status, 502);
    assert_eq!(proxy.through("/up").landed(), Some(echo.port));
    assert_eq!(proxy.through("/_chp_healthz").status, 200);
}

/// On etcd replicas share the table, each with Traefiks of its own.
#[test]
fn replicas_share_one_etcd() {
    let etcd = Cluster::start(&ETCD.path());
    let (both, _folder) = traefiks::<2>(Some(&etcd));
    let (echo, pages) = (Echo::start(), Echo::start());
    let (store, target) = (format!("etcd:{}", etcd.url()), pages.url());
    let arguments = ["--backend", &store, "--error-target", &target];
    let attach = |traefik| Proxy::attach(&[traefik], &arguments);
    let (first, second) = (attach(&both[0]), attach(&both[1]));
    let all_follow = |paths: &[&str]| {
        for (path, traefik) in paths
            .iter()
            .flat_map(|path| both.iter().map(move |one| (path, one)))
        {
            eventually("it is served", || {
                get(traefik, path).landed() == Some(echo.port)
            });
        }
    };
    first.add("/a", &echo.url());
    assert_eq!(first.through("/a").landed(), Some(echo.port));
    second.add("/b", &echo.url());
    assert_eq!(second.through("/b").landed(), Some(echo.port));
    all_follow(&["/a", "/b"]);
    ends_at_once(&["--backend", &store], 1, "another program serves");
    // A third one with a Traefik of its own.
    let third = Proxy::start(&["--backend", &store, "--keep-routes"]);
    third.add("/c", &echo.url());
    all_follow(&["/a", "/b", "/c"]);
    let end = |mut ended: Proxy, signal: &str| {
        ended.signal(signal);
        std::thread::scope(|scope| {
            let ended = scope.spawn(move || ended.wait_for_end());
            while !ended.is_finished() {
                for path in ["/a", "/b", "/c"] {
                    all_serve(&both, path, &echo);
                }
            }
        });
        for traefik in &both {
            assert_eq!(get(traefik, "/none").status, 404);
            assert!(get(traefik, "/none").body.contains("/404?url="));
            assert_eq!(get(traefik, "/_chp_healthz").status, 200);
        }
    };
    end(third, "TERM");
    end(first, "KILL");
    second.add("/d", &echo.url());
    let first = attach(&both[0]);
    assert_eq!(first.get("").json().as_object().unwrap().len(), 4);
    end(second, "TERM");
    end(first, "TERM");
    all_serve(&both, "/d", &echo);
}

/// Each would take from the other what is stored beside the routes.
#[test]
fn replicas_have_the_same_options() {
    let etcd = Cluster::start(&ETCD.path());
    let (both, _folder) = traefiks::<2>(Some(&etcd));
    let (echo, pages) = (Echo::start(), Echo::start());
    let (store, target) = (format!("etcd:{}", etcd.url()), pages.url());
    let options = ["--proxy-timeout", "9000", "--error-target", &target];
    let with_store = ["--backend", &store];
    let first = Proxy::attach(&[&both[0]], &[&with_store[..], &options].concat());
    first.add("/a", &echo.url());
    eventually("both serve", || {
        get(&both[1], "/a").landed() == Some(echo.port)
    });
    let url = ["--api-url", &both[1].api_url()];
    let fewer = [&with_store[..], &url];
    for (more, why) in [
        (&[][..], "http.serversTransports.chp-targets"),
        (&options[..2], "http.middlewares.chp-errors"),
        (
            &["--custom-header", "X-A: b"],
            "http.middlewares.chp-headers",
        ),
    ] {
        ends_at_once(&[&fewer.concat()[..], more].concat(), 1, why);
        all_serve(&both, "/a", &echo);
        assert!(get(&both[1], "/none").body.contains("/404?url="));
    }
    let second = Proxy::attach(&[&both[1]], &[&with_store[..], &options].concat());
    second.add("/b", &echo.url());
    all_serve(&both[1..], "/b", &echo);
    for mut ended in [first, second] {
        ended.signal("TERM");
        assert!(ended.wait_for_end().success());
    }
    let alone = Proxy::attach(&[&both[0]], &with_store);
    assert!(!alone.log().contains("another program"), "{}", alone.log());
    assert_eq!(alone.through("/a").landed(), Some(echo.port));
    assert_eq!(alone.through("/none").body.trim(), "404 page not found");
}

/// Traefik has one file provider. It reads the routes, so that the API's router has to stand beside them.
#[test]
fn files_hold_the_apis_router() {
    for kind in ["toml", "yaml"] {
        let (folder, echo) = (tempfile::tempdir().unwrap(), Echo::start());
        let rules = folder.path().join(format!("rules.{kind}"));
        let (_traefik, [web, api]) = reading(&rules);
        let (store, url) = (
            format!("{kind}:{}", rules.display()),
            format!("http://127.0.0.1:{api}"),
        );
        let attach = || {
            let mut proxy = Proxy::attach_at(&[&url], &["--backend", &store]);
            proxy.port = web;
            proxy.wait_until_ready();
            proxy
        };
        let proxy = attach();
        proxy.add("/x", &echo.url());
        assert_eq!(proxy.through("/x").landed(), Some(echo.port));
        drop(proxy);
        let proxy = attach();
        assert_eq!(proxy.get("/x").json()["target"], echo.url());
        proxy.add("/y", &echo.url());
        assert_eq!(proxy.through("/x").landed(), Some(echo.port));
        assert_eq!(proxy.through("/_chp_healthz").status, 200);
    }
}

/// It would send the server of error pages the cookies, too.
#[test]
fn older_traefik_shows_pages_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (pages, echo) = (Echo::start(), Echo::start());
    let traefik = External::of(&TRAEFIK_3_5, folder.path(), None);
    let proxy = Proxy::attach(&[&traefik], &["--error-target", &pages.url()]);
    proxy.add("/x", &echo.url());
    assert_eq!(proxy.through("/x").landed(), Some(echo.port));
    assert_eq!(proxy.through("/none").body.trim(), "404 page not found");
    assert_eq!(proxy.through("/_chp_healthz").status, 200);
    eventually("it says why", || proxy.log().contains("3.6.15 is needed"));
}

#[test]
fn headers_and_transport_are_stored() {
    let ([traefik], _folder) = traefiks::<1>(None);
    let (pages, echo) = (Echo::start(), Echo::start());
    let arguments = [
        "--error-target",
        &pages.url(),
        "--custom-header",
        "X-Added: yes",
        "--change-origin",
        "--proxy-timeout",
        "9000",
    ];
    let proxy = Proxy::attach(&[&traefik], &arguments);
    proxy.add("/x", &echo.url());
    let headers = proxy.through("/x").echo()["headers"].clone();
    assert_eq!(headers["x-added"], "yes");
    assert_eq!(headers["host"], format!("127.0.0.1:{}", echo.port));
    assert_eq!(proxy.through("/none").status, 404);
}

#[test]
fn options_of_started_traefiks_are_refused() {
    let url = ["--api-url", "http://127.0.0.1:1"];
    for (option, why) in [
        (&["--traefik-bin", "traefik"][..], "no Traefik is started"),
        (
            &["--backend", "push", "--keep-routes"],
            "the routes are always kept",
        ),
        (
            &["--client-ssl-key", "k", "--client-ssl-cert", "c"],
            "would be stored with the routes",
        ),
        (&["--external=false"], "remove one of them"),
        (&["--error-target", "hub:8081/hub/error"], "--error-target"),
        (&["--error-target", "http://u@hub/"], "--error-target"),
        (&["--error-target", "http://hub/?a=b"], "--error-target"),
        (&["--api-url", "http://127.0.0.1:1"], "twice"),
        (&["--api-entrypoint", "http"], "--api-entrypoint"),
    ] {
        ends_at_once(&[&url[..], option].concat(), 2, why);
    }
    ends_at_once(&["--external"], 2, "--api-url");
    for option in [["--quorum", "1"], ["--public-url", "http://h"]] {
        ends_at_once(&option, 2, "not provided:\n  --api-url <URL>\n\nUsage");
    }
    ends_at_once(&[&url[..], &["--quorum", "2"]].concat(), 2, "which is 1");
    let ([traefik], _folder) = traefiks::<1>(None);
    let proxy = Proxy::attach(&[&traefik], &[]);
    eventually("it warns", || {
        proxy
            .log()
            .contains("--port: --api-url names external Traefiks")
    });
    let target = "{\"target\": \"http+unix://%2Frun%2Fx.sock\"}";
    let refused = proxy.rest("POST", "/x", target);
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(proxy.get("").body, "{}");
}

#[test]
fn settings_file_says_external() {
    let ([traefik], folder) = traefiks::<1>(None);
    let echo = Echo::start();
    let file = folder.path().join("settings.toml");
    let start = |external: &str, arguments: &[&str]| {
        let text = format!(
            "{external}api-url = [\"{}\"]\napi-password-file = \"password\"\nquorum = 1\n",
            traefik.api_url()
        );
        fs::write(folder.path().join("password"), External::PASSWORD).unwrap();
        fs::write(&file, text).unwrap();
        let mut command = ours();
        command.arg("chp");
        let config = ["--config", file.to_str().unwrap()];
        Proxy::spawn(command, &[&config[..], arguments].concat())
    };
    let mut attached = start("external = true\n", &[]);
    attached.port = traefik.web;
    attached.wait_until_ready();
    attached.add("/x", &echo.url());
    assert_eq!(attached.through("/x").landed(), Some(echo.port));
    drop(attached);
    let mut refused = start("", &["--public-url", "http://h"]);
    assert_eq!(refused.wait_for_end().code(), Some(2));
    eventually("why", || refused.log().contains("only with --external"));
    for (other, arguments) in [
        ("", &[][..]),
        ("external = false\n", &[]),
        ("external = true\n", &["--external=false"]),
    ] {
        let started = start(other, arguments);
        started.wait_until_ready();
        assert_eq!(started.get("").body, "{}");
        assert_eq!(get(&traefik, "/x").landed(), Some(echo.port));
    }
}
