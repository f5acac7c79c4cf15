//! What a store holds, for whoever only looks.

use std::fmt;

use serde_json::Value;

use super::Commit;
use crate::route::{Nested, Table};

/// What a store holds, as [`Backend::inspect`](super::Backend::inspect) finds it.
#[derive(Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Contents {
    /// All routes, with those that jupyterhub-traefik-proxy left.
    pub routes: Table,
    /// How many of them jupyterhub-traefik-proxy left; the next Router that opens the store takes
    /// them over.
    pub legacy_routes: usize,
    /// The last commit; `None` where no Router has opened the store yet, or the store does not tell.
    pub commit: Option<Commit>,
    /// The entrypoint that routes are served on; empty where no Router has opened the store yet.
    pub entrypoint: String,
    /// Whether the routers of the routes carry `tls`.
    pub tls: bool,
    /// What every service has beside its server; null where nothing was set.
    pub service: Value,
    /// Whether the routers of the routes stand below others.
    pub nested: Nested,
    /// Dynamic configuration that is stored beside the routes, ours and what others wrote, as far
    /// as it says how Traefik's API is guarded and which certificate is the default one. It may
    /// hold a password's hash and a private key.
    pub config: Value,
}

impl Contents {
    /// Nothing but these routes.
    pub fn new(routes: Table) -> Self {
        Self {
            routes,
            ..Self::default()
        }
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents")
            .field("routes", &self.routes.len())
            .field("legacy_routes", &self.legacy_routes)
            .field("commit", &self.commit)
            .field("entrypoint", &self.entrypoint)
            .finish_non_exhaustive()
    }
}
