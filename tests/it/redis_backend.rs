//! Routes in Redis: what differs from etcd, and what may go wrong with a server.

mod foreign;
mod sentinel;
mod slow;
mod speed;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kit::redis::Server;
use kit::{Ca, Echo, Proxy, eventually, ports};
use serde_json::json;
use traefik_router::{
    Backend as _, Change, Error, ErrorKind, KvBackend, Redis, Route, RouteEvent, Router, Stored,
    Tls,
};

use crate::support::keys::text_of;
use crate::support::{External, Kind, Rig};

const SECOND: Duration = Duration::from_secs(1);

fn redis(url: impl AsRef<str>) -> Redis {
    Redis::new(url).unwrap().timeout(SECOND)
}

fn offline(store: Redis) -> Router {
    Router::builder(KvBackend::new(store)).offline().unwrap()
}

/// The routespecs that are stored.
fn stored(server: &Server) -> Vec<String> {
    let table = KvBackend::new(redis(server.url())).read().unwrap();
    table.iter().map(|route| route.spec.to_string()).collect()
}

/// All that is stored.
fn text(server: &Server) -> String {
    let prefixes = ["traefik", "jupyterhub"].map(String::from);
    text_of(&redis(server.url()), &prefixes)
}

#[track_caller]
fn check(error: &Error, kind: ErrorKind, stored: &Stored, says: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.stored(), stored, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

/// Traefik would hear nothing of it.
#[test]
fn change_list_is_below_prefix() {
    let server = Server::start(&["--save", ""]);
    for key in ["changed", "traefik", "traefikx/changed", "traefik/"] {
        let router = offline(redis(server.url()).change_list(key));
        let error = router.add_route("/a/", "http://h", ()).unwrap_err();
        check(
            &error,
            ErrorKind::InvalidConfig,
            &Stored::Nothing,
            "`change_list`",
        );
    }
    assert_eq!(text(&server), "");
    let router = offline(redis(server.url()).change_list("traefik/changed"));
    router.add_route("/a/", "http://h", ()).unwrap();
    assert_eq!(stored(&server), ["/a/"]);
}

/// Each change makes Traefik list the keys several times, and some of these lists miss a part of the next
/// change. A caller must not see that.
#[test]
fn changes_reach_two_traefiks() {
    let rig = Rig::new(Kind::Redis);
    let second = rig.sibling();
    let _traefiks = [External::start(&rig), External::start(&second)];
    let urls = [rig.api_url(), second.api_url()];
    let builder = rig.builder().traefik_api_urls(urls);
    let (router, other) = (builder.attach().unwrap(), rig.builder().offline().unwrap());
    let echo = Echo::start();
    let is_served = |spec: &str, served: bool| {
        for rig in [&rig, &second] {
            assert_eq!(rig.landed("h", spec), served.then_some(echo.port), "{spec}");
        }
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let spec = format!("/other/{}/", n % 5);
                other.add_route(&spec, "http://h", json!(n)).unwrap();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        for round in 0..8 {
            let spec = format!("/a/{round}/");
            router.add_route(&spec, echo.url(), json!(round)).unwrap();
            is_served(&spec, true);
        }
        let batch = |n: usize| format!("/batch/{n}/");
        let route = |n| Change::from(Route::new(batch(n), echo.url()).unwrap());
        router.apply((0..40).map(route)).unwrap();
        (0..40).for_each(|n| is_served(&batch(n), true));
        for round in 0..8 {
            let spec = format!("/a/{round}/");
            router.delete_route(&spec).unwrap();
            is_served(&spec, false);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Traefik reads everything twice for each key that is set.
#[test]
fn keys_without_change_stay() {
    let server = Server::start(&["--save", ""]);
    let router = offline(redis(server.url()));
    router.add_route("/a/", "http://h:1", json!(1)).unwrap();
    let sets_of = |change: &dyn Fn()| {
        server.run(&["CONFIG", "RESETSTAT"]);
        change();
        server.calls("set")
    };
    let data = || drop(router.add_route("/a/", "http://h:1", json!(2)).unwrap());
    assert_eq!(sets_of(&data), 3, "the record, the header, the marker");
    let target = || drop(router.add_route("/a/", "http://h:2", json!(2)).unwrap());
    assert_eq!(sets_of(&target), 5, "and the service, and its router's key");
    let route = || drop(router.add_route("/b/", "http://h:2", json!(1)).unwrap());
    assert_eq!(sets_of(&route), 7, "a record and four keys of a router");
}

/// 200 routes are 1,000 keys: without the list Traefik would read everything 2,000 times.
#[test]
fn change_list_notifies_once() {
    let rig = Rig::new(Kind::Redis);
    let server = Server::start(&["--save", "", "--notify-keyspace-events", "Kl"]);
    server.run(&["ACL", "SETUSER", "default", "-config"]);
    let store = redis(server.url()).change_list("traefik/changed");
    let builder = rig.builder_over(KvBackend::new(store));
    let (router, echo) = (builder.start().unwrap(), Echo::start());
    let before = server.calls("mget");
    let route = |n| Change::from(Route::new(format!("/{n}/"), echo.url()).unwrap());
    router.apply((0..200).map(route)).unwrap();
    assert_eq!(rig.landed("h", "/199/"), Some(echo.port));
    router.add_route("/a/", "http://h", json!(1)).unwrap();
    router.delete_route("/0/").unwrap();
    assert_eq!(rig.landed("h", "/0/"), None);
    std::thread::sleep(SECOND);
    let lists = server.calls("mget") - before;
    assert!(lists <= 20, "{lists}");
    assert_eq!(server.run(&["LLEN", "traefik/changed"]), ":1");
}

#[test]
fn two_writers_lose_nothing() {
    let server = Server::start(&["--save", ""]);
    let routers = [(); 2].map(|()| offline(redis(server.url())));
    std::thread::scope(|scope| {
        for (w, router) in routers.iter().enumerate() {
            scope.spawn(move || {
                for n in 0..100 {
                    let spec = format!("/{w}/{n}/");
                    router.add_route(&spec, "http://h", json!(n)).unwrap();
                }
            });
        }
    });
    assert_eq!(stored(&server).len(), 200);
}

#[test]
fn lost_answers_are_found_out() {
    let server = Server::start(&["--save", ""]);
    let proxy = Proxy::new(&server.url().replace("redis://", "http://"));
    let url = proxy.url.replace("http://", "redis://");
    let router = offline(redis(&url));
    router.add_route("/0/", "http://h", json!(0)).unwrap();
    for n in 1..10 {
        match n % 2 {
            0 => proxy.lose_one_answer(),
            _ => proxy.swallow_one_request(),
        }
        let applied = router.add_route(format!("/{n}/"), "http://h", json!(n));
        applied.unwrap();
    }
    assert_eq!(stored(&server).len(), 10);
}

#[test]
fn watch_shows_others_changes() {
    let server = Server::start(&["--save", ""]);
    let [ours, theirs] = [(); 2].map(|()| offline(redis(server.url())));
    let mut watch = ours.watch().unwrap();
    assert_eq!(watch.next(Duration::from_millis(10)).unwrap(), []);
    theirs.add_route("/a/", "http://h", json!({})).unwrap();
    let events = watch.next(5 * SECOND).unwrap();
    let route = Route::new("/a/", "http://h").unwrap().data(json!({}));
    assert_eq!(events, [RouteEvent::Added(route.into())]);
}

#[test]
fn killed_redis_keeps_routes() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let router = offline(redis(server.url()));
    router.add_route("/a/", "http://h", json!("α\"\0")).unwrap();
    server.kill();
    let error = router.add_route("/b/", "http://h", json!(1)).unwrap_err();
    check(
        &error,
        ErrorKind::Unavailable,
        &Stored::Unknown,
        "was not reached",
    );
    server.restart();
    router.add_route("/c/", "http://h", json!(1)).unwrap();
    assert_eq!(stored(&server), ["/a/", "/c/"], "it was not");
    let route = router.get_route("/a/").unwrap().unwrap();
    assert_eq!(route.data, json!("α\"\0"));
}

#[test]
fn stopped_redis_is_not_waited_for() {
    let server = Server::start(&["--save", ""]);
    let backend = KvBackend::new(redis(server.url())).conflict_timeout(SECOND);
    let router = Router::builder(backend).offline().unwrap();
    router.add_route("/a/", "http://h", json!(1)).unwrap();
    server.freeze(true);
    let begun = Instant::now();
    let error = router.add_route("/b/", "http://h", json!(1)).unwrap_err();
    check(
        &error,
        ErrorKind::Unavailable,
        &Stored::Unknown,
        "did not answer within 1s",
    );
    let error = router.get_route("/a/").unwrap_err();
    check(
        &error,
        ErrorKind::Unavailable,
        &Stored::Nothing,
        "did not answer within 1s",
    );
    assert!(begun.elapsed() < 10 * SECOND);
    server.freeze(false);
    router.add_route("/b/", "http://h", json!(2)).unwrap();
    assert_eq!(stored(&server), ["/a/", "/b/"]);
}

#[test]
fn emptied_redis_is_begun_anew() {
    let rig = Rig::new(Kind::Redis);
    let server = Server::start(&["--save", ""]);
    let builder = rig.builder_over(KvBackend::new(redis(server.url())));
    let (router, echo) = (builder.start().unwrap(), Echo::start());
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    for n in 0..5 {
        router.add_route("/b/", echo.url(), json!(n)).unwrap();
    }
    server.run(&["FLUSHALL"]);
    let error = router.get_all_routes().unwrap_err();
    check(&error, ErrorKind::Store, &Stored::Nothing, "is gone");
    router.add_route("/c/", echo.url(), json!(1)).unwrap();
    assert_eq!(rig.landed("h", "/c/"), Some(echo.port));
    eventually("the others are gone", || rig.landed("h", "/a/").is_none());
    router.add_route("/d/", echo.url(), json!(1)).unwrap();
    assert_eq!(rig.landed("h", "/d/"), Some(echo.port));
}

#[test]
fn refused_writes_leave_everything() {
    let server = Server::start(&["--save", ""]);
    let router = offline(redis(server.url()));
    router.add_route("/a/", "http://h", json!(1)).unwrap();
    let before = text(&server);
    let refuses = |says: &str| {
        let error = router.add_route("/b/", "http://h", json!(1)).unwrap_err();
        check(&error, ErrorKind::Store, &Stored::Nothing, says);
        let error = router.delete_route("/a/").unwrap_err();
        check(&error, ErrorKind::Store, &Stored::Nothing, says);
        assert_eq!(text(&server), before);
    };
    server.run(&["CONFIG", "SET", "maxmemory", "1"]);
    refuses("raise its maxmemory");
    server.run(&["CONFIG", "SET", "maxmemory", "0"]);
    server.run(&["REPLICAOF", "127.0.0.1", "1"]);
    refuses("it is a replica");
    server.run(&["REPLICAOF", "NO", "ONE"]);
    router.delete_route("/a/").unwrap();
}

#[test]
fn user_needs_password_and_commands() {
    let server = Server::start(&["--save", ""]);
    let keys = "~traefik/* ~jupyterhub/* ~router-versions &*";
    let user = |name: &str, commands: &str| {
        let rules = format!("ACL SETUSER {name} on >hunter2 {keys} {commands}");
        server.run(&rules.split(' ').collect::<Vec<_>>());
        redis(server.url()).user(name, "hunter2")
    };
    let add = |store: Redis| offline(store).add_route("/a/", "http://h", json!(1));
    add(user("whole", "+@all -config")).unwrap();
    let before = text(&server);
    for (store, says) in [
        (user("no-del", "+@all -del"), "command DEL"),
        (user("no-set", "+@all -set"), "command SET"),
        (user("no-eval", "+@all -eval"), "'eval' command"),
        (user("no-scan", "+@all -scan"), "needs EVAL, GET"),
        (
            redis(server.url()).user("whole", "hunter3"),
            "check the user and the password",
        ),
    ] {
        let error = add(store).unwrap_err();
        check(&error, ErrorKind::Unauthorized, &Stored::Nothing, says);
        assert!(!error.to_string().contains("hunter"), "{error}");
        assert_eq!(text(&server), before, "{error}");
    }
    let store = redis(server.url()).user("whole", "hunter2");
    assert!(!format!("{store:?}").contains("hunter2"));
    server.run(&["CONFIG", "SET", "requirepass", "hunter2"]);
    let error = add(redis(server.url())).unwrap_err();
    check(
        &error,
        ErrorKind::Unauthorized,
        &Stored::Nothing,
        "the user is `default`",
    );
    add(redis(server.url()).user("default", "hunter2")).unwrap();
}

#[test]
fn doctor_knows_what_redis_lacks() {
    let findings = |server: &Server| -> String {
        let backend = KvBackend::new(redis(server.url()));
        let found = backend.diagnose().into_iter();
        found.map(|finding| format!("{finding:?}\n")).collect()
    };
    let server = Server::start(&[
        "--save",
        "",
        "--maxmemory",
        "1gb",
        "--maxmemory-policy",
        "allkeys-lru",
    ]);
    let found = findings(&server);
    for says in [
        "Traefik sets that when it starts",
        "writes nothing to a disk",
        "allkeys-lru",
    ] {
        assert!(found.contains(says), "{found}");
    }
    let server = Server::start(&["--rename-command", "CONFIG", "", "--appendonly", "yes"]);
    let found = findings(&server);
    assert!(
        found.contains("set its `notify-keyspace-events` to"),
        "{found}"
    );
    assert!(!found.contains("disk"), "{found}");
    let server = Server::start(&["--rename-command", "CONFIG", ""]);
    let found = findings(&server);
    assert!(found.contains("may not ask whether it saves"), "{found}");
    let server = Server::start(&["--notify-keyspace-events", "K$g"]);
    let found = findings(&server);
    assert!(found.contains("Redis notifies of changes"), "{found}");
}

#[test]
fn empty_value_is_refused() {
    let rig = Rig::new(Kind::Redis);
    let _traefik = External::start(&rig);
    let attach = |value: &str| {
        let header = json!({"customRequestHeaders": {"X-Header": value}});
        let extra = json!({"http": {"middlewares": {"m": {"headers": header}}}});
        rig.builder().extra_dynamic_config(extra).attach()
    };
    let before = rig.rules_text();
    let error = attach("").err().unwrap();
    check(
        &error,
        ErrorKind::InvalidConfig,
        &Stored::Nothing,
        "X-Header would be empty",
    );
    assert_eq!(rig.rules_text(), before);
    drop(attach("x").unwrap());
}

#[test]
fn traefik_gets_certificates_and_password() {
    let (rig, ca) = (Rig::new(Kind::Redis), Ca::generate());
    let [cert, key] = ca.sign_files("redis");
    let port = ports::free();
    let _server = Server::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca.path("ca.pem"),
        "--requirepass",
        "hunter2",
    ]);
    let store = |tls: Tls| {
        let store = redis(format!("rediss://127.0.0.1:{port}"));
        KvBackend::new(store.user("default", "hunter2").tls(tls).unwrap())
    };
    let [cert, key] = ca.sign();
    let trusting = Tls::new().ca_pem(ca.pem.as_str());
    let (router, echo) = {
        let tls = trusting.clone().client_pem(cert, key);
        let builder = rig.builder_over(store(tls));
        (builder.start().unwrap(), Echo::start())
    };
    router.add_route("/a/", echo.url(), json!(1)).unwrap();
    assert_eq!(rig.landed("h", "/a/"), Some(echo.port));
    for untrusted in [trusting, Tls::new()] {
        let error = store(untrusted).read().unwrap_err();
        check(
            &error,
            ErrorKind::Unavailable,
            &Stored::Nothing,
            "Redis at 127.0.0.1",
        );
    }
    let unchecked = Tls::new().ca_pem("no PEM");
    assert!(
        redis("rediss://h")
            .tls(unchecked.client_pem("x", "y"))
            .is_err()
    );
}
