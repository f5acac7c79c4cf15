//! The router of Traefik's API, and the middleware that guards it.

use serde_json::{Value, json};

use super::password::is_hash_of;
use super::without_empty_maps;
use crate::config::merge;

/// The router of Traefik's API that we set up, and the middleware that guards it.
pub(crate) const API_ROUTER: &str = "traefik-router-api";
const REST_ROUTER: &str = "traefik-router-rest";
const API_AUTH: &str = "traefik-router-api-auth";
const METRICS_ROUTER: &str = "traefik-router-api-metrics";
/// The same names as jupyterhub-traefik-proxy has them, and this crate had them before 0.1.
const OLD_API_ROUTER: &str = "route_api";
const OLD_API_AUTH: &str = "auth_api";

/// The middlewares that may guard the API.
pub(crate) const API_GUARDS: [&str; 2] = [API_AUTH, OLD_API_AUTH];

/// Above all routers of others on the API's entrypoint.
const API_PRIORITY: u64 = 2_000_000_000;
/// What Traefik calls its API.
const API_SERVICE: &str = "api@internal";
/// What Traefik calls its REST provider, which takes a table that is pushed.
pub(crate) const REST_SERVICE: &str = "rest@internal";

/// How Traefik's API is guarded.
#[derive(Clone, PartialEq)]
pub(crate) struct ApiAccess {
    pub(crate) entrypoint: String,
    pub(crate) username: String,
    pub(crate) password: String,
    /// Whether the user chose the password.
    pub(crate) given: bool,
    /// The hash as Traefik's basicAuth takes it.
    pub(crate) password_hash: String,
    /// Whether Traefik's metrics are to be had there, too.
    pub(crate) metrics: bool,
}

impl ApiAccess {
    /// The router of the API and the middleware that guards it, for a started Traefik. Their names
    /// end in `ending`.
    pub(crate) fn config(&self, ending: &str) -> Value {
        self.config_at(API_PRIORITY, ending)
    }

    /// The router of the REST provider, behind the same guard, beside [`config`](Self::config).
    pub(crate) fn rest_config(&self) -> Value {
        json!({"http": {"routers": {REST_ROUTER: {
            "rule": "Path(\"/api/providers/rest\") && Method(\"PUT\")",
            "priority": API_PRIORITY + 1,
            "entryPoints": [self.entrypoint],
            "service": REST_SERVICE,
            "middlewares": [API_AUTH],
        }}}})
    }

    /// The same for a Traefik of others. Routers that they have on that entrypoint come first.
    pub(crate) fn config_for_others(&self) -> Value {
        self.config_at(1, "")
    }

    fn config_at(&self, priority: u64, ending: &str) -> Value {
        let users = [format!("{}:{}", self.username, self.password_hash)];
        let [router, guard] = [API_ROUTER, API_AUTH].map(|name| format!("{name}{ending}"));
        let mut config = json!({"http": {
            "routers": {&router: {
                "rule": "PathPrefix(\"/api\") || PathPrefix(\"/dashboard\")",
                "priority": priority,
                "entryPoints": [self.entrypoint],
                "service": API_SERVICE,
                "middlewares": [&guard],
            }},
            "middlewares": {&guard: {"basicAuth": {"users": users}}},
        }});
        if self.metrics {
            let routers = &mut config["http"]["routers"];
            routers[format!("{METRICS_ROUTER}{ending}")] = metrics_beside(&routers[&router]);
        }
        config
    }

    /// Whether a Traefik with this configuration lets us in, on the API's entrypoint.
    pub(crate) fn is_let_in_by(&self, config: &Value) -> bool {
        let is_there = !api_routers(config, &self.entrypoint).is_empty();
        is_there
            && guarding_users(config).any(|(name, hash)| {
                name == self.username
                    && (hash == self.password_hash
                        || is_hash_of(hash, &self.password) == Some(true))
            })
    }
}

/// The router of Traefik's metrics, where the API's is.
fn metrics_beside(api: &Value) -> Value {
    let mut router = api.clone();
    router["rule"] = json!("Path(\"/metrics\")");
    router["service"] = json!("prometheus@internal");
    router
}

/// Adds the router of Traefik's metrics to a dynamic configuration in which we have stored the API's.
pub(crate) fn add_metrics(config: &mut Value) {
    let Some(routers) = config.pointer_mut("/http/routers") else {
        return;
    };
    if routers[API_ROUTER].is_object() {
        routers[METRICS_ROUTER] = metrics_beside(&routers[API_ROUTER]);
    }
}

/// Whether an entry of `http.routers` or `http.middlewares` is the API's, as we or
/// jupyterhub-traefik-proxy name it.
pub(crate) fn is_api_name(name: &str) -> bool {
    // The guard's name begins with the router's.
    name.starts_with(API_ROUTER) || [OLD_API_ROUTER, OLD_API_AUTH].contains(&name)
}

/// What of a dynamic configuration is the API's router and guard.
pub(crate) fn api_part(config: &Value) -> Value {
    let mut part = json!({});
    for section in ["routers", "middlewares"] {
        for (name, entry) in config["http"][section].as_object().into_iter().flatten() {
            if is_api_name(name) {
                merge(&mut part, &json!({"http": {section: {name: entry}}}));
            }
        }
    }
    part
}

/// The names of the routers in a dynamic configuration that lead to Traefik's API on this
/// entrypoint. One without entrypoints is on all of them.
pub(crate) fn api_routers<'a>(config: &'a Value, entrypoint: &str) -> Vec<&'a str> {
    let routers = config["http"]["routers"].as_object().into_iter().flatten();
    let api = routers.filter(|(_, router)| {
        let on = router["entryPoints"].as_array().filter(|on| !on.is_empty());
        router["service"] == API_SERVICE
            && on.is_none_or(|on| on.iter().any(|name| name == entrypoint))
    });
    api.map(|(name, _)| &**name).collect()
}

/// Takes the API's router and guard out of a dynamic configuration.
pub(crate) fn without_api(config: &mut Value) {
    for section in ["/http/routers", "/http/middlewares"] {
        let entries = config.pointer_mut(section).and_then(Value::as_object_mut);
        if let Some(entries) = entries {
            entries.retain(|name, _| !is_api_name(name));
        }
    }
    without_empty_maps(config);
}

/// The names and hashes of those whom the API's guard lets in.
fn guarding_users(config: &Value) -> impl Iterator<Item = (&str, &str)> {
    let middlewares = config["http"]["middlewares"].as_object();
    let guards = middlewares.into_iter().flatten();
    let guards = guards.filter(|(name, _)| is_api_name(name));
    let users = guards.filter_map(|(_, guard)| guard["basicAuth"]["users"].as_array());
    let users = users.flatten().filter_map(Value::as_str);
    users.filter_map(|user| user.split_once(':'))
}

/// The hashes that guard Traefik's API in a dynamic configuration.
pub(crate) fn password_hashes(config: &Value) -> Vec<&str> {
    guarding_users(config).map(|(_, hash)| hash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::dynamic::{certificate, has_default_certificate, without_certificate};

    fn api() -> ApiAccess {
        ApiAccess {
            entrypoint: "auth_api".into(),
            username: "jupyterhub".into(),
            password: "password".into(),
            given: true,
            password_hash: "$apr1$x$y".into(),
            metrics: false,
        }
    }

    #[test]
    fn stored_hash_admits_its_password() {
        let guarded = |user: &str| {
            let mut config = api().config("");
            config["http"]["middlewares"][API_AUTH]["basicAuth"]["users"] = json!([user]);
            config
        };
        for (user, expected) in [
            ("jupyterhub:$apr1$x$y", true),
            ("jupyterhub:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", true),
            ("jupyterhub:{SHA}other", false),
            ("other:$apr1$x$y", false),
        ] {
            assert_eq!(api().is_let_in_by(&guarded(user)), expected, "{user}");
        }
        assert!(!api().is_let_in_by(&json!({})));
        assert!(api().is_let_in_by(&api().config("")));
        let elsewhere = ApiAccess {
            entrypoint: "other".into(),
            ..api()
        };
        assert!(!elsewhere.is_let_in_by(&api().config("")));
    }

    #[test]
    fn service_identifies_api_routers() {
        let config = json!({"http": {"routers": {
            "here": {"service": "api@internal", "entryPoints": ["api"]},
            "everywhere": {"service": "api@internal"},
            "elsewhere": {"service": "api@internal", "entryPoints": ["other"]},
            "api": {"service": "mine"},
        }}});
        assert_eq!(api_routers(&config, "api"), ["everywhere", "here"]);
        assert_eq!(api_routers(&api().config(""), "auth_api"), [API_ROUTER]);
        assert_eq!(api_part(&api().config("")), api().config(""));
        assert_eq!(api_part(&config), json!({}));
    }

    #[test]
    fn removal_leaves_no_empty_maps() {
        let mut config = certificate("/c.pem");
        assert!(has_default_certificate(&config));
        merge(&mut config, &json!({"http": {"a": 1}}));
        for _ in 0..2 {
            without_certificate(&mut config);
            assert_eq!(config, json!({"http": {"a": 1}}));
        }
        let mut config = api().config("");
        without_api(&mut config);
        assert_eq!(config, json!({}));
    }
}
