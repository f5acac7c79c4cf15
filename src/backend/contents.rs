//! What a store holds, for whoever only looks.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use super::Commit;
use crate::route::{Layout, Nested, Table, fallback_name, parent_name, router_name};

/// What a store holds, as [`Backend::inspect`](super::Backend::inspect) finds it.
#[derive(Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Contents {
    /// All routes, with those that jupyterhub-traefik-proxy left.
    pub routes: Table,
    /// How many of them jupyterhub-traefik-proxy left; the next Router that opens the store takes
    /// them over.
    pub legacy_routes: usize,
    /// The last commit; `None` where no Router has opened the store yet, or the store does not say.
    pub commit: Option<Commit>,
    /// The entrypoint that routes are served on; empty where no Router has opened the store yet.
    pub entrypoint: String,
    /// Whether the routers of the routes carry `tls`.
    pub tls: bool,
    /// What every service has beside its server; null where nothing was set.
    pub service: Value,
    /// The middleware of the routers at the entrypoint; empty where there is none.
    pub middleware: String,
    /// What an [`attach`](crate::Builder::attach) has stored as
    /// [`extra_dynamic_config`](crate::Builder::extra_dynamic_config), without a default certificate. It may hold
    /// secrets.
    pub extra: Value,
    /// Whether the routers of the routes are nested.
    pub nested: Nested,
    /// The part of the stored dynamic configuration that says how Traefik's API is guarded and which certificate is
    /// the default one. Other programs may have written it. It may hold a password's hash and a private key.
    pub config: Value,
    /// Whether an [`attach`](crate::Builder::attach) has stored a router for Traefik's API.
    pub has_api_router: bool,
}

impl Contents {
    /// Nothing but these routes.
    pub fn new(routes: Table) -> Self {
        Self {
            routes,
            ..Self::default()
        }
    }

    /// The routers of this table by what Traefik calls them, `name@provider`, each with what it is
    /// for: a route, the routes below a parent, or the generation.
    pub fn router_names(&self, provider: &str) -> HashMap<String, String> {
        let namespace = self.commit.as_ref().map(|commit| &*commit.namespace);
        let namespace = namespace.unwrap_or_default();
        let routes = self.routes.iter().map(|route| {
            let what = format!("the route {}", route.spec);
            (router_name(namespace, &route.spec), what)
        });
        let layout = Layout::of(&self.routes, self.nested);
        let parents = layout.parents().keys().flat_map(|group| {
            let what = format!("the parent of all routes {group}…, so that none of them is served");
            let rest = format!("what is left of the routes {group}…");
            let names = [
                parent_name(namespace, group),
                fallback_name(namespace, group),
            ];
            names.into_iter().zip([what, rest])
        });
        let generation = self.commit.as_ref().map(|commit| {
            let what = "the router that shows the generation";
            (commit.marker.clone(), what.to_string())
        });
        let names = routes.chain(parents).chain(generation);
        names
            .map(|(name, what)| (format!("{name}@{provider}"), what))
            .collect()
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
