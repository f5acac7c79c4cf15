//! What passes through a route besides plain requests.

use std::path::PathBuf;

use kit::Echo;
use kit::client::Request;
use kit::pem::{cert_pem, key_pem};
use serde_json::json;
use traefik_router::{ErrorKind, Router};

use crate::support::{Kind, Rig, on_each_backend_and_push};

on_each_backend_and_push! {
    websocket_passes_through,
    request_reaches_target_unchanged,
    https_works_with_made_certificate,
    https_uses_the_given_certificate,
}

fn websocket_passes_through(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::websocket());
    router
        .add_route("/user/zoe@x/", echo.url(), json!(null))
        .unwrap();
    let url = format!("ws://127.0.0.1:{}/user/zoe@x/ws", rig.web);
    let (mut socket, _) = tungstenite::connect(url).unwrap();
    for text in ["one", "zwei\0", "🦀"] {
        socket.send(text.into()).unwrap();
        assert_eq!(socket.read().unwrap().into_text().unwrap().as_str(), text);
    }
    // It stays open while other routes come and go.
    router
        .add_route("/other/", echo.url(), json!(null))
        .unwrap();
    router.delete_route("/other/").unwrap();
    socket.send("still here".into()).unwrap();
    assert_eq!(
        socket.read().unwrap().into_text().unwrap().as_str(),
        "still here"
    );
}

fn request_reaches_target_unchanged(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    router.add_route("/up/", echo.url(), json!(null)).unwrap();
    let body = vec![b'x'; 3_000_000];
    let request = Request {
        host: "hub.example.org:8000",
        path: "/up/load?q=%2F",
        headers: &[
            ("Origin", "https://hub.example.org:8000"),
            ("X-Mine", "yes"),
        ],
        body: &body,
    };
    let echo = request.send(rig.web).echo();
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["path"], "/up/load?q=%2F");
    assert_eq!(echo["body_len"], 3_000_000);
    let headers = &echo["headers"];
    assert_eq!(headers["host"], "hub.example.org:8000");
    assert_eq!(headers["origin"], "https://hub.example.org:8000");
    assert_eq!(headers["x-mine"], "yes");
    assert_eq!(headers["x-forwarded-host"], "hub.example.org:8000");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
}

/// A certificate for 127.0.0.1 in files of the rig, and its PEM text.
pub(crate) fn own_certificate(rig: &Rig) -> ((PathBuf, PathBuf), String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).unwrap();
    let files = (rig.path("own.crt"), rig.path("own.key"));
    let cert = cert_pem(&made.cert);
    std::fs::write(&files.0, &cert).unwrap();
    std::fs::write(&files.1, key_pem(&made.signing_key)).unwrap();
    (files, cert)
}

/// A request over HTTPS; with a certificate, only to a server that has this very one.
pub(crate) fn get_https(
    rig: &Rig,
    path: &str,
    trusted: Option<&str>,
) -> Result<serde_json::Value, ureq::Error> {
    use ureq::tls::{Certificate, RootCerts, TlsConfig};
    let mut tls = TlsConfig::builder().disable_verification(trusted.is_none());
    if let Some(pem) = trusted {
        let root = Certificate::from_pem(pem.as_bytes())?;
        tls = tls.root_certs(RootCerts::new_with_certs(&[root]));
    }
    let config = ureq::Agent::config_builder()
        .tls_config(tls.build())
        .proxy(None);
    let url = format!("https://127.0.0.1:{}{path}", rig.web);
    let mut answer = config.build().new_agent().get(url).call()?;
    let body = answer.body_mut().read_to_string()?;
    Ok(serde_json::from_str(&body).unwrap())
}

pub(crate) fn https(rig: &Rig) -> traefik_router::Builder {
    rig.builder()
        .public_url(format!("https://127.0.0.1:{}", rig.web))
}

fn add_secure(router: &Router, echo: &Echo) {
    router
        .add_route("/secure/", echo.url(), json!(null))
        .unwrap();
}

fn https_works_with_made_certificate(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (https(&rig).start().unwrap(), Echo::start());
    add_secure(&router, &echo);
    let received = get_https(&rig, "/secure/x", None).unwrap();
    assert_eq!(
        (&received["port"], &received["path"]),
        (&json!(echo.port), &json!("/secure/x"))
    );
    assert_eq!(received["headers"]["x-forwarded-proto"], "https");
}

fn https_uses_the_given_certificate(kind: Kind) {
    let rig = Rig::new(kind);
    let ((cert, key), pem) = own_certificate(&rig);
    let (router, echo) = (https(&rig).ssl(cert, key).start().unwrap(), Echo::start());
    add_secure(&router, &echo);
    let received = get_https(&rig, "/secure/x", Some(&pem)).unwrap();
    assert_eq!(received["port"], echo.port);
    let (_, another) = own_certificate(&rig);
    get_https(&rig, "/secure/x", Some(&another)).unwrap_err();
}

#[test]
fn missing_certificate_prevents_the_start() {
    let rig = Rig::new(Kind::Toml);
    let error = https(&rig)
        .ssl(rig.path("no.crt"), rig.path("no.key"))
        .start()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("no.crt"), "{error}");
    assert!(!rig.rules().exists());
}
