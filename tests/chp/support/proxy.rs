//! A proxy in a process of its own, ours or the real configurable-http-proxy.

use std::io::{BufRead as _, BufReader, PipeReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kit::client::{self, Response};
use kit::process::{Watchdog, send_signal};
use kit::tools::{CONFIGURABLE_HTTP_PROXY, TRAEFIK};
use kit::traefik::{External, static_config, touch};
use kit::{Traefik, eventually, ports};
use serde_json::{Value, json};

pub(crate) const TOKEN: &str = "made-up-for-tests";

/// Killed when it is dropped.
pub(crate) struct Proxy {
    pub(crate) child: Child,
    _watchdog: Watchdog,
    pub(crate) port: u16,
    pub(crate) api: u16,
    log: Arc<Mutex<String>>,
    agent: ureq::Agent,
}

/// A Traefik of others that reads this file, with the ports of its entrypoint and of its API.
pub(crate) fn reading(rules: &Path) -> (Traefik, [u16; 2]) {
    touch(rules);
    let [web, api] = [(); 2].map(|()| ports::free());
    let providers = json!({"file": {"filename": rules}, "providersThrottleDuration": "0s"});
    let entrypoints = [("http", web), ("auth_api", api)];
    let config = static_config(entrypoints, &json!({}), &providers);
    let traefik = Traefik::start_json(&rules.with_file_name("static.yml"), &config);
    (traefik, [web, api])
}

/// An answer of the REST API.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

impl Proxy {
    /// Ours, on ports of its own, ready.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(|_| {}, arguments)
    }

    /// The same with a change to its command.
    pub(crate) fn start_with(change: impl FnOnce(&mut Command), arguments: &[&str]) -> Self {
        let mut command = ours();
        command.arg("chp");
        change(&mut command);
        let proxy = Self::spawn(command, arguments);
        proxy.wait_until_ready();
        proxy
    }

    /// Ours, attached to Traefiks of others and ready. Requests go through the first of them.
    pub(crate) fn attach(to: &[&External], arguments: &[&str]) -> Self {
        let proxy = Self::attach_unready(to, arguments);
        proxy.wait_until_ready();
        proxy
    }

    /// The same, not ready yet.
    pub(crate) fn attach_unready(to: &[&External], arguments: &[&str]) -> Self {
        let urls: Vec<_> = to.iter().map(|one| one.api_url()).collect();
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        let mut proxy = Self::attach_at(&urls, arguments);
        proxy.port = to[0].web;
        proxy
    }

    /// The same with the APIs at these URLs.
    pub(crate) fn attach_at(urls: &[&str], arguments: &[&str]) -> Self {
        let mut command = ours();
        command.arg("chp");
        command.env("TRAEFIK_API_PASSWORD", External::PASSWORD);
        command.args(urls.iter().flat_map(|url| ["--api-url", url]));
        Self::spawn(command, arguments)
    }

    /// A program that takes configurable-http-proxy's options; it may not be ready yet.
    pub(crate) fn spawn(command: Command, arguments: &[&str]) -> Self {
        let (proxy, output) = Self::spawn_unread(command, arguments);
        proxy.read(output);
        proxy
    }

    /// The same with a log that nobody reads before [`Self::read`].
    pub(crate) fn spawn_unread(mut command: Command, arguments: &[&str]) -> (Self, PipeReader) {
        let (port, api) = (ports::free(), ports::free());
        let (output, writer) = std::io::pipe().unwrap();
        command
            .args(["--ip", "127.0.0.1", "--port", &port.to_string()])
            .args(["--api-ip", "127.0.0.1", "--api-port", &api.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer);
        let mut child = command.spawn().unwrap();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .proxy(None);
        let agent = config.build().new_agent();
        let proxy = Self {
            _watchdog: Watchdog::over(&mut child),
            child,
            port,
            api,
            log: Arc::default(),
            agent,
        };
        (proxy, output)
    }

    /// Reads its log from now on.
    pub(crate) fn read(&self, output: PipeReader) {
        let kept = Arc::clone(&self.log);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                *kept.lock().unwrap() += &(line + "\n");
            }
        });
    }

    #[track_caller]
    pub(crate) fn wait_until_ready(&self) {
        eventually("it listens", || {
            ports::is_open(self.port) && ports::is_open(self.api)
        });
        assert_eq!(self.get("").status, 200, "{}", self.log());
    }

    /// What it has written, to standard output and to standard error.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// A request to `/api/routes` and what follows it.
    pub(crate) fn rest(&self, method: &str, path: &str, body: &str) -> Answer {
        self.rest_as(
            &format!("token {TOKEN}"),
            method,
            &format!("/api/routes{path}"),
            body,
        )
    }

    pub(crate) fn rest_as(&self, as_whom: &str, method: &str, path: &str, body: &str) -> Answer {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}{path}", self.api))
            .header("authorization", as_whom)
            .body(body)
            .unwrap();
        let request = self
            .agent
            .configure_request(request)
            .allow_non_standard_methods(true);
        let mut answer = self.agent.run(request.build()).unwrap();
        Answer {
            status: answer.status().as_u16(),
            body: answer.body_mut().read_to_string().unwrap(),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.rest("GET", path, "")
    }

    /// Adds a route, which must be accepted.
    #[track_caller]
    pub(crate) fn add(&self, path: &str, target: &str) {
        let answer = self.rest("POST", path, &json!({"target": target}).to_string());
        assert_eq!(answer.status, 201, "{path}: {answer:?}");
        assert_eq!(answer.body, "");
    }

    /// A request through the proxy.
    pub(crate) fn through(&self, path: &str) -> Response {
        client::get(self.port, "any.example", path)
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, name: &str) {
        send_signal(self.child.id(), name);
    }

    #[track_caller]
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("it has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// The process id of its Traefik.
    #[track_caller]
    pub(crate) fn traefik(&self) -> u32 {
        let log = self.log();
        let line = log
            .lines()
            .rfind(|line| line.contains("started Traefik"))
            .unwrap();
        let id = line
            .rsplit("process ")
            .next()
            .unwrap()
            .trim_end_matches(')');
        id.parse().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log());
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Our program, with the Traefik to use.
pub(crate) fn ours() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_traefik-router"));
    command
        .env("TRAEFIK_BIN", TRAEFIK.path())
        .env("CONFIGPROXY_AUTH_TOKEN", TOKEN);
    command
}

/// The real configurable-http-proxy.
pub(crate) fn real() -> Command {
    let mut command = Command::new(CONFIGURABLE_HTTP_PROXY.path());
    command.env("CONFIGPROXY_AUTH_TOKEN", TOKEN);
    command
}
