//! Parts of URLs. The program compiles this file too.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the characters that RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A text, percent-encoded for one segment of a path or one value of a query.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_encoded() {
        for (text, encoded) in [
            ("a-b@file/é", "a-b%40file%2F%C3%A9"),
            ("/a?b=1&c=é", "%2Fa%3Fb%3D1%26c%3D%C3%A9"),
            ("~._%", "~._%25"),
        ] {
            assert_eq!(encode(text), encoded);
        }
    }
}
