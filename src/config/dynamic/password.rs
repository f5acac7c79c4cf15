//! The hashes of passwords that Traefik takes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Whether a hash is that of a password; `None` for a kind that we do not compute.
pub(crate) fn is_hash_of(hash: &str, password: &str) -> Option<bool> {
    if hash.starts_with("{SHA}") {
        return Some(hash == fast_hash(password));
    }
    #[cfg(feature = "bcrypt")]
    if hash.starts_with("$2") {
        return Some(bcrypt::verify(password, hash).unwrap_or(false));
    }
    None
}

/// The hash of a password that needs no slow one, because nobody can guess it. Traefik checks it
/// at every request to its API.
pub(crate) fn fast_hash(password: &str) -> String {
    let sha1 = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    format!("{{SHA}}{}", STANDARD.encode(sha1))
}

/// Whether a hash is one that Traefik's basicAuth takes.
pub(crate) fn is_password_hash(hash: &str) -> bool {
    let is_digits = |text: &str, length: std::ops::RangeInclusive<usize>| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
        length.contains(&text.len()) && text.bytes().all(plain)
    };
    if let Some(sha) = hash.strip_prefix("{SHA}") {
        return STANDARD.decode(sha).is_ok_and(|sha| sha.len() == 20);
    }
    match *hash.split('$').collect::<Vec<_>>() {
        ["", "apr1", salt, digest] => is_digits(salt, 1..=8) && is_digits(digest, 22..=22),
        ["", "2a" | "2b" | "2y", cost, digest] => {
            cost.parse().is_ok_and(|cost: u8| (4..=31).contains(&cost))
                && is_digits(digest, 53..=53)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_equals_that_of_htpasswd() {
        // htpasswd -nbs user password
        assert_eq!(fast_hash("password"), "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=");
    }

    #[test]
    fn only_traefiks_hashes_are_accepted() {
        let bcrypt = format!("$2y$05${}", "x".repeat(53));
        for (hash, expected) in [
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", true),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9", false),
            ("{SHA}", false),
            ("$apr1$rXqB4lbw$bWHf.3xwFDlkjbQmsLLOn/", true),
            ("$apr1$rXqB4lbw$short", false),
            (&bcrypt, true),
            (&bcrypt[..30], false),
            ("$6$salt$hash", false),
            ("plain", false),
        ] {
            assert_eq!(is_password_hash(hash), expected, "{hash}");
        }
    }
}
