//! Requests and answers, without what HTTP makes of them.

use http_body_util::Full;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;

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

    /// The status, in words.
    pub(super) fn plain(status: u16) -> Self {
        Self::text(status, reason(status))
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

    /// The answer as hyper sends it; whether it is the last one on its connection.
    pub(super) fn into_hyper(self, is_last: bool) -> hyper::Response<Full<Bytes>> {
        let mut answer = hyper::Response::new(Full::new(self.body.into()));
        *answer.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = answer.headers_mut();
        let content_type = self.content_type.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(content_type)) = content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        if is_last {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

/// What a status is called.
pub(crate) fn reason(status: u16) -> &'static str {
    let status = StatusCode::from_u16(status).ok();
    let reason = status.and_then(|status| status.canonical_reason());
    reason.unwrap_or("Unknown")
}

/// A request without its body.
#[derive(Debug)]
pub(crate) struct Request(Parts);

impl Request {
    pub(super) fn new(head: Parts) -> Self {
        Self(head)
    }

    pub(crate) fn method(&self) -> &str {
        self.0.method.as_str()
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.0.headers.get(name)?.as_bytes()).ok()
    }

    /// A request with two hosts, or with none, is ambiguous (RFC 9112, 3.2).
    pub(super) fn has_one_host(&self) -> bool {
        let hosts = self.0.headers.get_all(HOST).iter().count();
        hosts == 1 || hosts == 0 && self.0.version == hyper::Version::HTTP_10
    }

    /// Whether the body is chunked and nothing else, or has a length. A body in another coding would be
    /// taken for what it is not (RFC 9112, 6.1).
    pub(super) fn has_plain_body(&self) -> bool {
        let mut codings = self.0.headers.get_all(TRANSFER_ENCODING).iter();
        let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        codings.next().is_none_or(is_chunked) && codings.next().is_none()
    }

    /// The path and the query.
    pub(crate) fn url(&self) -> String {
        let url = self.0.uri.path_and_query();
        url.map_or_else(String::new, ToString::to_string)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.uri.path()
    }

    pub(crate) fn query(&self) -> &str {
        self.0.uri.query().unwrap_or_default()
    }
}
