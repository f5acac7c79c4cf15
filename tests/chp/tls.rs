//! HTTPS in front, to the targets and for the REST API, with certificates on both sides.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use kit::{Ca, Echo, Pebble, eventually, ports};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::support::Proxy;
use crate::support::proxy::{TOKEN, ours};

/// A client that trusts the CA, and shows this certificate.
pub(crate) fn trusting(ca: &Ca, shows: Option<&[String; 2]>) -> ureq::Agent {
    trusting_pem(&ca.pem, shows)
}

fn trusting_pem(pem: &str, shows: Option<&[String; 2]>) -> ureq::Agent {
    let root = Certificate::from_pem(pem.as_bytes()).unwrap().to_owned();
    let mut tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[root]));
    if let Some([cert, key]) = shows {
        let cert = Certificate::from_pem(&fs::read(cert).unwrap())
            .unwrap()
            .to_owned();
        let key = PrivateKey::from_pem(&fs::read(key).unwrap()).unwrap();
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&[cert], key)));
    }
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_idle_connections(0)
        .tls_config(tls.build());
    config.build().new_agent()
}

#[test]
fn both_ports_ask_for_certificates() {
    let ca = Ca::generate();
    let other_ca = Ca::generate();
    let [server, client, stranger] = [
        ca.sign_files("server"),
        ca.sign_files("client"),
        other_ca.sign_files("x"),
    ];
    let authority = ca.path("ca.pem");
    let mut command = ours();
    command.arg("chp");
    for (prefix, [cert, key]) in [
        ("ssl", &server),
        ("api-ssl", &server),
        ("client-ssl", &client),
    ] {
        command.args([
            &format!("--{prefix}-cert"),
            cert,
            &format!("--{prefix}-key"),
            key,
        ]);
        command.args([&format!("--{prefix}-ca"), &authority]);
        command.args([
            format!("--{prefix}-request-cert"),
            format!("--{prefix}-reject-unauthorized"),
        ]);
    }
    let proxy = Proxy::spawn(command, &[]);
    let (friend, nobody) = (trusting(&ca, Some(&client)), trusting(&ca, None));
    let routes = format!("https://127.0.0.1:{}/api/routes", proxy.api);
    let token = format!("token {TOKEN}");
    let list = |agent: &ureq::Agent| {
        let answer = agent.get(&routes).header("authorization", &token).call();
        answer.map(|answer| answer.status().as_u16())
    };
    eventually("it answers", || matches!(list(&friend), Ok(200)));
    assert!(list(&nobody).is_err(), "a certificate is required");
    assert!(
        list(&trusting(&ca, Some(&stranger))).is_err(),
        "one of another CA is refused"
    );

    let health = format!("https://127.0.0.1:{}", proxy.port);
    let url = format!("{health}/_chp_healthz");
    assert_eq!(friend.get(&url).call().unwrap().status(), 200);
    assert!(
        nobody.get(&url).call().is_err(),
        "a certificate is required"
    );
}

#[test]
fn targets_use_mutual_tls() {
    let ca = Ca::generate();
    let [server, client] = [ca.sign_files("server"), ca.sign_files("client")];
    let authority = ca.path("ca.pem");
    // The REST API of another proxy is a target that requires a certificate.
    let mut command = ours();
    command.args([
        "chp",
        "--api-ssl-cert",
        &server[0],
        "--api-ssl-key",
        &server[1],
    ]);
    command.args(["--api-ssl-ca", &authority, "--api-ssl-request-cert"]);
    let target = Proxy::spawn(command, &[]);
    let url = format!("https://127.0.0.1:{}", target.api);
    eventually("it listens", || ports::is_open(target.api));
    let answer = |arguments: &[&str]| {
        let proxy = Proxy::start(arguments);
        proxy.add("/api", &url);
        proxy.through("/api/routes").status
    };
    let shown = [
        "--client-ssl-cert",
        &client[0],
        "--client-ssl-key",
        &client[1],
    ];
    let trusts = ["--client-ssl-ca", &*authority];
    eventually("it asks for the token", || {
        answer(&[&shown[..], &trusts].concat()) == 403
    });
    assert_ne!(answer(&trusts), 403, "without our certificate");
    assert_ne!(answer(&shown), 403, "without trust in theirs");
    assert_eq!(answer(&[&shown[..], &["--insecure"]].concat()), 403);
}

#[test]
fn http_is_redirected_to_https() {
    let ca = Ca::generate();
    let [cert, key] = ca.sign_files("server");
    let from = ports::free();
    let mut command = ours();
    command.args([
        "chp",
        "--ssl-cert",
        &cert,
        "--ssl-key",
        &key,
        "--redirect-to",
        "8443",
    ]);
    let proxy = Proxy::spawn(command, &["--redirect-port", &from.to_string()]);
    proxy.wait_until_ready();
    let echo = Echo::start();
    proxy.add("/x", &echo.url());
    let answer = trusting(&ca, None)
        .get(format!("https://127.0.0.1:{}/x", proxy.port))
        .call();
    assert_eq!(answer.unwrap().status(), 200);
    let mut stream = TcpStream::connect(("127.0.0.1", from)).unwrap();
    stream
        .write_all(b"GET /x?y HTTP/1.1\r\nHost: h.example\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
    assert!(
        answer.contains("Location: https://h.example:8443/x?y\r\n"),
        "{answer}"
    );
    let line = format!("Added HTTP to HTTPS redirection from {from} to 8443");
    assert!(proxy.log().contains(&line), "{}", proxy.log());
}

/// Until Traefik has a certificate by ACME it shows one that is made up.
#[test]
fn acme_resolver_makes_it_https() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acme.toml");
    let text = format!(
        "[certificatesResolvers.le.acme]\nemail = \"a@example.org\"\nstorage = {:?}\n\
         caServer = \"http://127.0.0.1:{}/none\"\ntlsChallenge = {{}}\n\
         [entryPoints.https.http.tls]\ncertResolver = \"le\"\n",
        folder.path().join("acme.json"),
        ports::free()
    );
    fs::write(&file, text).unwrap();
    let from = ports::free();
    let proxy = Proxy::start(&[
        "--extra-static-config",
        file.to_str().unwrap(),
        "--redirect-port",
        &from.to_string(),
    ]);
    let redirected = kit::client::get(from, "h.example", "/x").status;
    assert_eq!(redirected, 301);
    let echo = Echo::start();
    proxy.add("/x", &echo.url());
    let tls = TlsConfig::builder().disable_verification(true).build();
    let agent = ureq::Agent::config_builder()
        .tls_config(tls)
        .build()
        .new_agent();
    let url = format!("https://127.0.0.1:{}/x", proxy.port);
    assert_eq!(agent.get(&url).call().unwrap().status(), 200);
    assert!(proxy.log().contains("Proxying https://"), "{}", proxy.log());
}

#[test]
fn certificate_comes_by_acme() {
    let port = ports::free();
    let pebble = Pebble::start(port);
    let file = pebble.path("acme.toml");
    let text = format!(
        "[certificatesResolvers.acme.acme]\nemail = \"admin@example.org\"\nstorage = {:?}\n\
         caServer = {:?}\ncaCertificates = [{:?}]\ntlsChallenge = {{}}\n\
         [entryPoints.https.http.tls]\ncertResolver = \"acme\"\n\
         domains = [{{ main = \"localhost\" }}]\n",
        pebble.path("acme.json"),
        pebble.directory(),
        pebble.ca.path("ca.pem"),
    );
    fs::write(&file, text).unwrap();
    let arguments = ["--port", &port.to_string(), "--extra-static-config"];
    let mut command = ours();
    command.arg("chp");
    let mut proxy = Proxy::spawn(
        command,
        &[&arguments[..], &[file.to_str().unwrap()]].concat(),
    );
    proxy.port = port;
    proxy.wait_until_ready();
    let echo = Echo::start();
    proxy.add("/x", &echo.url());
    let root = trusting(&pebble.ca, None)
        .get(pebble.root())
        .call()
        .unwrap();
    let root = root.into_body().read_to_string().unwrap();
    let client = trusting_pem(&root, None);
    // Traefik makes a key of 4096 bits first.
    let deadline = Instant::now() + Duration::from_secs(120);
    let url = format!("https://localhost:{port}/x");
    while client.get(&url).call().is_err() {
        let log = pebble.log();
        assert!(Instant::now() < deadline, "{}\n{log}", proxy.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(trusting(&pebble.ca, None).get(&url).call().is_err());
}

/// Nobody changes a route meanwhile.
#[test]
fn renewed_certificate_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let renew = |ca: &Ca| {
        for (from, to) in ca.sign_files("server").iter().zip(&files) {
            fs::copy(from, to).unwrap();
        }
    };
    let (first, second, third) = (Ca::generate(), Ca::generate(), Ca::generate());
    for store in ["push", "toml:routes.toml"] {
        renew(&first);
        let mut command = ours();
        command.current_dir(folder.path());
        command.args(["chp", "--ssl-cert"]).arg(&files[0]);
        command.arg("--ssl-key").arg(&files[1]);
        let proxy = Proxy::spawn(command, &["--backend", store]);
        proxy.wait_until_ready();
        let url = format!("https://127.0.0.1:{}/x", proxy.port);
        let is_served = |ca: &Ca| trusting(ca, None).get(&url).call().is_ok();
        assert!(is_served(&first) && !is_served(&second));
        for (ca, hangs_up) in [(&second, false), (&third, true)] {
            renew(ca);
            if hangs_up {
                proxy.signal("HUP");
            }
            eventually("it is served", || is_served(ca));
        }
        assert_eq!(proxy.get("").status, 200, "SIGHUP ends nothing");
    }
}
