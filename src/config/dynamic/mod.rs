//! The dynamic configuration: what a route becomes, and what a [`Router`](crate::Router) needs
//! beside its routes.

mod api;
mod generation;
mod password;
mod routers;
mod setup;

use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};

pub(crate) use self::api::{
    API_GUARDS, API_ROUTER, ApiAccess, REST_SERVICE, add_metrics, api_part, api_routers,
    is_api_name, password_hashes, without_api,
};
pub(crate) use self::generation::{
    GENERATION_HEADER, READY, generation, generation_path, generation_router, marker, ready_router,
};
pub(crate) use self::password::{fast_hash, is_hash_of, is_password_hash};
pub(crate) use self::routers::{
    Entrance, Place, RouterConfig, parent, prefix_stripper, router, service,
};
pub use self::setup::Setup;
pub(crate) use self::setup::{Certificate, Own};

/// Where the default certificate is, as a JSON pointer.
const CERTIFICATE: &str = "/tls/stores/default";

/// The middleware that carries what we keep for ourselves of a table that is pushed.
pub(crate) const RECORDS: &str = "traefik-router-records";
/// Its request header that has them.
pub(crate) const RECORDS_TEXT: &str = "records";

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

/// The default certificate, in a file that Traefik reads.
pub(crate) fn certificate(file: &str) -> Value {
    json!({"tls": {"stores": {"default": {"defaultCertificate": {
        "certFile": file, "keyFile": file,
    }}}}})
}

/// Whether a dynamic configuration says what the default certificate is.
pub(crate) fn has_default_certificate(config: &Value) -> bool {
    config.pointer(CERTIFICATE).is_some()
}

/// Takes the default certificate out of a dynamic configuration.
pub(crate) fn without_certificate(config: &mut Value) {
    if let Some(stores) = config
        .pointer_mut("/tls/stores")
        .and_then(Value::as_object_mut)
    {
        stores.remove("default");
        without_empty_maps(config);
    }
}

/// Takes out the sections of a dynamic configuration that hold nothing: Traefik rejects them.
pub(crate) fn without_empty_maps(config: &mut Value) {
    let is_empty =
        |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    for part in config
        .as_object_mut()
        .into_iter()
        .flat_map(|map| map.values_mut())
    {
        if let Some(sections) = part.as_object_mut() {
            sections.retain(|_, section| !is_empty(section));
        }
    }
    if let Some(map) = config.as_object_mut() {
        map.retain(|_, part| !is_empty(part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_refuses_invalid_configuration() {
        for bad in [json!(1), json!({"http": 1})] {
            assert_eq!(
                entries(&bad).err().map(|e| e.kind()),
                Some(ErrorKind::InvalidConfig)
            );
        }
    }
}
