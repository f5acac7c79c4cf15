//! Keys of others below our prefixes.

use kit::redis::Server;
use traefik_router::{Backend as _, ErrorKind, KvBackend, Stored};

use super::{check, offline, redis, stored};

#[test]
fn keys_in_bytes_are_named() {
    let server = Server::start(&["--save", ""]);
    let router = offline(redis(server.url()));
    for (key, shown) in [
        (r"'traefik/theirs'", "traefik/theirs"),
        (r"'traefik/\255'", "traefik/\u{fffd}"),
    ] {
        server.run(&["EVAL", &format!(r"redis.call('SET', {key}, '\255')"), "0"]);
        let error = router.add_route("/a/", "http://h", ()).unwrap_err();
        check(&error, ErrorKind::Corrupt, &Stored::Nothing, shown);
        server.run(&["EVAL", &format!("redis.call('DEL', {key})"), "0"]);
    }
    router.add_route("/a/", "http://h", ()).unwrap();
    assert_eq!(stored(&server), ["/a/"]);
}

#[test]
fn key_of_other_type_is_named() {
    let server = Server::start(&["--save", ""]);
    for key in ["jupyterhub/traefik-router/header", "router-versions"] {
        server.run(&["RPUSH", key, "theirs"]);
        let backend = KvBackend::new(redis(server.url()));
        let error = backend.commit(&mut |_, _| Ok(Vec::new())).unwrap_err();
        let says = format!("(key {key})");
        check(&error, ErrorKind::Corrupt, &Stored::Nothing, &says);
        server.run(&["DEL", key]);
    }
}

/// A Redis without TLS waits for more. One with TLS closes the connection.
#[test]
fn wrong_scheme_brings_advice() {
    let server = Server::start(&["--save", ""]);
    let secure = redis(server.url().replace("redis:", "rediss:"));
    let error = KvBackend::new(secure).read().unwrap_err();
    let says = "its URL must begin with redis://";
    check(&error, ErrorKind::Unavailable, &Stored::Nothing, says);
}
