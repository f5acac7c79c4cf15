//! What is answered where no target answers.

use crate::support::client::Request;
use crate::support::{Echo, Proxy, ports};

#[test]
fn the_health_check_comes_before_all_routes() {
    let (proxy, echo) = (Proxy::start(&[]), Echo::start());
    proxy.add("", &echo.url());
    let answer = proxy.through("/_chp_healthz");
    assert_eq!((answer.status, &*answer.body), (200, "{\"status\":\"OK\"}"));
    assert_eq!(proxy.through("/_chp_healthz/x").landed(), Some(echo.port));
}

#[test]
fn pages_come_from_the_error_target_with_their_own_status() {
    let errors = Echo::start();
    let proxy = Proxy::start(&["--error-target", &format!("{}/hub/error", errors.url())]);
    let nobody = format!("http://127.0.0.1:{}", ports::free());
    proxy.add("/down", &nobody);
    for (path, status, asked) in [
        (
            "/none//x?a=b&c=%2F",
            404,
            "/hub/error/404?url=%2Fnone%2F%2Fx%3Fa%3Db%26c%3D%252F",
        ),
        (
            "/down/x?a=b&c=%2F",
            503,
            "/hub/error/503?url=%2Fdown%2Fx%3Fa%3Db%26c%3D%252F",
        ),
    ] {
        let answer = proxy.through(path);
        assert_eq!(answer.status, status, "{path}");
        let page: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(page["path"], asked);
        assert_eq!(page["port"], errors.port);
    }
    drop(errors);
    let answer = proxy.through("/none");
    assert_eq!((answer.status, &*answer.body), (404, "Not Found"));
}

#[test]
fn pages_come_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("404.html"), "<p>nowhere").unwrap();
    std::fs::write(folder.path().join("error.html"), "<p>sorry").unwrap();
    let proxy = Proxy::start(&["--error-path", folder.path().to_str().unwrap()]);
    proxy.add("/down", &format!("http://127.0.0.1:{}", ports::free()));
    for (path, status, body) in [("/none", 404, "<p>nowhere"), ("/down", 503, "<p>sorry")] {
        let answer = proxy.through(path);
        assert_eq!((answer.status, &*answer.body), (status, body));
    }
}

#[test]
fn without_pages_there_are_plain_words_and_a_body_is_not_waited_for() {
    let proxy = Proxy::start(&[]);
    proxy.add("/down", &format!("http://127.0.0.1:{}", ports::free()));
    for (path, status, body) in [
        ("/none", 404, "Not Found"),
        ("/down", 503, "Service Unavailable"),
    ] {
        let upload = vec![b'x'; 300_000];
        for body_sent in [&b""[..], &upload] {
            let request = Request {
                host: "h",
                path,
                headers: &[],
                body: body_sent,
            };
            let answer = request.send(proxy.port);
            assert_eq!((answer.status, &*answer.body), (status, body), "{path}");
        }
    }
}

#[test]
fn a_targets_own_errors_are_its_own() {
    for status in [404, 500, 503] {
        let proxy = Proxy::start(&[]);
        let target = Echo::serve(move |mut stream, _| {
            use std::io::{Read as _, Write as _};
            drop(stream.read(&mut [0; 4096]));
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 3\r\n\r\nown");
            drop(stream.write_all(head.as_bytes()));
        });
        proxy.add("/x", &target.url());
        let answer = proxy.through("/x");
        assert_eq!((answer.status, &*answer.body), (status, "own"));
    }
}
