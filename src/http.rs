//! The one wrapper over ureq: JSON over HTTP with bounds, basic authentication and TLS.

use std::fmt;
use std::io::{ErrorKind as IoKind, Read as _};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};

#[cfg(feature = "tls")]
use crate::client_tls;
#[cfg(feature = "tls")]
use crate::config::certificate::{certificates, check_client};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::url;

/// How TLS is done towards a server.
///
/// By default the certificate must be valid for the name in the URL, under the roots that browsers
/// trust (as compiled in). Needs the feature `tls`.
#[derive(Clone, Default)]
pub struct Tls {
    ca_pem: Option<Vec<u8>>,
    client_pem: Option<(Vec<u8>, Vec<u8>)>,
    skip_validation: bool,
}

impl Tls {
    /// The default: certificates are validated against the public CAs that are compiled in. The system's own list is
    /// not read.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificates in this PEM text, and no others.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// Shows this certificate (with its chain) to the server. Both are PEM texts.
    pub fn client_pem(mut self, cert: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.client_pem = Some((cert.into(), key.into()));
        self
    }

    /// Accepts any certificate. A machine in between can then read and change everything,
    /// passwords included. Defaults to `false`.
    pub fn danger_skip_validation(mut self, skip: bool) -> Self {
        self.skip_validation = skip;
        self
    }
}

/// For callers that write these settings into a configuration.
impl Tls {
    pub(crate) fn ca(&self) -> Option<&[u8]> {
        self.ca_pem.as_deref()
    }

    pub(crate) fn client(&self) -> Option<(&[u8], &[u8])> {
        let (cert, key) = self.client_pem.as_ref()?;
        Some((cert, key))
    }

    pub(crate) fn skips_validation(&self) -> bool {
        self.skip_validation
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca_pem", &self.ca_pem.is_some())
            .field("client_pem", &self.client_pem.is_some())
            .field("skip_validation", &self.skip_validation)
            .finish()
    }
}

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

    /// Posts JSON and reads the answer line by line, for as long as the server goes on with it.
    ///
    /// `bounds` hold until the answer begins. Errors are those of [`Http::post`].
    pub(crate) fn stream(
        &self,
        path: &str,
        body: &[u8],
        authorization: Option<&str>,
        bounds: Bounds,
    ) -> Result<Stream> {
        let deadline = Instant::now() + bounds.total;
        let mut tick = FIRST_TICK;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let request = self
                .post_request(path, body, authorization)
                .config()
                .timeout_connect(Some(bounds.connect.min(left)))
                .timeout_resolve(Some(left))
                .timeout_send_request(Some(left))
                .timeout_send_body(Some(left))
                .timeout_recv_response(Some(left))
                .timeout_per_read(Some(tick))
                .build();
            let mut unsent = body;
            match request.send(ureq::SendBody::from_reader(&mut unsent)) {
                Ok(answer) => {
                    return Ok(Stream {
                        url: format!("{}{path}", self.base),
                        status: answer.status().as_u16(),
                        body: answer.into_body().into_reader(),
                        unread: Vec::new(),
                    });
                }
                // The network is slower than the tick.
                Err(ureq::Error::Timeout(ureq::Timeout::PerRead)) if tick < left => tick *= 4,
                Err(error) => return Err(self.post_error(path, error, unsent)),
            }
        }
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

/// Whether nothing listens there.
pub(crate) fn is_refused(error: &Error) -> bool {
    let cause = error.cause().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(ureq::Error::Io(error)) if error.kind() == IoKind::ConnectionRefused)
}

/// Whether the other side has closed the connection.
fn is_closed(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(error) if matches!(
        error.kind(),
        IoKind::UnexpectedEof | IoKind::ConnectionReset | IoKind::BrokenPipe
    ))
}

const BY_ANOTHER_CA: &str =
    " (its certificate is not signed by a trusted CA: `ca_pem` has the CA to trust)";

/// What rustls says, what kind of failure that is, and what to do about it. The first hit counts.
const KNOWN: &[(&str, ErrorKind, &str)] = &[
    ("UnknownIssuer", ErrorKind::Unauthorized, BY_ANOTHER_CA),
    ("BadSignature", ErrorKind::Unauthorized, BY_ANOTHER_CA),
    (
        "CaUsedAsEndEntity",
        ErrorKind::Unauthorized,
        " (its certificate is a CA's own, which no server may show: make it one with CA:FALSE, or one that \
         the CA signs)",
    ),
    (
        "UnsupportedSignatureAlgorithm",
        ErrorKind::Unauthorized,
        " (its certificate can't be checked, as where its key is on the curve P-521: make one on P-256 or \
         P-384, or an RSA key)",
    ),
    (
        "invalid peer certificate",
        ErrorKind::Unauthorized,
        " (its certificate is not acceptable)",
    ),
    (
        "HandshakeFailure",
        ErrorKind::Unauthorized,
        " (it and this program have no way of TLS in common, as where its key is on the curve P-521: make \
         one on P-256 or P-384, or an RSA key; or it wants a certificate: `client_pem` has the one to show)",
    ),
    (
        "fatal alert",
        ErrorKind::Unauthorized,
        " (it refused the given TLS certificate, or wants one: `client_pem` has the one to show)",
    ),
    (
        "corrupt message",
        ErrorKind::Protocol,
        " (it does not speak TLS: the URL may have to begin with http://)",
    ),
];

/// The kind of a failed exchange, and what to do about it where that is known.
///
/// rustls is not a dependency of ours, so its errors are told apart by their text.
fn diagnose(error: &ureq::Error, tls: bool, answered: bool) -> (ErrorKind, &'static str) {
    let kind = match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed => ErrorKind::Unavailable,
        _ => ErrorKind::Protocol,
    };
    let text = error.to_string();
    let closed = !answered && is_closed(error);
    let known = KNOWN.iter().find(|(words, ..)| text.contains(words));
    if let Some((_, kind, hint)) = known {
        (*kind, *hint)
    } else if closed && tls {
        let hint = " (closed without an answer; where it does not speak TLS, the URL must begin with \
                    http://; where it wants a certificate, `client_pem` has the one to show)";
        (kind, hint)
    } else if closed {
        let hint = " (closed without an answer; where it speaks TLS, the URL must begin with \
                    https://)";
        (kind, hint)
    } else {
        (kind, "")
    }
}

/// How often a waiting [`Stream`] looks at the clock.
const FIRST_TICK: Duration = Duration::from_millis(100);

/// An answer that comes line by line. Dropping it closes the connection.
pub(crate) struct Stream {
    url: String,
    status: u16,
    body: ureq::BodyReader<'static>,
    unread: Vec<u8>,
}

impl Stream {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// The next line, without its end; `None` if none came until `deadline`, which is overrun by
    /// a tenth of a second at most (on a network where a round trip takes longer: by more).
    ///
    /// An error means that the connection is gone, or the answer has come to its end.
    pub(crate) fn line(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.unread[searched..]
                .iter()
                .position(|&byte| byte == b'\n')
            {
                let rest = self.unread.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.unread, rest);
                line.pop();
                return Ok(Some(line));
            }
            searched = self.unread.len();
            let mut buffer = [0; 16 * 1024];
            match self.body.read(&mut buffer) {
                Ok(0) if self.unread.is_empty() => return Err(self.ended("the answer ended")),
                Ok(0) => return Ok(Some(std::mem::take(&mut self.unread))),
                Ok(read) => self.unread.extend_from_slice(&buffer[..read]),
                Err(error) => match ureq::Error::from(error) {
                    ureq::Error::Timeout(_) => {}
                    error => return Err(self.ended("the connection broke").with_source(error)),
                },
            }
            if Instant::now() >= deadline && !self.unread.contains(&b'\n') {
                return Ok(None);
            }
        }
    }

    fn ended(&self, how: &str) -> Error {
        Error::new(ErrorKind::Unavailable, format!("{}: {how}", self.url))
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
    if base.starts_with("http://") && (tls.ca_pem.is_some() || tls.client_pem.is_some()) {
        return refuse("TLS is set up for it, so it must begin with https://");
    }
    Ok(())
}

type Config = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

#[cfg(feature = "tls")]
fn with_tls(agent: Config, _base: &str, tls: &Tls) -> Result<Config> {
    let no_pem = |what: &str| Error::invalid(format!("{what} is not PEM"));
    let no_ca = || no_pem("the CA certificate");
    let roots = tls.ca().map(|pem| certificates(pem).ok_or_else(no_ca));
    let own = tls
        .client()
        .map(|(cert, key)| match check_client(cert, key) {
            Ok(chain) => Ok((chain, key)),
            Err(why) => Err(Error::invalid(format!("the client certificate: {why}"))),
        });
    let config = client_tls::config(roots.transpose()?, own.transpose()?, tls.skip_validation);
    let config = config.map_err(|_| no_pem("the client's private key"))?;
    Ok(agent.tls_config(config))
}

#[cfg(not(feature = "tls"))]
fn with_tls(agent: Config, base: &str, _tls: &Tls) -> Result<Config> {
    if base.starts_with("https://") {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("{base:?} needs the feature \"tls\", which this build lacks"),
        ));
    }
    Ok(agent)
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
