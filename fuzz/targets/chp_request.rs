//! Any bytes at the REST port of `traefik-router chp`: hyper reads requests, and what is ours answers, refuses
//! and ends; always the same, however the bytes arrive.

#![no_main]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

// Of the program's modules only the server is tried here; it locks with `sync`.
#[allow(dead_code, unused_imports)]
#[path = "../../src/bin/traefik-router/chp/server/mod.rs"]
mod server;
#[path = "../../src/sync.rs"]
#[allow(dead_code, reason = "the server uses a part of it")]
mod sync;

use server::{Handler, Listener, Request, Response};

const MAX_BODY: usize = 1024;

static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let handler = Handler::new(Some(MAX_BODY), |request: &Request, body: &[u8]| {
        assert!(body.len() <= MAX_BODY);
        Response::of(200, "text/plain", format!("{request:?}{body:?}"))
    })
    .refusing(|request| {
        check(request);
        (request.method() == "PUT").then(|| Response::empty(403))
    });
    let threads = server::threads().expect("threads");
    server::serve(&threads, vec![Listener::Tcp(listener)], 64, None, handler).expect("a server");
    address
});

fn check(request: &Request) {
    let url = request.url();
    // CONNECT asks for no path.
    assert!(url.is_empty() || url.starts_with(['/', '*']), "{url}");
    assert!(url.starts_with(request.path()));
    assert!(url.ends_with(request.query()));
    let host = request.header("host");
    assert!(host.is_none_or(|host| !host.contains(['\r', '\n'])));
}

/// What is answered, but for the time of day.
fn answers(bytes: &[u8], at_a_time: usize) -> Vec<String> {
    let mut stream = TcpStream::connect(*SERVER).expect("a connection");
    for piece in bytes.chunks(at_a_time) {
        // The server may have refused the rest.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    stream.shutdown(Shutdown::Write).ok();
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).ok();
    let answers = String::from_utf8_lossy(&answers);
    let lines = answers.lines().filter(|line| !line.starts_with("Date: "));
    lines.map(Into::into).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let whole = answers(bytes, bytes.len().max(1));
    assert_eq!(answers(bytes, 7), whole);
});
