//! The routespec: which requests a route is for.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::path::{Byte, UNKNOWN, needs_expression, next_byte};
use crate::error::{Error, ErrorKind, Result};

/// Longer paths would outrank a host route; no server takes request lines of this size anyway.
const MAX_PATH: usize = 4096;
const MAX_HOST: usize = 253;

/// `[host]/path/`: the prefix of the requests that a route is for.
///
/// With a host only requests to that host match; without one, requests to any host do. The path
/// matches itself, with and without its final slash, and everything below it: `/x/` matches `/x`,
/// `/x/` and `/x/y`, but not `/xy`.
///
/// It has no scheme, port, query or fragment.
///
/// A host may begin with `*`, which stands for one label: `*.example.org/` is for `a.example.org`, and not for
/// `example.org` or `a.b.example.org`. A route for the exact host comes first. Traefik 3.7 and later know such
/// hosts; where a Traefik is older, a Router refuses the route.
///
/// A routespec is kept in one canonical form, so that two ways of writing the same one are equal:
///
/// - the path ends in `/`;
/// - the host is in lower case, without a final dot, IPv6 in brackets;
/// - the path is percent-encoded where RFC 3986 asks for it and nowhere else, whether it came
///   encoded or not: `/has space/` and `/has%20space/` are one, `/a@b/` and `/a%40b/` are one.
///   `%2F` is a slash *inside* a segment and stays apart from `/`. `?` and `#` are always encoded,
///   `%3F` and `%23`.
///
/// What does not begin with `/` begins with a host: `user/zoe/` is for requests to the host `user`.
/// See [`likely_mistake`](Self::likely_mistake).
///
/// ```
/// use traefik_router::RouteSpec;
///
/// let spec = RouteSpec::new("Hub.Example.org/user/Zoë")?;
/// assert_eq!(spec.as_str(), "hub.example.org/user/Zo%C3%AB/");
/// assert_eq!(spec.host(), Some("hub.example.org"));
/// assert_eq!(spec.decoded(), "hub.example.org/user/Zoë/");
/// # Ok::<(), traefik_router::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct RouteSpec(Arc<str>);

impl RouteSpec {
    /// Reads a routespec, percent-encoded or not.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) if the routespec is empty; if it has a scheme, a
    /// user name, `?` or `#`; if its host has a port, a `*` that is not its first label, or a character that no
    /// host name has; if its host is not ASCII and the feature `idn` is off; if its path has an empty, `.` or
    /// `..` segment (Traefik would clean it away before it looks for a route), a `%` that two
    /// hexadecimal digits do not follow, bytes that are not UTF-8, U+FFFD beside more than two
    /// reserved characters such as `@`, or more than 4096 bytes.
    pub fn new(spec: impl AsRef<str>) -> Result<Self> {
        let spec = spec.as_ref();
        Self::parse(spec).map_err(|why| {
            Error::new(
                ErrorKind::InvalidRoute,
                format!("routespec {:?} is not acceptable: {why}", shown(spec)),
            )
        })
    }

    fn parse(spec: &str) -> Result<Self, String> {
        if spec.is_empty() {
            return Err("it is empty; the route for everything is \"/\"".into());
        }
        if let Some((_, rest)) = split_scheme(spec) {
            return Err(format!(
                "it has no scheme, since routes are for HTTP and HTTPS; write {:?}",
                without_url_parts(rest)
            ));
        }
        if let Some(char) = spec.chars().find(|char| matches!(char, '?' | '#')) {
            return Err(format!(
                "it has {char:?}, and a routespec has no query and no fragment; leave them out, or \
                 write the character as \"%{:02X}\" if the path has it",
                u32::from(char)
            ));
        }
        let (host, path) = match spec.find('/') {
            Some(slash) => spec.split_at(slash),
            None => (spec, "/"),
        };
        if host.contains('@') {
            return Err("its host has a user name in front; leave it out".into());
        }
        let mut text = match host.strip_prefix("*.") {
            Some(domain) if is_domain(domain) => format!("*.{}", canonical_host(domain)?),
            _ if host.contains('*') => {
                return Err(
                    "in its host a wildcard stands for the first label of a name, as in \
                     \"*.example.org\"; the route for all hosts begins with \"/\""
                        .into(),
                );
            }
            _ => canonical_host(host)?,
        };
        let host_len = text.len();
        let segments = path.strip_prefix('/').unwrap_or(path);
        let segments = segments.strip_suffix('/').unwrap_or(segments);
        text.push('/');
        if !segments.is_empty() {
            for segment in segments.split('/') {
                let start = text.len();
                if std::str::from_utf8(&canonical_segment(segment, &mut text)?).is_err() {
                    return Err(format!("{segment:?} does not decode to UTF-8"));
                }
                match &text[start..] {
                    "" => return Err("its path has an empty segment (\"//\")".into()),
                    dots @ ("." | "..") => return Err(format!("its path has a {dots:?} segment")),
                    _ => text.push('/'),
                }
            }
        } else if path == "//" {
            return Err("its path has an empty segment (\"//\")".into());
        }
        if text.len() - host_len > MAX_PATH {
            return Err(format!("its path is longer than {MAX_PATH} bytes"));
        }
        let path = &text[host_len..];
        if path.contains(UNKNOWN) && needs_expression(path) {
            return Err(
                "its path has U+FFFD and more than two reserved characters such as \"@\"; Traefik \
                 needs a regular expression for these, which would take any byte that is not UTF-8 \
                 for U+FFFD"
                    .into(),
            );
        }
        Ok(Self(text.into()))
    }

    /// The canonical form, `[host]/path/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, in lower case, if the route has one. IPv6 addresses are in brackets.
    pub fn host(&self) -> Option<&str> {
        let host = &self.0[..self.host_len()];
        (!host.is_empty()).then_some(host)
    }

    /// Whether its host is a wildcard.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// The path, percent-encoded, with its final slash.
    pub fn path(&self) -> &str {
        &self.0[self.host_len()..]
    }

    /// The same path at this host, which is in canonical form; at any host if that is empty.
    pub(crate) fn at_host(&self, host: &str) -> Self {
        Self([host, self.path()].concat().into())
    }

    /// The routespec for people: percent-encoding undone, except where it keeps a slash, a percent
    /// sign, `?` or `#` apart (`%2F`, `%25`, `%3F`, `%23`).
    pub fn decoded(&self) -> String {
        let mut bytes = Vec::with_capacity(self.0.len());
        let mut rest = self.0.as_bytes();
        while let Some((byte, tail)) = next_byte(rest) {
            match byte {
                Byte::Triple(b'/' | b'%' | b'?' | b'#') => bytes.extend_from_slice(&rest[..3]),
                Byte::Triple(byte) | Byte::Plain(byte) => bytes.push(byte),
            }
            rest = tail;
        }
        String::from_utf8(bytes).unwrap_or_else(|_| self.0.to_string())
    }

    /// What may have been meant instead, if the host has no dot and is not `localhost`: `user/zoe/`
    /// is for requests to the host `user`, and the path is `/user/zoe/`. Such hosts exist, so that a
    /// Router accepts the routespec; it logs this text at `WARN` when the route is added.
    pub fn likely_mistake(&self) -> Option<String> {
        let host = self.host()?;
        if host.contains(['.', ':']) || host == "localhost" {
            return None;
        }
        Some(format!(
            "routespec {self:?} is for requests to the host {host:?}; the path is written {:?}",
            format!("/{self}")
        ))
    }

    fn host_len(&self) -> usize {
        // Most routes have none.
        if self.0.starts_with('/') {
            return 0;
        }
        self.0.find('/').unwrap_or(0)
    }
}

/// A URL's scheme and what follows it. Of a scheme with one slash only those that people write.
fn split_scheme(spec: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = spec.split_once(":/")?;
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.bytes().all(is_scheme) {
        return None;
    }
    let is_known = ["http", "https", "h2c", "ws", "wss"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    match rest.strip_prefix('/') {
        Some(rest) => Some((scheme, rest)),
        None => is_known.then_some((scheme, rest)),
    }
}

/// The routespec for a URL without its scheme. Shows nothing that may be a password.
fn without_url_parts(url: &str) -> String {
    if url.contains('@') {
        return "[host]/path/".into();
    }
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = url.split_at(url.find('/').unwrap_or(url.len()));
    let (host, _) = crate::url::split_port(host);
    let path = if path.is_empty() { "/" } else { path };
    format!("{host}{path}")
}

/// A refused routespec without what may be a secret in it: a user's password, a query.
fn shown(spec: &str) -> String {
    let visible = spec.split_inclusive(['?', '#']).next().unwrap_or_default();
    // It may be the beginning of a password.
    if !spec.starts_with('/') && spec[visible.len()..].contains('@') {
        return "***".into();
    }
    let more = if visible.len() < spec.len() {
        "***"
    } else {
        ""
    };
    let (scheme, rest) = match split_scheme(visible) {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), visible),
    };
    // A password may have a slash in it.
    let may_hold_password = match scheme.is_empty() {
        true => rest
            .split('/')
            .next()
            .is_some_and(|host| host.contains('@')),
        false => rest.contains('@'),
    };
    match rest.rsplit_once('@').filter(|_| may_hold_password) {
        Some((_, rest)) => format!("{scheme}***@{rest}{more}"),
        None => format!("{visible}{more}"),
    }
}

/// Whether a wildcard may stand before this: a name, and no address or another wildcard.
fn is_domain(host: &str) -> bool {
    !host.is_empty() && !host.starts_with('[') && !host.contains('*')
}

/// Whether RFC 3986 allows the byte, unencoded, in a path segment (`pchar`).
fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

/// Appends `segment` in canonical form; returns its decoded bytes.
pub(super) fn canonical_segment(segment: &str, out: &mut String) -> Result<Vec<u8>, String> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((byte, tail)) = next_byte(rest) {
        let byte = match byte {
            Byte::Plain(b'%') => {
                return Err(format!(
                    "in {segment:?} two hexadecimal digits must follow '%'; \
                     write a percent sign as %25"
                ));
            }
            Byte::Plain(byte) | Byte::Triple(byte) => byte,
        };
        if is_pchar(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        decoded.push(byte);
        rest = tail;
    }
    Ok(decoded)
}

/// A host in the form in which routespecs are compared.
pub(super) fn canonical_host(host: &str) -> Result<String, String> {
    if let Some(address) = host.strip_prefix('[') {
        let address = address
            .strip_suffix(']')
            .ok_or_else(|| format!("host {host:?} must end in ']' and have no port"))?;
        let address: std::net::Ipv6Addr = address
            .parse()
            .map_err(|_| format!("{host:?} is not an IPv6 address"))?;
        return Ok(format!("[{address}]"));
    }
    if host.is_empty() {
        return Ok(String::new());
    }
    let host = ascii_host(host.strip_suffix('.').unwrap_or(host))?;
    if let Some((_, port)) = host.split_once(':') {
        return Err(format!(
            "host {host:?} has a port ({port:?}), which Traefik never matches; leave it out \
             (an IPv6 address goes into brackets)"
        ));
    }
    if host.len() > MAX_HOST {
        return Err(format!("its host is longer than {MAX_HOST} bytes"));
    }
    let is_name = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !host.split('.').all(is_name) {
        return Err(format!(
            "{host:?} is not a host name (a path begins with '/')"
        ));
    }
    Ok(host)
}

#[cfg(feature = "idn")]
fn ascii_host(host: &str) -> Result<String, String> {
    if host.is_ascii() {
        return Ok(host.to_ascii_lowercase());
    }
    idna::domain_to_ascii(host).map_err(|_| format!("{host:?} is not a valid international name"))
}

#[cfg(not(feature = "idn"))]
fn ascii_host(host: &str) -> Result<String, String> {
    if host.is_ascii() {
        return Ok(host.to_ascii_lowercase());
    }
    Err(format!(
        "host {host:?} is not ASCII; write it in punycode (\"xn--...\") or build with the \
         feature \"idn\""
    ))
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl AsRef<str> for RouteSpec {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for RouteSpec {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for RouteSpec {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Self> {
        Self::new(spec)
    }
}

impl TryFrom<String> for RouteSpec {
    type Error = Error;

    fn try_from(spec: String) -> Result<Self> {
        Self::new(spec)
    }
}

impl Serialize for RouteSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl From<RouteSpec> for String {
    fn from(spec: RouteSpec) -> Self {
        spec.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_variants_are_one_routespec() {
        for (given, canonical) in [
            ("/", "/"),
            ("/abc", "/abc/"),
            ("/abc/", "/abc/"),
            ("/has space/", "/has%20space/"),
            ("/has%20space", "/has%20space/"),
            ("/has/@/", "/has/@/"),
            ("/has/%40/", "/has/@/"),
            ("/a%2fb/", "/a%2Fb/"),
            ("/a%3fb%23c/", "/a%3Fb%23c/"),
            ("/\u{fffd}@:/", "/%EF%BF%BD@:/"),
            ("/é/", "/%C3%A9/"),
            ("/%7euser/", "/~user/"),
            ("/line\nbreak/", "/line%0Abreak/"),
            (
                "/`\"{{env \"HOME\"}}/",
                "/%60%22%7B%7Benv%20%22HOME%22%7D%7D/",
            ),
            ("Host.Name", "host.name/"),
            ("host.name./x", "host.name/x/"),
            ("[::1]/x/", "[::1]/x/"),
            ("[0:0::1]/", "[::1]/"),
            ("localhost/UPPER/", "localhost/UPPER/"),
        ] {
            assert_eq!(
                RouteSpec::new(given).unwrap().as_str(),
                canonical,
                "{given:?}"
            );
        }
    }

    #[test]
    fn refusals_say_why() {
        for (given, why) in [
            ("", "it is empty"),
            ("//", "empty segment"),
            ("/a//b/", "empty segment"),
            ("//a/", "empty segment"),
            ("/a/../b/", "\"..\" segment"),
            ("/a/%2e%2E/b/", "\"..\" segment"),
            ("/./", "\".\" segment"),
            ("/100%/", "%25"),
            ("/%zz/", "%25"),
            ("/%ff/", "UTF-8"),
            ("host:80/", "has a port"),
            ("::1/", "has a port"),
            ("*/", "wildcard"),
            ("*./", "wildcard"),
            ("*.*.org/", "wildcard"),
            ("*example.org/", "wildcard"),
            ("*.[::1]/", "wildcard"),
            ("*..org/", "not a host name"),
            ("*.example.org:80/", "has a port"),
            ("a.*.org/x/", "wildcard"),
            ("host:/x/", "has a port"),
            ("http://host/path", "write \"host/path\""),
            ("HTTPS://host:8080/path?q=1", "write \"host/path\""),
            ("http://host", "write \"host/\""),
            ("http:///path/", "write \"/path/\""),
            ("http://[::1]:80/x", "write \"[::1]/x\""),
            ("ws://user:s3cret@host/x", "has no scheme"),
            ("http://user:s3/cret@host/x", "has no scheme"),
            ("http:/host/path", "write \"host/path\""),
            ("user:s3cret@host/x", "user name"),
            ("user:s3?cret@host/x", "\"%3F\""),
            ("http://user:s3#cret@host/x", "has no scheme"),
            ("/a?b/", "\"%3F\""),
            ("/a#b/", "\"%23\""),
            ("host?b=/x", "\"%3F\""),
            ("?", "\"%3F\""),
            ("/user/a@b:c!\u{fffd}/", "U+FFFD"),
            ("/%EF%bf%BD/%40%3A%21/", "U+FFFD"),
            ("a b/", "not a host name"),
            ("a`b/", "not a host name"),
            ("a..b/", "not a host name"),
            ("./x/", "not a host name"),
            ("[::1", "must end in ']'"),
            ("[x]/", "not an IPv6 address"),
            (&"/x".repeat(4097), "longer than 4096"),
        ] {
            let error = RouteSpec::new(given).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRoute);
            assert!(error.to_string().contains(why), "{given:?}: {error}");
            assert!(!error.to_string().contains("s3"), "{error}");
        }
    }

    #[test]
    fn missing_slash_brings_advice() {
        for (given, advice) in [
            ("user/zoe", Some("\"/user/zoe/\"")),
            ("User/a%2Fb/", Some("\"/user/a%2Fb/\"")),
            ("wiki/", Some("\"/wiki/\"")),
            ("wiki", Some("\"/wiki/\"")),
            ("/user/zoe/", None),
            ("/", None),
            ("localhost/user/", None),
            ("h.x/user/", None),
            ("[::1]/user/", None),
        ] {
            let spec = RouteSpec::new(given).unwrap();
            let mistake = spec.likely_mistake();
            assert_eq!(mistake.is_some(), advice.is_some(), "{given:?}");
            let text = mistake.unwrap_or_default();
            assert!(
                text.contains(advice.unwrap_or_default()),
                "{given:?}: {text}"
            );
        }
    }

    #[test]
    fn international_host_becomes_punycode() {
        let spec = RouteSpec::new("bücher.example/");
        if cfg!(feature = "idn") {
            assert_eq!(spec.unwrap().as_str(), "xn--bcher-kva.example/");
        } else {
            assert!(spec.unwrap_err().to_string().contains("punycode"));
        }
    }

    #[test]
    fn decoding_keeps_the_meaning() {
        let spec = RouteSpec::new("/a%2Fb/50%25/%3F%23/sp%20ace/é/").unwrap();
        assert_eq!(spec.decoded(), "/a%2Fb/50%25/%3F%23/sp ace/é/");
        assert_eq!(RouteSpec::new(spec.decoded()).unwrap(), spec);
    }
}
