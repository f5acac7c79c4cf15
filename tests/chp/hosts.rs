//! Two hubs behind one Traefik.

use kit::client;
use kit::etcd::Cluster;
use kit::server::response;
use kit::tools::ETCD;
use kit::traefik::External;
use kit::{Echo, Server};

use crate::support::Proxy;

const HOSTS: [&str; 2] = ["hub1.example.org", "hub2.example.org"];

/// A hub's own pages, which say whose they are.
fn pages(hub: usize) -> Server {
    Server::answering(move |_| {
        let page = format!("page of hub {hub}");
        Some(response(404, "Connection: close\r\n", page.as_bytes()))
    })
}

fn hub(traefik: &External, etcd: &Cluster, hub: usize, pages: &Server) -> Proxy {
    let (store, errors) = (format!("etcd:{}", etcd.url()), pages.url());
    let prefix = format!("/hub{hub}/");
    let arguments = [
        "--backend",
        &store,
        "--host",
        HOSTS[hub],
        "--error-target",
        &errors,
    ];
    let arguments = [&arguments[..], &["--jupyterhub-prefix", &prefix]].concat();
    Proxy::attach(&[traefik], &arguments)
}

#[test]
fn two_hubs_share_a_traefik() {
    let (etcd, folder) = (Cluster::start(&ETCD.path()), tempfile::tempdir().unwrap());
    let traefik = External::start(folder.path(), Some(etcd.url()));
    let pages = [pages(0), pages(1)];
    let hubs = [0, 1].map(|n| hub(&traefik, &etcd, n, &pages[n]));
    let echoes = [Echo::start(), Echo::start()];
    for (hub, echo) in hubs.iter().zip(&echoes) {
        hub.add("/user/zoe", &echo.url());
        assert_eq!(hub.get("/user/zoe").json()["target"], echo.url());
        assert!(hub.get("").json().get("/user/zoe").is_some());
    }
    let get = |host: &str, path: &str| client::get(traefik.web, host, path);
    for (n, host) in HOSTS.into_iter().enumerate() {
        assert_eq!(get(host, "/user/zoe/x").landed(), Some(echoes[n].port));
        let page = get(host, "/nobody");
        assert_eq!((page.status, page.body), (404, format!("page of hub {n}")));
        assert_eq!(get(host, "/_chp_healthz").status, 200);
    }
    let other = get("other.example.org", "/user/zoe/x");
    assert!(
        other.status == 404 && !other.body.contains("page of"),
        "{other:?}"
    );
    // One that goes leaves the other one all it has.
    let [first, second] = hubs;
    assert_eq!(first.rest("DELETE", "/user/zoe", "").status, 204);
    drop(first);
    assert_eq!(get(HOSTS[0], "/user/zoe/x").status, 404);
    assert_eq!(get(HOSTS[1], "/user/zoe/x").landed(), Some(echoes[1].port));
    second.add("/b", &echoes[0].url());
    assert_eq!(get(HOSTS[1], "/b").landed(), Some(echoes[0].port));
    assert_eq!(get(HOSTS[0], "/b").status, 404);
}

#[test]
fn host_and_its_users_hosts_exclude_each_other() {
    let mut command = crate::support::proxy::ours();
    command.args(["chp", "--host", "hub.example.org", "--host-routing"]);
    let said = command.output().unwrap();
    let log = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(
        said.status.code() == Some(2) && log.contains("remove one of them"),
        "{log}"
    );
}
