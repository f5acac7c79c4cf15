//! Whether a certificate and its private key are fit for Traefik. Does no I/O.

use yasna::tags::TAG_GENERALIZEDTIME;
use yasna::{ASN1Result, BERReader, Tag};

use super::dynamic::Certificate;

/// What matters of an X.509 certificate.
struct Parsed {
    /// The public key, as DER.
    key: Vec<u8>,
    /// When it ends, in seconds since 1970.
    expires: i64,
}

/// A certificate that fits its key, and when it ends, in seconds since 1970.
///
/// The certificates must begin with the server's own. Whether the key fits is seen only with the
/// feature `tls`, and not for a key of a kind that ring does not know (P-521).
///
/// # Errors
/// Says what is wrong, without anything of the key.
pub(crate) fn check(cert: &[u8], key: &[u8]) -> Result<(Certificate, i64), String> {
    let blocks = |bytes: &[u8], what: &str| {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| format!("the {what} is not PEM, which is text; it may be DER"))?;
        let blocks = pem::parse_many(text).map_err(|_| format!("the {what} is not valid PEM"))?;
        Ok::<_, String>((text.to_string(), blocks))
    };
    let (cert_text, certs) = blocks(cert, "certificate")?;
    let (key_text, keys) = blocks(key, "private key")?;
    let chain = certs.iter().filter(|block| block.tag() == "CERTIFICATE");
    let chain: Vec<Parsed> = chain
        .map(|block| parse(block.contents()).map_err(|_| "the certificate is damaged".to_string()))
        .collect::<Result<_, _>>()?;
    let Some(own) = chain.first() else {
        return Err("there is no certificate in the certificate's file".into());
    };
    if keys
        .iter()
        .any(|block| block.tag() == "ENCRYPTED PRIVATE KEY")
    {
        return Err("the private key is encrypted; give it without a passphrase".into());
    }
    let Some(key) = keys
        .iter()
        .find(|block| block.tag().ends_with("PRIVATE KEY"))
    else {
        return Err("there is no private key in the private key's file".into());
    };
    if let Some(public) = public_key(key)? {
        match chain.iter().position(|one| one.key == public) {
            Some(0) => {}
            Some(_) => {
                return Err(
                    "the certificates are in the wrong order: the server's own, which the \
                            private key is for, must come first"
                        .into(),
                );
            }
            None => return Err("the private key does not fit the certificate".into()),
        }
    }
    let certificate = Certificate::new(&cert_text, &key_text, false);
    Ok((certificate, own.expires))
}

/// How a file begins that we have written. PEM allows for text before it.
const MARK: &str = "Written by traefik-router for a Traefik that it starts.\n";

impl Certificate {
    pub(crate) fn new(cert: &str, key: &str, made_up: bool) -> Self {
        Self {
            pem: format!("{MARK}{}\n{}\n", cert.trim_end(), key.trim_end()),
            made_up,
        }
    }

    /// Whether this text is one that we have written.
    pub(crate) fn is_ours(pem: &str) -> bool {
        pem.starts_with(MARK)
    }
}

fn parse(der: &[u8]) -> ASN1Result<Parsed> {
    yasna::parse_der(der, |reader| {
        reader.read_sequence(|reader| {
            let parsed = reader.next().read_sequence(|reader| {
                reader.read_optional(|version| {
                    version.read_tagged(Tag::context(0), |version| version.read_der())
                })?;
                for _serial_algorithm_issuer in 0..3 {
                    reader.next().read_der()?;
                }
                let expires = reader.next().read_sequence(|validity| {
                    validity.next().read_der()?;
                    time(validity.next())
                })?;
                let _subject = reader.next().read_der()?;
                let key = reader.next().read_der()?;
                while reader.read_optional(|more| more.read_der())?.is_some() {}
                Ok(Parsed { key, expires })
            })?;
            let _algorithm = reader.next().read_der()?;
            let _signature = reader.next().read_der()?;
            Ok(parsed)
        })
    })
}

fn time(reader: BERReader<'_, '_>) -> ASN1Result<i64> {
    match reader.lookahead_tag()? {
        TAG_GENERALIZEDTIME => Ok(reader.read_generalized_time()?.datetime().unix_timestamp()),
        _ => Ok(reader.read_utctime()?.datetime().unix_timestamp()),
    }
}

/// The public key that belongs to a private one, as DER; `None` if ring does not know its kind.
#[cfg(feature = "tls")]
fn public_key(key: &pem::Pem) -> Result<Option<Vec<u8>>, String> {
    use rustls::pki_types::{
        PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
    };

    /// The name of the curve P-521.
    const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

    let der = key.contents();
    let typed: PrivateKeyDer<'_> = match key.tag() {
        "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(der).into(),
        "EC PRIVATE KEY" => PrivateSec1KeyDer::from(der).into(),
        _ => PrivatePkcs8KeyDer::from(der).into(),
    };
    match rustls::crypto::ring::sign::any_supported_type(&typed) {
        Ok(key) => Ok(key.public_key().map(|key| key.as_ref().to_vec())),
        Err(_) if der.windows(P521.len()).any(|part| part == P521) => Ok(None),
        Err(_) => Err("the private key is damaged, or of a kind that is not known".into()),
    }
}

#[cfg(not(feature = "tls"))]
#[expect(clippy::unnecessary_wraps, reason = "as with the feature `tls`")]
fn public_key(_: &pem::Pem) -> Result<Option<Vec<u8>>, String> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["h".into()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_that_fits_is_taken() {
        let (cert, key) = made();
        let (other, _) = made();
        for chain in [cert.clone(), format!("{cert}{other}")] {
            let (certificate, expires) = check(chain.as_bytes(), key.as_bytes()).unwrap();
            assert!(certificate.pem.contains("CERTIFICATE") && certificate.pem.contains("PRIVATE"));
            // rcgen says 4096-01-01.
            assert_eq!(expires, 67_090_118_400);
        }
    }

    #[test]
    fn a_pair_that_traefik_would_not_serve_is_refused() {
        let (cert, key) = made();
        let (other, _) = made();
        let der = pem::parse(&cert).unwrap().into_contents();
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let cut = cert.replacen("\nMII", "\nMIJ", 1);
        #[allow(unused_mut)]
        let mut cases = vec![
            (b"rubbish".to_vec(), key.clone(), "no certificate"),
            (der, key.clone(), "DER"),
            (key.clone().into_bytes(), key.clone(), "no certificate"),
            (cut.into_bytes(), key.clone(), "damaged"),
            (cert.clone().into_bytes(), cert.clone(), "no private key"),
            (cert.clone().into_bytes(), encrypted.into(), "encrypted"),
        ];
        #[cfg(feature = "tls")]
        cases.extend([
            (other.clone().into_bytes(), key.clone(), "does not fit"),
            (
                format!("{other}{cert}").into_bytes(),
                key.clone(),
                "wrong order",
            ),
        ]);
        for (cert, key, why) in cases {
            let error = check(&cert, key.as_bytes()).err().unwrap();
            assert!(error.contains(why), "{why}: {error}");
        }
        let _ = other;
    }
}
