//! Certificates: what is not fit is refused, what is renewed is used once it fits its key.

use std::fs;
use std::path::PathBuf;

use kit::Echo;
use kit::pem::{cert_pem, key_pem};
use serde_json::json;
use traefik_router::{ErrorKind, Level};
use ureq::tls::Certificate;

use super::refused;
use crate::protocols::{get_https, https, own_certificate};
use crate::support::{External, Kind, Rig, on_each_backend, on_push};

on_each_backend! {
    unfit_certificate_is_refused,
    renewed_certificate_awaits_its_key,
    two_routers_renew_one_certificate,
    expired_certificate_is_reported,
}

on_push! {
    unfit_certificate_is_refused,
    renewed_certificate_awaits_its_key,
    expired_certificate_is_reported,
}

/// A certificate and a key, as texts.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).unwrap();
    (cert_pem(&made.cert), key_pem(&made.signing_key))
}

fn files(rig: &Rig, cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> (PathBuf, PathBuf) {
    let files = (rig.path("given.crt"), rig.path("given.key"));
    fs::write(&files.0, cert).unwrap();
    fs::write(&files.1, key).unwrap();
    files
}

fn unfit_certificate_is_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let ((cert, key), (other, other_key)) = (pair(), pair());
    let der = Certificate::from_pem(cert.as_bytes())
        .unwrap()
        .der()
        .to_vec();
    let cases = [
        (
            cert.clone().into_bytes(),
            other_key.into_bytes(),
            "does not fit",
        ),
        (
            format!("{other}{cert}").into_bytes(),
            key.clone().into_bytes(),
            "wrong order",
        ),
        (der, key.clone().into_bytes(), "DER"),
        (
            b"garbage".to_vec(),
            key.clone().into_bytes(),
            "no certificate",
        ),
        (cert.into_bytes(), b"garbage".to_vec(), "no private key"),
    ];
    for (cert, key, why) in cases {
        let (cert, key) = files(&rig, cert, key);
        let says = [why, "given.crt", "given.key", "ssl"];
        let start = || https(&rig).ssl(&cert, &key).start();
        refused(&rig, ErrorKind::InvalidConfig, &says, start);
        let findings = https(&rig).ssl(&cert, &key).diagnose();
        let found = findings
            .iter()
            .find(|finding| finding.message.contains(why));
        assert_eq!(
            found.map(|finding| finding.level),
            Some(Level::Problem),
            "{findings:?}"
        );
    }
}

fn renewed_certificate_awaits_its_key(kind: Kind) {
    let rig = Rig::new(kind);
    let (old, old_key) = pair();
    let (cert, key) = files(&rig, &old, &old_key);
    let router = https(&rig).ssl(&cert, &key).start().unwrap();
    let echo = Echo::start();
    let change = || drop(router.add_route("/a/", echo.url(), super::rand()).unwrap());
    let served = |pem: &str| get_https(&rig, "/a/", Some(pem)).is_ok();
    change();
    assert!(served(&old));
    // Between the renewal of the one and of the other, and without the key.
    let (new, new_key) = pair();
    fs::write(&cert, &new).unwrap();
    change();
    assert!(served(&old));
    fs::remove_file(&key).unwrap();
    change();
    assert!(served(&old));
    fs::write(&key, &new_key).unwrap();
    change();
    kit::eventually("the new one is served", || served(&new));
    change();
    assert!(served(&new) && !served(&old));
}

/// Whichever of them sees it first.
fn two_routers_renew_one_certificate(kind: Kind) {
    let rig = Rig::new(kind);
    let second = rig.sibling();
    let (old, old_key) = pair();
    let (cert, key) = files(&rig, &old, &old_key);
    let one = https(&rig).ssl(&cert, &key).start().unwrap();
    let two = https(&second).static_config_file(second.path("traefik.two.toml"));
    let two = two.ssl(&cert, &key).start().unwrap();
    let echo = Echo::start();
    for routers in [[&two, &one], [&one, &two]] {
        let (new, new_key) = pair();
        fs::write(&cert, &new).unwrap();
        fs::write(&key, &new_key).unwrap();
        for router in routers {
            router.add_route("/a/", echo.url(), super::rand()).unwrap();
        }
        for rig in [&rig, &second] {
            let served = || get_https(rig, "/a/", Some(&new)).is_ok();
            kit::eventually("the new one is served", served);
        }
    }
}

fn expired_certificate_is_reported(kind: Kind) {
    let rig = Rig::new(kind);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_string()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let expired = params.self_signed(&key).unwrap();
    let (cert, key) = files(&rig, cert_pem(&expired), key_pem(&key));
    // It is served all the same: some clients do not mind.
    let router = https(&rig).ssl(&cert, &key).start().unwrap();
    router.add_route("/a/", Echo::start().url(), ()).unwrap();
    let findings = https(&rig).ssl(&cert, &key).diagnose();
    let found = findings
        .iter()
        .find(|finding| finding.message.contains("expired"));
    assert_eq!(
        found.map(|finding| finding.level),
        Some(Level::Problem),
        "{findings:?}"
    );
}

/// Two default certificates in two providers: Traefik drops both.
#[test]
fn other_providers_certificate_stays() {
    let rig = Rig::new(Kind::Etcd);
    let ((cert, key), pem) = own_certificate(&rig);
    let theirs = rig.path("theirs.toml");
    let text = format!(
        "[tls.stores.default.defaultCertificate]\ncertFile = {cert:?}\nkeyFile = {key:?}\n"
    );
    fs::write(&theirs, text).unwrap();
    let mut config = External::config(&rig);
    config["providers"]["file"] = json!({"filename": theirs});
    config["entryPoints"]["http"]["http"] = json!({"tls": {}});
    let _traefik = External::start_with(&rig, "external", &config);
    let router = https(&rig).traefik_entrypoint("http").attach().unwrap();
    let echo = Echo::start();
    router.add_route("/a/", echo.url(), ()).unwrap();
    let received = get_https(&rig, "/a/", Some(&pem)).unwrap();
    assert_eq!(received["port"], echo.port);
}

/// In one folder Traefik takes the first file that sets one.
#[test]
fn other_files_certificate_stays() {
    let rig = Rig::new(Kind::Toml);
    let ((cert, key), pem) = own_certificate(&rig);
    let folder = rig.path("rules");
    fs::create_dir(&folder).unwrap();
    let text = format!(
        "[tls.stores.default.defaultCertificate]\ncertFile = {cert:?}\nkeyFile = {key:?}\n"
    );
    fs::write(folder.join("z.toml"), text).unwrap();
    let backend = traefik_router::FileBackend::new(folder.join("a.toml")).directory(true);
    let builder = rig.builder_over(backend);
    let builder = builder.public_url(format!("https://127.0.0.1:{}", rig.web));
    let (router, echo) = (builder.start().unwrap(), Echo::start());
    router.add_route("/a/", echo.url(), ()).unwrap();
    let received = get_https(&rig, "/a/", Some(&pem)).unwrap();
    assert_eq!(received["port"], echo.port);
}
