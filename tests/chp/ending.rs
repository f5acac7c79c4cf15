//! Programs that end: what they log and leave.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use kit::etcd::{Cluster, raw};
use kit::server::response;
use kit::tools::ETCD;
use kit::{Server, eventually};
use serde_json::json;

use crate::support::Proxy;
use crate::support::proxy::reading;

/// It has stored a router for the API, and waits for Traefik to load it.
#[test]
fn ended_program_takes_its_router_back() {
    let etcd = Cluster::start(&ETCD.path());
    let api = Server::answering(|_| Some(response(404, "", b"")));
    let keys = || {
        let all = json!({"key": "AA==", "range_end": "AA==", "keys_only": true});
        raw(etcd.url(), "/v3/kv/range", all, None)["count"].clone()
    };
    let mut proxy = Proxy::attach_at(
        &[&api.url()],
        &["--backend", &format!("etcd:{}", etcd.url())],
    );
    eventually("it is stored", || !keys().is_null());
    proxy.signal("TERM");
    assert!(proxy.wait_for_end().success());
    assert!(keys().is_null(), "{} keys", keys());
}

#[test]
fn program_without_port_takes_its_router_back() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.toml");
    let (_traefik, [_, api]) = reading(&rules);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (store, url) = (
        format!("toml:{}", rules.display()),
        format!("http://127.0.0.1:{api}"),
    );
    let mut proxy = Proxy::attach_at(&[&url], &["--backend", &store, "--api-port", &port]);
    assert!(!proxy.wait_for_end().success());
    eventually("it says why", || proxy.log().contains("--api-port"));
    let text = fs::read_to_string(&rules).unwrap();
    assert!(!text.contains("api@internal"), "{text}");
}

/// The moment at which Traefik is asked next is another one each time.
#[test]
fn regular_end_logs_no_failure() {
    for pause in [0, 200, 400, 600, 800] {
        let mut proxy = Proxy::start(&[]);
        std::thread::sleep(Duration::from_millis(pause));
        proxy.signal("TERM");
        assert!(proxy.wait_for_end().success());
        let log = proxy.log();
        assert!(!log.contains("can't be looked after"), "{log}");
    }
}
