//! A Traefik that somebody else runs.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::rig::traefik_bin;
use super::{Kind, Rig, eventually};
use traefik_router::Backend as _;

/// Ends when it is dropped.
pub(crate) struct External(Child);

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
        let mut config = json!({
            "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
            "api": {},
            "entryPoints": {
                "http": {"address": format!("127.0.0.1:{}", rig.web)},
                "auth_api": {"address": format!("127.0.0.1:{}", rig.api)},
            },
            "providers": providers,
        });
        config["providers"]["providersThrottleDuration"] = json!("0s");
        config
    }

    /// Whoever asks at the API's port is answered, whatever is loaded.
    pub(crate) fn open_config(rig: &Rig, providers: &Value) -> Value {
        let mut config = Self::config_with(rig, providers);
        config["api"] = json!({"insecure": true});
        config["entryPoints"] = json!({
            "http": {"address": format!("127.0.0.1:{}", rig.web)},
            "traefik": {"address": format!("127.0.0.1:{}", rig.api)},
        });
        config
    }

    pub(crate) fn start_with(rig: &Rig, name: &str, config: &Value) -> Self {
        let rules = config.pointer("/providers/file/filename");
        if let Some(rules) = rules.and_then(Value::as_str).map(Path::new) {
            // A file that is not there when Traefik starts is never looked at again.
            let open = File::options().append(true).create(true).open(rules);
            open.unwrap();
        }
        let root = config.pointer("/providers/etcd/rootKey");
        let root = root.filter(|_| rig.kind == Kind::Etcd);
        if let Some(root) = root.and_then(Value::as_str) {
            rig.seed(root);
        }
        let entrypoints = config["entryPoints"].as_object().unwrap().values();
        let addresses = entrypoints.map(|entrypoint| entrypoint["address"].as_str().unwrap());
        // JSON is YAML.
        let file = format!("{name}.yml");
        Self::start_text(
            rig,
            &file,
            &config.to_string(),
            &addresses.collect::<Vec<_>>(),
        )
    }

    /// A Traefik with this static configuration, which makes it listen at these addresses.
    pub(crate) fn start_text(
        rig: &Rig,
        name: &str,
        config: &str,
        addresses: &[impl AsRef<str>],
    ) -> Self {
        let file = rig.path(name);
        std::fs::write(&file, config).unwrap();
        let log = File::create(rig.path(format!("{name}.log"))).unwrap();
        let child = Command::new(traefik_bin())
            .arg(format!("--configFile={}", file.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let traefik = Self(child);
        eventually("an external Traefik listens", || {
            let listens = |to: &str| std::net::TcpStream::connect(to).is_ok();
            addresses.iter().all(|to| listens(to.as_ref()))
        });
        traefik
    }
}

impl External {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for External {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
