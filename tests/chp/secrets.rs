//! What the program writes and answers holds no secret, whoever asks it for what.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;

use kit::process::send_signal;
use kit::{Ca, Echo, eventually, ports};
use serde_json::json;

use crate::support::Proxy;
use crate::support::proxy::{TOKEN, ours};
use crate::tls::trusting;

const WRONG_TOKEN: &str = "uN3fGpQ8jLe5WxDaZ6ok";
const IN_DATA: &str = "yC5wQbGj9NrXk7DvHt3z";
const IN_A_TARGET: &str = "iP6sLxUf4ZaMq8EbJn2t";
const IN_A_BROKEN_BODY: &str = "eK8dTzFh3LmYp6VsRw2x";
const IN_A_QUERY: &str = "bH7qzXw2Kd9TmVtR4cYs";
const IN_AN_OPTION: &str = "rJ4vBnMy7ScH2XtPq9gw";

#[test]
fn traefik_inherits_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let held = folder.path().join("held");
    let program = ours();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" chp \"$@\" 9>\"$HELD\""]);
    command.arg(program.get_program()).env("HELD", &held);
    for (name, value) in program.get_envs() {
        command.env(name, value.unwrap());
    }
    command.envs(["ETCD_PASSWORD", "REDIS_PASSWORD"].map(|name| (name, IN_AN_OPTION)));
    let proxy = Proxy::spawn(command, &[]);
    proxy.wait_until_ready();
    let of = |part: &str| std::path::PathBuf::from(format!("/proc/{}/{part}", proxy.traefik()));
    let environment = fs::read(of("environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(environment.contains("HELD="), "{environment}");
    for secret in [TOKEN, IN_AN_OPTION] {
        assert!(!environment.contains(secret), "{environment}");
    }
    let open = fs::read_dir(of("fd")).unwrap().flatten();
    let open: Vec<_> = open
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .collect();
    assert!(!open.contains(&held), "{open:?}");
}

#[test]
fn output_holds_no_secret() {
    let (ca, echo) = (Ca::generate(), Echo::start());
    let pairs = ["ssl", "api-ssl", "client-ssl"].map(|prefix| (prefix, ca.sign_files(prefix)));
    let mut command = ours();
    command.args(["chp", "--log-level", "debug"]);
    for (prefix, [cert, key]) in &pairs {
        command.args([&format!("--{prefix}-cert"), cert]);
        command.args([&format!("--{prefix}-key"), key]);
    }
    let metrics = ports::free();
    let nobody = format!("http://127.0.0.1:{}", ports::free());
    let mut proxy = Proxy::spawn(
        command,
        &[
            "--custom-header",
            &format!("Authorization: Bearer {IN_AN_OPTION}"),
            "--error-target",
            &nobody,
            "--metrics-ip",
            "127.0.0.1",
            "--metrics-port",
            &metrics.to_string(),
        ],
    );
    let agent = trusting(&ca, None);
    let [web, rest] = [proxy.port, proxy.api].map(|port| format!("https://127.0.0.1:{port}"));
    // The status of an answer, and all of it.
    let ask = |as_whom: &str, method: &str, url: &str, body: &str| {
        let request = ureq::http::Request::builder().method(method).uri(url);
        let request = request.header("authorization", as_whom).body(body).unwrap();
        let request = agent.configure_request(request);
        let request = request.allow_non_standard_methods(true).build();
        let mut answer = agent.run(request)?;
        let head = format!("{answer:?}");
        let body = answer.body_mut().read_to_string()?;
        Ok::<_, ureq::Error>((answer.status().as_u16(), head + &body))
    };
    let (route, friend) = (format!("{rest}/api/routes/x"), format!("token {TOKEN}"));
    let data = json!({"target": echo.url(), "token": IN_DATA}).to_string();
    eventually("it takes a route", || {
        ask(&friend, "POST", &route, &data).is_ok_and(|answer| answer.0 == 201)
    });
    let (status, reply) = ask(&friend, "GET", &route, "").unwrap();
    assert!(
        status == 200 && reply.contains(IN_DATA),
        "the test hears it"
    );

    let password = format!("http://user:{IN_A_TARGET}@127.0.0.1:9");
    let with_slash = format!("http://user:{IN_A_TARGET}/x@127.0.0.1:9");
    let query = format!("{nobody}/?token={IN_A_TARGET}");
    let refused = [
        json!({"target": password, "token": IN_DATA}).to_string(),
        json!({"target": with_slash, "token": IN_DATA}).to_string(),
        json!({"target": query, "token": IN_DATA}).to_string(),
        json!({"target": {"token": IN_DATA}}).to_string(),
        json!(IN_DATA).to_string(),
        format!("{{\"token\": \"{IN_A_BROKEN_BODY}\""),
        format!("{{\"token\": {IN_A_BROKEN_BODY}}}"),
        format!("{{\"target\": \"\n{IN_A_BROKEN_BODY}\"}}"),
        IN_A_BROKEN_BODY.into(),
    ];
    for body in &refused {
        let (status, reply) = ask(&friend, "POST", &route, body).unwrap();
        assert_eq!(status, 400, "{reply}");
    }
    // The answers to clients without a token.
    let mut shown = String::new();
    let mut overhear = |as_whom: &str, method: &str, url: &str, body: &str, expected: u16| {
        let (status, reply) = ask(as_whom, method, url, body).unwrap();
        assert_eq!(status, expected, "{method} {url}: {reply}");
        shown += &format!("{reply}\n");
    };
    for as_whom in ["", WRONG_TOKEN, &format!("token {WRONG_TOKEN}"), TOKEN] {
        for url in [&route, &format!("{route}?token={IN_A_QUERY}")] {
            overhear(as_whom, "GET", url, "", 403);
            overhear(as_whom, "DELETE", url, "", 403);
            overhear(as_whom, "PUT", url, &data, 405);
            for body in refused.iter().chain([&data]) {
                overhear(as_whom, "POST", url, body, 403);
            }
        }
        overhear(as_whom, "GET", &rest, "", 404);
    }
    // A client that speaks HTTP to a port with TLS.
    let mut plain = TcpStream::connect(("127.0.0.1", proxy.api)).unwrap();
    // In one piece: the program may close the connection after the first.
    let request = format!("GET /api/routes HTTP/1.1\r\nAuthorization: token {TOKEN}\r\n\r\n");
    plain.write_all(request.as_bytes()).unwrap();

    let down = json!({"target": nobody, "token": IN_DATA}).to_string();
    let added = ask(&friend, "POST", &format!("{rest}/api/routes/down"), &down);
    assert_eq!(added.unwrap().0, 201);
    let mut visit = || {
        let headers = (&*format!("token {WRONG_TOKEN}"), "GET");
        for (path, status) in [("none", 404), ("down", 503)] {
            let url = format!("{web}/{path}?token={IN_A_QUERY}");
            overhear(headers.0, headers.1, &url, "", status);
        }
    };
    visit();
    send_signal(proxy.traefik(), "KILL");
    eventually("another Traefik serves", || {
        let used = ask(&friend, "GET", &format!("{web}/x?token={IN_A_QUERY}"), "");
        proxy.log().contains("was started again") && used.is_ok_and(|answer| answer.0 == 200)
    });
    visit();
    overhear(
        "",
        "GET",
        &format!("http://127.0.0.1:{metrics}/metrics"),
        "",
        200,
    );
    proxy.signal("TERM");
    assert!(proxy.wait_for_end().success());

    let reply = [
        "Route added",
        "Body not valid JSON",
        "is not acceptable",
        "403 POST",
        "a connection failed",
        "custom error page",
        "Terminated",
    ];
    eventually("all of it is heard of", || {
        reply.iter().all(|reply| proxy.log().contains(reply))
    });
    let keys = pairs.map(|(_, [_, key])| key);
    holds_none(&proxy.log(), &keys);
    holds_none(&shown, &keys);
}

#[track_caller]
fn holds_none(text: &str, keys: &[String]) {
    // The first line is the same in all keys.
    let keys = keys.iter().map(|key| {
        let pem = fs::read_to_string(key).unwrap();
        pem.lines().nth(2).unwrap().to_string()
    });
    let marked = [
        TOKEN,
        WRONG_TOKEN,
        IN_DATA,
        IN_A_TARGET,
        IN_A_BROKEN_BODY,
        IN_A_QUERY,
        IN_AN_OPTION,
        "PRIVATE KEY",
    ];
    for secret in marked.map(String::from).into_iter().chain(keys) {
        let found = text.lines().find(|line| shows(line, &secret));
        assert!(found.is_none(), "{secret} in {found:?}");
    }
}

/// Whether ten characters of it are there: a long line may have been cut.
fn shows(line: &str, secret: &str) -> bool {
    let mut parts = secret.as_bytes().windows(10);
    parts.any(|part| line.contains(std::str::from_utf8(part).unwrap()))
}

#[test]
fn refused_option_hides_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{IN_AN_OPTION}\n-----END PRIVATE KEY-----\n");
    fs::write(&key, pem).unwrap();
    let ca = Ca::generate();
    let [cert, _] = ca.sign_files("x");
    let url = format!("http://user:{IN_AN_OPTION}@127.0.0.1:1");
    for (arguments, line) in [
        (&["--backend", &url][..], "--backend"),
        (&["--backend", &format!("etcd:{url}")], "URL"),
        (&["--default-target", &url], "--default-target"),
        (&["--api-url", &url], "URL"),
        (&["--api-url", &url, "--api-url", &url], "--api-url"),
        (&["--custom-header", IN_AN_OPTION], "--custom-header"),
        (
            &[
                "--api-ssl-cert",
                &cert,
                "--api-ssl-key",
                key.to_str().unwrap(),
            ],
            "x.crt",
        ),
    ] {
        let mut command = ours();
        command.args(["chp", "--log-level", "debug"]);
        let mut proxy = Proxy::spawn(command, arguments);
        assert!(!proxy.wait_for_end().success());
        eventually(line, || proxy.log().contains(line));
        holds_none(&proxy.log(), &[]);
    }
}

#[test]
fn dropped_part_is_not_logged() {
    let echo = Echo::start();
    let target = format!("{}/?token={IN_A_TARGET}", echo.url());
    let proxy = Proxy::start(&["--no-prepend-path", "--default-target", &target]);
    proxy.add("/x", &target);
    assert_eq!(proxy.through("/x").landed(), Some(echo.port));
    // The latter could be a port.
    for password in [IN_A_TARGET, "12345"] {
        let with_slash = format!("http://user:{password}/x@127.0.0.1:9");
        let data = json!({"target": with_slash}).to_string();
        let answer = proxy.rest("POST", "/y", &data);
        assert_eq!(answer.status, 400);
        assert!(!answer.body.contains(password), "{}", answer.body);
    }
    for reply in ["Proxying", "Route added", "is not acceptable"] {
        eventually(reply, || proxy.log().contains(reply));
    }
    assert!(!proxy.log().contains("user:"));
    holds_none(&proxy.log(), &[]);
}
