//! Where routes are kept, as a command line names it: `toml:FILE`, `yaml:FILE`, `etcd:URL[,URL…]`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;
use traefik_router::{Backend, Etcd, FileBackend, KvBackend, Nested, Result, Tls};

/// What the option `--backend` takes.
pub(crate) const SYNTAX: &str = "toml:FILE, yaml:FILE or etcd:URL[,URL…]";

/// Whether routers stand below others, as a command line or a configuration file names it.
#[derive(Debug, Clone, Copy, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Nesting {
    /// Where it gains something.
    Auto,
    /// Wherever it can be.
    Always,
    /// Nowhere.
    Never,
}

impl From<Nesting> for Nested {
    fn from(nesting: Nesting) -> Self {
        match nesting {
            Nesting::Auto => Self::Auto,
            Nesting::Always => Self::Always,
            Nesting::Never => Self::Never,
        }
    }
}

/// A store of routes that is not opened yet.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    place: Place,
    user: Option<Credentials>,
    tls: Tls,
    traefik_prefix: Option<String>,
    jupyterhub_prefix: Option<String>,
    lock_timeout: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Place {
    File(PathBuf),
    Etcd(Vec<String>),
}

#[derive(Clone)]
struct Credentials {
    name: String,
    password: String,
}

impl Store {
    /// Reads what `--backend` was given. The error says what is wrong without repeating what may
    /// be a secret.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("backend: {why}; use {SYNTAX}"));
        let (kind, rest) = text.split_once(':').unwrap_or(("", ""));
        let endings: &[_] = match kind {
            "toml" => &["toml"],
            "yaml" => &["yaml", "yml"],
            "etcd" => {
                let urls: Vec<_> = rest.split(',').map(|url| url.trim().to_string()).collect();
                if urls.iter().any(|url| url.contains('@')) {
                    return refuse("user name and password do not belong into etcd's URL");
                }
                if urls.iter().any(String::is_empty) {
                    return refuse("a URL of etcd is missing");
                }
                return Ok(Self::at(Place::Etcd(urls)));
            }
            _ => return refuse("it does not begin with toml:, yaml: or etcd:"),
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

    fn at(place: Place) -> Self {
        Self {
            place,
            user: None,
            tls: Tls::new(),
            traefik_prefix: None,
            jupyterhub_prefix: None,
            lock_timeout: None,
        }
    }

    /// The user of etcd.
    pub(crate) fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some(Credentials {
            name: name.into(),
            password: password.into(),
        });
        self
    }

    /// How TLS is done towards etcd.
    pub(crate) fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Below which keys Traefik looks in etcd.
    pub(crate) fn traefik_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.traefik_prefix = Some(prefix.into());
        self
    }

    /// Below which keys of etcd only we look.
    pub(crate) fn jupyterhub_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.jupyterhub_prefix = Some(prefix.into());
        self
    }

    /// How long to wait for another writer of the file.
    pub(crate) fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = Some(timeout);
        self
    }

    /// Whether it is etcd.
    pub(crate) fn is_etcd(&self) -> bool {
        matches!(self.place, Place::Etcd(_))
    }

    /// The backend. Nothing is read or written yet.
    pub(crate) fn open(&self) -> Result<Box<dyn Backend>> {
        match &self.place {
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
                let mut backend = KvBackend::new(etcd);
                if let Some(prefix) = &self.traefik_prefix {
                    backend = backend.traefik_prefix(prefix);
                }
                if let Some(prefix) = &self.jupyterhub_prefix {
                    backend = backend.jupyterhub_prefix(prefix);
                }
                Ok(Box::new(backend))
            }
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(path) => write!(f, "{}", path.display()),
            Place::Etcd(urls) => write!(f, "etcd at {}", urls.join(", ")),
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
    fn stores() {
        for (text, shown) in [
            ("toml:rules.toml", "rules.toml"),
            ("toml:/srv/rules.toml", "/srv/rules.toml"),
            ("yaml:a/rules.yml", "a/rules.yml"),
            (
                "etcd:http://a:2379, http://b:2379",
                "etcd at http://a:2379, http://b:2379",
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
            ("etcd:http://u:hunter2@a:1", "do not belong"),
        ] {
            let error = Store::parse(text).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let store = Store::parse("etcd:http://a:1")
            .unwrap()
            .user("me", "hunter2");
        assert!(!format!("{store:?}").contains("hunter2"));
    }
}
