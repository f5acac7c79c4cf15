//! Texts that Traefik takes as a value, and serves as they stand.

pub(super) fn is_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// Whether a text can be an element of a list. Traefik trims these, and splits them at U+2551, in keys also at
/// commas.
pub(crate) fn is_item(text: &str) -> bool {
    is_text(text) && text.trim() == text && !text.contains([',', '\u{2551}'])
}

/// Whether Traefik takes a key of this name, in a key-value store, for the place of an element in a list. The empty
/// name is one too.
pub(crate) fn is_list_index(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether this is a token of HTTP: a header's name or a method.
pub(super) fn is_token(text: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_token)
}

/// Whether Traefik can ask a server for this path, which it reads as a reference to the server's URL.
pub(super) fn is_path(text: &str) -> bool {
    let (path, _) = text.split_once('?').unwrap_or((text, ""));
    let is_hex = |b: u8| b.is_ascii_hexdigit();
    let is_triple = |rest: &str| matches!(rest.as_bytes(), [a, b, ..] if is_hex(*a) && is_hex(*b));
    let names_a_host = text.starts_with("//") || !text.starts_with('/') && path.contains(':');
    is_text(text) && !names_a_host && path.split('%').skip(1).all(is_triple)
}

/// Whether this is the path of a cookie. Browsers take another one for none.
pub(super) fn is_cookie_path(text: &str) -> bool {
    is_text(text) && text.starts_with('/') && text.is_ascii() && !text.contains(';')
}

/// Whether this is the domain of a cookie, as Go writes it: it leaves another one out.
pub(super) fn is_cookie_domain(text: &str) -> bool {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let is_label = |label: &str| {
        let is_inner = !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
        is_inner && label.len() < 64 && label.bytes().all(is_name)
    };
    let text = text.strip_prefix('.').unwrap_or(text);
    text.len() < 256 && text.split('.').all(is_label)
}

/// Whether this is a duration as Go writes it, neither negative nor longer than Go can count.
pub(super) fn is_duration(text: &str) -> bool {
    const LONGEST: f64 = 9e9;
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let (mut rest, mut seconds) = (text, 0.0);
    loop {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &rest[..rest.len() - digits.len()];
        let unit_ends = digits.find(|c: char| c.is_ascii_digit() || c == '.');
        let unit = &digits[..unit_ends.unwrap_or(digits.len())];
        let known = UNITS.iter().find(|(name, _)| *name == unit);
        let (Ok(number), Some((_, length))) = (number.parse::<f64>(), known) else {
            return false;
        };
        seconds += number * length;
        rest = &digits[unit.len()..];
        if rest.is_empty() {
            return seconds < LONGEST;
        }
    }
}

/// Whether this is a duration of no length. Traefik's API leaves it out.
pub(crate) fn is_zero_duration(text: &str) -> bool {
    is_duration(text) && !text.contains(|c: char| ('1'..='9').contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, expected) in [
            ("10s", true),
            ("1m30s", true),
            ("1.5h", true),
            ("100ms", true),
            ("10", false),
            ("s", false),
            ("10 s", false),
            ("-1s", false),
            ("2562047h", false),
            ("999999999999999999999s", false),
            ("2400000h", true),
            ("1..5s", false),
            ("", false),
        ] {
            assert_eq!(is_duration(text), expected, "{text:?}");
        }
        for (text, expected) in [
            ("0s", true),
            ("0h0.0s", true),
            ("0h1s", false),
            ("0", false),
        ] {
            assert_eq!(is_zero_duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn paths_lead_to_the_server() {
        for (text, expected) in [
            ("/", true),
            ("/a b?x=http://y", true),
            ("health", true),
            ("?x", true),
            ("/a:b", true),
            ("/%2f", true),
            ("/x?%zz", true),
            ("http://h/", false),
            ("//h/", false),
            (":x", false),
            ("/%zz", false),
            ("/%2", false),
            ("", false),
        ] {
            assert_eq!(is_path(text), expected, "{text:?}");
        }
    }

    #[test]
    fn cookies_have_a_domain() {
        for (text, expected) in [
            ("h.x", true),
            (".example.org", true),
            ("127.0.0.1", true),
            ("a b", false),
            ("-x", false),
            ("a..b", false),
            ("a_b", false),
            ("", false),
        ] {
            assert_eq!(is_cookie_domain(text), expected, "{text:?}");
        }
    }
}
