//! A Traefik that somebody else runs.

use std::path::Path;

use kit::Traefik;
use kit::traefik::{static_config, touch};
use serde_json::{Value, json};
use traefik_router::Backend as _;

use super::{Kind, Rig};

/// Killed when it is dropped.
pub(crate) struct External(Traefik);

impl External {
    /// A Traefik that reads the rig's store and listens on its ports.
    pub(crate) fn start(rig: &Rig) -> Self {
        Self::start_with(rig, "external", &Self::config(rig))
    }

    /// The static configuration for `rig`'s ports and store.
    pub(crate) fn config(rig: &Rig) -> Value {
        let mut providers = rig.backend().static_config().unwrap()["providers"].take();
        if rig.kind == Kind::Push {
            // What is pushed comes through the API, which has its router from a file.
            let dynamic = rig.path("dynamic.toml");
            let builder = rig.builder().dynamic_config_file(&dynamic);
            std::fs::write(&dynamic, builder.dynamic_config_text(true).unwrap()).unwrap();
            providers["file"] = json!({"filename": dynamic, "watch": true});
        }
        Self::config_with(rig, &providers)
    }

    /// The static configuration for `rig`'s ports and these providers.
    pub(crate) fn config_with(rig: &Rig, providers: &Value) -> Value {
        config_of(rig, "auth_api", &json!({}), providers)
    }

    /// The same with an API that answers without a password, with any configuration.
    pub(crate) fn open_config(rig: &Rig, providers: &Value) -> Value {
        config_of(rig, "traefik", &json!({"insecure": true}), providers)
    }

    /// A Traefik with this static configuration, in the file `NAME.yml`.
    pub(crate) fn start_with(rig: &Rig, name: &str, config: &Value) -> Self {
        let rules = config.pointer("/providers/file/filename");
        if let Some(rules) = rules.and_then(Value::as_str).map(Path::new) {
            touch(rules);
        }
        let root = ["etcd", "redis"].map(|name| &config["providers"][name]["rootKey"]);
        let root = root.into_iter().find(|root| root.is_string());
        let root = root.filter(|_| !rig.kind.is_file());
        if let Some(root) = root.and_then(Value::as_str) {
            rig.seed(root);
        }
        Self(Traefik::start_json(
            &rig.path(format!("{name}.yml")),
            config,
        ))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

fn config_of(rig: &Rig, api_entrypoint: &str, api: &Value, providers: &Value) -> Value {
    let entrypoints = [("http", rig.web), (api_entrypoint, rig.api)];
    let mut config = static_config(entrypoints, api, providers);
    config["providers"]["providersThrottleDuration"] = json!("0s");
    config
}
