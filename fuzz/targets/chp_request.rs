//! Any bytes at the REST port of `traefik-router chp`: a request, the status to refuse it with, or
//! not enough yet; and always the same, however the bytes arrive.

#![no_main]

use libfuzzer_sys::fuzz_target;

// Of the program's module only the reading is tried here.
#[allow(dead_code)]
#[path = "../../src/bin/traefik-router/chp/server/message.rs"]
mod message;

use message::Request;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some((length, request))) = Request::parse(bytes) else {
        return;
    };
    assert!(length <= bytes.len());
    for end in [length / 2, length - 1] {
        assert!(
            !matches!(Request::parse(&bytes[..end]), Ok(Some(_))),
            "a head in half a head"
        );
    }
    let more = [&bytes[..length], b"GET /next HTTP/1.1\r\n\r\n"].concat();
    let again = Request::parse(&more).expect("a head").expect("a whole one");
    assert_eq!((again.0, again.1.framing), (length, request.framing));
    assert!(request.url().starts_with('/'), "{}", request.url());
    assert!(request.url().starts_with(request.path()));
    assert!(request.url().ends_with(request.query()));
    assert!(
        request
            .header("host")
            .is_none_or(|host| !host.contains(['\r', '\n']))
    );
});
