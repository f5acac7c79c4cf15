//! What each option does to requests.

use kit::client::Request;
use kit::tools::TRAEFIK_3_5;
use kit::{Echo, Server, client, eventually, ports};
use serde_json::json;

use crate::support::Proxy;
use crate::support::proxy::ours;

#[test]
fn requests_reach_target_unchanged() {
    let (proxy, echo) = (Proxy::start(&[]), Echo::start());
    proxy.add("/x", &echo.url());
    for path in [
        "/x",
        "/x/",
        "/x//a//b",
        "/x/%2F/%20?q=%20%41&r",
        "/x/a%3Bb;c",
        "/x/é",
    ] {
        let seen = proxy.through(path).echo();
        let expected = path.replace('é', "%C3%A9");
        let found = seen["path"].as_str().unwrap().replace('é', "%C3%A9");
        assert_eq!(found, expected);
    }
    let upload = vec![b'x'; 5 << 20];
    let request = Request {
        host: "hub.example:8000",
        path: "/x/upload",
        headers: &[
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-For", "10.1.2.3"),
        ],
        body: &upload,
    };
    let seen = request.send(proxy.port).echo();
    assert_eq!(seen["body_len"], upload.len());
    assert_eq!(seen["headers"]["host"], "hub.example:8000");
    assert_eq!(seen["headers"]["x-forwarded-proto"], "https");
    assert_eq!(seen["headers"]["x-forwarded-for"], "10.1.2.3, 127.0.0.1");
}

#[test]
fn target_path_is_prepended() {
    let echo = Echo::start();
    let target = format!("{}/base", echo.url());
    let seen = |arguments: &[&str]| {
        let proxy = Proxy::start(arguments);
        proxy.add("/x", &target);
        assert_eq!(proxy.get("/x").json()["target"], target);
        proxy.through("/x/y").echo()["path"].clone()
    };
    assert_eq!(seen(&[]), "/base/x/y");
    assert_eq!(seen(&["--no-prepend-path"]), "/x/y");
}

#[test]
fn headers_are_added_and_changed() {
    let echo = Echo::start();
    let proxy = Proxy::start(&[
        "--custom-header",
        "X-One: 1",
        "--custom-header=X-Two:two:2",
        "--change-origin",
    ]);
    proxy.add("/x", &echo.url());
    let headers = proxy.through("/x").echo()["headers"].clone();
    assert_eq!(
        [&headers["x-one"], &headers["x-two"]],
        [&json!("1"), &json!("two:2")]
    );
    assert_eq!(headers["host"], format!("127.0.0.1:{}", echo.port));
}

#[test]
fn silent_target_is_503() {
    let proxy = Proxy::start(&["--proxy-timeout", "300"]);
    let silent = Server::serve(|stream| {
        std::thread::sleep(std::time::Duration::from_secs(5));
        drop(stream);
    });
    proxy.add("/x", &silent.url());
    assert_eq!(proxy.through("/x").status, 503);
}

#[test]
fn unsupported_options_are_reported() {
    for (arguments, line) in [
        (&["--auto-rewrite"][..], "--auto-rewrite is not supported"),
        (
            &["--protocol-rewrite", "https"],
            "--protocol-rewrite is not supported",
        ),
        (
            &["--storage-backend", "x"],
            "--storage-backend is not supported",
        ),
        (&["--redirect-port", "80"], "needs HTTPS: give --ssl-key"),
        (&["--ip", "no host"], "--ip and --port"),
        (&["--entrypoint", "no name"], "--entrypoint"),
        (&["--entrypoint", "chp_api"], "--entrypoint"),
        (
            &["--etcd-user=x", "--backend=etcd:http://h"],
            "needs ETCD_PASSWORD",
        ),
        (&["--backend", "etcd:h"], "etcd"),
        (
            &["--port", "18000", "--api-port", "18000"],
            "--port and --api-port are both 18000; give each a port of its own",
        ),
        (
            &["--api-port", "18001", "--metrics-port", "18001"],
            "--api-port and --metrics-port are both 18001",
        ),
        (&["--ssl-cert", "x"], "--ssl-key <FILE>"),
        (&["--api-ssl-key", "x"], "--api-ssl-cert <FILE>"),
        (&["--client-ssl-key", "x"], "--client-ssl-cert <FILE>"),
        (&["--ssl-request-cert"], "--ssl-ca <FILE>"),
        (&["--keep-routes"], "--backend <STORE>"),
        (&["--replace-served-routes"], "--backend <STORE>"),
        (
            &["--backend", "push", "--keep-routes"],
            "routes that are pushed end with this program",
        ),
        (
            &["--backend", "push", "--replace-served-routes"],
            "need another --backend",
        ),
        (
            &["--etcd-user", "x"],
            "no effect without --backend etcd:URL",
        ),
        (
            &["--lock-timeout", "1"],
            "no effect without --backend toml:FILE",
        ),
        (
            &["--custom-header", "none"],
            "A colon was expected in custom header",
        ),
        (
            &["--custom-header", " :x"],
            "A colon was expected in custom header",
        ),
        (
            &["--custom-header", "X-One: 1", "--custom-header=X Two: 2"],
            "what is before the colon can't be the name of a header",
        ),
        (
            &["--custom-header", "X-One: 1\n2"],
            "the value of \"X-One\" has a control character",
        ),
        (&["--error-target", "hub:8081/hub/error"], "--error-target"),
        (
            &["--error-target", "http://hub:99999/hub/error"],
            "--error-target",
        ),
        (&["--port", "0"], "0 is not in 1..=65535"),
        (
            &["--client-ssl-ca", "/none/ca.pem"],
            "--client-ssl-ca: /none/ca.pem: ",
        ),
        (
            &["--client-ssl-ca", "Cargo.toml"],
            "--client-ssl-ca: Cargo.toml: there is no certificate in it",
        ),
        (
            &["--client-ssl-cert=/none/c.pem", "--client-ssl-key=/none/k"],
            "--client-ssl-cert: /none/c.pem: ",
        ),
        (
            &["--api-ssl-cert=/none/c.pem", "--api-ssl-key=/none/k"],
            "--api-ssl-cert, --api-ssl-key, --api-ssl-ca: /none/c.pem: ",
        ),
        (&["--backend", "mysql:x"], "--backend"),
        (&["--backend", "toml:routes.yaml"], "does not end in .toml"),
        (&["--default-target", "ftp://h"], "--default-target"),
    ] {
        let mut command = ours();
        command.arg("chp");
        let mut proxy = Proxy::spawn(command, arguments);
        assert_eq!(proxy.wait_for_end().code(), Some(2), "{arguments:?}");
        eventually(line, || proxy.log().contains(line));
    }
    let proxy = Proxy::start(&[
        "--timeout",
        "5",
        "--no-x-forward",
        "--ssl-ciphers=X",
        "--log-level",
        "WARN",
    ]);
    for option in ["--timeout", "--no-x-forward", "--ssl-ciphers"] {
        let log = proxy.log();
        let answer = |line: &&str| line.contains(option) && line.contains("has no effect");
        assert_eq!(log.lines().filter(answer).count(), 1, "{log}");
    }
}

#[test]
fn ineffective_options_are_reported() {
    let proxy = Proxy::start(&[
        "--ssl-ca=x",
        "--redirect-to=443",
        "--metrics-ip=127.0.0.1",
        "--api-ssl-reject-unauthorized",
        "--insecure",
        "--client-ssl-ca=x",
        "--client-ssl-request-cert",
        "--client-ssl-reject-unauthorized",
    ]);
    let checked = "the certificates of targets are checked unless --insecure is given";
    for (option, why) in [
        ("--ssl-ca", "--ssl-request-cert is not given"),
        ("--redirect-to", "--redirect-port is not given"),
        ("--metrics-ip", "--metrics-port is not given"),
        (
            "--api-ssl-reject-unauthorized",
            "--api-ssl-request-cert is not given",
        ),
        ("--client-ssl-ca", "--insecure is given"),
        ("--client-ssl-request-cert", checked),
        ("--client-ssl-reject-unauthorized", checked),
    ] {
        let line = format!("{option}: {why}; the option has no effect");
        assert!(proxy.log().contains(&line), "{}", proxy.log());
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("--socket={}", folder.path().join("s").display());
    let mut command = ours();
    command.arg("chp");
    // It gives --ip, --port and --api-port.
    let proxy = Proxy::spawn(command, &[&socket, "--client-ssl-reject-unauthorized"]);
    for (option, why) in [
        ("--ip", "--socket is given"),
        ("--port", "--socket is given"),
        ("--client-ssl-reject-unauthorized", checked),
    ] {
        let line = format!("{option}: {why}; the option has no effect");
        eventually(&line, || proxy.log().contains(&line));
    }
}

/// What is wrong with the machine is no bad usage.
#[test]
fn taken_port_is_a_failure() {
    let echo = Echo::start();
    let taken = echo.port.to_string();
    for option in ["--port", "--api-port", "--metrics-port"] {
        let mut command = ours();
        command.arg("chp");
        let mut proxy = Proxy::spawn(command, &[option, &taken]);
        assert_eq!(proxy.wait_for_end().code(), Some(1), "{option}");
    }
}

/// The keys that only other commands use are there as well.
#[test]
fn configuration_file_names_the_store() {
    let (folder, echo) = (tempfile::tempdir().unwrap(), Echo::start());
    let file = folder.path().join("mine.toml");
    let text = "backend = \"toml:routes.toml\"\nnested-routers = \"never\"\nlock-timeout = 3\n\
                timeout = 1\nlog-level = \"ERROR\"\nentrypoint = \"web\"\napi-url = [\"http://t\"]\n\
                traefik-bin = \"none\"\n";
    std::fs::write(&file, text).unwrap();
    let proxy = Proxy::start(&["--config", file.to_str().unwrap()]);
    proxy.add("/x", &echo.url());
    let stored = std::fs::read_to_string(folder.path().join("routes.toml")).unwrap();
    assert!(stored.contains("/x"), "beside the configuration: {stored}");
    drop(proxy);
    let by_variable = |command: &mut std::process::Command| {
        command.env("TRAEFIK_ROUTER_CONFIG", &file);
    };
    let proxy = Proxy::start_with(by_variable, &["--keep-routes"]);
    assert_eq!(proxy.through("/x").landed(), Some(echo.port));
    assert!(proxy.log().contains("Proxying"), "{}", proxy.log());
    std::fs::write(&file, "backend = \"toml:routes.toml\"\nport = 80\n").unwrap();
    let mut command = ours();
    command.arg("chp");
    let mut proxy = Proxy::spawn(command, &["--config", file.to_str().unwrap()]);
    assert!(!proxy.wait_for_end().success());
    eventually("the line", || {
        proxy.log().contains("line 2: unknown field `port`")
    });
}

/// Each of two clients waits for its own change: those of both share a commit only if the commit waits.
#[test]
fn commits_wait_no_longer_than_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    std::fs::write(&file, "commit-wait = 0\n").unwrap();
    let metrics = ports::free();
    for arguments in [["--commit-wait", "0"], ["--config", file.to_str().unwrap()]] {
        let port = metrics.to_string();
        let listen = ["--metrics-ip", "127.0.0.1", "--metrics-port", &port];
        let proxy = Proxy::start(&[&arguments[..], &listen].concat());
        std::thread::scope(|scope| {
            for client in ["a", "b"] {
                let proxy = &proxy;
                scope.spawn(move || {
                    for route in 0..30 {
                        proxy.add(&format!("/{client}/{route}"), "http://127.0.0.1:9");
                    }
                });
            }
        });
        let text = client::get(metrics, "h", "/metrics").body;
        let mut lines = text.lines();
        let commits = lines.find_map(|line| line.strip_prefix("traefik_router_chp_commits_total "));
        let commits: u32 = commits.unwrap().parse().unwrap();
        // By default there are about 31.
        assert!(commits > 45, "{arguments:?}: {commits}");
    }
}

/// The dynamic configuration of the proxy's Traefik alone.
fn private_file(proxy: &Proxy) -> String {
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", proxy.traefik())).unwrap();
    let mut parts = command.split('\0');
    let static_config = parts.find_map(|part| part.strip_prefix("--configFile="));
    let private = static_config
        .unwrap()
        .replace("traefik.toml", "traefik.private.toml");
    std::fs::read_to_string(private).unwrap()
}

/// Traefik would prefer a made-up certificate to the one that it is to get from elsewhere.
#[test]
fn generated_certificate_has_no_rival() {
    let private = private_file(&Proxy::start(&[]));
    assert!(private.contains("defaultCertificate"), "{private}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dynamic.yaml");
    let generated = json!({"resolver": "none", "domain": {"main": "hub.example"}});
    let store = json!({"tls": {"stores": {"default": {"defaultGeneratedCert": generated}}}});
    std::fs::write(&file, store.to_string()).unwrap();
    let proxy = Proxy::start(&["--extra-dynamic-config", file.to_str().unwrap()]);
    let private = private_file(&proxy);
    assert!(private.contains("defaultGeneratedCert"), "{private}");
    assert!(!private.contains("defaultCertificate"), "{private}");
}

#[test]
fn variables_reach_traefik() {
    let folder = tempfile::tempdir().unwrap();
    let (file, env) = (folder.path().join("mine.toml"), folder.path().join("env"));
    std::fs::write(&file, "entrypoint = \"web\"\ntraefik-env-file = \"env\"\n").unwrap();
    std::fs::write(&env, "# for Traefik\n\nDNS_TOKEN=a=b \n").unwrap();
    let (proxy, echo) = (
        Proxy::start(&["--config", file.to_str().unwrap()]),
        Echo::start(),
    );
    proxy.add("/x", &echo.url());
    assert_eq!(proxy.through("/x").landed(), Some(echo.port));
    let environment = std::fs::read(format!("/proc/{}/environ", proxy.traefik())).unwrap();
    let mut variables = environment.split(|byte| *byte == 0);
    assert!(variables.any(|variable| variable == b"DNS_TOKEN=a=b "));

    std::fs::write(&env, "DNS_TOKEN\n").unwrap();
    let mut command = ours();
    command.arg("chp");
    let mut proxy = Proxy::spawn(command, &["--config", file.to_str().unwrap()]);
    assert!(!proxy.wait_for_end().success());
    let says = "env: line 1: give NAME=VALUE";
    eventually(says, || proxy.log().contains(says));

    std::fs::write(&env, "A\0B=marked\n").unwrap();
    let mut command = ours();
    command.arg("chp");
    let mut proxy = Proxy::spawn(command, &["--config", file.to_str().unwrap()]);
    assert_eq!(proxy.wait_for_end().code(), Some(2));
    let says = "--traefik-env-file: the name of a variable";
    eventually(says, || proxy.log().contains(says));
    assert!(!proxy.log().contains("marked"), "{}", proxy.log());
}

#[test]
fn old_traefik_brings_advice() {
    let mut command = ours();
    command.arg("chp").env("TRAEFIK_BIN", TRAEFIK_3_5.path());
    let mut proxy = Proxy::spawn(command, &[]);
    assert!(!proxy.wait_for_end().success());
    for words in ["encodedCharacters", "is too old", "where a newer one is"] {
        eventually(words, || proxy.log().contains(words));
    }
}

#[test]
fn p521_keys_bring_advice() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/p521.pem");
    let shown = ["--client-ssl-cert", file, "--client-ssl-key", file];
    for arguments in [
        &["--api-ssl-cert", file, "--api-ssl-key", file],
        &[&shown[..], &["--error-target", "https://127.0.0.1:1/"]].concat()[..],
    ] {
        let mut command = ours();
        command.arg("chp");
        let mut proxy = Proxy::spawn(command, arguments);
        assert!(!proxy.wait_for_end().success());
        eventually("the cure", || proxy.log().contains("on the curve P-521"));
    }
}

#[test]
fn extra_configuration_is_merged() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.into_os_string().into_string().unwrap()
    };
    let more = write("static.toml", "[ping]\nmanualRouting = true\n");
    let dynamic = "http:\n  routers:\n    chp-no-route: null\n    mine:\n      rule: Path(`/mine`)\n      \
                   priority: 2000000000\n      service: ping@internal\n";
    let dynamic = write("dynamic.yaml", dynamic);
    let options = [
        "--extra-static-config",
        &more,
        "--extra-dynamic-config",
        &dynamic,
    ];
    for store in ["push", "toml:routes.toml"] {
        let here = |command: &mut std::process::Command| {
            command.current_dir(folder.path());
        };
        let proxy = Proxy::start_with(here, &[&options[..], &["--backend", store]].concat());
        let echo = Echo::start();
        proxy.add("/x", &echo.url());
        assert_eq!(proxy.through("/x").landed(), Some(echo.port));
        let mine = proxy.through("/mine");
        assert_eq!((mine.status, &*mine.body), (200, "OK"));
        let none = proxy.through("/none");
        assert!(!none.body.contains("<h1>"), "ours is taken away: {none:?}");
    }
    for (name, text, says) in [
        ("bad.toml", "[ping", "bad.toml: "),
        ("bad.txt", "", "must end in .toml, .yaml or .yml"),
        ("list.yaml", "- a\n", "must be a map"),
    ] {
        let file = write(name, text);
        let mut command = ours();
        command.arg("chp");
        let mut proxy = Proxy::spawn(command, &["--extra-dynamic-config", &file]);
        assert_eq!(proxy.wait_for_end().code(), Some(2));
        eventually(says, || proxy.log().contains(says));
    }
}

#[test]
fn static_configuration_opens_no_port() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("static.toml");
    for (text, says) in [
        (
            "[entrypoints.https.http.tls]",
            "write \"entryPoints\" for \"entrypoints\"",
        ),
        ("[entryPoints.more]", "\"more\" needs an address"),
        (
            "[entryPoints.http]\naddress = \"127.0.0.1:1\"",
            "\"http\" listen on \"127.0.0.1:1\"",
        ),
        (
            "[entryPoints.chp_api]\naddress = \"127.0.0.1:1\"",
            "\"chp_api\" listen on \"127.0.0.1:1\"",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let mut command = ours();
        command.arg("chp");
        let options = ["--extra-static-config", file.to_str().unwrap()];
        let mut proxy = Proxy::spawn(command, &options);
        assert_eq!(proxy.wait_for_end().code(), Some(2), "{says}");
        eventually(says, || proxy.log().contains(says));
    }
}

/// configurable-http-proxy's own tests wait for this line.
#[test]
fn default_target_is_logged() {
    let echo = Echo::start();
    let proxy = Proxy::start(&["--default-target", &echo.url()]);
    let line = format!("Route added / -> {}\n", echo.url());
    assert!(proxy.log().contains(&line), "{}", proxy.log());
    assert_eq!(proxy.through("/x").landed(), Some(echo.port));
}

#[test]
fn last_of_repeated_options_counts() {
    let port = ports::free();
    let mut command = ours();
    command.args(["chp", "--ip="]);
    let mut proxy = Proxy::spawn(
        command,
        &["--ip", "", &format!("--port={port}"), "--log-level=error"],
    );
    proxy.port = port;
    proxy.wait_until_ready();
    assert_eq!(proxy.log(), "");
}
