//! A Traefik with a static configuration that a test writes.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::Ca;
use crate::ports;
use crate::process::Process;
use crate::tools::{Program, TRAEFIK};

/// A running Traefik. It is killed when this is dropped, or when this process ends.
#[derive(Debug)]
pub struct Traefik(Process);

impl Traefik {
    /// Writes the static configuration to the file `config`, starts a Traefik with it, and waits until
    /// that listens at all of these addresses. Its log is `config` with the extension `log`.
    #[track_caller]
    pub fn start(config: &Path, text: &str, addresses: &[impl AsRef<str>]) -> Self {
        Self::of(&TRAEFIK, config, text, addresses)
    }

    /// The same with this version.
    #[track_caller]
    fn of(program: &Program, config: &Path, text: &str, addresses: &[impl AsRef<str>]) -> Self {
        std::fs::write(config, text).unwrap();
        let mut command = Command::new(program.path());
        command.arg(format!("--configFile={}", config.display()));
        // It starts with half of the CPU time.
        command.env("GOGC", "400");
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
        Self::of_json(&TRAEFIK, config, json)
    }

    #[track_caller]
    fn of_json(program: &Program, config: &Path, json: &Value) -> Self {
        let entrypoints = json["entryPoints"].as_object().unwrap().values();
        let addresses = entrypoints.map(|entrypoint| entrypoint["address"].as_str().unwrap());
        let addresses: Vec<_> = addresses.collect();
        Self::of(program, config, &json.to_string(), &addresses)
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

/// A Traefik as a site runs it for others to attach to: its API, its counters and its REST provider are on an
/// entrypoint of their own, for whoever knows the password. It is killed when this is dropped.
#[derive(Debug)]
pub struct External {
    /// Where it listens for requests, on the entrypoint `http`.
    pub web: u16,
    /// Where its API is.
    pub api: u16,
    program: Program,
    file: PathBuf,
    config: Value,
    traefik: Option<Traefik>,
    /// Has signed its default certificate. Without one Traefik makes one up at each change.
    _ca: Ca,
}

impl External {
    /// The user of its API.
    pub const USER: &str = "jupyterhub";
    /// The password of that user.
    pub const PASSWORD: &str = "password";
    const HASH: &str = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";

    /// Starts one whose files are in this folder. It reads the etcd at `etcd`, or takes a table that is pushed.
    pub fn start(folder: &Path, etcd: Option<&str>) -> Self {
        Self::of(&TRAEFIK, folder, etcd)
    }

    /// The same with this version.
    pub fn of(program: &Program, folder: &Path, etcd: Option<&str>) -> Self {
        let [web, api] = [(); 2].map(|()| ports::free());
        let router = |rule: &str, service: &str| {
            json!({
                "rule": rule,
                "service": service,
                "entryPoints": ["auth_api"],
                "middlewares": ["guard"],
            })
        };
        let ca = Ca::generate();
        let [certificate, key] = ca.sign_files("traefik");
        let user = format!("{}:{}", Self::USER, Self::HASH);
        let dynamic = json!({"http": {
            "routers": {
                "api": router("PathPrefix(`/api`)", "api@internal"),
                "rest": router("Path(`/api/providers/rest`) && Method(`PUT`)", "rest@internal"),
                "metrics": router("Path(`/metrics`)", "prometheus@internal"),
            },
            "middlewares": {"guard": {"basicAuth": {"users": [user]}}},
        }, "tls": {"stores": {"default": {"defaultCertificate": {
            "certFile": certificate, "keyFile": key,
        }}}}});
        let own = folder.join(format!("dynamic-{web}.yml"));
        std::fs::write(&own, dynamic.to_string()).unwrap();
        let mut providers = json!({
            "providersThrottleDuration": "0s",
            "file": {"filename": own},
            "rest": {},
        });
        if let Some(etcd) = etcd {
            let address = ports::address(etcd);
            providers["etcd"] = json!({"endpoints": [address], "rootKey": "traefik"});
        }
        let entrypoints = [("http", web), ("auth_api", api)];
        let mut config = static_config(entrypoints, &json!({}), &providers);
        config["metrics"]["prometheus"] = json!({"manualRouting": true, "addRoutersLabels": true});
        config["entryPoints"]["http"]["transport"] =
            json!({"respondingTimeouts": {"readTimeout": 0}});
        let mut external = Self {
            web,
            api,
            program: *program,
            file: folder.join(format!("static-{web}.yml")),
            config,
            traefik: None,
            _ca: ca,
        };
        external.restart();
        external
    }

    /// The URL of its API.
    pub fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api)
    }

    /// Its process id.
    #[track_caller]
    pub fn id(&self) -> u32 {
        self.traefik.as_ref().unwrap().id()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.traefik = None;
    }

    /// Kills it if it runs, and starts it as it was first started.
    pub fn restart(&mut self) {
        self.kill();
        self.traefik = Some(Traefik::of_json(&self.program, &self.file, &self.config));
    }
}
