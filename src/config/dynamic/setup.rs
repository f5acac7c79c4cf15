//! What a [`Router`](crate::Router) needs beside its routes.

use std::fmt;

use serde_json::Value;

use super::api::ApiAccess;
use crate::route::Nested;

/// What a [`Router`](crate::Router) wants of a store beside changes of its routes. What it leaves
/// open stays as it is stored.
#[derive(Clone, PartialEq, Default)]
pub struct Setup {
    /// The entrypoint that all routes of the table are served on.
    pub(crate) entrypoint: Option<String>,
    /// The entrypoint for a table that has none yet.
    pub(crate) default_entrypoint: String,
    /// Whether routers at the entrypoint carry `tls`.
    pub(crate) tls: Option<bool>,
    /// The middleware of the routers at the entrypoint; an empty name is none.
    pub(crate) middleware: Option<String>,
    /// More configuration of every service that a route becomes, as Traefik documents
    /// `loadBalancer`.
    pub(crate) service: Option<Value>,
    /// Whether routers stand below others.
    pub(crate) nested: Option<Nested>,
    /// Whether all Traefiks that were asked know `parentRefs`; `None` where none was asked.
    pub(crate) knows_parents: Option<bool>,
    /// More dynamic configuration that belongs to the table.
    pub(crate) extra: Option<Value>,
    /// The API router for a Traefik of others that has none.
    pub(crate) api: Option<ApiAccess>,
    /// Whether `api` may take the place of one that another Router has stored.
    pub(crate) replace_api: bool,
    /// Whether the API router that a Router has stored goes.
    pub(crate) remove_api: bool,
    /// Whether the table goes when the store is closed, if nobody serves it and it has no routes.
    pub(crate) remove_table: bool,
    /// What a started Traefik reads from this store, because it can't read it elsewhere.
    pub(crate) own: Option<Own>,
    /// Whether the started Traefik has a given default certificate from elsewhere.
    pub(crate) certificate_elsewhere: bool,
    /// Whether a Traefik serves what is stored for as long as this handle is open.
    pub(crate) serves: bool,
    /// Whether that is a started Traefik.
    pub(crate) started: bool,
    /// Whether to refuse a store from which another program serves.
    pub(crate) alone: bool,
}

/// What one Traefik needs beside the table.
#[derive(Clone, PartialEq)]
pub(crate) struct Own {
    pub(crate) api: ApiAccess,
    pub(crate) extra: Value,
    pub(crate) certificate: Certificate,
}

/// A certificate and its private key, in one PEM text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) pem: String,
    /// Whether it stands in for one that nobody gave.
    pub(crate) made_up: bool,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may hold passwords and private keys.
        f.debug_struct("Setup")
            .field("entrypoint", &self.entrypoint)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").finish_non_exhaustive()
    }
}

impl Setup {
    /// A setup that has routes served on this entrypoint, and leaves everything else as it is.
    pub fn new(entrypoint: impl Into<String>) -> Self {
        Self {
            entrypoint: Some(entrypoint.into()),
            ..Self::default()
        }
    }

    /// The same for a Router that starts a Traefik: a table that it begins goes with it, if there are
    /// no routes then.
    pub fn started(mut self) -> Self {
        self.started = true;
        self
    }
}
