//! Whether a certificate and its private key are fit for Traefik. Does no I/O.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::pem::{Error, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
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
    let (cert, key) = (text(cert, "certificate")?, text(key, "private key")?);
    let (_, expires, _) = fit(cert, key)?;
    Ok((Certificate::new(cert, key, false), expires))
}

/// The chain of a certificate that this program shows to a server with this key.
///
/// # Errors
/// As [`check`]; and if TLS does not sign with a key of this kind here.
#[cfg(feature = "tls")]
pub(crate) fn check_client(
    cert: &[u8],
    key: &[u8],
) -> Result<Vec<CertificateDer<'static>>, String> {
    match fit(text(cert, "certificate")?, text(key, "private key")?)? {
        (chain, _, true) => Ok(chain),
        (_, _, false) => Err(
            "the private key is on the curve P-521, with which this program does not sign: make one on \
             P-256 or P-384, or an RSA key"
                .into(),
        ),
    }
}

/// The certificates of CAs. `None` if the text is not PEM or has none.
#[cfg(feature = "tls")]
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found = sections(pem, "certificate").ok()?;
    (!found.is_empty()).then_some(found)
}

/// The chain of a certificate that fits its key, when it ends, and whether the key is of a kind that ring
/// knows.
fn fit(cert: &str, key: &str) -> Result<(Vec<CertificateDer<'static>>, i64, bool), String> {
    let chain = sections::<CertificateDer<'_>>(cert.as_bytes(), "certificate")?;
    let parsed: Vec<Parsed> = (chain.iter())
        .map(|one| parse(one).map_err(|_| "the certificate is damaged".to_string()))
        .collect::<Result<_, _>>()?;
    let Some(own) = parsed.first() else {
        return Err("there is no certificate in the certificate's file".into());
    };
    let public = public_key(&private_key(key)?)?;
    if let Some(public) = &public {
        match parsed.iter().position(|one| one.key == *public) {
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
    Ok((chain, own.expires, public.is_some()))
}

fn text<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, String> {
    std::str::from_utf8(bytes)
        .map_err(|_| format!("the {what} is not PEM, which is text; it may be DER"))
}

/// The sections of one kind. Text around sections, and sections of other kinds, are passed over.
fn sections<T: PemObject>(pem: &[u8], what: &str) -> Result<Vec<T>, String> {
    let mut found = Vec::new();
    for section in T::pem_slice_iter(pem) {
        match section {
            Ok(section) => found.push(section),
            // Without its end it is none.
            Err(Error::MissingSectionEnd { .. }) => break,
            Err(_) => return Err(format!("the {what} is not valid PEM")),
        }
    }
    Ok(found)
}

/// The first private key, which is the one that Traefik takes.
fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, String> {
    // The parser passes over keys of a kind that it does not know.
    let lines = || pem.split(['\r', '\n']);
    let mut labels = lines()
        .filter_map(|line| line.strip_prefix("-----BEGIN "))
        .filter_map(|rest| rest.trim_end().strip_suffix("-----"))
        .filter(|label| label.ends_with("PRIVATE KEY"));
    let is_encrypted = labels.clone().any(|label| label == "ENCRYPTED PRIVATE KEY")
        // In the formats that are older than PKCS #8.
        || lines().any(|line| line.starts_with("Proc-Type: 4,ENCRYPTED"));
    if is_encrypted {
        return Err("the private key is encrypted; give it without a passphrase".into());
    }
    match labels.next() {
        None | Some("PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY") => {}
        Some(_) => return Err(UNKNOWN_KEY.into()),
    }
    let mut keys = sections(pem.as_bytes(), "private key")?.into_iter();
    (keys.next()).ok_or_else(|| "there is no private key in the private key's file".into())
}

const UNKNOWN_KEY: &str = "the private key is damaged, or of a kind that is not known";

/// A section of PEM.
pub(crate) fn to_pem(label: &str, der: &[u8]) -> String {
    let mut pem = format!("-----BEGIN {label}-----\n");
    let coded = STANDARD.encode(der);
    let mut rest = coded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
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
fn public_key(key: &PrivateKeyDer<'_>) -> Result<Option<Vec<u8>>, String> {
    /// The name of the curve P-521.
    const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

    let der = key.secret_der();
    match rustls::crypto::ring::sign::any_supported_type(key) {
        Ok(key) => Ok(key.public_key().map(|key| key.as_ref().to_vec())),
        Err(_) if der.windows(P521.len()).any(|part| part == P521) => Ok(None),
        Err(_) => Err(UNKNOWN_KEY.into()),
    }
}

#[cfg(not(feature = "tls"))]
#[expect(clippy::unnecessary_wraps, reason = "as with the feature `tls`")]
fn public_key(_: &PrivateKeyDer<'_>) -> Result<Option<Vec<u8>>, String> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["h".into()]).unwrap();
        (
            to_pem("CERTIFICATE", made.cert.der()),
            to_pem("PRIVATE KEY", made.signing_key.serialized_der()),
        )
    }

    #[test]
    fn fitting_pair_is_accepted() {
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
    fn pem_lines_have_64_characters() {
        let line = "AAAA".repeat(16);
        for (length, lines) in [
            (0, String::new()),
            (47, format!("{}AAA=\n", "AAAA".repeat(15))),
            (48, format!("{line}\n")),
            (49, format!("{line}\nAA==\n")),
        ] {
            let pem = to_pem("X Y", &vec![0; length]);
            let whole = format!("-----BEGIN X Y-----\n{lines}-----END X Y-----\n");
            assert_eq!(pem, whole, "{length} bytes");
        }
    }

    #[test]
    fn other_file_content_is_ignored() {
        let (cert, key) = made();
        let (other, _) = made();
        // So `openssl ecparam -genkey` begins, and so `openssl pkcs12` writes.
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let attributes =
            "Bag Attributes\n    friendlyName: ü - \nKey Attributes: <No Attributes>\n";
        let cut = "-----BEGIN CERTIFICATE-----\nMII\n";
        let mixed_cert = format!("{attributes}{key}\n{attributes}{cert}{attributes}{other}{cut}");
        let mixed_key = format!("{attributes}{cert}\n{parameters}{attributes}{key}{attributes}");
        let crlf = |text: &str| text.replace('\n', "\r\n");
        let bare = |text: &str| text.trim_end().to_string();
        for (cert, key) in [
            (mixed_cert.clone(), mixed_key.clone()),
            (crlf(&mixed_cert), crlf(&mixed_key)),
            (bare(&cert), bare(&key)),
            (
                cert.replace("-----\n", "----- \n"),
                key.replace("-----\n", "----- \n"),
            ),
        ] {
            let (certificate, _) = check(cert.as_bytes(), key.as_bytes())
                .unwrap_or_else(|error| panic!("{error}: {cert}"));
            assert!(certificate.pem.contains(cert.trim_end()));
            assert!(certificate.pem.contains(key.trim_end()));
        }
    }

    #[test]
    fn unservable_pair_is_refused() {
        let (cert, key) = made();
        let (other, _) = made();
        let der = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old_encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
            DEK-Info: DES-EDE3-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let unknown = to_pem("OPENSSH PRIVATE KEY", b"key");
        let no_base64 = |pem: &str| pem.replacen("\nMI", "\nM!", 1);
        let without_end = |pem: &str| pem.replacen("-----END", "", 1);
        let cut = cert.replacen("\nMII", "\nMIJ", 1);
        #[allow(unused_mut)]
        let mut cases = vec![
            (b"rubbish".to_vec(), key.clone(), "no certificate"),
            (der.to_vec(), key.clone(), "DER"),
            (key.clone().into_bytes(), key.clone(), "no certificate"),
            (cut.into_bytes(), key.clone(), "damaged"),
            (cert.clone().into_bytes(), cert.clone(), "no private key"),
            (cert.clone().into_bytes(), encrypted.into(), "encrypted"),
            (cert.clone().into_bytes(), old_encrypted.into(), "encrypted"),
            (
                cert.clone().into_bytes(),
                format!("{key}{encrypted}").replace('\n', "\r\n"),
                "encrypted",
            ),
            (
                cert.clone().into_bytes(),
                format!("{unknown}{key}"),
                "of a kind that is not known",
            ),
            (
                no_base64(&cert).into_bytes(),
                key.clone(),
                "the certificate is not valid PEM",
            ),
            (
                cert.clone().into_bytes(),
                no_base64(&key),
                "the private key is not valid PEM",
            ),
            (
                without_end(&cert).into_bytes(),
                key.clone(),
                "no certificate",
            ),
            (
                cert.clone().into_bytes(),
                without_end(&key),
                "no private key",
            ),
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
