//! The target: where a route's requests go.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};
use crate::url;

/// The URL of the server that a route leads to: `http://host:port`, `https://host:port`, or `h2c:`
/// for HTTP/2 without TLS.
///
/// The port defaults to the scheme's. A path is put in front of the request's: with the target
/// `http://10.0.0.7:8888/base`, a request for `/user/zoe/x` reaches `/base/user/zoe/x`.
///
/// ```
/// use traefik_router::Target;
///
/// assert_eq!(Target::new("HTTP://Node-7:8888/")?.as_str(), "http://node-7:8888");
/// assert!(Target::new("ftp://node-7/").is_err());
/// # Ok::<(), traefik_router::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Target(Arc<str>);

impl Target {
    /// Reads a target.
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) for another scheme (Traefik would answer 500 to
    /// every request), a missing host, a port that is none, user information, a query or a
    /// fragment (Traefik would drop them), or a character that a URL has only in encoded form.
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        let url = url.as_ref();
        Self::parse(url).map_err(|why| {
            Error::new(
                ErrorKind::InvalidRoute,
                format!("target {:?} is not acceptable: {why}", redacted(url)),
            )
        })
    }

    fn parse(url: &str) -> Result<Self, String> {
        let (scheme, authority, path) = url::split(url);
        let scheme = scheme.ok_or("it must be a URL such as \"http://127.0.0.1:8888\"")?;
        let scheme = scheme.to_ascii_lowercase();
        if !matches!(&*scheme, "http" | "https" | "h2c") {
            return Err(format!(
                "Traefik can't proxy to {scheme:?}; use http, https or h2c"
            ));
        }
        let place = canonical_place(authority);
        // A password may have a slash in it: what is before that is no port to report.
        if authority.contains('@') || place.is_err() && path.contains('@') {
            return Err("Traefik does not send a user name or password to a target".into());
        }
        let place = place?;
        if path.contains(['?', '#']) {
            return Err("Traefik does not pass on a target's query or fragment".into());
        }
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&b);
        if !path.bytes().all(is_allowed) || path.split('/').any(|s| s == "." || s == "..") {
            return Err(format!("{path:?} is not an encoded path"));
        }
        let path = path.trim_end_matches('/');
        if !path.is_empty() {
            super::spec::canonical_segment(path, &mut String::new())?;
        }
        Ok(Self(format!("{scheme}://{place}{path}").into()))
    }

    /// The URL, without a final slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the URL has a path. Traefik needs a middleware to keep it.
    pub(crate) fn has_path(&self) -> bool {
        let after_scheme = self.0.split_once("://");
        after_scheme.is_some_and(|(_, rest)| rest.contains('/'))
    }
}

/// The host and the port in the form in which targets are compared.
fn canonical_place(authority: &str) -> Result<String, String> {
    let (host, port) = url::split_port(authority);
    let host = super::spec::canonical_host(host)?;
    if host.is_empty() {
        return Err("it has no host".into());
    }
    match port.map(|port| (port, url::port(port))) {
        None => Ok(host),
        Some((_, Some(number))) => Ok(format!("{host}:{number}")),
        Some((port, None)) => Err(format!("{port:?} is not a port number")),
    }
}

/// The URL without what may be a password.
fn redacted(url: &str) -> String {
    let (url, rest) = match url.find(['?', '#']) {
        // What is before it may be the beginning of a password.
        Some(end) if url[end..].contains('@') => return "***".into(),
        Some(end) => (&url[..end], format!("{}***", &url[end..=end])),
        None => (url, String::new()),
    };
    match url.rfind('@') {
        Some(at) => format!("***{}{rest}", &url[at..]),
        None => format!("{url}{rest}"),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl AsRef<str> for Target {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Target {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        Self::new(url)
    }
}

impl TryFrom<String> for Target {
    type Error = Error;

    fn try_from(url: String) -> Result<Self> {
        Self::new(url)
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_has_one_canonical_form() {
        for (given, canonical, has_path) in [
            ("http://127.0.0.1:9001", "http://127.0.0.1:9001", false),
            ("HTTPS://Node/", "https://node", false),
            ("http://[::1]:80/", "http://[::1]:80", false),
            ("http://h:80/base//", "http://h:80/base", true),
            ("http://h/a%20b/c@d", "http://h/a%20b/c@d", true),
            ("h2c://grpc:50051", "h2c://grpc:50051", false),
        ] {
            let target = Target::new(given).unwrap();
            assert_eq!(target.as_str(), canonical, "{given:?}");
            assert_eq!(target.has_path(), has_path, "{given:?}");
        }
    }

    #[test]
    fn refusals_say_why() {
        for (given, why) in [
            ("", "must be a URL"),
            ("127.0.0.1:80", "must be a URL"),
            ("ftp://h/", "can't proxy to \"ftp\""),
            ("unix:///run/x.sock", "can't proxy to \"unix\""),
            ("http://", "no host"),
            ("http:///x", "no host"),
            ("http://:80/", "no host"),
            ("http://h:/", "not a port number"),
            ("http://h:0", "not a port number"),
            ("http://h:+80", "not a port number"),
            ("http://h:99999", "not a port number"),
            ("http://::1:80", "no host"),
            ("http://user:s3cret@h/", "user name or password"),
            ("http://user:s3cret/x@h/", "user name or password"),
            ("http://user:s3cret?x@h/", "user name or password"),
            ("http://user:s3cret#/@h/", "user name or password"),
            ("http://user:s3]cret]/@h/", "user name or password"),
            ("user:s3cret@h:80", "must be a URL"),
            ("https:/user:s3cret@h", "must be a URL"),
            ("http://h/?q=s3cret", "query or fragment"),
            ("http://h/#s3cret", "query or fragment"),
            ("http://h#f", "query or fragment"),
            ("http://h/a b", "not an encoded path"),
            ("http://h/{{env \"HOME\"}}", "not an encoded path"),
            ("http://h\n:80", "not a host name"),
            ("http://h`", "not a host name"),
            ("http://h/../x", "not an encoded path"),
        ] {
            let error = Target::new(given).unwrap_err().to_string();
            assert!(error.contains(why), "{given:?}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
