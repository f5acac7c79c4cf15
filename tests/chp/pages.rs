//! What is answered where no target answers.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use kit::client::Request;
use kit::server::response;
use kit::{Echo, Server, eventually, ports};

use crate::support::Proxy;

#[test]
fn health_check_precedes_all_routes() {
    let (proxy, echo) = (Proxy::start(&[]), Echo::start());
    proxy.add("", &echo.url());
    let answer = proxy.through("/_chp_healthz");
    assert_eq!((answer.status, &*answer.body), (200, "{\"status\":\"OK\"}"));
    assert_eq!(proxy.through("/_chp_healthz/x").landed(), Some(echo.port));
}

#[test]
fn error_target_provides_pages() {
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
fn silent_error_target_blocks_nobody() {
    let silent = ports::listen();
    let target = format!("http://{}", silent.local_addr().unwrap());
    let proxy = Proxy::start(&["--error-target", &target]);
    let ask = |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
        stream
            .write_all(b"GET /none HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        stream
    };
    let waiting: Vec<_> = (0..600).map(ask).collect();
    // Until Traefik has passed them on.
    std::thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    for _ in 0..3 {
        assert_eq!(proxy.through("/_chp_healthz").status, 200);
    }
    // Less than the error target is waited for.
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    drop(waiting);
}

#[test]
fn folder_provides_pages() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("404.html"), "<p>nowhere").unwrap();
    std::fs::write(folder.path().join("error.html"), "<p>sorry").unwrap();
    let proxy = Proxy::start(&["--error-path", folder.path().to_str().unwrap()]);
    proxy.add("/down", &format!("http://127.0.0.1:{}", ports::free()));
    for (path, status, body) in [("/none", 404, "<p>nowhere"), ("/down", 503, "<p>sorry")] {
        let answer = proxy.through(path);
        assert_eq!((answer.status, &*answer.body), (status, body));
    }
    std::fs::remove_file(folder.path().join("error.html")).unwrap();
    assert_eq!(proxy.through("/down").body, "Service Unavailable");
    eventually("it logs what is missing", || {
        let log = proxy.log();
        log.contains("--error-path") && log.contains("neither 503.html nor error.html")
    });
}

#[test]
fn default_pages_are_html() {
    let proxy = Proxy::start(&[]);
    proxy.add("/down", &format!("http://127.0.0.1:{}", ports::free()));
    let upload = vec![b'x'; 3 << 20];
    for (path, status, words, body) in [
        ("/none", 404, "Not Found", &b""[..]),
        ("/none", 404, "Not Found", &upload),
        ("/down", 503, "Service Unavailable", b""),
    ] {
        let request = Request {
            host: "h",
            path,
            headers: &[],
            body,
        };
        let answer = request.send(proxy.port);
        let title = format!("<h1>{status}: {words}</h1>");
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.body.contains(&title), "{answer:?}");
    }
}

#[test]
fn target_errors_pass_through() {
    for status in [404, 500, 503] {
        let proxy = Proxy::start(&[]);
        let target = Server::answering(move |_| Some(response(status, "", b"own")));
        proxy.add("/x", &target.url());
        let answer = proxy.through("/x");
        assert_eq!((answer.status, &*answer.body), (status, "own"));
    }
}
