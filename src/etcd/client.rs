//! The client and its options.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::auth::Auth;
use super::endpoints::Endpoints;
use crate::error::Result;
use crate::http::Tls;

/// A blocking client of one etcd cluster.
///
/// It is `Send + Sync`. Clones are cheap: they share the connections, the token and the state of the
/// endpoints. A clone may have a timeout of its own: `client.clone().timeout(..)`.
#[derive(Clone)]
pub struct Client {
    pub(super) endpoints: Endpoints,
    pub(super) auth: Option<Arc<Auth>>,
    pub(super) timeout: Duration,
}

impl Client {
    /// A client for the members of one cluster, each an `http://` or `https://` URL with a port.
    ///
    /// It sends nothing yet. Calls go to the first endpoint until it fails, and then to the one that
    /// answers. A failed endpoint is skipped for 0.25 seconds, and for up to 30 seconds if it fails
    /// again, unless all endpoints have failed. Before an endpoint is used in place of another one,
    /// the client checks that both belong to the same cluster.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) if there is no URL, or if one is
    /// not a URL, holds a password, or begins with `https` and the feature `tls` is off.
    pub fn new<U: Into<String>>(endpoints: impl IntoIterator<Item = U>) -> Result<Self> {
        let urls: Vec<String> = endpoints.into_iter().map(Into::into).collect();
        Ok(Self {
            endpoints: Endpoints::new(&urls, &Tls::new())?,
            auth: None,
            timeout: Duration::from_secs(10),
        })
    }

    /// The user to log in as, and the password. Defaults to no user.
    ///
    /// The first call logs in. The client keeps the token until etcd refuses it, as etcd does after
    /// five minutes without use and after a restart. The client then logs in again.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.auth = Some(Arc::new(Auth::new(name.into(), password.into())));
        self
    }

    /// The TLS settings for the `https` endpoints. Defaults to [`Tls::new`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) if a certificate or key is not
    /// PEM, or if certificates are given and an endpoint's URL begins with `http://`.
    pub fn tls(mut self, tls: &Tls) -> Result<Self> {
        let urls: Vec<String> = self.endpoints.urls().map(Into::into).collect();
        self.endpoints = Endpoints::new(&urls, tls)?;
        Ok(self)
    }

    /// How long one call may take, with all endpoints and retries. Defaults to 10 seconds.
    ///
    /// [`get_prefix`](Self::get_prefix) makes one such call for each page.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoints", &self.endpoints)
            .field("auth", &self.auth)
            .field("timeout", &self.timeout)
            .finish()
    }
}
