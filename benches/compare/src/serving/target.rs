//! The server that all routes lead to. It answers every request with the same few bytes, so that
//! its own share of the work is small.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Result;

pub(super) const BODY: &str = "hello";

/// Serves until it is killed.
pub(crate) fn run(port: u16) -> Result {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    work(&Arc::new((listener, AtomicUsize::new(0))));
    Ok(())
}

/// Takes one connection after the other. There is always one more thread that waits for the next.
fn work(shared: &Arc<(TcpListener, AtomicUsize)>) {
    let (listener, waiting) = &**shared;
    loop {
        waiting.fetch_add(1, Ordering::Relaxed);
        let connection = listener.accept();
        if waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            let shared = Arc::clone(shared);
            std::thread::spawn(move || work(&shared));
        }
        if let Ok((stream, _)) = connection {
            answer(stream);
        }
    }
}

/// Until the other side closes. Requests have no body and come one by one.
fn answer(mut stream: TcpStream) {
    let text = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let (mut request, mut length) = ([0; 8192], 0);
    if stream.set_nodelay(true).is_err() {
        return;
    }
    while let Ok(read @ 1..) = stream.read(&mut request[length..]) {
        length += read;
        if request[..length].ends_with(b"\r\n\r\n") {
            length = 0;
            if stream.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    }
}
