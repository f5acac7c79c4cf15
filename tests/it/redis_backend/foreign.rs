//! Keys of others below our prefixes.

use kit::redis::Server;
use traefik_router::{ErrorKind, Stored};

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
