//! The etcd client against real etcd servers, of both versions that are supported.

mod faults;
mod security;
#[cfg(feature = "tls")]
mod tls;

use std::thread;
use std::time::{Duration, Instant};

use kit::etcd::Cluster;
use kit::eventually;
use kit::tools::etcds;
use traefik_router::etcd::{
    Client, Compare, Event, Is, MAX_OPS, Op, Range, Response, Txn, WatchRange, Watcher,
};
use traefik_router::{Backend as _, Error, ErrorKind, Etcd, Finding, KvBackend, Stored};

use crate::support::Connect as _;

const SECOND: Duration = Duration::from_secs(1);

fn on_each(test: impl Fn(&mut Cluster)) {
    for binary in etcds() {
        test(&mut Cluster::start(&binary));
    }
}

fn kind_and_text<T: std::fmt::Debug>(result: Result<T, Error>) -> (ErrorKind, String) {
    let error = result.expect_err("it must fail");
    (error.kind(), error.to_string())
}

/// Asserts that it fails with this kind, and that the message has these words.
#[track_caller]
fn fails<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind, words: &[&str]) {
    let (found, text) = kind_and_text(result);
    assert_eq!(found, kind, "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

#[test]
fn values_come_with_revisions() {
    on_each(|cluster| {
        let etcd = cluster.client();
        assert_eq!(etcd.get("a/1").unwrap(), None);
        let all_bytes: Vec<u8> = (0..=255).collect();
        let first = etcd.put("a/1", "one").unwrap();
        let second = etcd.put("a/1", &all_bytes).unwrap();
        etcd.put(&all_bytes, "").unwrap();
        etcd.put("a0", "outside the tree").unwrap();
        assert_eq!(second, first + 1);

        let found = etcd.get("a/1").unwrap().unwrap();
        assert_eq!(
            (&found.value, found.version, found.lease),
            (&all_bytes, 2, 0)
        );
        assert_eq!((found.create_revision, found.mod_revision), (first, second));
        assert_eq!(etcd.get(&all_bytes).unwrap().unwrap().key, all_bytes);
        let old = etcd.range(&Range::key("a/1").revision(first)).unwrap();
        assert_eq!(old.kvs[0].value, b"one");

        let tree = etcd.get_prefix("a/").unwrap();
        assert_eq!(
            (tree.kvs.len(), tree.count, tree.revision),
            (1, 1, second + 2)
        );
        assert_eq!(etcd.get_prefix("").unwrap().kvs.len(), 3);
        let limited = etcd.range(&Range::prefix("").limit(2)).unwrap();
        assert!(limited.more && limited.count == 3 && limited.kvs.len() == 2);
        let counted = etcd
            .range(&Range::prefix("").count_only(true).serializable(true))
            .unwrap();
        assert_eq!((counted.count, counted.kvs.len()), (3, 0));

        assert_eq!(etcd.delete("a/1").unwrap().deleted, 1);
        assert_eq!(etcd.delete("a/1").unwrap().deleted, 0);
        assert_eq!(etcd.delete_prefix("").unwrap().deleted, 2);
        assert_eq!(etcd.get_prefix("").unwrap().kvs, []);

        let status = etcd.status().unwrap();
        assert!(status.version.starts_with("3.") && status.leader == status.member);
        assert_eq!(status.revision, second + 4);
    });
}

#[test]
fn pages_share_one_revision() {
    on_each(|cluster| {
        let etcd = cluster.client();
        let mut keys: Vec<String> = (0..25_000).map(|n| format!("big/{n:06}")).collect();
        for part in keys.chunks(5_000) {
            let ops = part.iter().map(|key| Op::put(key, "v"));
            etcd.txn(&Txn::pack(ops, MAX_OPS).unwrap()).unwrap();
        }
        let tree = thread::scope(|scope| {
            let reader = scope.spawn(|| etcd.get_prefix("big/").unwrap());
            for n in 0..50 {
                etcd.put(format!("big/later{n}"), "v").unwrap();
            }
            reader.join().unwrap()
        });
        let at = tree.revision;
        keys.extend((0..50).map(|n| format!("big/later{n}")));
        let found: Vec<String> = tree
            .kvs
            .iter()
            .map(|kv| String::from_utf8(kv.key.clone()).unwrap())
            .collect();
        assert!(tree.kvs.iter().all(|kv| kv.mod_revision <= at) && !tree.more);
        assert_eq!(tree.count, i64::try_from(found.len()).unwrap());
        assert_eq!(found[..25_000], keys[..25_000]);
    });
}

#[test]
fn transactions_compare_and_nest() {
    on_each(|cluster| {
        let etcd = cluster.client();
        let first = etcd.put("k", "one").unwrap();
        let second = etcd.put("k", "two").unwrap();
        for (compare, holds) in [
            (Compare::mod_revision("k", Is::Equal, second), true),
            (Compare::mod_revision("k", Is::NotEqual, second), false),
            (Compare::mod_revision("k", Is::Greater, first), true),
            (Compare::mod_revision("k", Is::Less, first), false),
            (Compare::mod_revision("absent", Is::Equal, 0), true),
            (Compare::value("k", Is::Equal, "two"), true),
            (Compare::value("k", Is::Less, "two"), false),
            (Compare::value("absent", Is::Equal, ""), false),
        ] {
            let txn = Txn::new([Op::range(Range::key("k"))]).when(compare.clone());
            assert_eq!(etcd.txn(&txn).unwrap().succeeded, holds, "{compare:?}");
        }

        // All compares are made before any operation is done.
        let inner = Txn::new([Op::put("inner", "no")])
            .when(Compare::value("outer", Is::Equal, "yes"))
            .or_else([Op::put("inner", "yes")]);
        let txn = Txn::new([
            Op::put("outer", "yes"),
            Op::txn(inner),
            Op::delete("k"),
            Op::range(Range::prefix("")),
        ])
        .when(Compare::mod_revision("k", Is::Equal, second))
        .or_else([Op::range(Range::key("outer"))]);
        let done = etcd.txn(&txn).unwrap();
        assert_eq!(
            (done.succeeded, done.revision, done.responses.len()),
            (true, second + 1, 4)
        );
        let Response::Txn(nested) = &done.responses[1] else {
            panic!("{done:?}")
        };
        assert!(!nested.succeeded);
        let Response::Delete(deleted) = &done.responses[2] else {
            panic!("{done:?}")
        };
        assert_eq!(deleted.deleted, 1);
        let Response::Range(tree) = &done.responses[3] else {
            panic!("{done:?}")
        };
        assert_eq!(tree.kvs.len(), 2);
        assert!(
            tree.kvs
                .iter()
                .all(|kv| kv.value == b"yes" && kv.mod_revision == done.revision)
        );

        let again = etcd.txn(&txn).unwrap();
        let [Response::Range(outer)] = &again.responses[..] else {
            panic!("{again:?}")
        };
        assert!(!again.succeeded && outer.kvs[0].value == b"yes");
    });
}

#[test]
fn packed_transactions_are_atomic() {
    on_each(|cluster| {
        let etcd = cluster.client();
        let ops = |count: usize| (0..count).map(|n| Op::put(format!("t/{n}"), "value"));
        let refused = etcd.txn(&Txn::new(ops(129)));
        fails(
            refused,
            ErrorKind::TooLarge,
            &["/v3/kv/txn", "too many operations", "--max-txn-ops"],
        );
        etcd.txn(&Txn::new(ops(128))).unwrap();

        let guard = etcd.put("guard", "").unwrap();
        let txn = Txn::pack(ops(11_000), MAX_OPS)
            .unwrap()
            .when(Compare::mod_revision("guard", Is::Equal, guard));
        let done = etcd.txn(&txn).unwrap();
        assert!(done.succeeded && done.revision == guard + 1);
        assert_eq!(done.clone().flat(), vec![Response::Put; 11_000]);
        let tree = etcd.get_prefix("t/").unwrap();
        assert_eq!(tree.kvs.len(), 11_000);
        assert!(tree.kvs.iter().all(|kv| kv.mod_revision == done.revision));

        // One bad operation among them, or a condition that does not hold, and nothing is done.
        let twice = ops(2_000).chain([Op::put("t/5", "again")]);
        let refused = etcd.txn(&Txn::pack(twice, MAX_OPS).unwrap());
        fails(refused, ErrorKind::Store, &["duplicate key"]);
        let late = Txn::pack((0..2_000).map(|n| Op::delete(format!("t/{n}"))), MAX_OPS).unwrap();
        let late = late.when(Compare::mod_revision("guard", Is::Equal, guard + 1));
        assert!(!etcd.txn(&late).unwrap().succeeded);
        assert_eq!(etcd.get_prefix("t/").unwrap().kvs, tree.kvs);
    });
}

#[test]
fn refusals_bring_advice() {
    on_each(|cluster| {
        let etcd = cluster.client();
        for size in [1_600_000, 3_000_000] {
            let refused = etcd.put("k", vec![b'x'; size]);
            fails(
                refused,
                ErrorKind::TooLarge,
                &[cluster.url(), "--max-request-bytes"],
            );
        }
        for n in 0..10 {
            etcd.put("k", n.to_string()).unwrap();
        }
        let now = etcd.status().unwrap().revision;
        etcd.compact(now - 1).unwrap();
        let old = etcd.range(&Range::key("k").revision(2));
        fails(old, ErrorKind::Compacted, &[cluster.url(), "compacted"]);
        fails(etcd.compact(2), ErrorKind::Compacted, &["compacted"]);
        let future = etcd.range(&Range::key("k").revision(now + 100));
        fails(future, ErrorKind::Store, &["future revision"]);
        fails(
            etcd.put("", "v"),
            ErrorKind::Store,
            &["key is not provided"],
        );
        let elsewhere = Client::new([format!("{}/proxied", cluster.url())]).unwrap();
        fails(
            elsewhere.get("k"),
            ErrorKind::Protocol,
            &["/proxied/v3/kv/range", "status 404"],
        );
    });
}

#[test]
fn full_store_is_reported() {
    for binary in etcds() {
        let cluster = Cluster::with(&binary, 1, &["--quota-backend-bytes", "4000000"], None);
        let etcd = cluster.client();
        let full = (0..20).find_map(|n| etcd.put(n.to_string(), vec![b'x'; 500_000]).err());
        let full = full.expect("the store gets full");
        assert_eq!(
            (full.kind(), full.stored()),
            (ErrorKind::Store, &Stored::Nothing)
        );
        assert!(full.to_string().contains("--quota-backend-bytes"), "{full}");
        assert!(etcd.get("0").unwrap().is_some());
        let found = KvBackend::new(Etcd::new([cluster.url()]).unwrap()).diagnose();
        let is_alarm =
            |finding: &Finding| finding.check == "alarm" && finding.message.contains("NOSPACE");
        assert!(found.iter().any(is_alarm), "{found:?}");
    }
}

#[test]
fn ended_lease_deletes_its_keys() {
    on_each(|cluster| {
        let etcd = cluster.client();
        let lease = etcd.lease_grant(Duration::from_millis(1_500)).unwrap();
        assert!(lease.ttl >= 2 * SECOND);
        let txn = Txn::new([Op::put_leased("leased", "v", lease.id)]);
        let put = etcd.txn(&txn).unwrap().revision;
        assert_eq!(etcd.get("leased").unwrap().unwrap().lease, lease.id);

        let mut watch = etcd
            .watch(WatchRange::key("leased").from_revision(put + 1))
            .unwrap();
        for _ in 0..3 {
            thread::sleep(SECOND);
            assert_eq!(etcd.lease_keep_alive(lease.id).unwrap(), lease.ttl);
        }
        assert_eq!(watch.next(Duration::ZERO).unwrap(), None);
        let event = watch.next(10 * SECOND).unwrap();
        assert!(
            matches!(&event, Some(Event::Delete(kv)) if kv.key == b"leased"),
            "{event:?}"
        );
        fails(
            etcd.lease_keep_alive(lease.id),
            ErrorKind::Store,
            &["has ended"],
        );
        fails(
            etcd.lease_revoke(lease.id),
            ErrorKind::Store,
            &["lease not found"],
        );

        let lease = etcd.lease_grant(60 * SECOND).unwrap();
        etcd.txn(&Txn::new([Op::put_leased("leased", "v", lease.id)]))
            .unwrap();
        etcd.lease_revoke(lease.id).unwrap();
        assert_eq!(etcd.get("leased").unwrap(), None);
        let lost = Txn::new([Op::put_leased("leased", "v", lease.id)]);
        fails(etcd.txn(&lost), ErrorKind::Store, &["lease not found"]);
    });
}

#[test]
fn watch_hears_every_change_once() {
    on_each(|cluster| {
        let etcd = cluster.client();
        let start = etcd.put("w/a", "before").unwrap();
        let mut past = etcd
            .watch(WatchRange::prefix("w/").from_revision(start))
            .unwrap();
        let mut now = etcd.watch(WatchRange::prefix("w/")).unwrap();
        let begun = Instant::now();
        assert_eq!(now.next(SECOND / 2).unwrap(), None);
        let waited = begun.elapsed();
        assert!(waited >= SECOND / 2 && waited < 10 * SECOND, "{waited:?}");

        etcd.put("outside", "").unwrap();
        let all_bytes: Vec<u8> = (0..=255).collect();
        let both = Txn::new([Op::put("w/b", &all_bytes), Op::delete("w/a")]);
        let at = etcd.txn(&both).unwrap().revision;
        // However busy the machine is, they come; and no more than these.
        let heard = |watch: &mut Watcher, count: usize| -> Vec<Event> {
            let events = (0..count).map(|_| watch.next(20 * SECOND).unwrap().unwrap());
            events.collect()
        };
        let events = heard(&mut now, 2);
        assert_eq!(now.next(SECOND / 2).unwrap(), None);
        let [Event::Put(put), Event::Delete(deleted)] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(
            (&put.key[..], &put.value, put.mod_revision),
            (&b"w/b"[..], &all_bytes, at)
        );
        assert_eq!((&deleted.key[..], deleted.mod_revision), (&b"w/a"[..], at));
        assert_eq!(now.revision(), at + 1);
        heard(&mut past, 3);
        assert_eq!(past.next(SECOND / 2).unwrap(), None);

        // A batch larger than what etcd or the network hands over at once.
        let many = (0..3_000).map(|n| Op::put(format!("w/{n}"), "v".repeat(100)));
        etcd.txn(&Txn::pack(many, MAX_OPS).unwrap()).unwrap();
        let keys: std::collections::BTreeSet<Vec<u8>> = heard(&mut now, 3_000)
            .into_iter()
            .map(|event| match event {
                Event::Put(kv) => kv.key,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(keys.len(), 3_000);
    });
}

#[test]
fn dropped_watch_ends_in_etcd() {
    on_each(|cluster| {
        let etcd = cluster.client();
        let watchers = || {
            let metrics = ureq::get(format!("{}/metrics", cluster.url()))
                .call()
                .unwrap();
            let metrics = metrics.into_body().read_to_string().unwrap();
            let line = metrics
                .lines()
                .find_map(|l| l.strip_prefix("etcd_debugging_mvcc_watcher_total "));
            line.unwrap().parse::<f64>().unwrap()
        };
        let watches: Vec<_> = (0..3)
            .map(|_| etcd.watch(WatchRange::prefix("")).unwrap())
            .collect();
        assert_eq!(watchers(), 3.0);
        drop(watches);
        let dropped = Instant::now();
        eventually("no watch goes on", || watchers() == 0.0);
        assert!(dropped.elapsed() < 5 * SECOND, "the watches went on");
    });
}

#[test]
fn watch_reports_missed_compaction() {
    on_each(|cluster| {
        let etcd = cluster.client();
        let mut running = etcd.watch(WatchRange::key("k")).unwrap();
        for n in 0..10 {
            etcd.put("k", n.to_string()).unwrap();
        }
        let now = etcd.status().unwrap().revision;
        etcd.compact(now).unwrap();
        etcd.put("k", "after").unwrap();
        let heard = std::iter::from_fn(|| running.next(SECOND / 2).unwrap()).count();
        assert_eq!(heard, 11);

        let mut late = etcd.watch(WatchRange::key("k").from_revision(2)).unwrap();
        let words = ["revision 2 ", &format!("compact revision {now} ")];
        fails(late.next(SECOND), ErrorKind::Compacted, &words);
        // Read, and watch from there.
        let tree = etcd.get_prefix("k").unwrap();
        let mut anew = etcd
            .watch(WatchRange::key("k").from_revision(tree.revision + 1))
            .unwrap();
        etcd.put("k", "new").unwrap();
        assert!(anew.next(SECOND).unwrap().is_some());
    });
}

/// Prints what single calls cost; run it with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn call_costs_are_measured() {
    on_each(|cluster| {
        let etcd = cluster.client();
        let median = |name: &str, times: usize, call: &dyn Fn(usize)| {
            let mut taken: Vec<Duration> = (0..times)
                .map(|n| {
                    let begun = Instant::now();
                    call(n);
                    begun.elapsed()
                })
                .collect();
            taken.sort();
            println!(
                "{name}: median {:?}, p95 {:?}",
                taken[times / 2],
                taken[times * 95 / 100]
            );
        };
        println!("{}", etcd.status().unwrap().version);
        median("transaction of one put", 500, &|n| {
            etcd.txn(&Txn::new([Op::put("k", n.to_string())])).unwrap();
        });
        median("range of one key", 500, &|_| {
            assert!(etcd.get("k").unwrap().is_some());
        });
        median("1,000 routes of 11 keys in one transaction", 15, &|n| {
            let ops =
                (0..11_000).map(|key| Op::put(format!("traefik/http/{key:05}"), n.to_string()));
            etcd.txn(&Txn::pack(ops, MAX_OPS).unwrap()).unwrap();
        });
        median("a tree of 11,000 keys", 15, &|_| {
            assert_eq!(etcd.get_prefix("traefik/").unwrap().kvs.len(), 11_000);
        });
    });
}
