//! TLS of the clients that are made with ureq. The program compiles this file too.

use rustls_pki_types::CertificateDer;
use ureq::tls::{Certificate, ClientCert, PrivateKey, TlsConfig};

/// Trusts `roots`, or those that browsers trust. Shows `own` to the server: a certificate with its chain,
/// and its key in PEM. ureq panics at the first request if the key is not the certificate's.
///
/// # Errors
/// If the key is not PEM.
pub(crate) fn config(
    roots: Option<Vec<CertificateDer<'_>>>,
    own: Option<(Vec<CertificateDer<'_>>, impl AsRef<[u8]>)>,
    skip_validation: bool,
) -> Result<TlsConfig, ureq::Error> {
    let certificates = |ders: Vec<CertificateDer<'_>>| -> Vec<_> {
        let certificates = ders.iter().map(|der| Certificate::from_der(der).to_owned());
        certificates.collect()
    };
    let mut config = TlsConfig::builder().disable_verification(skip_validation);
    if let Some(roots) = roots {
        config = config.root_certs(certificates(roots).into());
    }
    if let Some((chain, key)) = own {
        let key = PrivateKey::from_pem(key.as_ref())?;
        let own = ClientCert::new_with_certs(&certificates(chain), key);
        config = config.client_cert(Some(own));
    }
    Ok(config.build())
}
