//! The dynamic configuration: what a route becomes, and what a [`Router`](crate::Router) needs
//! beside its routes.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};

use super::merge;
use super::text::Field;
use crate::error::{Error, ErrorKind, Result};
use crate::route::{
    Group, Nested, Parent, RouteSpec, Target, fallback_name, parent_name, priority, router_name,
    rule, service_name,
};

/// The middleware that guards Traefik's API, and the router that it guards; the names are those of
/// jupyterhub-traefik-proxy.
const API_AUTH: &str = "auth_api";
const API_ROUTER: &str = "route_api";

/// Where the default certificate is, as a JSON pointer.
const CERTIFICATE: &str = "/tls/stores/default";

/// What a [`Router`](crate::Router) wants to be in the dynamic configuration beside its routes.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Setup {
    /// The entrypoint that all routes of this table are served on.
    pub entrypoint: String,
    /// Dynamic configuration as Traefik documents it; `None` leaves what is stored alone.
    pub base: Option<Value>,
    /// More configuration of every service that a route becomes, as Traefik documents
    /// `loadBalancer`; `None` leaves what is stored alone.
    pub service: Option<Value>,
    /// Whether routers stand below others; `None` leaves it as it is stored.
    pub nested: Option<Nested>,
    /// PEM texts `(certificate, key)` to use where no default certificate is set up. Without one
    /// Traefik makes a new RSA key at every reload.
    pub fallback_certificate: Option<(String, String)>,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The base holds a password's hash, the certificate comes with its private key.
        f.debug_struct("Setup")
            .field("entrypoint", &self.entrypoint)
            .finish_non_exhaustive()
    }
}

impl Setup {
    /// A setup with nothing but the entrypoint.
    pub fn new(entrypoint: impl Into<String>) -> Self {
        Self {
            entrypoint: entrypoint.into(),
            base: None,
            service: None,
            nested: None,
            fallback_certificate: None,
        }
    }

    /// What to store for a table with this `marker`, given what our own part of the store holds now
    /// and whether somebody else has set a default certificate. A certificate that was made up, and
    /// an API router that another Router has set up, stay where this setup has none.
    pub(crate) fn base_over(
        &self,
        marker: &str,
        stored: &Value,
        certificate_elsewhere: bool,
    ) -> Value {
        let Some(base) = &self.base else {
            return stored.clone();
        };
        let mut base = base.clone();
        let tells = tells_generation(marker, &self.entrypoint);
        merge(&mut base, &json!({"http": {"routers": {marker: tells}}}));
        if base["http"]["routers"].get(API_ROUTER).is_none() {
            for (part, name) in [("routers", API_ROUTER), ("middlewares", API_AUTH)] {
                if let Some(entry) = stored["http"][part].get(name) {
                    merge(&mut base, &json!({"http": {part: {name: entry}}}));
                }
            }
        }
        if base.pointer(CERTIFICATE).is_none() && !certificate_elsewhere {
            let generated = self.fallback_certificate.as_ref().map(
                |(cert, key)| json!({"defaultCertificate": {"certFile": cert, "keyFile": key}}),
            );
            if let Some(store) = stored.pointer(CERTIFICATE).cloned().or(generated) {
                merge(&mut base, &json!({"tls": {"stores": {"default": store}}}));
            }
        }
        base
    }
}

/// How Traefik's API is guarded.
#[derive(Clone)]
pub(crate) struct ApiAccess {
    pub(crate) entrypoint: String,
    pub(crate) username: String,
    /// The hash as Traefik's basicAuth takes it.
    pub(crate) password_hash: String,
}

/// The base of a managed or attached Traefik: the API's router if we know a password for it, a
/// certificate, and whatever else the user wants.
pub(crate) fn base(
    api: Option<&ApiAccess>,
    certificate: Option<(&Path, &Path)>,
    extra: &Value,
) -> Value {
    let mut base = json!({});
    if let Some(api) = api {
        let users = [format!("{}:{}", api.username, api.password_hash)];
        base["http"] = json!({
            "routers": {API_ROUTER: {
                "rule": "PathPrefix(\"/api\") || PathPrefix(\"/dashboard\")",
                "entryPoints": [api.entrypoint],
                "service": "api@internal",
                "middlewares": [API_AUTH],
            }},
            "middlewares": {API_AUTH: {"basicAuth": {"users": users}}},
        });
    }
    if let Some((cert, key)) = certificate {
        let certificate = json!({"certFile": cert, "keyFile": key});
        base["tls"] = json!({"stores": {"default": {"defaultCertificate": certificate}}});
    }
    merge(&mut base, extra);
    base
}

/// Whether a name in `http.routers` or `http.middlewares` is one that [`base`] uses, so that an
/// entry of this name is replaced whoever wrote it.
pub(crate) fn is_api_name(name: &str) -> bool {
    name == API_ROUTER || name == API_AUTH
}

/// Whether a dynamic configuration says what the default certificate is.
pub(crate) fn has_default_certificate(config: &Value) -> bool {
    config.pointer(CERTIFICATE).is_some()
}

/// The hashes that guard Traefik's API in a dynamic configuration.
pub(crate) fn password_hashes(config: &Value) -> Vec<&str> {
    let users = config["http"]["middlewares"][API_AUTH]["basicAuth"]["users"].as_array();
    let pairs = users.into_iter().flatten().filter_map(Value::as_str);
    pairs
        .filter_map(|user| Some(user.split_once(':')?.1))
        .collect()
}

/// The hash of a password that needs no slow one, because nobody can guess it. Traefik checks it
/// at every request to its API.
pub(crate) fn fast_hash(password: &str) -> String {
    let sha1 = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    format!("{{SHA}}{}", STANDARD.encode(sha1))
}

/// One entry of the dynamic configuration outside of the routes: `http.routers.NAME` and the like.
pub(crate) struct Entry<'a> {
    /// One or two keys, such as `["http", "routers"]`.
    pub(crate) section: Vec<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) value: &'a Value,
}

/// The entries of a dynamic configuration.
///
/// # Errors
/// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is not maps of maps on the upper levels.
pub(crate) fn entries(config: &Value) -> Result<Vec<Entry<'_>>> {
    let not_a_map = |path: &str| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("the dynamic configuration's {path} must be a map"),
        )
    };
    let mut entries = Vec::new();
    for (top, parts) in config.as_object().ok_or_else(|| not_a_map("root"))? {
        for (part, named) in parts.as_object().ok_or_else(|| not_a_map(top))? {
            match named {
                Value::Object(named) => entries.extend(named.iter().map(|(name, value)| Entry {
                    section: vec![top, part],
                    name,
                    value,
                })),
                value => entries.push(Entry {
                    section: vec![top],
                    name: part,
                    value,
                }),
            }
        }
    }
    Ok(entries)
}

/// A router of ours in `http.routers`.
pub(crate) struct RouterConfig<'a> {
    pub(crate) name: String,
    rule: Cow<'a, str>,
    priority: u64,
    service: Option<Cow<'a, str>>,
}

/// What a route becomes, whose service has this name.
pub(crate) fn router<'a>(namespace: &str, spec: &RouteSpec, service: &'a str) -> RouterConfig<'a> {
    RouterConfig {
        name: router_name(namespace, spec),
        rule: rule(spec).into(),
        priority: priority(spec),
        service: Some(service.into()),
    }
}

impl RouterConfig<'_> {
    /// Its configuration, but for its [`Place`].
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, Field<'_>)> {
        let service = self.service.as_deref();
        [
            ("priority", Field::Number(self.priority)),
            ("rule", Field::Text(&self.rule)),
        ]
        .into_iter()
        .chain(service.map(|service| ("service", Field::Text(service))))
    }

    /// All of its configuration.
    pub(crate) fn fields_at<'p>(
        &'p self,
        place: &'p Place<'_>,
    ) -> impl Iterator<Item = (&'static str, Field<'p>)> {
        std::iter::once(place.field()).chain(self.fields())
    }
}

/// Where a router gets its requests from.
pub(crate) enum Place<'a> {
    Entrypoint(&'a str),
    /// The router of this name.
    Below(String),
}

impl<'a> Place<'a> {
    pub(crate) fn new(namespace: &str, entrypoint: &'a str, parent: Option<&Group>) -> Self {
        match parent {
            Some(group) => Self::Below(parent_name(namespace, group)),
            None => Self::Entrypoint(entrypoint),
        }
    }

    pub(crate) fn field(&self) -> (&'static str, Field<'_>) {
        match self {
            Self::Entrypoint(entrypoint) => ("entryPoints", Field::List(entrypoint)),
            Self::Below(parent) => ("parentRefs", Field::List(parent)),
        }
    }
}

/// What a parent becomes in `http.routers`: itself, and the router below it that takes what is
/// left, if there is one.
pub(crate) fn parent<'a>(
    namespace: &str,
    entrypoint: &'a str,
    group: &Group,
    parent: &'a Parent,
) -> impl Iterator<Item = (RouterConfig<'a>, Place<'a>)> {
    let this = RouterConfig {
        name: parent_name(namespace, group),
        rule: Cow::from(&parent.rule),
        priority: parent.priority,
        service: None,
    };
    let rest = parent.fallback.as_ref().map(|target| {
        let rest = RouterConfig {
            name: fallback_name(namespace, group),
            rule: "PathPrefix(\"/\")".into(),
            priority: 1,
            service: Some(service_name(namespace, target).into()),
        };
        (rest, Place::Below(this.name.clone()))
    });
    let place = Place::new(namespace, entrypoint, parent.above.as_ref());
    std::iter::once((this, place)).chain(rest)
}

/// What a target becomes in `http.services`, under its [`service_name`]; `more` is merged over it.
pub(crate) fn service(target: &Target, more: &Value) -> Value {
    let server = if target.has_path() {
        json!({"url": target, "preservePath": true})
    } else {
        json!({"url": target})
    };
    let mut service = json!({"loadBalancer": {"servers": [server]}});
    if more.is_object() {
        merge(&mut service["loadBalancer"], more);
    }
    service
}

/// The middleware that carries the generation. Traefik's API shows it.
pub(crate) fn marker(generation: u64) -> Value {
    json!({"headers": {"customResponseHeaders": {GENERATION_HEADER: generation.to_string()}}})
}

/// The router through which an entrypoint tells the generation that it serves. Traefik answers by
/// itself, with status 418 and the header.
fn tells_generation(marker: &str, entrypoint: &str) -> Value {
    json!({
        "rule": format!("Path(\"{}\")", generation_path(marker)),
        "priority": TELLS_PRIORITY,
        "entryPoints": [entrypoint],
        "service": "noop@internal",
        "middlewares": [marker],
    })
}

/// Where an entrypoint tells its generation. A marker's name is like no other.
pub(crate) fn generation_path(marker: &str) -> String {
    format!("/.traefik-router/{marker}")
}

/// The generation in what Traefik's API says of the marker.
pub(crate) fn generation(middleware: &Value) -> Option<u64> {
    middleware["headers"]["customResponseHeaders"][GENERATION_HEADER]
        .as_str()?
        .parse()
        .ok()
}

pub(crate) const GENERATION_HEADER: &str = "X-Traefik-Router-Generation";

/// Above all routes.
const TELLS_PRIORITY: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_what_htpasswd_writes() {
        // htpasswd -nbs user password
        assert_eq!(fast_hash("password"), "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=");
    }

    #[test]
    fn base_has_api_and_certificate_and_extra() {
        let api = ApiAccess {
            entrypoint: "auth_api".into(),
            username: "jupyterhub".into(),
            password_hash: "{SHA}x".into(),
        };
        let extra =
            json!({"http": {"middlewares": {"mine": {"compress": {"minResponseBodyBytes": 1}}}}});
        let base = base(
            Some(&api),
            Some((Path::new("/c.pem"), Path::new("/k.pem"))),
            &extra,
        );
        let names: Vec<_> = entries(&base)
            .unwrap()
            .iter()
            .map(|entry| format!("{}.{}", entry.section.join("."), entry.name))
            .collect();
        assert_eq!(
            names,
            [
                "http.middlewares.auth_api",
                "http.middlewares.mine",
                "http.routers.route_api",
                "tls.stores.default"
            ]
        );
        assert_eq!(
            base["http"]["middlewares"]["auth_api"]["basicAuth"]["users"][0],
            "jupyterhub:{SHA}x"
        );
    }

    /// This base with the router that tells the generation.
    fn telling(mut base: Value) -> Value {
        let router = tells_generation("m", "web");
        merge(&mut base, &json!({"http": {"routers": {"m": router}}}));
        base
    }

    #[test]
    fn a_stored_certificate_stays_and_a_given_one_wins() {
        let setup = |base: Value| Setup {
            base: Some(base),
            fallback_certificate: Some(("new".into(), "key".into())),
            ..Setup::new("web")
        };
        let cert = |base: &Value| {
            base["tls"]["stores"]["default"]["defaultCertificate"]["certFile"].clone()
        };
        let fresh = setup(json!({})).base_over("m", &json!({}), false);
        assert_eq!(cert(&fresh), "new");
        let stored =
            json!({"tls": {"stores": {"default": {"defaultCertificate": {"certFile": "old"}}}}});
        assert_eq!(
            cert(&setup(json!({})).base_over("m", &stored, false)),
            "old"
        );
        let elsewhere = setup(json!({})).base_over("m", &json!({}), true);
        assert_eq!(elsewhere, telling(json!({})));
        let given =
            json!({"tls": {"stores": {"default": {"defaultCertificate": {"certFile": "mine"}}}}});
        assert_eq!(cert(&setup(given).base_over("m", &stored, false)), "mine");
        assert_eq!(Setup::new("web").base_over("m", &stored, false), stored);
    }

    #[test]
    fn an_api_router_that_is_stored_stays_guarded() {
        let api = ApiAccess {
            entrypoint: "auth_api".into(),
            username: "jupyterhub".into(),
            password_hash: "{SHA}x".into(),
        };
        let stored = base(Some(&api), None, &json!({}));
        let setup = |base: Value| Setup {
            base: Some(base),
            ..Setup::new("web")
        };
        let without_password = setup(base(None, None, &json!({})));
        let kept = without_password.base_over("m", &stored, true);
        assert_eq!(kept, telling(stored.clone()));
        let other = ApiAccess {
            password_hash: "{SHA}y".into(),
            ..api
        };
        let other = base(Some(&other), None, &json!({}));
        let replaced = setup(other.clone()).base_over("m", &stored, true);
        assert_eq!(replaced, telling(other));
    }

    #[test]
    fn entries_refuses_what_is_no_configuration() {
        for bad in [json!(1), json!({"http": 1})] {
            assert_eq!(
                entries(&bad).err().map(|e| e.kind()),
                Some(ErrorKind::InvalidConfig)
            );
        }
    }
}
