//! The REST server against clients that are clumsy, slow or ill-meaning.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use kit::eventually;

use crate::support::Proxy;
use crate::support::proxy::{TOKEN, ours};

/// What comes back for these bytes, until the server closes the connection.
fn talk(proxy: &Proxy, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.api)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // The server may close before it has read all.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(rest: &str) -> String {
    format!("POST /api/routes/x HTTP/1.1\r\nHost: h\r\nAuthorization: token {TOKEN}\r\n{rest}\r\n")
}

const BODY: &str = r#"{"target": "http://127.0.0.1:9"}"#;

/// Somebody else's request, on a connection of its own.
#[track_caller]
fn others_are_answered(proxy: &Proxy) {
    let address = SocketAddr::from(([127, 0, 0, 1], proxy.api));
    // Less than the server waits for what others have begun.
    let patience = Duration::from_secs(8);
    let mut stream = TcpStream::connect_timeout(&address, patience).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    let request = format!(
        "GET /api/routes HTTP/1.1\r\nHost: h\r\nAuthorization: token {TOKEN}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Requests that somebody between could read in another way than we do, so that what follows is a
/// request to one and a body to the other.
#[test]
fn ambiguous_requests_are_refused() {
    let proxy = Proxy::start(&[]);
    let length = format!("Content-Length: {}\r\n", BODY.len());
    let smuggled = head(&length).replace("/x ", "/smuggled ") + BODY;
    let heads = [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 5\r\n Content-Length: 6\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "X: y\rContent-Length: 5\r\n",
        "X: y\0\r\n",
        "Host: other\r\n",
    ];
    let body = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    let heads = heads.map(|lines| head(lines) + &body);
    let chunks = [
        "\r\n",
        ";x\r\n\r\n",
        "0\n\n",
        "0\n\r\n",
        "5\n12345\r\n0\r\n\r\n",
        "5;x\ny\r\n12345\r\n0\r\n\r\n",
        "5\r\n12345\n0\r\n\r\n",
        "5\r\n123456\r\n0\r\n\r\n",
        "5\r\n1234\r\n0\r\n\r\n",
        "-5\r\n12345\r\n0\r\n\r\n",
        "0x5\r\n12345\r\n0\r\n\r\n",
        "5 5\r\n12345\r\n0\r\n\r\n",
    ];
    let chunks = chunks.map(|body| head("Transfer-Encoding: chunked\r\n") + body);
    for request in heads.iter().chain(&chunks) {
        let answer = talk(&proxy, format!("{request}{smuggled}").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
        let is_read = heads.contains(request) && answer.contains("JSON");
        assert!(!is_read, "{request:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1").count(),
            1,
            "{request:?}: nothing after it: {answer}"
        );
        others_are_answered(&proxy);
    }
    assert_eq!(proxy.get("/x").status, 404);
    assert_eq!(proxy.get("/smuggled").status, 404);
}

/// Chunks count, and nothing behind them does (RFC 9112, 6.1).
#[test]
fn length_beside_chunks_ends_connection() {
    let proxy = Proxy::start(&[]);
    let chunks = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    let length = format!("Content-Length: {}\r\n", BODY.len());
    let smuggled = head(&length).replace("/x ", "/smuggled ") + BODY;
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let answer = talk(&proxy, (head(lines) + &chunks + &smuggled).as_bytes());
        assert!(answer.starts_with("HTTP/1.1 201 "), "{lines:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{lines:?}: {answer}");
    }
    assert_eq!(proxy.get("/smuggled").status, 404);
}

#[test]
fn request_in_body_is_data() {
    let proxy = Proxy::start(&[]);
    let inner = head("Content-Length: 0\r\n").replace("POST", "DELETE");
    let data = serde_json::json!({"target": "http://127.0.0.1:9", "inner": inner}).to_string();
    let sized = head(&format!("Content-Length: {}\r\n", data.len())) + &data;
    let chunked = head("Transfer-Encoding: chunked\r\n")
        + &format!("{:x}\r\n{data}\r\n0\r\n\r\n", data.len());
    let last = head("Connection: close\r\nContent-Length: 1\r\n") + "{";
    let answer = talk(&proxy, format!("{sized}{chunked}{last}").as_bytes());
    let statuses: Vec<_> = answer
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|one| &one[..3])
        .collect();
    assert_eq!(statuses, ["201", "201", "400"], "{answer}");
    assert_eq!(proxy.get("/x").json()["inner"], inner);
    others_are_answered(&proxy);
}

#[test]
fn every_body_framing_is_read() {
    let proxy = Proxy::start(&[]);
    let (one, two) = BODY.split_at(7);
    let chunks = format!(
        "{:x}\r\n{one}\r\n{:X};x=y\r\n{two}\r\n0\r\nTrailer: z\r\n\r\n",
        one.len(),
        two.len()
    );
    let length = format!("Content-Length: {}\r\n", BODY.len());
    let close = "Connection: close\r\n";
    for (request, begins) in [
        (head(&format!("{close}{length}")) + BODY, "HTTP/1.1 201 "),
        (
            head(&format!("{close}Transfer-Encoding: chunked\r\n")) + &chunks,
            "HTTP/1.1 201 ",
        ),
        (
            head(&format!("{close}{length}Expect: 100-continue\r\n")) + BODY,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 ",
        ),
        (
            head(&format!("{close}Transfer-Encoding: chunked\r\n")) + "zz\r\n",
            "HTTP/1.1 400 ",
        ),
        (
            head(&format!("{close}Transfer-Encoding: chunked\r\n")) + "2\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 400 ",
        ),
    ] {
        let answer = talk(&proxy, request.as_bytes());
        assert!(answer.starts_with(begins), "{request}: {answer}");
    }
    let two_requests = head(&length) + BODY + &head(&format!("{close}{length}")) + BODY;
    let answer = talk(&proxy, two_requests.as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 201 ").count(), 2, "{answer}");
}

#[test]
fn oversized_requests_are_refused() {
    let proxy = Proxy::start(&[]);
    let huge = "x".repeat(2 << 20);
    for (request, begins) in [
        (
            head(&format!("Content-Length: {}\r\n", huge.len())) + &huge,
            "HTTP/1.1 413 ",
        ),
        (
            head("Content-Length: 99999999999999999999999\r\n"),
            "HTTP/1.1 400 ",
        ),
        (
            head("Transfer-Encoding: chunked\r\n") + &format!("{:x}\r\n{huge}\r\n", huge.len()),
            "HTTP/1.1 413 ",
        ),
        (
            head("Transfer-Encoding: chunked\r\n") + "5;" + &huge,
            "HTTP/1.1 400 ",
        ),
        (
            head("Transfer-Encoding: chunked\r\n") + "0\r\nX: " + &huge,
            "HTTP/1.1 400 ",
        ),
        (head(&format!("X: {huge}\r\n")), "HTTP/1.1 431 "),
        (head(&"X: y\r\n".repeat(200)), "HTTP/1.1 431 "),
        (format!("GET /{huge} HTTP/1.1\r\n\r\n"), "HTTP/1.1 431 "),
        (huge.clone(), "HTTP/1.1 431 "),
        ("NONSENSE\r\n\r\n".into(), "HTTP/1.1 400 "),
    ] {
        let answer = talk(&proxy, request.as_bytes());
        assert!(answer.starts_with(begins), "{request:.130}: {answer}");
        others_are_answered(&proxy);
    }
}

/// Or else they could fill our memory.
#[test]
fn unauthorized_body_is_not_awaited() {
    let proxy = Proxy::start(&[]);
    for more in [
        "",
        "Authorization: token wrong\r\n",
        "Connection: close\r\n",
    ] {
        let request = format!(
            "POST /api/routes/x HTTP/1.1\r\nHost: h\r\n{more}Content-Length: 1000000\r\n\r\n"
        );
        let start = Instant::now();
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.api)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(b"{").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
        assert!(start.elapsed() < Duration::from_secs(8));
    }
}

/// More than the server takes at a time, of each kind.
#[test]
fn held_connections_lock_nobody_out() {
    let proxy = Proxy::start(&[]);
    let chunked = head("Transfer-Encoding: chunked\r\n");
    for begun in [
        "",
        head("").strip_suffix("\r\n\r\n").unwrap(),
        &(head("Content-Length: 33\r\n") + "{"),
        &(chunked.clone() + "2"),
        &(chunked + "ff\r\n{"),
    ] {
        let held: Vec<_> = (0..600)
            .map(|_| {
                let mut stream = TcpStream::connect(("127.0.0.1", proxy.api)).unwrap();
                stream.write_all(begun.as_bytes()).unwrap();
                stream
            })
            .collect();
        for _ in 0..3 {
            others_are_answered(&proxy);
        }
        drop(held);
    }
}

/// A proxy that may have so many files open.
fn with_files(limit: &str) -> Proxy {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limit}; exec \"$0\" chp \"$@\"")]);
    command.arg(ours().get_program());
    for (name, value) in ours().get_envs() {
        command.env(name, value.unwrap());
    }
    let proxy = Proxy::spawn(command, &[]);
    proxy.wait_until_ready();
    proxy
}

#[test]
fn connections_leave_files_for_changes() {
    let proxy = with_files("-n 400");
    let connect = |_| TcpStream::connect(("127.0.0.1", proxy.api)).unwrap();
    let held: Vec<_> = (0..600).map(connect).collect();
    for _ in 0..3 {
        others_are_answered(&proxy);
        proxy.add("/x", "http://127.0.0.1:9");
    }
    drop(held);
}

#[test]
fn open_connections_lock_nobody_out() {
    // The server may have a hundred files open to begin with.
    let proxy = with_files("-Sn 100");

    let limit = getrlimit(Resource::Nofile);
    let lifted = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, lifted).unwrap();
    // The other tests of this process need some.
    let spare = limit.maximum.unwrap_or(u64::MAX).saturating_sub(2_000);
    let count = spare.min(10_000);
    let mut held = Vec::new();
    for n in 1..=count {
        held.push(TcpStream::connect(("127.0.0.1", proxy.api)).unwrap());
        if n % 1_000 == 0 {
            others_are_answered(&proxy);
        }
    }
    println!(
        "{count} connections; a process may have {:?} files",
        limit.maximum
    );
    others_are_answered(&proxy);
    let files = || std::fs::read_dir(format!("/proc/{}/fd", proxy.child.id()));
    eventually("it keeps some of them only", || {
        files().unwrap().count() < 1_000
    });
    drop(held);
    others_are_answered(&proxy);
}

#[test]
fn slow_changes_delay_no_page() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("routes.toml");
    let proxy = Proxy::start(&["--backend", &format!("toml:{}", table.display())]);
    let lock = std::fs::File::open(folder.path().join("routes.toml.lock")).unwrap();
    fs2::FileExt::lock_exclusive(&lock).unwrap();
    let change = head(&format!("Content-Length: {}\r\n", BODY.len())) + BODY;
    let begin = |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.api)).unwrap();
        stream.write_all(change.as_bytes()).unwrap();
        stream
    };
    let changes: Vec<_> = (0..600).map(begin).collect();
    std::thread::sleep(Duration::from_secs(1));
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
    let patience = Duration::from_secs(5);
    stream.set_read_timeout(Some(patience)).unwrap();
    let health = "GET /_chp_healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream.write_all(health.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop((changes, lock));
}

#[test]
fn slow_requests_are_cut_off() {
    let proxy = Proxy::start(&[]);
    let started = [
        "GET /api/routes HTTP/1.1\r\nHost: ".to_string(),
        head("Content-Length: 9999\r\n"),
        head("Transfer-Encoding: chunked\r\n") + "5;",
    ];
    std::thread::scope(|scope| {
        for started in &started {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut stream = TcpStream::connect(("127.0.0.1", proxy.api)).unwrap();
                let pause = Duration::from_millis(100);
                stream.set_read_timeout(Some(pause)).unwrap();
                stream.write_all(started.as_bytes()).unwrap();
                let mut answer = [0; 12];
                let begun = Instant::now();
                // A byte each time, for ever.
                while stream.read_exact(&mut answer).is_err() {
                    assert!(begun.elapsed() < Duration::from_secs(60), "{started}");
                    drop(stream.write_all(b"1"));
                }
                assert_eq!(&answer, b"HTTP/1.1 408", "{started}");
            });
        }
    });
    others_are_answered(&proxy);
}
