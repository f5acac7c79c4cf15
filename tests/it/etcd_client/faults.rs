//! Endpoints that die, are silent, or lose an answer.

use std::thread;
use std::time::{Duration, Instant};

use kit::etcd::Cluster;
use kit::tools::{ETCD, etcds};
use kit::{Mood, Proxy, ports};
use traefik_router::etcd::{Client, Compare, Is, Op, Range, Txn, WatchRange};
use traefik_router::{Backend as _, ErrorKind, Etcd, Finding, KvBackend, Level, Stored};

use super::{SECOND, fails, on_each};
use crate::support::Connect as _;

#[test]
fn lost_answer_repeats_no_change() {
    on_each(|cluster| {
        let direct = cluster.client();
        let proxy = Proxy::new(cluster.url());
        // The second endpoint would take a repetition.
        let lost = || {
            proxy.lose_answers(false);
            let etcd = Client::new([&proxy.url, cluster.url()]).unwrap();
            etcd.status().unwrap();
            proxy.lose_answers(true);
            etcd
        };
        let version = |key: &str| direct.get(key).unwrap().map_or(0, |kv| kv.version);

        let etcd = lost();
        let error = etcd.put("once", "v").unwrap_err();
        assert_eq!(
            (error.kind(), error.stored()),
            (ErrorKind::Unavailable, &Stored::Unknown)
        );
        assert_eq!(version("once"), 1);
        let error = lost().txn(&Txn::new([Op::put("once", "v")])).unwrap_err();
        assert_eq!((error.stored(), version("once")), (&Stored::Unknown, 2));
        let absent =
            Txn::new([Op::put("new", "v")]).when(Compare::mod_revision("new", Is::Equal, 0));
        let error = lost().txn(&absent).unwrap_err();
        assert_eq!((error.stored(), version("new")), (&Stored::Unknown, 1));
        let error = lost().delete("new").unwrap_err();
        assert_eq!((error.stored(), version("new")), (&Stored::Unknown, 0));

        // Reads get through.
        assert!(lost().get("once").unwrap().is_some());

        // A compare that can't hold twice makes the repetition safe, but says nothing of the first.
        let at = direct.get("once").unwrap().unwrap().mod_revision;
        let guarded =
            Txn::new([Op::put("once", "w")]).when(Compare::mod_revision("once", Is::Equal, at));
        let error = lost().txn(&guarded).unwrap_err();
        assert_eq!((error.stored(), version("once")), (&Stored::Unknown, 3));
        assert!(error.to_string().contains("read the keys"), "{error}");
        proxy.lose_answers(false);

        // Where the first one did not arrive, the repetition does the work.
        let at = direct.get("once").unwrap().unwrap().mod_revision;
        let guarded =
            Txn::new([Op::put("once", "x")]).when(Compare::mod_revision("once", Is::Equal, at));
        let etcd = lost();
        proxy.lose_answers(false);
        proxy.swallow_one_request();
        assert!(etcd.txn(&guarded).unwrap().succeeded);
        assert_eq!(version("once"), 4);

        // With one endpoint nobody else can be asked; but a connection that was kept may just have
        // been closed, as by an etcd that is restarted.
        let single = Client::new([&proxy.url]).unwrap();
        single.get("once").unwrap();
        proxy.swallow_one_request();
        assert!(single.get("once").unwrap().is_some());
        proxy.lose_one_answer();
        fails(
            single.put("once", "x"),
            ErrorKind::Unavailable,
            &[&proxy.url],
        );
        assert_eq!(version("once"), 5);
    });
}

/// Asking once more is no reason to wait longer.
#[test]
fn late_close_respects_the_timeout() {
    on_each(|cluster| {
        let proxy = Proxy::new(cluster.url());
        let etcd = Client::new([&proxy.url]).unwrap().timeout(SECOND);
        etcd.get("k").unwrap();
        proxy.mood(Mood::Drop(SECOND * 4 / 5));
        let begun = Instant::now();
        fails(etcd.get("k"), ErrorKind::Unavailable, &[&proxy.url]);
        let took = begun.elapsed();
        assert!(took < SECOND * 7 / 5, "{took:?}");
    });
}

#[test]
fn unresponsive_endpoints_are_skipped() {
    on_each(|cluster| {
        let dead = format!("http://127.0.0.1:{}", ports::free());
        let refused = Client::new([&dead]).unwrap();
        let begun = Instant::now();
        let error = refused.put("k", "v").unwrap_err();
        assert_eq!(
            (error.kind(), error.stored()),
            (ErrorKind::Unavailable, &Stored::Nothing)
        );
        assert!(
            error.to_string().contains(&dead) && begun.elapsed() < SECOND,
            "{error}"
        );

        let etcd = Client::new([&dead, cluster.url()]).unwrap();
        etcd.put("k", "v").unwrap();
        // One that takes connections and never answers.
        let silent = ports::listen();
        let silent_url = format!("http://{}", silent.local_addr().unwrap());
        let etcd = Client::new([&silent_url, cluster.url()])
            .unwrap()
            .timeout(4 * SECOND);
        let begun = Instant::now();
        assert!(etcd.get("k").unwrap().is_some());
        assert!(begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
        let begun = Instant::now();
        assert!(etcd.get("k").unwrap().is_some());
        assert!(
            begun.elapsed() < SECOND,
            "the one that worked is asked first"
        );

        let stuck = Client::new([&silent_url, &dead]).unwrap().timeout(SECOND);
        let begun = Instant::now();
        // Neither has said of which cluster it is, so neither was sent the change.
        let error = stuck.put("k", "v").unwrap_err();
        assert_eq!(error.stored(), &Stored::Nothing, "{error}");
        let alone = Client::new([&silent_url]).unwrap().timeout(SECOND);
        let error = alone.put("k", "v").unwrap_err();
        assert_eq!(error.stored(), &Stored::Unknown, "{error}");
        fails(
            stuck.get("k"),
            ErrorKind::Unavailable,
            &[&silent_url, &dead],
        );
        assert!(begun.elapsed() < 3 * SECOND, "{:?}", begun.elapsed());
    });
}

#[test]
fn killed_node_fails_no_read() {
    for binary in etcds() {
        let mut cluster = Cluster::with(&binary, 3, &[], None);
        // First a node that only follows, then the leader.
        for round in 0..2 {
            let leader = cluster.leader();
            let victim = if round == 0 { (leader + 1) % 3 } else { leader };
            let mut urls = cluster.urls();
            urls.rotate_left(victim);
            let etcd = Client::new(urls).unwrap();
            let key = format!("count{round}");
            etcd.put(&key, "start").unwrap();
            let mut watch = etcd.watch(WatchRange::key(&key)).unwrap();
            let stop = Instant::now() + 4 * SECOND;
            let (applied, unknown) = thread::scope(|scope| {
                let writer = scope.spawn(|| write_until(&etcd, &key, stop));
                let reader = scope.spawn(|| {
                    while Instant::now() < stop {
                        assert!(etcd.get(&key).unwrap().is_some());
                        thread::sleep(Duration::from_millis(1));
                    }
                });
                thread::sleep(SECOND);
                cluster.kill(victim);
                reader.join().unwrap();
                writer.join().unwrap()
            });
            let version = etcd.get(&key).unwrap().unwrap().version - 1;
            println!("killed: {applied} puts applied, of {unknown} it is not known");
            // One on the way to the killed node, and those that time out before there is a leader.
            assert!(applied > 10 && unknown <= 3);
            assert!((applied..=applied + unknown).contains(&version));
            // The watch went on with another node, and heard of each write once.
            let heard = std::iter::from_fn(|| watch.next(SECOND).unwrap()).count();
            assert_eq!(i64::try_from(heard).unwrap(), version);
            cluster.restart(victim);
        }
    }
}

/// Puts until then; how many succeeded, and of how many that is not known.
fn write_until(etcd: &Client, key: &str, stop: Instant) -> (i64, i64) {
    let (mut applied, mut unknown) = (0, 0);
    while Instant::now() < stop {
        match etcd.put(key, "v") {
            Ok(_) => applied += 1,
            Err(error) => {
                assert_eq!(error.stored(), &Stored::Unknown, "{error}");
                unknown += 1;
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    (applied, unknown)
}

#[test]
fn missing_majority_respects_the_timeout() {
    for binary in etcds() {
        let mut cluster = Cluster::with(&binary, 3, &[], None);
        let etcd = cluster.client().timeout(2 * SECOND);
        etcd.put("k", "v").unwrap();
        cluster.kill(1);
        cluster.kill(2);
        let begun = Instant::now();
        let error = etcd.get("k").unwrap_err();
        assert_eq!(
            (error.kind(), error.stored()),
            (ErrorKind::Unavailable, &Stored::Nothing)
        );
        let error = etcd.put("k", "w").unwrap_err();
        assert_eq!(
            (error.kind(), error.stored()),
            (ErrorKind::Unavailable, &Stored::Unknown)
        );
        assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());
        let old = etcd.range(&Range::key("k").serializable(true)).unwrap();
        assert_eq!(old.kvs[0].value, b"v");
    }
}

#[test]
fn other_cluster_is_not_asked() {
    let binary = ETCD.path();
    let (mut cluster, other) = (Cluster::start(&binary), Cluster::start(&binary));
    let etcd = Client::new([cluster.url(), other.url()]).unwrap();
    etcd.put("a", "1").unwrap();
    cluster.kill(0);
    let words = [other.url(), "the URLs of one cluster"];
    fails(etcd.get("a"), ErrorKind::Unavailable, &words);
    let error = etcd.put("a", "2").unwrap_err();
    assert_eq!(error.stored(), &Stored::Nothing);
    assert!(other.client().get("a").unwrap().is_none());
    cluster.restart(0);
    etcd.put("a", "3").unwrap();

    let store = Etcd::new([cluster.url(), other.url()]).unwrap();
    is_found(
        store,
        Level::Problem,
        &format!("{} is of another cluster than", other.url()),
    );
}

/// What is found out about the URLs of a store.
fn is_found(store: Etcd, level: Level, says: &str) {
    let found = KvBackend::new(store).diagnose();
    let is_told = |finding: &Finding| {
        let is_so = finding.level == level && finding.message.contains(says);
        finding.check == "endpoints" && is_so
    };
    assert!(found.iter().any(is_told), "{found:?}");
}

#[test]
fn useless_endpoints_are_found() {
    let cluster = Cluster::start(&ETCD.path());
    let local = cluster.url().replace("127.0.0.1", "localhost");
    let twice = Etcd::new([cluster.url(), &local]).unwrap();
    is_found(twice, Level::Warning, "the same member as");
    let dead = format!("http://127.0.0.1:{}", ports::free());
    let half = Etcd::new([cluster.url(), &dead]).unwrap();
    is_found(half, Level::Warning, &dead);
}

#[test]
fn missing_etcd_is_named() {
    let dead = [(); 2].map(|()| format!("http://127.0.0.1:{}", ports::free()));
    for urls in [&dead[..1], &dead] {
        let etcd = Client::new(urls).unwrap();
        for error in [etcd.get("a").unwrap_err(), etcd.put("a", "1").unwrap_err()] {
            let (text, stored) = (error.to_string(), error.stored());
            assert!(text.starts_with("etcd does not answer (check"), "{text}");
            assert!(urls.iter().all(|url| text.contains(url)), "{text}");
            assert_eq!(
                (error.kind(), stored),
                (ErrorKind::Unavailable, &Stored::Nothing)
            );
        }
    }
}

#[test]
fn unsent_change_tries_next_endpoint() {
    let cluster = Cluster::start(&ETCD.path());
    let proxy = Proxy::new(cluster.url());
    for (n, mood) in [Mood::Drop(Duration::ZERO), Mood::Silent]
        .into_iter()
        .enumerate()
    {
        proxy.mood(mood);
        let etcd = Client::new([&proxy.url, cluster.url()]).unwrap();
        etcd.timeout(4 * SECOND).put("a", n.to_string()).unwrap();
        let stored = cluster.client().get("a").unwrap().unwrap();
        assert_eq!(stored.value, n.to_string().as_bytes());
    }
}

#[test]
fn missing_gateway_brings_advice() {
    for binary in etcds() {
        let cluster = Cluster::with(&binary, 1, &["--enable-grpc-gateway=false"], None);
        let words = ["--enable-grpc-gateway=true"];
        fails(cluster.client().get("a"), ErrorKind::Protocol, &words);
    }
}

#[test]
fn endless_answer_is_given_up() {
    let endless = kit::Server::answering(|_| {
        let answer = br#"{"header":{"revision":"1"},"kvs":[{"key":"YQ=="}],"more":true}"#;
        Some(kit::server::response(200, "", answer))
    });
    let client = Client::new([endless.url()]).unwrap();
    let client = client.timeout(Duration::from_millis(100));
    let error = client.get_prefix("a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("has no end"), "{error}");
}
