//! Why an exchange failed, and what to do about it.

use std::io::ErrorKind as IoKind;

use crate::error::{Error, ErrorKind};

/// Whether nothing listens there.
pub(crate) fn is_refused(error: &Error) -> bool {
    let cause = error.cause().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(ureq::Error::Io(error)) if error.kind() == IoKind::ConnectionRefused)
}

/// Whether the other side has closed the connection.
pub(super) fn is_closed(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(error) if matches!(
        error.kind(),
        IoKind::UnexpectedEof | IoKind::ConnectionReset | IoKind::BrokenPipe
    ))
}

const BY_ANOTHER_CA: &str =
    " (its certificate is not signed by a trusted CA: `ca_pem` has the CA to trust)";

/// What rustls says, what kind of failure that is, and what to do about it. The first hit counts.
const KNOWN: &[(&str, ErrorKind, &str)] = &[
    ("UnknownIssuer", ErrorKind::Unauthorized, BY_ANOTHER_CA),
    ("BadSignature", ErrorKind::Unauthorized, BY_ANOTHER_CA),
    (
        "CaUsedAsEndEntity",
        ErrorKind::Unauthorized,
        " (its certificate is a CA's own, which no server may show: make it one with CA:FALSE, or one that \
         the CA signs)",
    ),
    (
        "UnsupportedSignatureAlgorithm",
        ErrorKind::Unauthorized,
        " (its certificate can't be checked, as where its key is on the curve P-521: make one on P-256 or \
         P-384, or an RSA key)",
    ),
    (
        "invalid peer certificate",
        ErrorKind::Unauthorized,
        " (its certificate is not acceptable)",
    ),
    (
        "HandshakeFailure",
        ErrorKind::Unauthorized,
        " (it and this program have no way of TLS in common, as where its key is on the curve P-521: make \
         one on P-256 or P-384, or an RSA key; or it wants a certificate: `client_pem` has the one to show)",
    ),
    (
        "fatal alert",
        ErrorKind::Unauthorized,
        " (it refused the given TLS certificate, or wants one: `client_pem` has the one to show)",
    ),
    (
        "corrupt message",
        ErrorKind::Protocol,
        " (it does not speak TLS: the URL may have to begin with http://)",
    ),
];

/// The kind of a failed exchange, and what to do about it where that is known.
///
/// rustls is not a dependency of ours, so its errors are told apart by their text.
pub(super) fn diagnose(
    error: &ureq::Error,
    tls: bool,
    answered: bool,
) -> (ErrorKind, &'static str) {
    let kind = match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed => ErrorKind::Unavailable,
        _ => ErrorKind::Protocol,
    };
    let text = error.to_string();
    let closed = !answered && is_closed(error);
    let known = KNOWN.iter().find(|(words, ..)| text.contains(words));
    if let Some((_, kind, hint)) = known {
        (*kind, *hint)
    } else if closed && tls {
        let hint = " (closed without an answer; where it does not speak TLS, the URL must begin with \
                    http://; where it wants a certificate, `client_pem` has the one to show)";
        (kind, hint)
    } else if closed {
        let hint = " (closed without an answer; where it speaks TLS, the URL must begin with \
                    https://)";
        (kind, hint)
    } else {
        (kind, "")
    }
}
