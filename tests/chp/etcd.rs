//! Routes in etcd.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::proxy::{find, ours, signal};
use crate::support::{Echo, Proxy, eventually, ports};
use crate::tls::Ca;

/// Killed when it is dropped.
struct Etcd {
    process: Child,
    port: u16,
    peer: u16,
    folder: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Self {
        Self::start_with("http", &[])
    }

    fn start_with(scheme: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [port, peer] = [(); 2].map(|()| ports::free());
        let mut etcd = Self {
            process: Self::spawn(&folder.path().join("data"), port, peer, scheme, arguments),
            port,
            peer,
            folder,
        };
        etcd.wait();
        etcd
    }

    fn spawn(data: &Path, port: u16, peer: u16, scheme: &str, arguments: &[&str]) -> Child {
        let program = find("ETCD_BIN", "etcd", "target/tools/etcd-3.5/etcd")
            .expect("etcd was not found: run `cargo xtask tools`, or set ETCD_BIN");
        let url = format!("{scheme}://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{peer}");
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(data).args(arguments);
        for (option, url) in [
            ("--listen-client-urls", &url),
            ("--advertise-client-urls", &url),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
        ] {
            command.args([option, url]);
        }
        command.arg(format!("--initial-cluster=default={peer}"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.unwrap()
    }

    fn wait(&mut self) {
        eventually("etcd listens", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    /// Ends it, copies its data from one folder to another, and starts it again.
    fn copy(&mut self, from: &str, to: &str) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let [from, to] = [from, to].map(|name| self.folder.path().join(name));
        std::fs::remove_dir_all(&to).ok();
        let copied = Command::new("cp").arg("-r").args([from, to]).status();
        assert!(copied.unwrap().success());
        let data = self.folder.path().join("data");
        self.process = Self::spawn(&data, self.port, self.peer, "http", &[]);
        self.wait();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Etcd {
    fn store(&self) -> String {
        format!("etcd:http://127.0.0.1:{}", self.port)
    }
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
    let (mut etcd, echo) = (Etcd::start(), Echo::start());
    let proxy = Proxy::start(&["--backend", &etcd.store()]);
    proxy.add("/kept", &echo.url());
    etcd.copy("data", "backup");
    for n in 0..5 {
        proxy.add(&format!("/lost{n}"), &echo.url());
    }
    etcd.copy("backup", "data");
    assert_eq!(proxy.get("").json().as_object().unwrap().len(), 1);
    proxy.add("/new", &echo.url());
    for path in ["/kept", "/new"] {
        assert_eq!(proxy.through(path).landed(), Some(echo.port), "{path}");
    }
    assert_eq!(proxy.through("/lost0").landed(), None);
}

/// Replicas, and a rolling update: whichever ends, no route of the others goes.
#[test]
fn any_of_several_may_end() {
    let (etcd, echo) = (Etcd::start(), Echo::start());
    let store = etcd.store();
    let older = Proxy::start(&["--backend", &store]);
    older.add("/old", &echo.url());
    let newer = Proxy::start(&["--backend", &store, "--keep-routes"]);
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
        assert_eq!(proxy.through("/none").body, "Not Found");
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
        assert_eq!(other.through("/none").body, "Not Found");
    };
    end(older, &newer, "TERM");
    let third = Proxy::start(&["--backend", &store, "--keep-routes"]);
    end(newer, &third, "KILL");
}

#[test]
fn next_program_keeps_served_routes() {
    let (etcd, echo) = (Etcd::start(), Echo::start());
    let store = etcd.store();
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
    assert_eq!(third.get("").body, "{}");
    assert_eq!(third.through("/x").landed(), None);
}

/// What the services have is stored with the routes, which are the others' as well.
#[test]
fn options_changing_others_are_refused() {
    let (etcd, echo) = (Etcd::start(), Echo::start());
    let store = etcd.store();
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
    let (etcd, echo) = (Etcd::start(), Echo::start());
    let store = etcd.store();
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
    eventually("the use of a route is told", || last_activity() > begun);
    assert_eq!(proxy.through("/down").status, 503);
    assert_eq!(proxy.through("/none").body, "Not Found");
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
    let (etcd, echo) = (Etcd::start(), Echo::start());
    let temp = tempfile::tempdir().unwrap();
    let there = |command: &mut Command| {
        command.env("TMPDIR", temp.path());
    };
    let proxy = Proxy::start_with(there, &["--backend", &etcd.store()]);
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
            signal(first, "KILL");
        }
        eventually("another Traefik serves", || {
            proxy.traefik() != first && TcpStream::connect(("127.0.0.1", proxy.port)).is_ok()
        });
        proxy.add(name, &echo.url());
        assert_eq!(proxy.through(name).landed(), Some(echo.port));
    }
}

#[test]
fn tls_and_own_prefixes_work() {
    let (ca, echo) = (Ca::new(), Echo::start());
    let [[cert, key], [client_cert, client_key]] = ["etcd", "client"].map(|name| ca.sign(name));
    let authority = ca.path("ca.crt");
    let etcd = Etcd::start_with(
        "https",
        &[
            "--cert-file",
            &cert,
            "--key-file",
            &key,
            "--trusted-ca-file",
            &authority,
            "--client-cert-auth",
        ],
    );
    let store = format!("etcd:https://127.0.0.1:{}", etcd.port);
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
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let log = String::from_utf8_lossy(&output.stdout);
        assert!(
            log.contains("ETCD_USERNAME needs ETCD_PASSWORD beside it"),
            "{log}"
        );
    }
}
