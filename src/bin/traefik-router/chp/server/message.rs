//! Requests and answers as bytes.

/// A longer head is refused with 431.
pub(super) const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;

/// What is answered.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            content_type: None,
            body: Vec::new(),
        }
    }

    pub(crate) fn text(status: u16, text: impl Into<String>) -> Self {
        Self::of(status, "text/plain; charset=utf-8", text.into())
    }

    pub(crate) fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::of(status, "application/json", value.to_string())
    }

    pub(crate) fn of(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            content_type: Some(content_type.into()),
            body: body.into(),
        }
    }

    /// The bytes of the answer; without the body if the request was a HEAD.
    pub(super) fn to_bytes(&self, keep_alive: bool, head: bool) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        if let Some(content_type) = &self.content_type {
            text.push_str(&format!("Content-Type: {content_type}\r\n"));
        }
        if self.status != 204 {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        if !keep_alive {
            text.push_str("Connection: close\r\n");
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        if !head {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// What a status is called.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Sized(u64),
    Chunked,
}

/// A request without its body.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// As the client sent it: a path with a query, rarely a whole URL.
    target: String,
    headers: Vec<(String, String)>,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
}

impl Request {
    /// The value of a header, which is named in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(given, _)| given == name);
        values.next().map(|(_, value)| &**value)
    }

    /// The path and the query.
    pub(crate) fn url(&self) -> &str {
        if self.target.starts_with('/') {
            return &self.target;
        }
        let rest = self.target.split_once("://").map_or("", |(_, rest)| rest);
        rest.find('/').map_or("/", |slash| &rest[slash..])
    }

    pub(crate) fn path(&self) -> &str {
        self.url().split(['?', '#']).next().unwrap_or_default()
    }

    pub(crate) fn query(&self) -> &str {
        self.url().split_once('?').map_or("", |(_, query)| query)
    }

    /// Reads the head of a request and says how many bytes it has; `None` if it is not complete.
    ///
    /// # Errors
    /// The status to refuse it with.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(usize, Self)>, u16> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD => return Err(431),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(431),
            Err(httparse::Error::Version) => return Err(505),
            Err(_) => return Err(400),
        };
        if length > MAX_HEAD {
            return Err(431);
        }
        // Not everybody takes a line feed by itself for the end of a line.
        let mut lines = bytes[..length].split_inclusive(|byte| *byte == b'\n');
        if !lines.all(|line| line.ends_with(b"\r\n")) {
            return Err(400);
        }
        let is_1_1 = parsed.version == Some(1);
        let headers: Vec<_> = (parsed.headers.iter())
            .map(|header| {
                let value = String::from_utf8_lossy(header.value).trim().to_string();
                (header.name.to_ascii_lowercase(), value)
            })
            .collect();
        // Two of them, or none, are whatever one likes to read in it (RFC 9112, 3.2).
        let hosts = headers.iter().filter(|(name, _)| name == "host").count();
        if hosts > 1 || hosts == 0 && is_1_1 {
            return Err(400);
        }
        let framing = framing(&headers, is_1_1)?;
        let has = |name: &str, word: &str| {
            let mut values = headers.iter().filter(|(given, _)| given == name);
            values.any(|(_, value)| {
                value
                    .split(',')
                    .any(|part| part.trim().eq_ignore_ascii_case(word))
            })
        };
        let keep_alive = if is_1_1 {
            !has("connection", "close")
        } else {
            has("connection", "keep-alive")
        };
        let expects_continue = is_1_1 && has("expect", "100-continue");
        let head = Self {
            method: parsed.method.unwrap_or_default().into(),
            target: parsed.path.unwrap_or_default().into(),
            framing,
            keep_alive,
            expects_continue,
            headers,
        };
        Ok(Some((length, head)))
    }
}

/// How long the body is. What two servers could understand in two ways is refused.
fn framing(headers: &[(String, String)], is_1_1: bool) -> Result<Framing, u16> {
    let values = |name: &'static str| {
        let values = headers.iter().filter(move |(given, _)| given == name);
        values.map(|(_, value)| &**value)
    };
    let mut length = None;
    for text in values("content-length").flat_map(|value| value.split(',')) {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(400);
        }
        let number: u64 = text.parse().map_err(|_| 413_u16)?;
        if length.is_some_and(|length| length != number) {
            return Err(400);
        }
        length = Some(number);
    }
    let codings: Vec<_> = values("transfer-encoding").collect();
    match (&*codings, length) {
        ([], length) => Ok(Framing::Sized(length.unwrap_or(0))),
        ([coding], None) if is_1_1 && coding.eq_ignore_ascii_case("chunked") => {
            Ok(Framing::Chunked)
        }
        _ => Err(400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &str) -> Result<Option<(usize, Request)>, u16> {
        Request::parse(lines.replace('\n', "\r\n").as_bytes())
    }

    #[test]
    fn how_long_a_body_is() {
        for (headers, expected) in [
            ("", Ok(Framing::Sized(0))),
            ("Content-Length: 5\n", Ok(Framing::Sized(5))),
            (
                "Content-Length: 5\ncontent-length: 5\n",
                Ok(Framing::Sized(5)),
            ),
            ("Content-Length: 5, 5\n", Ok(Framing::Sized(5))),
            ("Transfer-Encoding: Chunked\n", Ok(Framing::Chunked)),
            ("Content-Length: 5\nContent-Length: 6\n", Err(400)),
            ("Content-Length: 5, 6\n", Err(400)),
            ("Content-Length: +5\n", Err(400)),
            ("Content-Length: 0x5\n", Err(400)),
            ("Content-Length:\n", Err(400)),
            ("Content-Length: 99999999999999999999\n", Err(413)),
            ("Content-Length: 5\nTransfer-Encoding: chunked\n", Err(400)),
            ("Transfer-Encoding: gzip, chunked\n", Err(400)),
            (
                "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n",
                Err(400),
            ),
            ("Transfer-Encoding: identity\n", Err(400)),
            ("Content-Length : 5\n", Err(400)),
            (" folded\n", Err(400)),
        ] {
            let head = parse(&format!("POST / HTTP/1.1\nHost: h\n{headers}\n"));
            let framing = head.map(|head| head.unwrap().1.framing);
            assert_eq!(framing, expected, "{headers:?}");
        }
        let old = parse("POST / HTTP/1.0\nTransfer-Encoding: chunked\n\n");
        assert_eq!(old.err(), Some(400));
    }

    #[test]
    fn which_connections_stay() {
        for (head, expected) in [
            ("GET / HTTP/1.1\nHost: h\n\n", true),
            (
                "GET / HTTP/1.1\nHost: h\nConnection: keep-alive, Close\n\n",
                false,
            ),
            ("GET / HTTP/1.0\n\n", false),
            ("GET / HTTP/1.0\nConnection: keep-alive\n\n", true),
        ] {
            assert_eq!(
                parse(head).unwrap().unwrap().1.keep_alive,
                expected,
                "{head}"
            );
        }
    }

    #[test]
    fn what_is_no_head() {
        assert!(parse("GET / HTTP/1.1\nHost: h\n").unwrap().is_none());
        let many: String = (0..200).map(|n| format!("H{n}: x\n")).collect();
        let long = "x".repeat(MAX_HEAD);
        for (head, status) in [
            ("GET / HTTP/2.0\n\n", 505),
            ("GET\n\n", 400),
            ("\x16\x03\x01\n\n", 400),
            ("GET / HTTP/1.1\nHost: h\nA: b\rC: d\n\n", 400),
            ("GET / HTTP/1.1\n\n", 400),
            ("GET / HTTP/1.1\nHost: h\nHost: h\n\n", 400),
            ("GET / HTTP/1.0\nHost: h\nHost: i\n\n", 400),
            (&format!("GET / HTTP/1.1\n{many}\n"), 431),
            (&format!("GET / HTTP/1.1\nX: {long}\n\n"), 431),
            (&format!("GET /{long}"), 431),
        ] {
            assert_eq!(parse(head).err(), Some(status), "{head:.40}");
        }
        for head in [
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            assert_eq!(Request::parse(head.as_bytes()).err(), Some(400), "{head:?}");
        }
    }

    #[test]
    fn a_whole_url_is_a_path_too() {
        for (target, url) in [
            ("/a?b", "/a?b"),
            ("http://h/a?b", "/a?b"),
            ("http://h", "/"),
            ("*", "/"),
        ] {
            let head = parse(&format!("GET {target} HTTP/1.1\nHost: h\n\n"))
                .unwrap()
                .unwrap()
                .1;
            assert_eq!(head.url(), url);
        }
    }
}
