//! The routes that jupyterhub-traefik-proxy 2 keeps in a file.

use std::collections::HashSet;

use serde_json::Value;

use crate::config::text::Node;
use crate::error::{Error, ErrorKind, Result};
use crate::route::Route;

/// The map in which jupyterhub-traefik-proxy keeps its routes.
pub(super) const LEGACY: &str = "jupyterhub";

/// Its routes, and the names they go by.
pub(super) struct LegacyRoutes {
    pub(super) routes: Vec<Route>,
    names: HashSet<String>,
}

impl LegacyRoutes {
    pub(super) fn in_file(tree: &Node) -> Result<Self> {
        let mut found = Self {
            routes: Vec::new(),
            names: HashSet::new(),
        };
        let stored = tree
            .get(&[LEGACY, "routes"])
            .map(Node::to_value)
            .unwrap_or_default();
        for (alias, stored) in stored.as_object().into_iter().flatten() {
            let text = |key: &str| stored[key].as_str().unwrap_or_default();
            let data = stored.get("data").cloned().unwrap_or(Value::Null);
            let route = Route::new(text("routespec"), text("target")).map_err(|error| {
                Error::new(
                    ErrorKind::Corrupt,
                    format!("{LEGACY}.routes.{alias}: {error}"),
                )
            })?;
            found.routes.push(route.data(data));
            for name in [alias, text("router"), text("service")] {
                found.names.insert(name.to_string());
            }
        }
        Ok(found)
    }

    pub(super) fn owns(&self, path: &[&str]) -> bool {
        match path {
            ["http", "routers" | "services", name] | [LEGACY, "routes", name] => {
                self.names.contains(*name)
            }
            _ => false,
        }
    }
}
