//! When routes were last used.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use kit::client::get;
use kit::process::send_signal;
use kit::server::response;
use kit::traefik::External;
use kit::{Echo, Server, eventually};

use crate::support::Proxy;

fn last_activity(proxy: &Proxy, path: &str) -> String {
    let answer = proxy.get(path).json();
    let time = answer["last_activity"].as_str();
    let time = time.unwrap_or_else(|| panic!("no last_activity: {answer}"));
    assert!(
        time.ends_with('Z') && time.len() == "2026-03-01T10:20:30.456Z".len(),
        "{time}"
    );
    time.into()
}

/// A route that is used to see that the proxy has looked at its counters.
struct Witness<'a> {
    proxy: &'a Proxy,
    _echo: Echo,
}

impl<'a> Witness<'a> {
    fn new(proxy: &'a Proxy) -> Self {
        let echo = Echo::start();
        proxy.add("/witness", &echo.url());
        Self { proxy, _echo: echo }
    }

    /// Returns when all that happened before this call has been counted.
    #[track_caller]
    fn wait(&self) {
        let before = last_activity(self.proxy, "/witness");
        assert_eq!(self.proxy.through("/witness/x").status, 200);
        eventually("the use of a route is answer", || {
            last_activity(self.proxy, "/witness") > before
        });
    }
}

#[test]
fn only_requests_count_as_use() {
    let proxy = Proxy::start(&[]);
    let (used, idle) = (Echo::start(), Echo::start());
    let witness = Witness::new(&proxy);
    proxy.add("/user/used", &used.url());
    proxy.add("/user/idle", &idle.url());
    let begun = [
        last_activity(&proxy, "/user/used"),
        last_activity(&proxy, "/user/idle"),
    ];
    assert_eq!(proxy.through("/user/used/x").landed(), Some(used.port));
    witness.wait();
    let later = last_activity(&proxy, "/user/used");
    assert!(later > begun[0]);
    assert_eq!(last_activity(&proxy, "/user/idle"), begun[1]);

    let all = proxy.get("").json();
    assert_eq!(all["/user/used"]["last_activity"], later);
    let unused_since = |time: &str| {
        let found = proxy.get(&format!("?inactive_since={time}")).json();
        let found = found.as_object().unwrap().keys().cloned();
        found.filter(|path| path != "/witness").collect::<Vec<_>>()
    };
    assert_eq!(unused_since(&later), ["/user/idle"]);
    assert_eq!(unused_since(&begun[1]), [""; 0]);
    assert_eq!(
        unused_since("2100-01-01T00:00:00Z"),
        ["/user/idle", "/user/used"]
    );

    proxy.add("/user/idle", &idle.url());
    assert!(last_activity(&proxy, "/user/idle") > begun[1], "added anew");
}

#[test]
fn refused_requests_count_as_nothing() {
    let proxy = Proxy::start(&[]);
    let target = Server::answering(|_| Some(response(403, "", b"Go!\n")));
    proxy.add("/user/x", &target.url());
    let witness = Witness::new(&proxy);
    let begun = last_activity(&proxy, "/user/x");
    for _ in 0..3 {
        assert_eq!(proxy.through("/user/x/api").status, 403);
        witness.wait();
    }
    assert_eq!(last_activity(&proxy, "/user/x"), begun);
}

#[test]
fn use_survives_traefiks_restart() {
    let (proxy, echo) = (Proxy::start(&[]), Echo::start());
    proxy.add("/user/x", &echo.url());
    let witness = Witness::new(&proxy);
    assert_eq!(proxy.through("/user/x").status, 200);
    witness.wait();
    let before = last_activity(&proxy, "/user/x");
    send_signal(proxy.traefik(), "KILL");
    eventually("Traefik was started again", || {
        proxy.log().contains("was started again")
    });
    witness.wait();
    assert_eq!(last_activity(&proxy, "/user/x"), before);
    assert_eq!(proxy.through("/user/x").status, 200);
    witness.wait();
    assert!(
        last_activity(&proxy, "/user/x") > before,
        "as many requests as before"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn busy_websocket_counts_as_use() {
    let (proxy, echo) = (Proxy::start(&[]), Echo::websocket());
    proxy.add("/user/x", &echo.url().replace("127.0.0.1", "localhost"));
    let witness = Witness::new(&proxy);
    let stream = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
    let url = format!("ws://127.0.0.1:{}/user/x/kernel", proxy.port);
    let (mut socket, _) = tungstenite::client(url, stream).unwrap();
    let mut talk = || {
        socket.send("hello".into()).unwrap();
        assert_eq!(socket.read().unwrap().to_text().unwrap(), "hello");
    };
    talk();
    // What acknowledges the last bytes may come after the first look.
    witness.wait();
    witness.wait();
    let before = last_activity(&proxy, "/user/x");
    witness.wait();
    assert_eq!(last_activity(&proxy, "/user/x"), before, "nothing is said");
    talk();
    witness.wait();
    assert!(
        last_activity(&proxy, "/user/x") > before,
        "something was said"
    );
}

/// Two Traefiks of others: what either has served counts, and a restart of one is no use.
#[test]
fn use_through_any_traefik_counts() {
    let (folder, echo) = (tempfile::tempdir().unwrap(), Echo::start());
    let [first, mut second] = [(); 2].map(|()| External::start(folder.path(), None));
    let proxy = Proxy::attach(&[&first, &second], &[]);
    proxy.add("/user/x", &echo.url());
    let witness = Witness::new(&proxy);
    let shown = || last_activity(&proxy, "/user/x");
    let wait = || (0..2).for_each(|_| witness.wait());
    let ask = |second: &External| {
        eventually("it has the route", || {
            get(second.web, "any.example", "/user/x").landed() == Some(echo.port)
        });
    };
    let begun = shown();
    wait();
    assert_eq!(shown(), begun);
    ask(&second);
    eventually("the use is counted", || shown() > begun);
    let used = shown();
    second.restart();
    wait();
    assert_eq!(shown(), used, "a restart is no use");
    ask(&second);
    eventually("as many requests as before are a use", || shown() > used);
    let used = shown();

    let idle = || proxy.get("?inactive_since=2100-01-01T00:00:00Z").json();
    assert_eq!(idle().as_object().unwrap().len(), 2);
    second.kill();
    wait();
    assert_eq!(shown(), used, "what is not known stays as it was");
    assert_eq!(idle(), serde_json::json!({}), "nobody is called idle");
    assert_eq!(proxy.through("/user/x").landed(), Some(echo.port));
    eventually("the other one still counts", || shown() > used);
}

/// What the other one has served counts meanwhile.
#[test]
fn hanging_traefik_delays_no_answer() {
    let (folder, echo) = (tempfile::tempdir().unwrap(), Echo::start());
    let [first, second] = [(); 2].map(|()| External::start(folder.path(), None));
    let options = ["--quorum", "1", "--api-timeout", "30"];
    let proxy = Proxy::attach(&[&first, &second], &options);
    proxy.add("/user/x", &echo.url());
    let shown = || {
        let begun = Instant::now();
        let shown = last_activity(&proxy, "/user/x");
        assert!(begun.elapsed() < Duration::from_secs(6), "it waits");
        shown
    };
    let added = shown();
    send_signal(second.id(), "STOP");
    eventually("what the first one serves is a use", || {
        assert_eq!(proxy.through("/user/x").landed(), Some(echo.port));
        shown() > added
    });
    let idle = proxy.get("?inactive_since=2100-01-01T00:00:00Z").json();
    assert_eq!(idle, serde_json::json!({}), "nobody is called idle");
    send_signal(second.id(), "CONT");
}
