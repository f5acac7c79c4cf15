//! The program in a folder of its own, and Traefiks for it to talk to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kit::tools::TRAEFIK;
use kit::traefik::{static_config, touch};
use kit::{Traefik, eventually, names_in, ports};
use serde_json::{Value, json};
use tempfile::TempDir;
use traefik_router::{FileBackend, Router};

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
        names_in(self.dir.path())
    }

    pub(crate) fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api)
    }

    /// Runs the program in the folder, with arguments that are separated by spaces.
    pub(crate) fn run(&self, arguments: &str) -> Said {
        self.run_with(&arguments.split(' ').collect::<Vec<_>>(), &[])
    }

    pub(crate) fn run_with(&self, arguments: &[&str], env: &[(&str, &str)]) -> Said {
        let mut command = self.command(arguments);
        Said::of(&command.envs(env.iter().copied()).output().unwrap())
    }

    /// The program in the folder, without input, and without what this process's environment says.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_traefik-router"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_remove("TRAEFIK_ROUTER_CONFIG")
            .env_remove("TRAEFIK_API_PASSWORD")
            .env_remove("ETCD_PASSWORD")
            .env_remove("ETCD_USERNAME")
            .env_remove("REDIS_PASSWORD")
            .env_remove("REDIS_USERNAME")
            .stdin(Stdio::null());
        command
    }

    /// Writes the configuration file for `rules.toml` and this Traefik.
    pub(crate) fn configure(&self, more: &str) {
        self.write("password", &format!("{PASSWORD}\n"));
        let text = format!(
            "backend = \"toml:rules.toml\"\napi-url = [\"{}\"]\napi-password-file = \"password\"\n\
             traefik-bin = {:?}\n{more}",
            self.api_url(),
            TRAEFIK.path()
        );
        self.write("traefik-router.toml", &text);
    }

    /// A Traefik with a guarded API, which this process has started.
    pub(crate) fn start(&self) -> Router {
        Router::builder(FileBackend::new(self.path("rules.toml")))
            .public_url(format!("http://127.0.0.1:{}", self.web))
            .traefik_api_url(self.api_url())
            .traefik_api_password(PASSWORD)
            .traefik_bin(TRAEFIK.path())
            .static_config_file(self.path("traefik.toml"))
            .stop_timeout(Duration::from_millis(500))
            .start()
            .unwrap()
    }

    /// A Traefik with an open API that reads this file.
    pub(crate) fn start_external(&self, rules: &str, throttle: &str) -> Traefik {
        touch(&self.path(rules));
        self.start_on(rules, throttle)
    }

    /// The same, with the file as it is, if it is there.
    pub(crate) fn start_on(&self, rules: &str, throttle: &str) -> Traefik {
        let traefik = self.spawn_traefik(&json!({"insecure": true}), rules, throttle);
        let api = traefik_router::traefik::Api::new(self.api_url()).unwrap();
        eventually("Traefik's API answers", || api.version().is_ok());
        traefik
    }

    /// A Traefik with this `api` in its static configuration.
    pub(crate) fn spawn_traefik(&self, api: &Value, rules: &str, throttle: &str) -> Traefik {
        let entrypoints = [("http", self.web), ("traefik", self.api)];
        let providers = json!({
            "providersThrottleDuration": throttle,
            "file": {"filename": self.path(rules), "watch": true},
        });
        let config = static_config(entrypoints, api, &providers);
        Traefik::start_json(&self.path("static.yml"), &config)
    }
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
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

/// The findings on one thing: their levels and messages.
pub(crate) fn on(said: &Said, check: &str) -> Vec<(String, String)> {
    let answer = said.json();
    let findings = answer["findings"].as_array().unwrap();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_string();
    let on_it = findings.iter().filter(|one| one["check"] == check);
    on_it
        .map(|one| {
            let level = text(one, "level");
            assert!(
                level == "ok" || one["advice"].is_string() || check == "api",
                "{one}"
            );
            (level, text(one, "message"))
        })
        .collect()
}

#[track_caller]
pub(crate) fn finds(said: &Said, check: &str, level: &str, says: &str) {
    let found = on(said, check);
    assert!(
        found
            .iter()
            .any(|(is, message)| is == level && message.contains(says)),
        "{check} {level} {says}: {said:?}"
    );
}
