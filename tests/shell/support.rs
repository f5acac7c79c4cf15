//! The program in a folder of its own, and Traefiks for it to talk to.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use traefik_router::{FileBackend, Router};

use crate::ports;
use crate::wait::eventually;

/// The password that no output may show.
pub(crate) const PASSWORD: &str = "marked-secret";

/// A folder for one test, and two ports.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) web: u16,
    pub(crate) api: u16,
}

/// What the program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A Traefik that somebody else runs. Ends when it is dropped.
pub(crate) struct External(Child);

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            web: ports::free(),
            api: ports::free(),
        }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The names of the files in the folder, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api)
    }

    /// Runs the program in the folder, with arguments that are separated by spaces.
    pub(crate) fn run(&self, arguments: &str) -> Said {
        self.run_with(&arguments.split(' ').collect::<Vec<_>>(), &[])
    }

    pub(crate) fn run_with(&self, arguments: &[&str], env: &[(&str, &str)]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_traefik-router"))
            .args(arguments)
            .current_dir(self.dir.path())
            .env_remove("TRAEFIK_ROUTER_CONFIG")
            .env_remove("TRAEFIK_API_PASSWORD")
            .env_remove("ETCD_PASSWORD")
            .env_remove("ETCD_USERNAME")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Said::of(&output)
    }

    /// Writes the configuration file for `rules.toml` and this Traefik.
    pub(crate) fn configure(&self, more: &str) {
        self.write("password", &format!("{PASSWORD}\n"));
        let text = format!(
            "backend = \"toml:rules.toml\"\napi-url = [\"{}\"]\napi-password-file = \"password\"\n\
             traefik-bin = {:?}\n{more}",
            self.api_url(),
            traefik_bin()
        );
        self.write("traefik-router.toml", &text);
    }

    /// A Traefik with a guarded API, which this process has started.
    pub(crate) fn start(&self) -> Router {
        Router::builder(FileBackend::new(self.path("rules.toml")))
            .public_url(format!("http://127.0.0.1:{}", self.web))
            .traefik_api_url(self.api_url())
            .traefik_api_password(PASSWORD)
            .traefik_bin(traefik_bin())
            .static_config_file(self.path("traefik.toml"))
            .stop_timeout(Duration::from_millis(500))
            .start()
            .unwrap()
    }

    /// A Traefik with an open API that reads this file.
    pub(crate) fn start_external(&self, rules: &str, throttle: &str) -> External {
        // A file that is not there when Traefik starts is never looked at again.
        drop(
            File::options()
                .append(true)
                .create(true)
                .open(self.path(rules))
                .unwrap(),
        );
        self.start_on(rules, throttle)
    }

    /// The same, with the file as it is, if it is there.
    pub(crate) fn start_on(&self, rules: &str, throttle: &str) -> External {
        let traefik = self.spawn_traefik(&json!({"insecure": true}), rules, throttle);
        let api = traefik_router::traefik::Api::new(self.api_url()).unwrap();
        eventually("Traefik's API answers", || api.version().is_ok());
        traefik
    }

    /// A Traefik with this `api` in its static configuration.
    pub(crate) fn spawn_traefik(&self, api: &Value, rules: &str, throttle: &str) -> External {
        let address = |port| format!("127.0.0.1:{port}");
        let config = json!({
            "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
            "api": api,
            "entryPoints": {
                "http": {"address": address(self.web)},
                "traefik": {"address": address(self.api)},
            },
            "providers": {
                "providersThrottleDuration": throttle,
                "file": {"filename": self.path(rules), "watch": true},
            },
        });
        // JSON is YAML.
        self.write("static.yml", &config.to_string());
        let log = File::create(self.path("traefik.log")).unwrap();
        let child = Command::new(traefik_bin())
            .arg(format!(
                "--configFile={}",
                self.path("static.yml").display()
            ))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        External(child)
    }
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let said = Self {
            code: output.status.code().unwrap(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        };
        assert!(
            !said.out.contains(PASSWORD) && !said.err.contains(PASSWORD),
            "{said:?}"
        );
        // No colour and no progress in a pipe.
        assert!(
            !said.out.contains('\x1b') && !said.err.contains('\x1b'),
            "{said:?}"
        );
        said
    }

    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!((self.code, &*self.err), (0, ""), "{self:?}");
        self.out
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }

    /// Whether it failed with this exit code, said this as an error and nothing else.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, says: &str) {
        assert!(
            self.code == code && self.err.contains(says) && self.out.is_empty(),
            "expected {code} and {says:?}: {self:?}"
        );
    }
}

impl Drop for External {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Where Traefik is.
pub(crate) fn traefik_bin() -> PathBuf {
    tool("TRAEFIK_BIN", "traefik", "target/tools/traefik")
}

/// Where a program is: named by a variable, on PATH, or among the tools.
pub(crate) fn tool(variable: &str, name: &str, fetched: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(fetched);
    on_path
        .chain([fetched])
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} was not found: run `cargo xtask tools`"))
}
