//! Routes in etcd.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::support::proxy::find;
use crate::support::{Echo, Proxy, eventually, ports};

/// Killed when it is dropped.
struct Etcd {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Self {
        let program = find("ETCD_BIN", "etcd", "target/tools/etcd-3.5/etcd")
            .expect("etcd was not found: run `cargo xtask tools`, or set ETCD_BIN");
        let folder = tempfile::tempdir().unwrap();
        let port = ports::free();
        let [url, peer] = [port, ports::free()].map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(folder.path());
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
        let etcd = Self {
            process: child.unwrap(),
            port,
            _folder: folder,
        };
        eventually("etcd listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        etcd
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn routes_error_pages_and_service_options_work_on_etcd_too() {
    let (etcd, echo) = (Etcd::start(), Echo::start());
    let store = format!("etcd:http://127.0.0.1:{}", etcd.port);
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
