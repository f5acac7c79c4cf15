//! The one wrapper over ureq: JSON over HTTP with bounds, basic authentication and TLS.

use std::fmt;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::error::{Error, ErrorKind, Result};

/// How TLS is done towards Traefik's API or a store.
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
    /// The default: certificates are validated against the usual roots.
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

    /// Accepts any certificate. Whoever stands between can then read and change everything,
    /// passwords included. Defaults to `false`.
    pub fn danger_skip_validation(mut self, skip: bool) -> Self {
        self.skip_validation = skip;
        self
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
}

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) next_page: Option<u32>,
}

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
            .user_agent(concat!("traefik-router/", env!("CARGO_PKG_VERSION")));
        Ok(Self {
            base: base.into(),
            agent: with_tls(config, base, tls)?.build().new_agent(),
            authorization: None,
        })
    }

    /// Sends a user name and a password with every request.
    pub(crate) fn basic_auth(mut self, user: &str, password: &str) -> Self {
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        self.authorization = Some(format!("Basic {credentials}"));
        self
    }

    /// The URL that paths are appended to.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn get(&self, path: &str, timeout: Duration) -> Result<Answer> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let config = request.config().timeout_global(Some(timeout));
        self.answer(path, config.build().call())
    }

    /// Posts JSON. `authorization` replaces the header that would be sent otherwise.
    #[expect(dead_code, reason = "only etcd is posted to")]
    pub(crate) fn post(
        &self,
        path: &str,
        body: &[u8],
        authorization: Option<&str>,
        timeout: Duration,
    ) -> Result<Answer> {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        if let Some(authorization) = authorization.or(self.authorization.as_deref()) {
            request = request.header("authorization", authorization);
        }
        let request = request.content_type("application/json");
        let config = request.config().timeout_global(Some(timeout));
        self.answer(path, config.build().send(body))
    }

    fn answer(
        &self,
        path: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Answer> {
        let read = |mut answer: ureq::http::Response<ureq::Body>| {
            let header = answer.headers().get("x-next-page");
            let next_page = header.and_then(|page| page.to_str().ok()?.parse().ok());
            let status = answer.status().as_u16();
            // Traefik's full list of 100,000 routers is about 30 MB.
            let body = answer
                .body_mut()
                .with_config()
                .limit(1 << 30)
                .read_to_vec()?;
            Ok(Answer {
                status,
                body,
                next_page,
            })
        };
        answer.and_then(read).map_err(|error| {
            let kind = match &error {
                ureq::Error::Io(_)
                | ureq::Error::Timeout(_)
                | ureq::Error::HostNotFound
                | ureq::Error::ConnectionFailed => ErrorKind::Unavailable,
                _ => ErrorKind::Protocol,
            };
            Error::new(kind, format!("{}{path}", self.base)).with_source(error)
        })
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// Whether `base` is a URL to append a path to, with nothing secret in it.
fn check_url(base: &str, tls: &Tls) -> Result<()> {
    let refuse = |why: &str| {
        let shown = base.rsplit('@').next().unwrap_or_default();
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
    if rest.contains(['?', '#']) || base.parse::<ureq::http::Uri>().is_err() {
        return refuse("it is not the URL of a server");
    }
    if base.starts_with("http://") && (tls.ca_pem.is_some() || tls.client_pem.is_some()) {
        return refuse("TLS is set up for it, so it must begin with https://");
    }
    Ok(())
}

/// The configuration of an agent, before it is complete.
type Config = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

#[cfg(feature = "tls")]
fn with_tls(agent: Config, _base: &str, tls: &Tls) -> Result<Config> {
    use ureq::tls::{
        Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem,
    };

    let bad = |what: &str| Error::new(ErrorKind::InvalidConfig, format!("{what} is not PEM"));
    let certificates = |pem: &[u8], what: &str| -> Result<Vec<Certificate<'static>>> {
        let mut found = Vec::new();
        for item in parse_pem(pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|_| bad(what))? {
                found.push(certificate);
            }
        }
        if found.is_empty() {
            Err(bad(what))
        } else {
            Ok(found)
        }
    };
    let mut config = TlsConfig::builder().disable_verification(tls.skip_validation);
    if let Some(pem) = &tls.ca_pem {
        let roots = certificates(pem, "the CA certificate")?;
        config = config.root_certs(RootCerts::new_with_certs(&roots));
    }
    if let Some((certificate, key)) = &tls.client_pem {
        let chain = certificates(certificate, "the client certificate")?;
        let key = PrivateKey::from_pem(key).map_err(|_| bad("the client's private key"))?;
        config = config.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
    Ok(agent.tls_config(config.build()))
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
