//! The bytes of a routespec's path, and the forms in which requests can have them.
//!
//! Traefik compares most bytes decoded. The reserved characters of RFC 3986 it compares as the request
//! has them: `/a@b` and `/a%40b` are two paths to it.

/// Up to this many characters with two forms each, a rule lists all forms of the path. Above it, the rule is
/// one regular expression, which costs Traefik far more at each request and at each reload.
pub(super) const MAX_EITHER: usize = 2;

/// U+FFFD. A regular expression of Go takes any byte that is not UTF-8 for it.
pub(super) const UNKNOWN: &str = "%EF%BF%BD";

/// A byte of a percent-encoded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Byte {
    Plain(u8),
    Triple(u8),
}

/// The first byte of `text`, and the rest. A `%` that starts no triple counts as itself.
pub(super) fn next_byte(text: &[u8]) -> Option<(Byte, &[u8])> {
    let hex = |digit: u8| char::from(digit).to_digit(16);
    match text {
        [b'%', high, low, rest @ ..] => match (hex(*high), hex(*low)) {
            (Some(high), Some(low)) => Some((Byte::Triple((high * 16 + low) as u8), rest)),
            _ => Some((Byte::Plain(b'%'), &text[1..])),
        },
        [byte, rest @ ..] => Some((Byte::Plain(*byte), rest)),
        [] => None,
    }
}

/// Whether requests can have the byte in one form only: as itself.
pub(super) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// One character of a path, as the rule has to match it.
pub(super) enum Piece {
    /// Always this byte.
    Byte(u8),
    /// Always this triple: the character would end the path or a segment if it were plain.
    Triple(u8),
    /// This byte, plain or as a triple.
    Either(u8),
}

/// The characters of a canonical path.
pub(super) fn pieces(path: &str) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((byte, tail)) = next_byte(rest) {
        pieces.push(match byte {
            Byte::Triple(byte @ (b'/' | b'?' | b'#' | b'%')) => Piece::Triple(byte),
            Byte::Plain(byte) | Byte::Triple(byte) if b":[]@!$&'()*+,;=".contains(&byte) => {
                Piece::Either(byte)
            }
            Byte::Plain(byte) | Byte::Triple(byte) => Piece::Byte(byte),
        });
        rest = tail;
    }
    pieces
}

/// Whether requests can write the path in one way only.
pub(super) fn has_one_form(path: &str) -> bool {
    path.bytes().all(|byte| byte == b'/' || is_unreserved(byte))
}

/// Whether the rule for this path needs a regular expression.
pub(super) fn needs_expression(path: &str) -> bool {
    !has_one_form(path) && count_either(&pieces(path)) > MAX_EITHER
}

pub(super) fn count_either(pieces: &[Piece]) -> usize {
    let either = |piece: &&Piece| matches!(piece, Piece::Either(_));
    pieces.iter().filter(either).count()
}

/// The canonical form of these bytes of a path.
pub(super) fn canonical(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for &byte in path {
        if byte == b'/' || is_unreserved(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
