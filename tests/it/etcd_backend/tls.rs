//! etcd behind TLS, for us and for the Traefik that we start.

use std::path::Path;
use std::process::Command;

use kit::etcd::Cluster;
use kit::tools::etcds;
use kit::{Ca, Echo};
use serde_json::json;
use traefik_router::{ErrorKind, Etcd, KvBackend, Router, Tls};

use super::security::does_not_start;
use super::{providers, routes_in};
use crate::support::rig::PASSWORD;
use crate::support::{External, Kind, Rig};

/// The gateway can't be asked for this by a raw request that shows no certificate.
pub(crate) fn etcdctl(etcd: &Path, cluster: &Cluster, ca: &Ca, args: &[&str]) {
    let mut command = Command::new(etcd.with_file_name("etcdctl"));
    command
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", cluster.url()])
        .arg("--cacert")
        .arg(ca.path("ca.pem"))
        .arg("--cert")
        .arg(ca.path("etcd.crt"))
        .arg("--key")
        .arg(ca.path("etcd.key"))
        .args(args);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn traefik_gets_certificates_and_password() {
    let ca = Ca::generate();
    let [cert, key] = ca.sign();
    let tls = Tls::new().ca_pem(ca.pem.as_str()).client_pem(cert, key);
    for binary in etcds() {
        let cluster = Cluster::with(&binary, 1, &[], Some(&ca.sign_for_etcd(true)));
        let etcd = || routes_in(&cluster).tls(tls.clone()).unwrap();
        etcdctl(&binary, &cluster, &ca, &["user", "add", "root:pw-root"]);
        etcdctl(&binary, &cluster, &ca, &["auth", "enable"]);
        let etcd = || etcd().user("root", "pw-root");
        let rig = Rig::new(Kind::Toml);
        let echo = Echo::start();
        let router = rig.builder_over(KvBackend::new(etcd())).start().unwrap();
        router.add_route("/a/", echo.url(), json!(1)).unwrap();
        assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
        let second = Rig::new(Kind::Toml);
        let config = External::config_with(&second, &providers(etcd()));
        let _traefik = External::start_with(&second, "tls", &config);
        let both = Router::builder(KvBackend::new(etcd()))
            .traefik_api_urls([rig.api_url(), second.api_url()])
            .traefik_api_password(PASSWORD);
        let both = both.attach().unwrap();
        both.add_route("/b/", echo.url(), json!(1)).unwrap();
        assert_eq!(second.landed("h", "/b/"), Some(echo.port));

        let untrusted = routes_in(&cluster).user("root", "pw-root");
        does_not_start(untrusted, ErrorKind::Unauthorized, &["`ca_pem`"]);
        let plain = Etcd::new([cluster.url().replace("https", "http")]).unwrap();
        does_not_start(plain, ErrorKind::Unavailable, &["must begin with https://"]);
        drop(both);
        router.stop().unwrap();
    }
}
