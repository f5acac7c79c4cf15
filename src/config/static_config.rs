//! The static configuration of a started Traefik.

use std::time::Duration;

use serde_json::{Value, json};

use super::merge;

/// How long Traefik may read a request: for ever. Its own default of 60 s cuts slow uploads.
pub(crate) const READ_TIMEOUT: &str = "0s";

/// What the static configuration is made of.
pub(crate) struct StaticConfig<'a> {
    pub(crate) entrypoint: Entrypoint<'a>,
    pub(crate) api: Entrypoint<'a>,
    pub(crate) throttle: Duration,
    pub(crate) grace: Duration,
    pub(crate) log_level: &'a str,
    /// The provider's part, as the backend gives it.
    pub(crate) provider: Value,
    pub(crate) extra: &'a Value,
}

/// Where Traefik listens.
pub(crate) struct Entrypoint<'a> {
    pub(crate) name: &'a str,
    /// `host:port`; an empty host means all addresses.
    pub(crate) address: String,
    pub(crate) tls: bool,
}

impl StaticConfig<'_> {
    /// The tree to write down for Traefik.
    pub(crate) fn to_value(&self) -> Value {
        let mut config = json!({
            "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
            "log": {"level": self.log_level, "format": "json"},
            "api": {"dashboard": true},
            "entryPoints": {
                self.entrypoint.name: self.entrypoint.to_value(self.grace),
                self.api.name: self.api.to_value(self.grace),
            },
            "providers": {"providersThrottleDuration": format!("{}ms", self.throttle.as_millis())},
        });
        merge(&mut config, &self.provider);
        merge(&mut config, self.extra);
        config
    }
}

impl Entrypoint<'_> {
    fn to_value(&self, grace: Duration) -> Value {
        let mut entrypoint = json!({
            "address": self.address,
            "transport": {
                "respondingTimeouts": {"readTimeout": READ_TIMEOUT},
                "lifeCycle": {"graceTimeOut": format!("{}ms", grace.as_millis())},
            },
        });
        if self.tls {
            entrypoint["http"] = json!({"tls": {"options": "default"}});
        }
        entrypoint
    }
}
