//! The rule and the priority that make Traefik match what a routespec means.
//!
//! Traefik matches rules against a path in which percent-encoding is undone, except for the
//! reserved characters of RFC 3986: those stay in the form in which the request had them, encoded
//! ones in upper case. `/a@b` and `/a%40b` are therefore two paths to it, and a rule has to name
//! both. (Traefik 3.7: "Routing path" in its documentation of rules; checked in `tests/`.)

use super::path::{
    MAX_EITHER, Piece, canonical, count_either, has_one_form, is_unreserved, pieces,
};
use super::spec::RouteSpec;

/// What host routes have on top, so that each of them comes before every route without a host, and before every
/// one whose host is a wildcard.
const HOST_BONUS: u64 = 10_000;
/// The same for a wildcard.
const WILDCARD_BONUS: u64 = 5_000;

/// Traefik's rule for a routespec.
///
/// It is made of quoted literals in which every unusual byte is an escape: no routespec can add a
/// matcher, and none can smuggle in what Traefik's file provider would run as a template.
///
/// ```
/// use traefik_router::{RouteSpec, rule};
///
/// assert_eq!(rule(&RouteSpec::new("/user/zoe")?), r#"PathPrefix("/user/zoe/") || Path("/user/zoe")"#);
/// assert_eq!(rule(&RouteSpec::new("hub.example.org")?), r#"Host("hub.example.org")"#);
/// # Ok::<(), traefik_router::Error>(())
/// ```
pub fn rule(spec: &RouteSpec) -> String {
    match (spec.host().map(host_rule), spec.path()) {
        (Some(host), "/") => host,
        (None, "/") => "PathPrefix(\"/\")".into(),
        (None, path) => path_rule(path),
        (Some(host), path) => format!("{host} && ({})", path_rule(path)),
    }
}

/// The priority of a routespec's router: every route for one host comes before every route for a wildcard, which
/// comes before every route without a host. Then the longer of two paths comes first.
///
/// A route without a host gets the priority that Traefik itself would give `PathPrefix` with its path, so that
/// hand-written routers keep their place among the routers of routes.
pub fn priority(spec: &RouteSpec) -> u64 {
    rank(spec.host(), spec.path().len())
}

fn rank(host: Option<&str>, length: usize) -> u64 {
    let host = match host {
        Some(host) if host.starts_with('*') => WILDCARD_BONUS,
        Some(_) => HOST_BONUS,
        None => 0,
    };
    host + length as u64 + "PathPrefix(``)".len() as u64
}

/// The rule and the priority of a router for all paths with this beginning, among those of routes
/// for this host; the priority is above those of routes whose path is shorter.
pub(super) fn prefix_rule(host: Option<&str>, prefix: &[u8]) -> (String, u64) {
    let rule = format!("PathPrefix({})", literal(prefix));
    (rule, rank(host, canonical(prefix).len() + 1))
}

/// The rule of a router for what these routes match together, which have the same host, and the
/// same first bytes `shared`, each in its only form.
pub(super) fn union_rule(specs: &[&RouteSpec], shared: &[u8]) -> String {
    let mut specs = specs.to_vec();
    specs.sort_unstable();
    // What a path goes on from matches it as well.
    specs.dedup_by(|longer, spec| longer.as_str().starts_with(spec.as_str()));
    if let [spec] = &*specs {
        return rule(spec);
    }
    // An expression is UTF-8.
    let ascii = shared.iter().rposition(u8::is_ascii);
    let shared = &shared[..ascii.map_or(0, |last| last + 1)];
    let mut regexp = b"^".to_vec();
    shared.iter().for_each(|byte| plain(*byte, &mut regexp));
    let mut mark: &[u8] = b"(?:";
    for spec in &specs {
        regexp.extend_from_slice(mark);
        mark = b"|";
        let path = spec.path();
        if has_one_form(path) {
            let more = &path.as_bytes()[shared.len()..path.len() - 1];
            more.iter().for_each(|byte| plain(*byte, &mut regexp));
        } else {
            let pieces = pieces(path);
            let more = &pieces[shared.len()..pieces.len() - 1];
            more.iter().for_each(|piece| choice(piece, &mut regexp));
        }
    }
    regexp.extend_from_slice(b")(?:/|$)");
    let host = specs.first().and_then(|spec| spec.host());
    let host = host.map(|host| host_rule(host) + " && ");
    format!(
        "{}PathPrefix({}) && PathRegexp({})",
        host.unwrap_or_default(),
        literal(shared),
        literal(&regexp)
    )
}

fn host_rule(host: &str) -> String {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    format!("Host({})", literal(bare.as_bytes()))
}

fn path_rule(path: &str) -> String {
    if has_one_form(path) {
        let bare = path.strip_suffix('/').unwrap_or(path);
        return ["PathPrefix(\"", path, "\") || Path(\"", bare, "\")"].concat();
    }
    let pieces = pieces(path);
    let either = count_either(&pieces);
    if either > MAX_EITHER {
        return format!("PathRegexp({})", literal(&regexp(&pieces)));
    }
    let forms = (0..1_usize << either).map(|choice| {
        let form = form(&pieces, choice);
        let bare = form.strip_suffix(b"/").unwrap_or(&form);
        format!("PathPrefix({}) || Path({})", literal(&form), literal(bare))
    });
    forms.collect::<Vec<_>>().join(" || ")
}

/// The form of the path in which bit `n` of `choice` says whether the `n`th piece that can be
/// either is encoded.
fn form(pieces: &[Piece], choice: usize) -> Vec<u8> {
    let mut form = Vec::with_capacity(pieces.len());
    let mut bit = 0;
    for piece in pieces {
        match *piece {
            Piece::Byte(byte) => form.push(byte),
            Piece::Triple(byte) => form.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            Piece::Either(byte) => {
                if choice >> bit & 1 == 1 {
                    form.extend_from_slice(format!("%{byte:02X}").as_bytes());
                } else {
                    form.push(byte);
                }
                bit += 1;
            }
        }
    }
    form
}

/// A regular expression (in Go's syntax) for all forms of the path. The path ends in `/`.
fn regexp(pieces: &[Piece]) -> Vec<u8> {
    let mut out = b"^".to_vec();
    (pieces[..pieces.len() - 1].iter()).for_each(|piece| choice(piece, &mut out));
    out.extend_from_slice(b"(?:/|$)");
    out
}

/// A regular expression (in Go's syntax) for the path of a request, as it was sent, whose first group is what
/// follows the path of this routespec and slashes, since Traefik refuses a path that begins with two; `None` where
/// the path is `/`.
pub(crate) fn prefix_pattern(spec: &RouteSpec) -> Option<String> {
    let path = spec.path().trim_end_matches('/');
    let mut out = "^".to_string();
    for piece in pieces(path) {
        match piece {
            Piece::Byte(byte) if byte == b'/' || is_unreserved(byte) => {
                out.push_str(if byte == b'.' { "\\" } else { "" });
                out.push(char::from(byte));
            }
            Piece::Byte(byte) | Piece::Either(byte) if byte.is_ascii() => {
                out.push_str(&format!("(?:\\x{byte:02X}|(?i:%{byte:02X}))"));
            }
            Piece::Byte(byte) | Piece::Either(byte) | Piece::Triple(byte) => {
                out.push_str(&format!("(?i:%{byte:02X})"));
            }
        }
    }
    out.push_str("(?:/+(.*))?$");
    (!path.is_empty()).then_some(out)
}

/// An expression for the forms of one piece.
fn choice(piece: &Piece, out: &mut Vec<u8>) {
    match *piece {
        Piece::Byte(byte) => plain(byte, out),
        Piece::Triple(byte) => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        Piece::Either(byte) => {
            out.extend_from_slice(format!("(?:\\x{byte:02X}|%{byte:02X})").as_bytes());
        }
    }
}

/// An expression for one byte.
fn plain(byte: u8, out: &mut Vec<u8>) {
    if !byte.is_ascii() || byte.is_ascii_alphanumeric() || b"/-_~".contains(&byte) {
        out.push(byte);
    } else {
        out.extend_from_slice(format!("\\x{byte:02X}").as_bytes());
    }
}

/// A Go string literal. Traefik reads rules as Go expressions.
fn literal(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for &byte in bytes {
        let plain = byte.is_ascii_graphic() && !b"\"\\`'{}".contains(&byte);
        if plain || byte == b' ' {
            out.push(char::from(byte));
        } else if byte == b'\\' {
            out.push_str("\\\\");
        } else {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::path::{Byte, next_byte};
    use crate::route::{Route, Table, matches};
    use proptest::prelude::*;

    fn rule_of(spec: &str) -> String {
        rule(&RouteSpec::new(spec).unwrap())
    }

    #[test]
    fn routespecs_become_rules() {
        for (spec, expected) in [
            ("/", r#"PathPrefix("/")"#),
            ("/abc", r#"PathPrefix("/abc/") || Path("/abc")"#),
            ("/a b/", r#"PathPrefix("/a b/") || Path("/a b")"#),
            ("/é/", r#"PathPrefix("/\xc3\xa9/") || Path("/\xc3\xa9")"#),
            ("/a%2Fb", r#"PathPrefix("/a%2Fb/") || Path("/a%2Fb")"#),
            (
                "/a@b",
                r#"PathPrefix("/a@b/") || Path("/a@b") || PathPrefix("/a%40b/") || Path("/a%40b")"#,
            ),
            (
                "/a@b:c!é",
                r#"PathRegexp("^/a(?:\\x40|%40)b(?:\\x3A|%3A)c(?:\\x21|%21)\xc3\xa9(?:/|$)")"#,
            ),
            ("host.x/", r#"Host("host.x")"#),
            ("*.host.x/", r#"Host("*.host.x")"#),
            (
                "[::1]/a",
                r#"Host("::1") && (PathPrefix("/a/") || Path("/a"))"#,
            ),
            (
                "/`\"\\{{\n",
                r#"PathPrefix("/\x60\x22\\\x7b\x7b\x0a/") || Path("/\x60\x22\\\x7b\x7b\x0a")"#,
            ),
        ] {
            assert_eq!(rule_of(spec), expected, "{spec:?}");
        }
    }

    #[test]
    fn priorities_follow_specificity() {
        let order = ["/", "/a/", "/a/b/", "*.h/", "*.h/a/", "h/", "h/a/"]
            .map(|spec| priority(&RouteSpec::new(spec).unwrap()));
        assert!(order.is_sorted() && order[0] > 0, "{order:?}");
        let longest = |host: &str| RouteSpec::new(host.to_string() + &"/x".repeat(2047)).unwrap();
        for (longest, next) in [(longest(""), "*.h/"), (longest("*.h"), "h/")] {
            assert!(
                priority(&longest) < priority(&RouteSpec::new(next).unwrap()),
                "{next}"
            );
        }
    }

    /// A request path: `path` with some of its characters encoded or decoded, then `more`.
    fn request(path: &str, flips: &[bool], more: &str) -> String {
        let mut out = String::new();
        let mut rest = path.as_bytes();
        let mut flips = flips.iter().cycle();
        while let Some((byte, tail)) = next_byte(rest) {
            let flip = *flips.next().unwrap();
            match byte {
                Byte::Plain(b'/') => out.push('/'),
                Byte::Triple(byte)
                    if flip && byte.is_ascii_graphic() && !b"/?#%".contains(&byte) =>
                {
                    out.push(char::from(byte));
                }
                Byte::Plain(byte) if !flip => out.push(char::from(byte)),
                Byte::Triple(byte) | Byte::Plain(byte) => out.push_str(&format!("%{byte:02x}")),
            }
            rest = tail;
        }
        out + more
    }

    /// A piece of a request's path, not UTF-8 by itself or not at all.
    fn odd_bytes() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "%ff",
            "%EF%BF%BD",
            "%ef%bf",
            "%c3",
            "%80",
            "%F0%9f%98",
            "%ED%A0%80",
            "@",
            "%40",
            "a",
            "/",
        ])
        .prop_map(str::to_string)
    }

    proptest! {
        /// Any text is refused, or its rule matches the requests below its
        /// own prefix and no others.
        #[test]
        fn rule_matches_only_its_prefix(
            spec in "(h\\.x|\\*\\.x|\\[::1\\])?/(\\PC|\u{fffd}|[a-c@:!'`\"{}%\\\\/. \n]){0,12}/?|.*",
            flips in prop::collection::vec(any::<bool>(), 1..8),
            more in "(/?[a-c@:%/. ~-]{0,6}|)",
            other in "/[a-c@:!'/~ -]{0,8}",
            odd in prop::collection::vec(odd_bytes(), 0..6),
        ) {
            let Ok(spec) = RouteSpec::new(&spec) else { return Ok(()) };
            let rule = rule(&spec);
            prop_assert!(rule.is_ascii() && !rule.contains(['`', '{', '\'', '\n']), "{}", rule);
            let table: Table = [Route::new(&spec, "http://t").unwrap()].into_iter().collect();
            let own = request(spec.path(), &flips, &more);
            let bare = own.strip_suffix('/').unwrap_or(&own).to_string() + &more;
            // The same with bytes that are not UTF-8 in place of U+FFFD, and anywhere.
            let unknown = own.replace("%EF%BF%BD", "%ff").replace("%ef%bf%bd", "%ff");
            let odd = format!("{}{}", spec.path(), odd.concat());
            for path in [own, bare, other, unknown, odd] {
                // Traefik cleans these before it looks at rules.
                if path.contains("//") || path.split('/').any(|part| matches!(&*part.replace("%2e", "."), "." | "..")) {
                    continue;
                }
                for host in ["h.x", "g.h.x", "::1", "other"] {
                    let header = if host == "::1" { "[::1]" } else { host };
                    let Ok(expected) = table.resolve(header, &path) else { continue };
                    prop_assert_eq!(matches(&rule, host, path.as_bytes()), expected.is_some(), "{} {} {:?}", rule, host, path);
                }
            }
        }
    }
}
