//! etcd behind TLS, with a CA of its own and with client certificates.

use kit::Ca;
use kit::etcd::{Cluster, TlsFiles};
use kit::pem::{cert_pem, key_pem};
use kit::tools::{ETCD, etcds};
use traefik_router::etcd::{Client, WatchRange};
use traefik_router::{ErrorKind, Stored, Tls};

use super::{SECOND, fails, kind_and_text};
use crate::support::Connect as _;

#[test]
fn own_authority_is_trusted() {
    let ca = Ca::generate();
    let trusting = Tls::new().ca_pem(ca.pem.as_str());
    for binary in etcds() {
        let cluster = Cluster::with(&binary, 1, &[], Some(&ca.sign_for_etcd(false)));
        let url = cluster.url();
        let etcd = cluster.client().tls(&trusting).unwrap();
        etcd.put("k", "v").unwrap();
        let mut watch = etcd.watch(WatchRange::key("k")).unwrap();
        assert_eq!(watch.next(SECOND / 4).unwrap(), None);
        etcd.put("k", "w").unwrap();
        assert!(watch.next(SECOND).unwrap().is_some());

        fails(
            cluster.client().put("k", "x"),
            ErrorKind::Unauthorized,
            &[url, "`ca_pem`"],
        );
        let other = Tls::new().ca_pem(Ca::generate().pem);
        let untrusted = cluster
            .client()
            .tls(&other)
            .unwrap()
            .put("k", "x")
            .unwrap_err();
        assert_eq!(untrusted.stored(), &Stored::Nothing, "{untrusted}");
        assert!(untrusted.to_string().contains("`ca_pem`"), "{untrusted}");
        let any = Tls::new().danger_skip_validation(true);
        assert!(
            cluster
                .client()
                .tls(&any)
                .unwrap()
                .get("k")
                .unwrap()
                .is_some()
        );
        let renamed = url.replace("127.0.0.1", "localhost");
        let renamed = Client::new([renamed]).unwrap().tls(&trusting).unwrap();
        fails(
            renamed.get("k"),
            ErrorKind::Unauthorized,
            &["certificate is not acceptable"],
        );

        // HTTP where TLS is spoken, and the other way round.
        let plain = Client::new([url.replace("https", "http")]).unwrap();
        let (_, text) = kind_and_text(plain.get("k"));
        assert!(text.contains("must begin with https://"), "{text}");
        let bare = Cluster::start(&binary);
        let tls = Client::new([bare.url().replace("http", "https")]).unwrap();
        let error = tls.put("k", "x").unwrap_err();
        assert_eq!(error.stored(), &Stored::Nothing, "{error}");
        assert!(
            error
                .to_string()
                .contains("does not speak TLS, the URL must begin with http://")
        );
    }
}

#[test]
fn client_certificates_are_accepted() {
    let ca = Ca::generate();
    let trusting = Tls::new().ca_pem(ca.pem.as_str());
    let [cert, key] = ca.sign();
    for binary in etcds() {
        let cluster = Cluster::with(&binary, 1, &[], Some(&ca.sign_for_etcd(true)));
        let etcd = cluster
            .client()
            .tls(&trusting.clone().client_pem(cert.as_str(), key.as_str()))
            .unwrap();
        etcd.put("k", "v").unwrap();
        // etcd refuses after the handshake: by an alert, or by closing before the alert is read.
        let [cert, key] = Ca::generate().sign();
        for tls in [trusting.clone(), trusting.clone().client_pem(cert, key)] {
            let (_, text) = kind_and_text(cluster.client().tls(&tls).unwrap().put("k", "w"));
            assert!(text.contains("`client_pem`"), "{text}");
        }
        assert_eq!(etcd.get("k").unwrap().unwrap().version, 1);
    }
}

/// A key on the curve P-521, and a certificate for it that signs itself. rcgen makes no such ones.
const P521: &str = include_str!("../../data/p521.pem");

#[test]
fn p521_keys_bring_advice() {
    let ca = Ca::generate();
    let file = ca.path("p521.pem");
    std::fs::write(&file, P521).unwrap();
    let files = TlsFiles {
        cert: file.clone(),
        key: file,
        client_ca: None,
    };
    for binary in etcds() {
        let cluster = Cluster::with(&binary, 1, &[], Some(&files));
        let tls = Tls::new().ca_pem(P521);
        let etcd = Client::new([cluster.url()]).unwrap().tls(&tls).unwrap();
        fails(etcd.get("a"), ErrorKind::Unauthorized, &["P-521"]);
    }
    let tls = Tls::new().client_pem(P521, P521);
    let etcd = Client::new(["https://127.0.0.1:1"]).unwrap().tls(&tls);
    fails(
        etcd,
        ErrorKind::InvalidConfig,
        &["client certificate", "P-521"],
    );
}

#[test]
fn certificate_as_authority_brings_advice() {
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = Ca::generate();
    let own = |is_ca| {
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = is_ca;
        let cert = cert_pem(&params.self_signed(&key).unwrap());
        let file = ca.path("own.pem");
        std::fs::write(&file, key_pem(&key) + &cert).unwrap();
        let files = TlsFiles {
            cert: file.clone(),
            key: file,
            client_ca: None,
        };
        let cluster = Cluster::with(&ETCD.path(), 1, &[], Some(&files));
        let etcd = Client::new([cluster.url()]).unwrap();
        etcd.tls(&Tls::new().ca_pem(cert)).unwrap().get("a")
    };
    let is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    fails(own(is_ca), ErrorKind::Unauthorized, &["CA:FALSE"]);
    own(rcgen::IsCa::ExplicitNoCa).unwrap();
}
