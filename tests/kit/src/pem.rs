//! Certificates and private keys as PEM.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// A certificate as PEM.
pub fn cert_pem(cert: &rcgen::Certificate) -> String {
    pem("CERTIFICATE", cert.der())
}

/// A private key as PEM.
pub fn key_pem(key: &rcgen::KeyPair) -> String {
    pem("PRIVATE KEY", key.serialized_der())
}

fn pem(label: &str, der: &[u8]) -> String {
    let coded = STANDARD.encode(der);
    let lines: Vec<_> = (coded.as_bytes().chunks(64))
        .map(String::from_utf8_lossy)
        .collect();
    let lines = lines.join("\n");
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}
