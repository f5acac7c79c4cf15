//! Any bytes at the REST port of `traefik-router chp`: requests with their bodies, the status to
//! refuse one with, or not enough yet; and always the same, however the bytes arrive.

#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;

// Of the program's modules only the reading is tried here.
#[allow(dead_code)]
#[path = "../../src/bin/traefik-router/chp/server/message.rs"]
mod message;
#[allow(dead_code)]
#[path = "../../src/bin/traefik-router/chp/server/reader.rs"]
mod reader;

use message::Request;
use reader::{Failure, Reader};

const MAX_BODY: usize = 1024;

/// Bytes that arrive at most so many at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.1.min(buffer.len());
        self.0.read(&mut buffer[..length])
    }
}

/// The requests that these bytes are, and what is said to what follows them.
fn read(
    bytes: &[u8],
    at_a_time: usize,
    max: Option<usize>,
) -> (Vec<(String, Vec<u8>)>, Option<u16>) {
    let mut reader = Reader::new(Pieces(bytes, at_a_time));
    let mut requests = Vec::new();
    while reader.begins().expect("no failure") {
        let both = reader.request().and_then(|request| {
            let body = reader.body(request.framing, max)?;
            Ok((request, body))
        });
        match both {
            Ok((request, body)) => {
                check(&request);
                assert!(body.len() <= max.unwrap_or(0));
                requests.push((format!("{request:?}"), body));
            }
            Err(Failure::Refuse(status)) => return (requests, Some(status)),
            Err(Failure::Io(_)) => break,
        }
    }
    (requests, None)
}

fn check(request: &Request) {
    assert!(request.url().starts_with('/'), "{}", request.url());
    assert!(request.url().starts_with(request.path()));
    assert!(request.url().ends_with(request.query()));
    assert!(
        request
            .header("host")
            .is_none_or(|host| !host.contains(['\r', '\n']))
    );
}

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, usize::MAX, Some(MAX_BODY));
    assert_eq!(read(bytes, 1, Some(MAX_BODY)), whole);
    // Nothing is kept of a body that nobody wants, and nothing else is different.
    let (unwanted, _) = read(bytes, 7, None);
    assert!(unwanted.len() >= whole.0.len());
    for ((request, _), (same, _)) in whole.0.iter().zip(&unwanted) {
        assert_eq!(request, same);
    }
});
