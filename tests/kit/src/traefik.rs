//! A Traefik with a static configuration that a test writes.

use std::fs::File;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::process::Process;
use crate::tools::TRAEFIK;

/// A running Traefik. It is killed when this is dropped, or when this process ends.
#[derive(Debug)]
pub struct Traefik(Process);

impl Traefik {
    /// Writes the static configuration to the file `config`, starts a Traefik with it, and waits until
    /// that listens at all of these addresses. Its log is `config` with the extension `log`.
    #[track_caller]
    pub fn start(config: &Path, text: &str, addresses: &[impl AsRef<str>]) -> Self {
        std::fs::write(config, text).unwrap();
        let mut command = Command::new(TRAEFIK.path());
        command.arg(format!("--configFile={}", config.display()));
        let mut process = Process::start(&mut command, &config.with_extension("log"));
        process.wait_until("Traefik listens", || {
            let listens = |to: &str| TcpStream::connect(to).is_ok();
            addresses.iter().all(|to| listens(to.as_ref()))
        });
        Self(process)
    }

    /// The same with a static configuration as JSON, which is YAML: `config` has to end with `.yml`.
    #[track_caller]
    pub fn start_json(config: &Path, json: &Value) -> Self {
        let entrypoints = json["entryPoints"].as_object().unwrap().values();
        let addresses = entrypoints.map(|entrypoint| entrypoint["address"].as_str().unwrap());
        let addresses: Vec<_> = addresses.collect();
        Self::start(config, &json.to_string(), &addresses)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

/// Makes a file that is not there: Traefik watches only those that are there when it starts.
pub fn touch(file: &Path) {
    File::options()
        .append(true)
        .create(true)
        .open(file)
        .unwrap();
}

/// A static configuration with these entrypoints at ports of 127.0.0.1, this `api` and these `providers`.
pub fn static_config(entrypoints: [(&str, u16); 2], api: &Value, providers: &Value) -> Value {
    let entrypoint = |(name, port): (&str, u16)| {
        let address = json!({"address": format!("127.0.0.1:{port}")});
        (name.to_string(), address)
    };
    let entrypoints: Map<_, _> = entrypoints.into_iter().map(entrypoint).collect();
    json!({
        "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
        "api": api,
        "entryPoints": entrypoints,
        "providers": providers,
    })
}
