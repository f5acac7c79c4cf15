//! The REST server against clients that are clumsy, slow or ill-meaning.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::Proxy;
use crate::support::proxy::TOKEN;

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

#[test]
fn requests_that_can_be_read_in_two_ways_are_refused() {
    let proxy = Proxy::start(&[]);
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length: -1\r\n",
    ] {
        let second = "GET /api/routes HTTP/1.1\r\nHost: h\r\n\r\n";
        let answer = talk(
            &proxy,
            format!("{}0\r\n\r\n{second}", head(lines)).as_bytes(),
        );
        assert!(answer.starts_with("HTTP/1.1 400 "), "{lines}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1").count(),
            1,
            "nothing after it: {answer}"
        );
    }
    assert_eq!(proxy.get("/x").status, 404);
}

#[test]
fn bodies_come_sized_chunked_and_after_a_100() {
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
fn what_is_too_large_is_refused() {
    let proxy = Proxy::start(&[]);
    let huge = "x".repeat(2 << 20);
    for (request, begins) in [
        (
            head(&format!("Content-Length: {}\r\n", huge.len())) + &huge,
            "HTTP/1.1 413 ",
        ),
        (
            head("Content-Length: 99999999999999999999999\r\n"),
            "HTTP/1.1 413 ",
        ),
        (
            head("Transfer-Encoding: chunked\r\n") + &format!("{:x}\r\n{huge}\r\n", huge.len()),
            "HTTP/1.1 413 ",
        ),
        (
            head("Transfer-Encoding: chunked\r\n") + "ffffffffffffffff\r\n",
            "HTTP/1.1 413 ",
        ),
        (head(&format!("X: {huge}\r\n")), "HTTP/1.1 431 "),
        ("NONSENSE\r\n\r\n".into(), "HTTP/1.1 400 "),
    ] {
        let answer = talk(&proxy, request.as_bytes());
        assert!(answer.starts_with(begins), "{request:.80}: {answer}");
        assert_eq!(proxy.get("").status, 200);
    }
}

#[test]
fn clients_that_hold_connections_open_do_not_lock_others_out() {
    let proxy = Proxy::start(&[]);
    let mut held = Vec::new();
    for n in 0..600 {
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.api)).unwrap();
        let begun = head("X-Slow:");
        let length = begun.len() - usize::from(n % 2 == 0) * begun.len();
        stream
            .write_all(&begun.as_bytes()[..length.saturating_sub(4)])
            .unwrap();
        held.push(stream);
    }
    for _ in 0..3 {
        assert_eq!(proxy.get("").status, 200);
    }
}

#[test]
fn a_head_that_does_not_end_is_cut() {
    let proxy = Proxy::start(&[]);
    let answer = talk(&proxy, b"GET /api/routes HTTP/1.1\r\nHost: h\r\n");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}
