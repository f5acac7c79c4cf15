//! What Traefik's API answers.

use serde::Deserialize;
use serde_json::Value;

/// What `/api/version` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Version {
    /// Such as `3.7.15`.
    #[serde(rename = "Version")]
    pub version: String,
    /// When this process started (RFC 3339); another value means that Traefik was restarted.
    #[serde(rename = "startDate", default)]
    pub start_date: String,
}

/// An entrypoint: a place where Traefik listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EntryPoint {
    /// The name that routers use.
    pub name: String,
    /// `host:port`.
    #[serde(default)]
    pub address: String,
    /// Its settings for HTTP, as Traefik documents them.
    #[serde(default)]
    pub http: Value,
    /// Whose `X-Forwarded-…` headers it believes, as Traefik documents it.
    #[serde(default)]
    pub forwarded_headers: Value,
    /// How long requests may take, as Traefik documents it.
    #[serde(default)]
    pub transport: Value,
}

impl EntryPoint {
    /// Whether it serves TLS to routers that do not ask for it.
    pub(crate) fn has_tls(&self) -> bool {
        !self.http["tls"].is_null()
    }

    /// For how long it reads a request; `None` for as long as it takes.
    pub(crate) fn read_timeout(&self) -> Option<&str> {
        self.transport["respondingTimeouts"]["readTimeout"].as_str()
    }

    /// Whether it answers all requests with a redirect.
    pub(crate) fn redirects(&self) -> bool {
        !self.http["redirections"]["entryPoint"].is_null()
    }
}

/// A router as Traefik runs it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RouterInfo {
    /// The name, with its provider: `…-user-zoe@file`.
    pub name: String,
    /// The rule that requests have to match.
    #[serde(default)]
    pub rule: String,
    /// The greater one is tried first. Traefik's own routers come close to the greatest `i64`.
    #[serde(default)]
    pub priority: i64,
    /// The service that requests go to.
    #[serde(default)]
    pub service: String,
    /// What requests pass on the way there, by their names with the provider.
    #[serde(default)]
    pub middlewares: Vec<String>,
    /// Its TLS settings; null without any.
    #[serde(default)]
    pub tls: Value,
    /// Its observability settings; null without any.
    #[serde(default)]
    pub observability: Value,
    /// Where the router listens; nowhere itself if it stands below others.
    #[serde(default)]
    pub entry_points: Vec<String>,
    /// The routers that it stands below, by their names with the provider.
    #[serde(default)]
    pub parent_refs: Vec<String>,
    /// `enabled`, `disabled` or `warning`.
    #[serde(default)]
    pub status: String,
    /// Why it is not enabled, in Traefik's words.
    #[serde(default)]
    pub error: Vec<String>,
}

/// A service as Traefik runs it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Service {
    /// The name, with its provider.
    pub name: String,
    /// `enabled`, `disabled` or `warning`.
    #[serde(default)]
    pub status: String,
    /// The servers, and all else that Traefik shows of a load balancer.
    #[serde(default)]
    pub load_balancer: Value,
    /// The routers that use it.
    #[serde(default)]
    pub used_by: Vec<String>,
}

/// A middleware as Traefik runs it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Middleware {
    /// The name, with its provider.
    pub name: String,
    /// `enabled`, `disabled` or `warning`.
    #[serde(default)]
    pub status: String,
    /// Its configuration, under the name of its type.
    #[serde(flatten)]
    pub settings: serde_json::Map<String, Value>,
}
