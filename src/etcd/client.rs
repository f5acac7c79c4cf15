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
/// It is `Send + Sync`; clones are cheap and share connections, the token and what is known about
/// the endpoints, so a clone may have another timeout: `client.clone().timeout(..)`.
#[derive(Clone)]
pub struct Client {
    pub(super) endpoints: Endpoints,
    pub(super) auth: Option<Arc<Auth>>,
    pub(super) timeout: Duration,
}

impl Client {
    /// A client for the members of one cluster, each an `http://` or `https://` URL with a port.
    ///
    /// Nothing is sent yet. The first endpoint is asked until it fails; the one that then answers
    /// is asked from there on. A failed one is left alone for 0.25 seconds, and up to 30 seconds
    /// if it goes on failing, unless no other is left. Before another one is asked for anything, it has to
    /// say that it is of the same cluster.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) when there is no URL, or one
    /// is not a URL, holds a password, or needs the feature `tls` where that is turned off.
    pub fn new<U: Into<String>>(endpoints: impl IntoIterator<Item = U>) -> Result<Self> {
        let urls: Vec<String> = endpoints.into_iter().map(Into::into).collect();
        Ok(Self {
            endpoints: Endpoints::new(&urls, &Tls::new())?,
            auth: None,
            timeout: Duration::from_secs(10),
        })
    }

    /// The user to log in as, and the password.
    ///
    /// The first call logs in; the token is kept until etcd refuses it, which it does after five
    /// idle minutes or a restart. Defaults to no user.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.auth = Some(Arc::new(Auth::new(name.into(), password.into())));
        self
    }

    /// How TLS is done with the `https` endpoints. Defaults to [`Tls::new`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) when a certificate or key is
    /// not PEM, or an endpoint's URL begins with `http://` while certificates are given.
    pub fn tls(mut self, tls: &Tls) -> Result<Self> {
        let urls: Vec<String> = self.endpoints.urls().map(Into::into).collect();
        self.endpoints = Endpoints::new(&urls, tls)?;
        Ok(self)
    }

    /// How long one call may take, over all endpoints and repetitions. Defaults to 10 seconds.
    ///
    /// A call that reads a large tree in pages is several calls.
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
