//! Users, passwords and tokens.

use std::thread;

use kit::etcd::{enable_auth, forget_tokens};
use kit::{Proxy, ports};
use traefik_router::etcd::{Client, Op, Range, Txn, WatchRange};
use traefik_router::{Error, ErrorKind};

use super::{SECOND, fails, kind_and_text, on_each};
use crate::support::Connect as _;
use crate::support::logger::{keep_log, logged};

#[test]
fn authentication_failures_bring_advice() {
    on_each(|cluster| {
        let plain = cluster.client();
        let root = plain.clone().user("root", "pw-root");
        let off = [
            "login as \"root\"",
            "authentication is not enabled",
            "auth enable",
        ];
        fails(root.get("k"), ErrorKind::Unauthorized, &off);
        enable_auth(cluster.url());
        fails(
            plain.get("k"),
            ErrorKind::Unauthorized,
            &[cluster.url(), "give both"],
        );
        fails(plain.put("k", ""), ErrorKind::Unauthorized, &["give both"]);
        let wrong = plain.clone().user("root", "not-the-password");
        let (kind, text) = kind_and_text(wrong.put("k", ""));
        assert_eq!(kind, ErrorKind::Unauthorized);
        assert!(
            text.contains("check the user name") && !text.contains("not-the"),
            "{text}"
        );

        root.put("open/a", "1").unwrap();
        root.put("closed/a", "1").unwrap();
        let reader = plain.clone().user("reader", "pw-reader");
        assert_eq!(reader.get_prefix("open/").unwrap().kvs.len(), 1);
        let denied = ["permission denied", cluster.url()];
        fails(reader.put("open/a", "2"), ErrorKind::Unauthorized, &denied);
        fails(reader.get("closed/a"), ErrorKind::Unauthorized, &denied);
        fails(reader.get_prefix(""), ErrorKind::Unauthorized, &denied);
        fails(reader.delete("open/a"), ErrorKind::Unauthorized, &denied);
        let both = Txn::new([Op::range(Range::key("open/a")), Op::put("closed/a", "2")]);
        fails(reader.txn(&both), ErrorKind::Unauthorized, &denied);
        fails(
            reader.watch(WatchRange::prefix("closed/")),
            ErrorKind::Unauthorized,
            &denied,
        );
        let mut watch = reader.watch(WatchRange::prefix("open/")).unwrap();
        root.put("open/a", "3").unwrap();
        assert!(watch.next(SECOND).unwrap().is_some());

        // Forgotten tokens, of one that watches, one that writes, one that reads.
        forget_tokens(cluster.url(), &["reader", "root"]);
        let again = reader.watch(WatchRange::prefix("open/"));
        assert!(again.is_ok(), "{again:?}");
        root.put("closed/a", "2").unwrap();
        forget_tokens(cluster.url(), &["reader", "root"]);
        assert!(reader.get("open/a").unwrap().is_some());
        cluster.restart(0);
        assert_eq!(
            root.put("open/a", "4").unwrap(),
            root.get("open/a").unwrap().unwrap().mod_revision
        );
        assert!(watch.next(5 * SECOND).unwrap().is_some());
        assert!(reader.get("open/a").unwrap().is_some());
    });
}

#[test]
fn threads_share_one_login() {
    on_each(|cluster| {
        enable_auth(cluster.url());
        let proxy = Proxy::new(cluster.url());
        let etcd = Client::new([proxy.url.as_str()])
            .unwrap()
            .user("root", "pw-root");
        let all = |expected: usize| {
            thread::scope(|scope| {
                for n in 0..12 {
                    let etcd = etcd.clone();
                    scope.spawn(move || etcd.put(format!("k{n}"), "v").unwrap());
                }
            });
            assert_eq!(proxy.count("POST /v3/auth/authenticate"), expected);
        };
        all(1);
        forget_tokens(cluster.url(), &["reader", "root"]);
        all(2);
        let tokens: std::collections::BTreeSet<String> = proxy.tokens().into_iter().collect();
        assert_eq!(tokens.len(), 2);
        // Debug output is what ends up in logs.
        let shown = format!("{etcd:?}");
        assert!(
            shown.contains("root") && !shown.contains("pw-root"),
            "{shown}"
        );
        assert!(!tokens.iter().any(|token| shown.contains(token)), "{shown}");
    });
}

#[test]
fn output_holds_no_secrets() {
    // `trace` shows what ureq sends.
    keep_log(log::LevelFilter::Debug);
    on_each(|cluster| {
        enable_auth(cluster.url());
        let proxy = Proxy::new(cluster.url());
        let dead = format!("http://127.0.0.1:{}", ports::free());
        let etcd = Client::new([&dead, &proxy.url])
            .unwrap()
            .user("reader", "pw-reader");
        let mut shown = format!("{:?}", etcd.get("open/a").unwrap());
        let errors = [
            etcd.put("open/a", "").unwrap_err(),
            etcd.get("closed/a").unwrap_err(),
            etcd.clone()
                .user("reader", "pw-wrong")
                .get("open/a")
                .unwrap_err(),
            Client::new([&dead])
                .unwrap()
                .user("reader", "pw-reader")
                .get("open/a")
                .unwrap_err(),
        ];
        shown += &format!(
            "{etcd:?} {errors:?} {:?}",
            errors.each_ref().map(Error::to_string)
        );
        shown += &format!("{:?}", etcd.watch(WatchRange::prefix("open/")).unwrap());
        forget_tokens(cluster.url(), &["reader", "root"]);
        etcd.get("open/a").unwrap();
        proxy.lose_answers(true);
        shown += &format!("{:?}", etcd.get("open/a").unwrap_err());
        shown += &[false, true].map(logged).concat();
        assert!(shown.contains("etcd endpoint failed"), "{shown}");
        let tokens = proxy.tokens();
        assert!(tokens.len() > 3);
        for secret in tokens
            .iter()
            .map(String::as_str)
            .chain(["pw-reader", "pw-wrong"])
        {
            assert!(!shown.contains(secret), "{secret} in: {shown}");
        }
    });
}
