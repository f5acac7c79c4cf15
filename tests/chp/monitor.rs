//! What those who supervise the program ask, while something is away.

use std::time::{Duration, Instant};

use kit::etcd::Cluster;

use kit::tools::ETCD;
use kit::traefik::External;
use kit::{Mood, Proxy as Network, client, eventually, ports};

use crate::support::Proxy;

/// A store that is away is not waited for, and the Traefiks still answer.
#[test]
fn silent_store_delays_no_answer() {
    let etcd = Cluster::start(&ETCD.path());
    let folder = tempfile::tempdir().unwrap();
    let traefik = External::start(folder.path(), Some(etcd.url()));
    let network = Network::new(etcd.url());
    let store = format!("etcd:{}", network.url);
    let metrics = ports::free();
    let port = metrics.to_string();
    let arguments = [
        "--backend",
        &store,
        "--metrics-ip",
        "127.0.0.1",
        "--metrics-port",
        &port,
    ];
    let _proxy = Proxy::attach(&[&traefik], &arguments);
    let ask = |path| {
        let begun = Instant::now();
        let answer = client::get(metrics, "h", path);
        // The client of etcd waits for ten seconds.
        assert!(begun.elapsed() < Duration::from_secs(5), "{path}");
        answer
    };
    let has = |line: String| {
        let text = ask("/metrics").body;
        assert!(text.contains(&line), "{line}\n{text}");
    };
    let up = format!("traefik_up{{traefik=\"{}\"}} 1\n", traefik.api_url());
    assert_eq!(ask("/readyz").status, 200);
    has("traefik_router_chp_store_up 1\n".into());
    network.mood(Mood::Silent);
    let answer = ask("/readyz");
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.contains("the store did not say in time"),
        "{answer:?}"
    );
    has("traefik_router_chp_store_up 0\n".into());
    has(up);
    network.mood(Mood::Honest);
    eventually("it is ready again", || ask("/readyz").status == 200);
}
