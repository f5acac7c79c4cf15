//! Routes in etcd, and in Redis.

use std::process::Command;

use kit::etcd::Cluster;
use kit::process::send_signal;
use kit::redis::{Sentinels, Server};
use kit::tools::ETCD;
use kit::{Ca, Echo, eventually, ports};

use crate::support::Proxy;
use crate::support::proxy::ours;

fn start() -> Cluster {
    Cluster::start(&ETCD.path())
}

fn store(etcd: &Cluster) -> String {
    format!("etcd:{}", etcd.url())
}

/// A program that has to end by itself; what it wrote until then.
fn ends_at_once(arguments: &[&str], why: &str) -> String {
    let mut command = ours();
    command.arg("chp");
    let mut proxy = Proxy::spawn(command, arguments);
    assert!(!proxy.wait_for_end().success());
    eventually("it says why", || proxy.log().contains(why));
    proxy.log()
}

/// From a backup that is not empty. JupyterHub adds what lacks by itself.
#[test]
fn restored_etcd_is_taken_over() {
    let (mut etcd, echo) = (start(), Echo::start());
    let proxy = Proxy::start(&["--backend", &store(&etcd)]);
    proxy.add("/kept", &echo.url());
    etcd.back_up(0);
    for n in 0..5 {
        proxy.add(&format!("/lost{n}"), &echo.url());
    }
    etcd.restore(0);
    assert_eq!(proxy.get("").json().as_object().unwrap().len(), 1);
    proxy.add("/new", &echo.url());
    for path in ["/kept", "/new"] {
        assert_eq!(proxy.through(path).landed(), Some(echo.port), "{path}");
    }
    assert_eq!(proxy.through("/lost0").landed(), None);
}

/// Replicas, and a rolling update: whichever ends, no route of the others goes.
fn check_any_may_end(store: &str) {
    let echo = Echo::start();
    let older = Proxy::start(&["--backend", store]);
    older.add("/old", &echo.url());
    let newer = Proxy::start(&["--backend", store, "--keep-routes"]);
    let serves = |proxy: &Proxy, path: &str| {
        eventually("it is served", || {
            proxy.through(path).landed() == Some(echo.port)
        });
    };
    older.add("/from-older", &echo.url());
    newer.add("/from-newer", &echo.url());
    let paths = ["/old", "/from-older", "/from-newer"];
    for proxy in [&older, &newer] {
        paths.iter().for_each(|path| serves(proxy, path));
        assert!(proxy.through("/none").body.contains("<h1>404: Not Found"));
        assert_eq!(proxy.through("/_chp_healthz").status, 200);
    }
    let end = |mut ended: Proxy, other: &Proxy, signal: &str| {
        ended.signal(signal);
        std::thread::scope(|scope| {
            let ended = scope.spawn(move || ended.wait_for_end());
            while !ended.is_finished() {
                for path in paths {
                    assert_eq!(other.through(path).landed(), Some(echo.port), "{path}");
                }
            }
        });
        other.add("/after", &echo.url());
        paths.iter().for_each(|path| serves(other, path));
        assert!(other.through("/none").body.contains("<h1>404: Not Found"));
    };
    end(older, &newer, "TERM");
    let third = Proxy::start(&["--backend", store, "--keep-routes"]);
    end(newer, &third, "KILL");
}

#[test]
fn any_of_several_may_end() {
    let etcd = start();
    check_any_may_end(&store(&etcd));
}

/// JupyterHub tries again what fails meanwhile.
#[test]
fn fail_over_loses_no_route() {
    let sentinels = &mut Sentinels::start(&["--save", "", "--notify-keyspace-events", "K$g"]);
    let (name, urls) = (Sentinels::MASTER, sentinels.urls().join(","));
    let store = format!("redis+sentinel:{name},{urls}");
    let (echo, other) = (Echo::start(), Echo::start());
    let proxy = Proxy::start(&["--backend", &store, "--redis-replicas", "1"]);
    for n in 0..5 {
        proxy.add(&format!("/before{n}"), &echo.url());
    }
    let old = sentinels.master().unwrap();
    sentinels.servers[old].kill();
    eventually("a route is added to the new master", || {
        assert_eq!(proxy.through("/before0").landed(), Some(echo.port));
        let body = format!(r#"{{"target": "{}"}}"#, other.url());
        proxy.rest("POST", "/after", &body).status == 201
    });
    assert_ne!(sentinels.master(), Some(old));
    assert_eq!(proxy.get("").json().as_object().unwrap().len(), 6);
    assert_eq!(proxy.through("/after").landed(), Some(other.port));
    for n in 0..5 {
        let path = format!("/before{n}");
        assert_eq!(proxy.through(&path).landed(), Some(echo.port), "{path}");
    }
}

#[test]
fn any_may_end_on_redis() {
    let redis = Server::start(&["--save", ""]);
    check_any_may_end(&format!("redis:{}", redis.url()));
}

#[test]
fn next_program_keeps_served_routes() {
    let (etcd, echo) = (start(), Echo::start());
    let store = store(&etcd);
    let first = Proxy::start(&["--backend", &store]);
    first.add("/x", &echo.url());
    let log = ends_at_once(&["--backend", &store], "--keep-routes");
    assert!(log.contains("another program serves"), "{log}");
    assert_eq!(first.through("/x").landed(), Some(echo.port));
    let second = Proxy::start(&["--backend", &store, "--replace-served-routes"]);
    assert_eq!(second.get("").body, "{}");
    second.add("/x", &echo.url());
    drop(first);
    // One that was killed is not thought to serve for long, and begins without routes again.
    drop(second);
    let third = Proxy::start(&["--backend", &store]);
    assert!(third.log().contains("was killed a moment ago"));
    assert_eq!(third.get("").body, "{}");
    assert_eq!(third.through("/x").landed(), None);
}

/// What the services have is stored with the routes, which are the others' as well.
#[test]
fn options_changing_others_are_refused() {
    let (etcd, echo) = (start(), Echo::start());
    let store = store(&etcd);
    let first = Proxy::start(&["--backend", &store]);
    first.add("/x", &echo.url());
    for option in [&["--proxy-timeout", "9000"][..], &["--change-origin"]] {
        let shared = ["--backend", &store, "--keep-routes"];
        ends_at_once(&[&shared, option].concat(), option[0]);
        first.add("/y", &echo.url());
        assert_eq!(first.through("/x").landed(), Some(echo.port));
    }
    drop(first);
    // Those that begin with an option share it with those that come without.
    let arguments = [
        "--backend",
        &store,
        "--proxy-timeout",
        "9000",
        "--change-origin",
    ];
    let first = Proxy::start(&arguments);
    first.add("/x", &echo.url());
    let second = Proxy::start(&["--backend", &store, "--keep-routes"]);
    second.add("/y", &echo.url());
    for proxy in [&first, &second] {
        eventually("it is served", || {
            proxy.through("/y").landed() == Some(echo.port)
        });
        let host = proxy.through("/x").echo()["headers"]["host"].clone();
        assert_eq!(host, format!("127.0.0.1:{}", echo.port));
    }
}

/// Traefik reads one file: two programs would have to share what is their own.
#[test]
fn file_serves_one_program() {
    let (folder, echo) = (tempfile::tempdir().unwrap(), Echo::start());
    let store = format!("toml:{}", folder.path().join("routes.toml").display());
    let first = Proxy::start(&["--backend", &store]);
    first.add("/x", &echo.url());
    for more in [&[][..], &["--keep-routes"], &["--replace-served-routes"]] {
        let mut command = ours();
        command.arg("chp");
        let mut second = Proxy::spawn(command, &[&["--backend", &store][..], more].concat());
        assert!(!second.wait_for_end().success());
        eventually("it says why", || second.log().contains("another program"));
        first.add("/y", &echo.url());
        assert_eq!(first.through("/x").landed(), Some(echo.port));
    }
    drop(first);
    let next = Proxy::start(&["--backend", &store]);
    assert_eq!(next.get("").body, "{}");
}

#[test]
fn routes_pages_and_options_work() {
    let (etcd, echo) = (start(), Echo::start());
    let store = store(&etcd);
    let stop = |mut proxy: Proxy| {
        proxy.signal("TERM");
        assert!(proxy.wait_for_end().success());
    };
    let proxy = Proxy::start(&["--backend", &store]);
    proxy.add("/x", &echo.url());
    proxy.add("/down", &format!("http://127.0.0.1:{}", ports::free()));
    let last_activity = || proxy.get("/x").json()["last_activity"].to_string();
    let begun = last_activity();
    assert_eq!(proxy.through("/x/y").landed(), Some(echo.port));
    eventually("the use of a route is shown", || last_activity() > begun);
    assert_eq!(proxy.through("/down").status, 503);
    assert!(proxy.through("/none").body.contains("<h1>404: Not Found"));
    stop(proxy);
    let arguments = ["--backend", &store, "--keep-routes", "--change-origin"];
    let proxy = Proxy::start(&[&arguments[..], &["--proxy-timeout", "9000"]].concat());
    let host = proxy.through("/x/y").echo()["headers"]["host"].clone();
    assert_eq!(
        host,
        format!("127.0.0.1:{}", echo.port),
        "a route from before"
    );
    stop(proxy);
    let proxy = Proxy::start(&["--backend", &store]);
    assert_eq!(proxy.get("").body, "{}");
    assert_eq!(proxy.through("/x/y").landed(), None);
}

#[test]
fn private_files_are_written_again() {
    let (etcd, echo) = (start(), Echo::start());
    let temp = tempfile::tempdir().unwrap();
    let there = |command: &mut Command| {
        command.env("TMPDIR", temp.path());
    };
    let proxy = Proxy::start_with(there, &["--backend", &store(&etcd)]);
    let folder = std::fs::read_dir(temp.path()).unwrap().flatten().next();
    let folder = folder.unwrap().path();
    let names = || {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    for (name, whole) in [("/a", false), ("/b", true)] {
        let first = proxy.traefik();
        match whole {
            true => std::fs::remove_dir_all(&folder).unwrap(),
            false => before
                .iter()
                .for_each(|name| std::fs::remove_file(folder.join(name)).unwrap()),
        }
        eventually("all is there again", || names() == before);
        if !whole {
            send_signal(first, "KILL");
        }
        eventually("another Traefik serves", || {
            proxy.traefik() != first && ports::is_open(proxy.port)
        });
        proxy.add(name, &echo.url());
        assert_eq!(proxy.through(name).landed(), Some(echo.port));
    }
}

#[test]
fn tls_and_own_prefixes_work() {
    let (ca, echo) = (Ca::generate(), Echo::start());
    let [client_cert, client_key] = ca.sign_files("client");
    let authority = ca.path("ca.pem");
    let etcd = Cluster::with(&ETCD.path(), 1, &[], Some(&ca.sign_for_etcd(true)));
    let store = store(&etcd);
    let tls = [
        "--backend",
        &store,
        "--etcd-ca-file",
        &authority,
        "--etcd-cert-file",
        &client_cert,
        "--etcd-key-file",
        &client_key,
    ];
    let first = Proxy::start(&tls);
    first.add("/x", &echo.url());
    // Another table: nothing of the first is in its way.
    let prefixes = ["--traefik-prefix=/other/", "--jupyterhub-prefix=/hub/"];
    let other = Proxy::start(&[&tls[..], &prefixes].concat());
    assert_eq!(other.get("").body, "{}");
    other.add("/y", &echo.url());
    assert_eq!(first.through("/x").landed(), Some(echo.port));
    assert_eq!(other.through("/x").landed(), None);
    assert_eq!(other.through("/y").landed(), Some(echo.port));
}

#[test]
fn user_without_password_is_refused() {
    for password in [None, Some("")] {
        let mut command = ours();
        command
            .env("ETCD_USERNAME", "hub")
            .env_remove("ETCD_PASSWORD");
        command.envs(password.map(|password| ("ETCD_PASSWORD", password)));
        command.args(["chp", "--backend", "etcd:http://127.0.0.1:1"]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let log = String::from_utf8_lossy(&output.stdout);
        assert!(
            log.contains("ETCD_USERNAME needs ETCD_PASSWORD beside it"),
            "{log}"
        );
    }
}
