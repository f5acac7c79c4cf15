//! What `docs/etcd.md` tells the reader to do works as it stands.

use std::path::Path;
use std::process::Command;

use kit::etcd::Cluster;
use kit::tools::etcds;
use kit::{Echo, Traefik};
use serde_json::json;
use traefik_router::KvBackend;

use super::routes_in;
use crate::support::{Kind, Rig};

/// The one block of this language.
fn block(language: &str) -> &'static str {
    let text = include_str!("../../../docs/etcd.md");
    let fence = format!("```{language}\n");
    let mut blocks = text.split(&fence).skip(1);
    let block = blocks.next().unwrap().split("```").next().unwrap();
    assert_eq!(blocks.next(), None, "another block of {language}");
    block
}

fn run_commands(etcd: &Path, url: &str) {
    let folder = etcd.parent().unwrap().display();
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-exc", block("sh")])
        .env("PATH", format!("{folder}:{path}"))
        .env("ETCDCTL_API", "3")
        .env("ETCDCTL_ENDPOINTS", url);
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn documented_users_and_configuration_work() {
    for binary in etcds() {
        let cluster = Cluster::start(&binary);
        run_commands(&binary, cluster.url());
        let rig = Rig::new(Kind::Toml);
        let address = cluster.url().trim_start_matches("http://");
        let config = block("toml")
            .replace("127.0.0.1:2379", address)
            .replace(":8000", &format!("127.0.0.1:{}", rig.web))
            .replace(":8099", &format!(":{}", rig.api));
        let _traefik = Traefik::start(
            &rig.path("traefik.toml"),
            &config,
            &[&rig.web, &rig.api].map(|port| format!("127.0.0.1:{port}")),
        );
        let etcd = routes_in(&cluster).user("hub", "HUB-PASSWORD");
        let router = rig.builder_over(KvBackend::new(etcd)).attach().unwrap();
        let echo = Echo::start();
        router.add_route("/a/", echo.url(), json!(1)).unwrap();
        assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
        router.delete_route("/a/").unwrap();
        assert_eq!(rig.landed("h", "/a/"), None);
    }
}
