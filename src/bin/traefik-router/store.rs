//! Where routes are kept, as a command line names it: `toml:FILE`, `yaml:FILE`, `etcd:URL[,URL…]`,
//! `redis:URL`, `redis+sentinel:MASTER,URL[,URL…]`, or `push`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use traefik_router::backend::KvStore;
use traefik_router::{Backend, Etcd, FileBackend, KvBackend, MemoryBackend, Redis, Result, Tls};

/// What the option `--backend` takes.
pub(crate) const SYNTAX: &str = "toml:FILE, yaml:FILE, etcd:URL[,URL…], redis:URL, \
                                 redis+sentinel:MASTER,URL[,URL…], or push for chp, config and doctor";

/// A store of routes that is not opened yet.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    place: Place,
    /// The user of etcd or Redis.
    pub(crate) user: Option<Credentials>,
    /// How TLS is done towards etcd or Redis.
    pub(crate) tls: Tls,
    /// Below which keys Traefik looks in etcd or Redis.
    pub(crate) traefik_prefix: Option<String>,
    /// Below which keys there only we look.
    pub(crate) jupyterhub_prefix: Option<String>,
    /// The list in Redis that changes with each commit.
    pub(crate) redis_change_list: Option<String>,
    /// How many replicas of Redis must have a change.
    pub(crate) redis_replicas: Option<usize>,
    /// How long to wait for another writer of the file.
    pub(crate) lock_timeout: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Place {
    /// In the memory of the program that pushes them.
    Memory,
    File(PathBuf),
    Etcd(Vec<String>),
    Redis(String),
    /// The name of a master, and where Sentinel is.
    Sentinel(String, Vec<String>),
}

#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl Store {
    /// Reads what `--backend` was given. The error says what is wrong without repeating what may
    /// be a secret.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("{why}; use {SYNTAX}"));
        if text == "push" {
            return Ok(Self::pushed());
        }
        let (kind, rest) = text.split_once(':').unwrap_or(("", ""));
        let endings: &[_] = match kind {
            "toml" => &["toml"],
            "yaml" => &["yaml", "yml"],
            "etcd" => {
                let urls: Vec<_> = rest.split(',').map(|url| url.trim().to_string()).collect();
                if urls.iter().any(|url| url.contains('@')) {
                    return refuse(
                        "user name and password may not be in etcd's URL: give --etcd-user and --etcd-password-file",
                    );
                }
                if urls.iter().any(String::is_empty) {
                    return refuse("a URL of etcd is missing");
                }
                return Ok(Self::at(Place::Etcd(urls)));
            }
            "redis" => {
                if rest.contains('@') {
                    return refuse(
                        "user name and password may not be in Redis's URL: give --redis-user and --redis-password-file",
                    );
                }
                return Ok(Self::at(Place::Redis(rest.into())));
            }
            "redis+sentinel" => {
                if rest.contains('@') {
                    return refuse("user name and password may not be in Sentinel's URL");
                }
                let mut items = rest.split(',').map(|item| item.trim().to_string());
                let master = items.next().filter(|name| !name.contains("://"));
                let urls: Vec<_> = items.collect();
                return match master.filter(|name| !name.is_empty() && !urls.is_empty()) {
                    Some(master) => Ok(Self::at(Place::Sentinel(master, urls))),
                    None => refuse("the name of the master or a URL of Sentinel is missing"),
                };
            }
            _ => {
                return refuse(
                    "it does not begin with toml:, yaml:, etcd:, redis: or redis+sentinel:, and is not push",
                );
            }
        };
        let path = Path::new(rest);
        let ending = path.extension().and_then(|ending| ending.to_str());
        if !endings.contains(&ending.unwrap_or_default()) {
            return refuse(&format!(
                "{rest:?} does not end in .{}",
                endings.join(" or .")
            ));
        }
        Ok(Self::at(Place::File(path.into())))
    }

    /// A table that its program pushes to Traefik.
    pub(crate) fn pushed() -> Self {
        Self::at(Place::Memory)
    }

    /// Whether only the program that pushes the table has it.
    pub(crate) fn is_pushed(&self) -> bool {
        matches!(self.place, Place::Memory)
    }

    /// Whether Traefik reads values that are empty.
    pub(crate) fn has_empty_values(&self) -> bool {
        !matches!(self.place, Place::Redis(_) | Place::Sentinel(..))
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            user: None,
            tls: Tls::new(),
            traefik_prefix: None,
            jupyterhub_prefix: None,
            redis_change_list: None,
            redis_replicas: None,
            lock_timeout: None,
        }
    }

    /// The backend. Nothing is read or written yet.
    pub(crate) fn open(&self) -> Result<Box<dyn Backend>> {
        match &self.place {
            Place::Memory => Ok(Box::new(MemoryBackend::new())),
            Place::File(path) => {
                let mut file = FileBackend::new(path);
                if let Some(timeout) = self.lock_timeout {
                    file = file.lock_timeout(timeout);
                }
                Ok(Box::new(file))
            }
            Place::Etcd(urls) => {
                let mut etcd = Etcd::new(urls)?.tls(self.tls.clone())?;
                if let Some(user) = &self.user {
                    etcd = etcd.user(&user.name, &user.password);
                }
                Ok(Box::new(self.keys_in(etcd)))
            }
            Place::Redis(url) => self.redis(Redis::new(url)?),
            Place::Sentinel(master, urls) => self.redis(Redis::sentinel(urls, master)?),
        }
    }

    fn redis(&self, redis: Redis) -> Result<Box<dyn Backend>> {
        let mut redis = redis.tls(self.tls.clone())?;
        if let Some(user) = &self.user {
            redis = redis.user(&user.name, &user.password);
        }
        if let Some(key) = &self.redis_change_list {
            redis = redis.change_list(key);
        }
        if let Some(count) = self.redis_replicas {
            redis = redis.replicas(count);
        }
        Ok(Box::new(self.keys_in(redis)))
    }

    fn keys_in<S: KvStore>(&self, store: S) -> KvBackend<S> {
        let mut backend = KvBackend::new(store);
        if let Some(prefix) = &self.traefik_prefix {
            backend = backend.traefik_prefix(prefix);
        }
        if let Some(prefix) = &self.jupyterhub_prefix {
            backend = backend.jupyterhub_prefix(prefix);
        }
        backend
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Memory => f.write_str("memory"),
            Place::File(path) => write!(f, "{}", path.display()),
            Place::Etcd(urls) => write!(f, "etcd at {}", urls.join(", ")),
            Place::Redis(url) => write!(f, "Redis at {url}"),
            Place::Sentinel(master, urls) => {
                write!(f, "Redis {master} of Sentinel at {}", urls.join(", "))
            }
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backend_option_names_a_store() {
        for (text, shown) in [
            ("toml:rules.toml", "rules.toml"),
            ("toml:/srv/rules.toml", "/srv/rules.toml"),
            ("yaml:a/rules.yml", "a/rules.yml"),
            ("push", "memory"),
            (
                "etcd:http://a:2379, http://b:2379",
                "etcd at http://a:2379, http://b:2379",
            ),
            ("redis:rediss://a:6380/2", "Redis at rediss://a:6380/2"),
            (
                "redis+sentinel:m,redis://a:1, redis://b:2",
                "Redis m of Sentinel at redis://a:1, redis://b:2",
            ),
        ] {
            let store = Store::parse(text).unwrap();
            assert_eq!(store.to_string(), shown);
            assert!(store.open().is_ok(), "{text}");
        }
        for (text, why) in [
            ("rules.toml", "does not begin with"),
            ("toml:rules.yaml", "does not end in .toml"),
            ("yaml:", "does not end in .yaml or .yml"),
            ("etcd:", "a URL of etcd is missing"),
            ("etcd:http://u:hunter2@a:1", "may not be in"),
            ("redis:redis://:hunter2@a:1", "may not be in"),
            ("redis+sentinel:m,redis://:hunter2@a:1", "may not be in"),
            (
                "redis+sentinel:redis://a:1,redis://b:1",
                "the name of the master",
            ),
            ("redis+sentinel:m", "a URL of Sentinel is missing"),
        ] {
            let error = Store::parse(text).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let mut store = Store::parse("etcd:http://a:1").unwrap();
        store.user = Some(Credentials {
            name: "me".into(),
            password: "hunter2".into(),
        });
        assert!(!format!("{store:?}").contains("hunter2"));
    }
}
