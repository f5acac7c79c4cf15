//! How TLS is done towards a server.

use std::fmt;

#[cfg(feature = "tls")]
use crate::client_tls;
#[cfg(feature = "tls")]
use crate::config::certificate::{certificates, check_client};
#[cfg(not(feature = "tls"))]
use crate::error::ErrorKind;
use crate::error::{Error, Result};

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

type Config = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

#[cfg(feature = "tls")]
pub(super) fn with_tls(agent: Config, _base: &str, tls: &Tls) -> Result<Config> {
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
pub(super) fn with_tls(agent: Config, base: &str, _tls: &Tls) -> Result<Config> {
    if base.starts_with("https://") {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("{base:?} needs the feature \"tls\", which this build lacks"),
        ));
    }
    Ok(agent)
}
