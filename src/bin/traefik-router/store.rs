//! Where routes are kept, as a command line names it: `toml:FILE`, `yaml:FILE`, `etcd:URL[,URL…]`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use traefik_router::{Backend, Etcd, FileBackend, KvBackend, Result, Tls};

/// What the option `--backend` takes.
pub(crate) const SYNTAX: &str = "toml:FILE, yaml:FILE or etcd:URL[,URL…]";

/// A store of routes that is not opened yet.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    place: Place,
    /// The user of etcd.
    pub(crate) user: Option<Credentials>,
    /// How TLS is done towards etcd.
    pub(crate) tls: Tls,
    /// Below which keys Traefik looks in etcd.
    pub(crate) traefik_prefix: Option<String>,
    /// Below which keys of etcd only we look.
    pub(crate) jupyterhub_prefix: Option<String>,
    /// How long to wait for another writer of the file.
    pub(crate) lock_timeout: Option<Duration>,
    /// Whether a loss of power may take the file with it.
    temporary: bool,
}

#[derive(Debug, Clone)]
enum Place {
    File(PathBuf),
    Etcd(Vec<String>),
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

    /// A TOML file that need not outlast a loss of power.
    pub(crate) fn temporary(path: PathBuf) -> Self {
        Self {
            temporary: true,
            ..Self::at(Place::File(path))
        }
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            user: None,
            tls: Tls::new(),
            traefik_prefix: None,
            jupyterhub_prefix: None,
            lock_timeout: None,
            temporary: false,
        }
    }

    /// The backend. Nothing is read or written yet.
    pub(crate) fn open(&self) -> Result<Box<dyn Backend>> {
        match &self.place {
            Place::File(path) => {
                let mut file = FileBackend::new(path).durable(!self.temporary);
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
    fn backend_option_names_a_store() {
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
        let mut store = Store::parse("etcd:http://a:1").unwrap();
        store.user = Some(Credentials {
            name: "me".into(),
            password: "hunter2".into(),
        });
        assert!(!format!("{store:?}").contains("hunter2"));
    }
}
