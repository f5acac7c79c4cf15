//! Parts of URLs, as they are written: nothing is checked or decoded. The program compiles this file too.

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

/// The scheme if there is one, the authority, and the rest from `/`, `?` or `#` on.
pub(crate) fn split(url: &str) -> (Option<&str>, &str, &str) {
    let end = |text: &str| text.find(['/', '?', '#']).unwrap_or(text.len());
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if end(scheme) == scheme.len() => (Some(scheme), rest),
        _ => (None, url),
    };
    let (authority, path) = rest.split_at(end(rest));
    (scheme, authority, path)
}

/// The host of an authority, and the port if there is one.
pub(crate) fn split_port(authority: &str) -> (&str, Option<&str>) {
    let end = match authority.rfind(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    match authority[end..].strip_prefix(':') {
        Some(port) => (&authority[..end], Some(port)),
        None => (authority, None),
    }
}

/// The number of a port.
pub(crate) fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok()?;
    (is_number && number > 0).then_some(number)
}

/// Whether an authority names a host, and no port that can't be.
pub(crate) fn is_server(authority: &str) -> bool {
    let server = authority.rsplit('@').next().unwrap_or(authority);
    let (host, given) = split_port(server);
    !host.is_empty() && given.is_none_or(|given| port(given).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split() {
        for (url, parts) in [
            ("http://h:1/a?b=c://d", (Some("http"), "h:1", "/a?b=c://d")),
            ("https://u:p@[::1]", (Some("https"), "u:p@[::1]", "")),
            ("http://h?b", (Some("http"), "h", "?b")),
            ("h/a", (None, "h", "/a")),
            ("h/a?b=http://c/d", (None, "h", "/a?b=http://c/d")),
            ("/a?b=http://c/d", (None, "", "/a?b=http://c/d")),
            ("", (None, "", "")),
        ] {
            assert_eq!(split(url), parts, "{url}");
        }
    }

    #[test]
    fn servers_have_hosts_and_ports() {
        for (authority, is_one) in [
            ("h", true),
            ("h:80", true),
            ("[::1]:80", true),
            ("u:p@h:80", true),
            ("", false),
            (":80", false),
            ("h:", false),
            ("h:99999", false),
            ("u@h:0", false),
        ] {
            assert_eq!(is_server(authority), is_one, "{authority}");
        }
    }

    #[test]
    fn ports_are_split_off() {
        for (authority, parts) in [
            ("h", ("h", None)),
            ("h:80", ("h", Some("80"))),
            ("h:1:2", ("h", Some("1:2"))),
            (":80", ("", Some("80"))),
            ("[::1]", ("[::1]", None)),
            ("[::1]:80", ("[::1]", Some("80"))),
            ("[::1]x", ("[::1]x", None)),
            ("::1", ("", Some(":1"))),
        ] {
            assert_eq!(split_port(authority), parts, "{authority}");
        }
        for (text, number) in [("1", Some(1)), ("65535", Some(65535)), ("080", Some(80))] {
            assert_eq!(port(text), number, "{text}");
        }
        for text in ["", "0", "+1", "65536", "x"] {
            assert_eq!(port(text), None, "{text}");
        }
    }

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
