//! The one wrapper over ureq: JSON over HTTP with bounds, basic authentication and TLS.

mod failure;
mod stream;
mod tls;

use std::fmt;
use std::io::ErrorKind as IoKind;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use self::failure::{diagnose, is_closed};
use self::tls::with_tls;
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::url;

pub(crate) use self::failure::is_refused;
pub(crate) use self::stream::Stream;
pub use self::tls::Tls;

/// A server that is asked for JSON. Connections are kept and reused; cloning shares them.
#[derive(Clone)]
pub(crate) struct Http {
    base: String,
    agent: ureq::Agent,
    authorization: Option<String>,
    /// Whether the host is an address. ureq resolves the host for every request. With a limit on the whole
    /// request it does so on a new thread, which costs more than the request. An address needs no resolving,
    /// so a limit on each step is enough.
    is_address: bool,
    /// Whether it has ever answered: a connection that closes then is no sign of a wrong URL.
    answered: Arc<AtomicBool>,
}

/// How long a request may take.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// From nothing to a connection over which a request can be sent.
    pub(crate) connect: Duration,
    /// The whole of it, `connect` included; where the host is an address, each step.
    pub(crate) total: Duration,
}

/// An answer of any status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    headers: ureq::http::HeaderMap,
}

impl Answer {
    /// The value of a header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The value of a header that is a number.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        self.header(name)?.parse().ok()
    }
}

/// ureq takes zero for no time at all.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// A longer body, in bytes, is an error. Lists of 30 MB occur.
const MAX_ANSWER: u64 = 1 << 28;

/// Enough for the threads of one program; more of them would connect anew at every call.
const IDLE_CONNECTIONS: usize = 16;

impl Http {
    /// A client for `base`, an `http` or `https` URL; a final slash makes no difference.
    pub(crate) fn new(base: &str, tls: &Tls) -> Result<Self> {
        let base = base.trim_end_matches('/');
        check_url(base, tls)?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .user_agent(concat!("traefik-router/", env!("CARGO_PKG_VERSION")));
        let config = with_tls(config, base, tls)?;
        Ok(Self {
            base: base.into(),
            agent: config.build().new_agent(),
            authorization: None,
            is_address: has_address(base),
            answered: Arc::default(),
        })
    }

    /// Sends a user name and a password with every request.
    pub(crate) fn basic_auth(mut self, user: &str, password: &str) -> Self {
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        self.authorization = Some(format!("Basic {credentials}"));
        self
    }

    /// Sends no user name and no password.
    pub(crate) fn anonymous(mut self) -> Self {
        self.authorization = None;
        self
    }

    /// The URL that paths are appended to.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn get(&self, path: &str, timeout: Duration) -> Result<Answer> {
        self.again_if_closed(timeout.max(MIN_TIMEOUT), |left| self.try_get(path, left))
            .map_err(|error| self.error(path, error))
    }

    /// Asks once more, in what is left of the time, if the other side may just have closed a
    /// connection that was kept.
    fn again_if_closed<T>(
        &self,
        timeout: Duration,
        mut ask: impl FnMut(Duration) -> Result<T, ureq::Error>,
    ) -> Result<T, ureq::Error> {
        let start = Instant::now();
        ask(timeout).or_else(|error| {
            let left = timeout.saturating_sub(start.elapsed());
            match self.answered.load(Relaxed) && is_closed(&error) && !left.is_zero() {
                true => ask(left),
                false => Err(error),
            }
        })
    }

    fn try_get(&self, path: &str, timeout: Duration) -> Result<Answer, ureq::Error> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let config = request
            .config()
            .timeout_global(self.unless_address(timeout))
            .timeout_connect(Some(timeout))
            .timeout_send_request(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .timeout_recv_body(Some(timeout));
        config.build().call().and_then(|answer| self.read(answer))
    }

    /// Posts JSON. `authorization` replaces the header that would be sent otherwise. What only
    /// `reads` is asked for again where [`Http::get`] does so.
    ///
    /// The error says [`Stored::Unknown`] where the server may have got the whole request, and
    /// [`Stored::Nothing`] where it can't have.
    pub(crate) fn post(
        &self,
        path: &str,
        body: &[u8],
        authorization: Option<&str>,
        bounds: Bounds,
        reads: bool,
    ) -> Result<Answer> {
        let mut unsent = body;
        let mut ask = |total| {
            unsent = body;
            let connect = bounds.connect.min(total);
            self.try_post(path, &mut unsent, authorization, Bounds { connect, total })
        };
        let answer = match reads {
            true => self.again_if_closed(bounds.total, ask),
            false => ask(bounds.total),
        };
        answer.map_err(|error| self.post_error(path, error, unsent))
    }

    /// Puts JSON. The body of the answer is thrown away where it says that all is well.
    ///
    /// The error says [`Stored::Unknown`] where the server may have got the whole request.
    pub(crate) fn put(&self, path: &str, body: &[u8], timeout: Duration) -> Result<Answer> {
        let mut unsent = body;
        let timeout = timeout.max(MIN_TIMEOUT);
        let request = self.agent.put(format!("{}{path}", self.base));
        let bounds = Bounds {
            connect: timeout,
            total: timeout,
        };
        let request = self.json_request(request, unsent.len(), None);
        self.bounded(request, bounds)
            .send(ureq::SendBody::from_reader(&mut unsent))
            .and_then(|answer| match answer.status().as_u16() {
                200 => self.skim(answer),
                _ => self.read(answer),
            })
            .map_err(|error| self.post_error(path, error, unsent))
    }

    /// A server can't act on JSON whose last byte ureq has not even asked for: what it has not is
    /// left in `unsent`.
    fn try_post(
        &self,
        path: &str,
        unsent: &mut &[u8],
        authorization: Option<&str>,
        bounds: Bounds,
    ) -> Result<Answer, ureq::Error> {
        let request = self.post_request(path, unsent, authorization);
        self.bounded(request, bounds)
            .send(ureq::SendBody::from_reader(unsent))
            .and_then(|answer| self.read(answer))
    }

    fn unless_address(&self, total: Duration) -> Option<Duration> {
        (!self.is_address).then_some(total)
    }

    fn post_request(
        &self,
        path: &str,
        body: &[u8],
        authorization: Option<&str>,
    ) -> ureq::RequestBuilder<ureq::typestate::WithBody> {
        let request = self.agent.post(format!("{}{path}", self.base));
        self.json_request(request, body.len(), authorization)
    }

    fn json_request(
        &self,
        request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        bytes: usize,
        authorization: Option<&str>,
    ) -> ureq::RequestBuilder<ureq::typestate::WithBody> {
        let request = request
            .content_type("application/json")
            .header("content-length", bytes);
        match authorization.or(self.authorization.as_deref()) {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    fn bounded(
        &self,
        request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        bounds: Bounds,
    ) -> ureq::RequestBuilder<ureq::typestate::WithBody> {
        request
            .config()
            .timeout_global(self.unless_address(bounds.total))
            .timeout_connect(Some(bounds.connect))
            .timeout_send_request(Some(bounds.total))
            .timeout_send_body(Some(bounds.total))
            .timeout_recv_response(Some(bounds.total))
            .timeout_recv_body(Some(bounds.total))
            .build()
    }

    /// Reads an answer to its end, so that its connection can be used again, and keeps nothing of its body.
    fn skim(&self, answer: ureq::http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
        self.answered.store(true, Relaxed);
        let (head, body) = answer.into_parts();
        std::io::copy(&mut body.into_reader(), &mut std::io::sink())?;
        Ok(Answer {
            status: head.status.as_u16(),
            body: Vec::new(),
            headers: head.headers,
        })
    }

    fn read(&self, answer: ureq::http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
        self.answered.store(true, Relaxed);
        let (head, mut body) = answer.into_parts();
        Ok(Answer {
            status: head.status.as_u16(),
            body: body.with_config().limit(MAX_ANSWER).read_to_vec()?,
            headers: head.headers,
        })
    }

    fn error(&self, path: &str, error: ureq::Error) -> Error {
        let answered = self.answered.load(Relaxed);
        let (kind, hint) = diagnose(&error, self.base.starts_with("https://"), answered);
        let hint = if answered { "" } else { hint };
        Error::new(kind, format!("{}{path}{hint}", self.base)).with_source(error)
    }

    fn post_error(&self, path: &str, error: ureq::Error, unsent: &[u8]) -> Error {
        // Only a write breaks a pipe, and nothing is written after the request's last byte.
        let cut_off = matches!(&error, ureq::Error::Io(io) if io.kind() == IoKind::BrokenPipe);
        let error = self.error(path, error);
        // Our certificate may be refused after the request was sent, but then unread.
        if unsent.is_empty() && !cut_off && error.kind() != ErrorKind::Unauthorized {
            error.with_stored(Stored::Unknown)
        } else {
            error
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// Whether the host in this URL is an IP address.
fn has_address(base: &str) -> bool {
    let (_, authority, _) = url::split(base);
    let (host, _) = url::split_port(authority);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<std::net::IpAddr>().is_ok()
}

/// Whether `base` is a URL to append a path to, with nothing secret in it.
fn check_url(base: &str, tls: &Tls) -> Result<()> {
    let refuse = |why: &str| {
        let shown = base.rsplit('@').next().unwrap_or_default();
        let shown = shown.split(['?', '#']).next().unwrap_or_default();
        Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("URL {shown:?}: {why}"),
        ))
    };
    let Some(rest) = base
        .strip_prefix("http://")
        .or(base.strip_prefix("https://"))
    else {
        return refuse("it must begin with http:// or https://");
    };
    if rest.contains('@') {
        return refuse("give the user name and the password by their own options");
    }
    if rest.contains(['?', '#']) {
        return refuse("a server's URL has no query and no fragment");
    }
    if base.parse::<ureq::http::Uri>().is_err() {
        return refuse("it is not the URL of a server");
    }
    if !url::is_server(url::split(base).1) {
        return refuse("it needs a host, and its port must be from 1 to 65535");
    }
    if base.starts_with("http://") && (tls.ca().is_some() || tls.client().is_some()) {
        return refuse("TLS is set up for it, so it must begin with https://");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::has_address;

    #[test]
    fn addresses_differ_from_names() {
        for (url, expected) in [
            ("http://127.0.0.1:8099", true),
            ("http://[::1]:8099", true),
            ("https://10.0.0.1/traefik", true),
            ("http://localhost:8099", false),
            ("https://etcd-1.example.org:2379", false),
            ("http://10.0.0.1.example.org", false),
        ] {
            assert_eq!(has_address(url), expected, "{url}");
        }
    }
}
