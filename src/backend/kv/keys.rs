//! Where the keys of a table are: those that Traefik reads, and those that only this crate reads.

use crate::error::{Error, ErrorKind, Result};

/// Where the keys of a table are.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    traefik: String,
    private: String,
}

impl Keys {
    pub(super) fn new(traefik: &str, private: &str) -> Self {
        let bare = |prefix: &str| prefix.trim_matches('/').to_string();
        Self {
            traefik: bare(traefik),
            private: bare(private),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        for (option, prefix) in [
            ("traefik_prefix", &self.traefik),
            ("jupyterhub_prefix", &self.private),
        ] {
            if prefix.split('/').any(str::is_empty) || prefix.chars().any(char::is_control) {
                return refuse(format!(
                    "`{option}` {prefix:?} has an empty part or a control character"
                ));
            }
        }
        let root = format!("{}/", self.traefik);
        for tree in [self.own_tree(), self.legacy_tree()] {
            // Traefik watches all keys that begin with its root, whether a slash follows or not.
            if tree.starts_with(&self.traefik) || root.starts_with(&tree) {
                return refuse(format!(
                    "keys below {tree} would be Traefik's as well as this library's, since \
                     `traefik_prefix` is {:?} and `jupyterhub_prefix` {:?}; choose others",
                    self.traefik, self.private
                ));
            }
        }
        Ok(())
    }

    pub(super) fn traefik(&self) -> &str {
        &self.traefik
    }

    pub(super) fn private(&self) -> &str {
        &self.private
    }

    /// What keeps the names of this table apart from those of others.
    pub(super) fn namespace(&self) -> &str {
        if self.private == "jupyterhub" {
            ""
        } else {
            &self.private
        }
    }

    pub(super) fn private_tree(&self) -> String {
        format!("{}/", self.private)
    }

    /// All that is in `http.routers`.
    pub(super) fn routers(&self) -> String {
        self.http("routers", "")
    }

    pub(super) fn default_certificate(&self) -> String {
        format!("{}/tls/stores/default/", self.traefik)
    }

    /// Where jupyterhub-traefik-proxy keeps its routes.
    pub(super) fn legacy_tree(&self) -> String {
        format!("{}/routes/", self.private)
    }

    /// All that only we read.
    pub(super) fn own_tree(&self) -> String {
        format!("{}/traefik-router/", self.private)
    }

    pub(super) fn header(&self) -> String {
        format!("{}header", self.own_tree())
    }

    /// A key that stands for nothing.
    pub(super) fn scratch(&self) -> String {
        format!("{}scratch", self.own_tree())
    }

    /// Those that have begun to serve the table, and have not said that they have ended.
    pub(super) fn program(&self, writer: &str) -> String {
        format!("{}programs/{writer}", self.own_tree())
    }

    /// Those of them that are alive.
    pub(super) fn serving(&self, writer: &str) -> String {
        format!("{}serving/{writer}", self.own_tree())
    }

    pub(super) fn route(&self, router: &str) -> String {
        format!("{}routes/{router}", self.own_tree())
    }

    /// Shows to a writer that finds a torn table which routers are parents, or stand in for what is left.
    pub(super) fn parent(&self, router: &str) -> String {
        format!("{}parents/{router}", self.own_tree())
    }

    /// Shows the same of a service whose name does not follow from its only server.
    pub(super) fn service(&self, service: &str) -> String {
        format!("{}services/{service}", self.own_tree())
    }

    pub(super) fn http(&self, part: &str, name: &str) -> String {
        format!("{}/http/{part}/{name}", self.traefik)
    }
}
