//! A folder, two ports and a backend: what one test needs for one Traefik.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kit::client::{self, Response};
use kit::etcd::shared_url;
use kit::tools::TRAEFIK;
use kit::{names_in, ports};
use serde_json::{Value, json};
use tempfile::TempDir;
use traefik_router::traefik::Api;
use traefik_router::{Backend, Builder, Etcd, FileBackend, KvBackend, MemoryBackend, Router};

use super::keys;

/// The stores that the same tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Toml,
    #[cfg(feature = "yaml")]
    Yaml,
    Etcd,
    #[cfg(feature = "redis")]
    Redis,
    Push,
}

impl Kind {
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::Toml => "toml",
            #[cfg(feature = "yaml")]
            Self::Yaml => "yaml",
            _ => panic!("{self:?} is no file"),
        }
    }

    pub(crate) fn is_file(self) -> bool {
        match self {
            Self::Toml => true,
            #[cfg(feature = "yaml")]
            Self::Yaml => true,
            _ => false,
        }
    }
}

/// Makes a test of each function for each backend.
macro_rules! on_each_backend {
    ($($name:ident),* $(,)?) => {
        $crate::support::on_each_file!($($name),*);
        $crate::support::on_each_backend!(etcd, $crate::support::Kind::Etcd, $($name)*);
    };
    ($module:ident, $kind:expr, $($name:ident)*) => {
        mod $module {
            $(#[test]
            fn $name() {
                super::$name($kind);
            })*
        }
    };
}
pub(crate) use on_each_backend;

/// The same for each backend and for a table that is pushed.
macro_rules! on_each_backend_and_push {
    ($($name:ident),* $(,)?) => {
        $crate::support::on_each_backend!($($name),*);
        $crate::support::on_push!($($name),*);
    };
}
pub(crate) use on_each_backend_and_push;

/// The same for a table that is pushed.
macro_rules! on_push {
    ($($name:ident),* $(,)?) => {
        $crate::support::on_each_backend!(push, $crate::support::Kind::Push, $($name)*);
    };
}
pub(crate) use on_push;

/// The same for Redis.
macro_rules! on_redis {
    ($($name:ident),* $(,)?) => {
        #[cfg(feature = "redis")]
        $crate::support::on_each_backend!(redis, $crate::support::Kind::Redis, $($name)*);
    };
}
pub(crate) use on_redis;

/// The same for what only files have.
macro_rules! on_each_file {
    ($($name:ident),* $(,)?) => {
        $crate::support::on_each_backend!(toml, $crate::support::Kind::Toml, $($name)*);
        #[cfg(feature = "yaml")]
        $crate::support::on_each_backend!(yaml, $crate::support::Kind::Yaml, $($name)*);
    };
}
pub(crate) use on_each_file;

/// The password that tests use where they need to know it.
pub(crate) const PASSWORD: &str = "made-up-for-tests";

pub(crate) struct Rig {
    pub(crate) kind: Kind,
    pub(crate) web: u16,
    pub(crate) api: u16,
    pub(crate) folder: PathBuf,
    /// Where etcd or Redis is, and what the names of the two prefixes end with.
    etcd: (String, u16),
    memory: MemoryBackend,
    /// Removes the folder when the test ends.
    _dir: Option<TempDir>,
}

impl Rig {
    pub(crate) fn new(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        Self {
            _dir: Some(dir),
            ..Self::at(kind, folder)
        }
    }

    fn at(kind: Kind, folder: PathBuf) -> Self {
        let web = ports::free();
        let etcd = match kind {
            Kind::Etcd => (shared_url().into(), web),
            #[cfg(feature = "redis")]
            Kind::Redis => (kit::redis::fresh_url(), web),
            _ => Default::default(),
        };
        Self {
            kind,
            web,
            api: ports::free(),
            folder,
            etcd,
            memory: MemoryBackend::new(),
            _dir: None,
        }
    }

    /// The same store, for another Traefik.
    pub(crate) fn sibling(&self) -> Self {
        Self {
            web: ports::free(),
            api: ports::free(),
            memory: self.memory.clone(),
            ..Self::from_json(&self.to_json())
        }
    }

    /// The rig for [`Self::from_json`] in another process.
    pub(crate) fn to_json(&self) -> Value {
        let kind = format!("{:?}", self.kind);
        json!({"kind": kind, "folder": self.folder, "ports": [self.web, self.api], "etcd": self.etcd})
    }

    pub(crate) fn from_json(rig: &Value) -> Self {
        let port = |n: usize| rig["ports"][n].as_u64().unwrap() as u16;
        let kind = match rig["kind"].as_str().unwrap() {
            "Toml" => Kind::Toml,
            #[cfg(feature = "yaml")]
            "Yaml" => Kind::Yaml,
            "Etcd" => Kind::Etcd,
            #[cfg(feature = "redis")]
            "Redis" => Kind::Redis,
            "Push" => Kind::Push,
            other => panic!("{other}"),
        };
        Self {
            kind,
            web: port(0),
            api: port(1),
            folder: rig["folder"].as_str().unwrap().into(),
            etcd: serde_json::from_value(rig["etcd"].clone()).unwrap(),
            memory: MemoryBackend::new(),
            _dir: None,
        }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    /// The names of the files in the folder, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        names_in(&self.folder)
    }

    /// The dynamic configuration's file.
    pub(crate) fn rules(&self) -> PathBuf {
        self.path(format!("rules.{}", self.kind.ending()))
    }

    /// The prefixes in etcd or Redis, without the slashes around them: Traefik's, and ours.
    pub(crate) fn prefixes(&self) -> [String; 2] {
        ["t", "j"].map(|name| format!("{name}{}", self.etcd.1))
    }

    /// Where etcd is, as Traefik wants it.
    pub(crate) fn etcd_address(&self) -> &str {
        self.etcd.0.trim_start_matches("http://")
    }

    /// What is stored, as text; the empty one if nothing is.
    pub(crate) fn rules_text(&self) -> String {
        match self.kind {
            Kind::Etcd => keys::text(&self.etcd.0, &self.prefixes()),
            #[cfg(feature = "redis")]
            Kind::Redis => keys::text_of(self.redis().store(), &self.prefixes()),
            Kind::Push => self.pushed_text(),
            _ if !self.rules().exists() => String::new(),
            _ => std::fs::read_to_string(self.rules()).unwrap(),
        }
    }

    fn pushed_text(&self) -> String {
        if self.memory.inspect().unwrap().unwrap().commit.is_none() {
            return String::new();
        }
        let document = self.memory.pushed().unwrap().document().unwrap();
        String::from_utf8_lossy(&document.body).into()
    }

    pub(crate) fn write_rules(&self, text: &str) {
        if self.kind == Kind::Etcd {
            return keys::write(&self.etcd.0, &self.prefixes(), text);
        }
        #[cfg(feature = "redis")]
        if self.kind == Kind::Redis {
            return keys::write_to(self.redis().store(), &self.prefixes(), text);
        }
        let temp = self.path("hand.tmp");
        std::fs::write(&temp, text).unwrap();
        std::fs::rename(temp, self.rules()).unwrap();
    }

    pub(crate) fn backend(&self) -> Box<dyn Backend> {
        match self.kind {
            Kind::Etcd => Box::new(self.etcd()),
            #[cfg(feature = "redis")]
            Kind::Redis => Box::new(self.redis()),
            Kind::Push => Box::new(self.memory.clone()),
            _ => Box::new(FileBackend::new(self.rules())),
        }
    }

    /// The same for a rig of that kind.
    pub(crate) fn etcd(&self) -> KvBackend<Etcd> {
        self.etcd_of(|etcd| etcd)
    }

    /// The same with other options.
    pub(crate) fn etcd_of(&self, options: impl Fn(Etcd) -> Etcd) -> KvBackend<Etcd> {
        let [traefik, own] = self.prefixes();
        let etcd = KvBackend::new(options(Etcd::new([&self.etcd.0]).unwrap()));
        etcd.traefik_prefix(traefik).jupyterhub_prefix(own)
    }

    /// The same for a rig of that kind.
    #[cfg(feature = "redis")]
    pub(crate) fn redis(&self) -> KvBackend<traefik_router::Redis> {
        let [traefik, own] = self.prefixes();
        let redis = KvBackend::new(traefik_router::Redis::new(&self.etcd.0).unwrap());
        redis.traefik_prefix(traefik).jupyterhub_prefix(own)
    }

    /// Without a key below its root when it starts, Traefik asks etcd rarely; and it does not hear that the
    /// last key in Redis is gone.
    pub(crate) fn seed(&self, root: &str) {
        let key = format!("{root}/http/services/keep/loadBalancer/passHostHeader");
        #[cfg(feature = "redis")]
        if self.kind == Kind::Redis {
            return keys::put(self.redis().store(), &key, "true");
        }
        keys::client(&self.etcd.0).put(key, "true").unwrap();
    }

    pub(crate) fn builder(&self) -> Builder {
        self.builder_over(self.backend())
    }

    pub(crate) fn builder_over(&self, backend: impl Backend) -> Builder {
        Router::builder(backend)
            .public_url(self.web_url())
            .traefik_api_url(self.api_url())
            .traefik_api_password(PASSWORD)
            .traefik_bin(TRAEFIK.path())
            .static_config_file(self.path("traefik.toml"))
            .check_route_timeout(Duration::from_secs(20))
            .stop_timeout(Duration::from_millis(500))
    }

    pub(crate) fn start(&self) -> Router {
        self.builder().start().unwrap()
    }

    /// The same, with these middlewares. Traefik reads them from a file, with any store.
    pub(crate) fn start_with_middlewares(&self, middlewares: &Value) -> Router {
        let extra = json!({"http": {"middlewares": middlewares}});
        self.builder().extra_dynamic_config(extra).start().unwrap()
    }

    pub(crate) fn web_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.web)
    }

    pub(crate) fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api)
    }

    pub(crate) fn api(&self) -> Api {
        Api::new(self.api_url())
            .unwrap()
            .basic_auth("jupyterhub", PASSWORD)
    }

    /// A request through Traefik.
    pub(crate) fn get(&self, host: &str, path: &str) -> Response {
        client::get(self.web, host, path)
    }

    /// The port of the echo backend that a request reaches.
    #[track_caller]
    pub(crate) fn landed(&self, host: &str, path: &str) -> Option<u16> {
        self.get(host, path).landed()
    }

    /// What Traefik answers to a request with these bytes as its host and its path.
    pub(crate) fn send(&self, host: &[u8], path: &[u8]) -> Response {
        let parts = [
            b"GET ",
            path,
            b" HTTP/1.1\r\nHost: ",
            host,
            b"\r\nConnection: close\r\n\r\n",
        ];
        client::send(self.web, &parts.concat())
    }

    /// The same while the target may not be there.
    pub(crate) fn landed_or_error(&self, path: &str) -> Option<u16> {
        let answer = self.get("h", path);
        (answer.status == 200).then(|| answer.landed()).flatten()
    }
}
