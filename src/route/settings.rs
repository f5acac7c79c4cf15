//! What a route asks of Traefik beside its target.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::allowed::{self, ROUTER, SERVICE, Version, is_item};
use super::target::Target;

/// A server that some of a route's requests go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Server {
    /// Where it is.
    #[serde(rename = "url")]
    pub target: Target,
    /// Its share of the requests, among the weights of all servers of the route. One of weight 0 gets none.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
}

/// What a route asks for beside its target. Maps have Traefik's own keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// The weight of the route's target.
    #[serde(skip_serializing_if = "is_one")]
    pub(super) weight: u32,
    /// The servers beside the target.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) servers: Vec<Server>,
    /// Whether the service has a name that stays when the servers change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) own_service: bool,
    /// Whether requests reach the servers without the path of the route.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) strip_prefix: bool,
    /// Of the service's `loadBalancer`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) service: BTreeMap<String, Value>,
    /// Names of middlewares, in the order in which requests pass them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) middlewares: Vec<String>,
    /// Of the router.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) router: BTreeMap<String, Value>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            weight: 1,
            servers: Vec::new(),
            own_service: false,
            strip_prefix: false,
            service: BTreeMap::new(),
            middlewares: Vec::new(),
            router: BTreeMap::new(),
        }
    }
}

/// Refuses settings of a service that no route may have. A `null` stands for no setting.
pub(crate) fn check_service_config(config: &Value) -> Result<(), String> {
    let set = config.as_object().into_iter().flatten();
    set.filter(|(_, value)| !value.is_null())
        .try_for_each(|(name, value)| allowed::accept(&SERVICE, name, value.clone()).map(drop))
}

impl Settings {
    pub(super) fn add_server(&mut self, first: &Target, server: Server) -> Result<(), String> {
        let mut known = self.servers.iter().map(|server| &server.target);
        if *first == server.target || known.any(|known| *known == server.target) {
            return Err(format!("it has the server {} already", server.target));
        }
        self.servers.push(server);
        Ok(())
    }

    pub(super) fn add_middleware(&mut self, name: String) -> Result<(), String> {
        let is_part = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
        let mut parts = name.split('@');
        let is_name =
            is_item(&name) && parts.by_ref().take(2).all(is_part) && parts.next().is_none();
        if !is_name {
            return Err(format!(
                "{name:?} is no middleware's name: such as \"strip\", or \"strip@file\" of another provider"
            ));
        }
        self.middlewares.push(name);
        Ok(())
    }

    pub(super) fn set_service(&mut self, name: &str, value: Value) -> Result<(), String> {
        let value = allowed::accept(&SERVICE, name, value)?;
        self.service.insert(name.into(), value);
        Ok(())
    }

    pub(super) fn set_router(&mut self, name: &str, value: Value) -> Result<(), String> {
        let value = allowed::accept(&ROUTER, name, value)?;
        self.router.insert(name.into(), value);
        Ok(())
    }

    /// The same, with each part accepted as if a caller had set it.
    pub(super) fn accepted(self, first: &Target) -> Result<Self, String> {
        let mut accepted = Self {
            weight: self.weight,
            own_service: self.own_service,
            strip_prefix: self.strip_prefix,
            ..Self::default()
        };
        for server in self.servers {
            accepted.add_server(first, server)?;
        }
        for name in self.middlewares {
            accepted.add_middleware(name)?;
        }
        for (name, value) in self.service {
            accepted.set_service(&name, value)?;
        }
        for (name, value) in self.router {
            accepted.set_router(&name, value)?;
        }
        Ok(accepted)
    }

    /// Why no request could be served.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let mut weights = self.servers.iter().map(|server| server.weight);
        (self.weight == 0 && weights.all(|weight| weight == 0))
            .then_some("all of its servers have the weight 0, so that none would get a request")
    }

    /// The TLS options that its router asks for.
    pub(super) fn tls_options(&self) -> Option<&str> {
        self.router.get("tls")?["options"].as_str()
    }

    /// Whether its service has more than one server and Traefik's defaults.
    pub(super) fn has_service(&self) -> bool {
        self.weight != 1 || !self.servers.is_empty() || !self.service.is_empty()
    }

    /// The latest key that it sets, and the first Traefik that knows it.
    pub(super) fn latest(&self) -> Option<(Version, String)> {
        let service = allowed::latest(&SERVICE, self.service.iter());
        let router = allowed::latest(&ROUTER, self.router.iter());
        [service, router]
            .into_iter()
            .flatten()
            .max_by_key(|(since, _)| *since)
    }
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_one(number: &u32) -> bool {
    *number == 1
}
