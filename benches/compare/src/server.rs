//! The server that one side keeps its routes in, if the backend has one.

use std::collections::BTreeMap;
use std::path::Path;

use kit::etcd::Cluster;
use kit::redis;
use traefik_router::backend::KvStore as _;
use traefik_router::{Backend, Etcd, KvBackend, Redis};

use crate::{Programs, Result};

/// A table in Redis.
pub(crate) const REDIS: &str = "redis";

/// The same, with one notification for each commit.
pub(crate) const REDIS_LIST: &str = "redis-list";

/// The list that changes with each commit.
pub(crate) const CHANGE_LIST: &str = "traefik/changed";

pub(crate) enum Server {
    Etcd(Cluster),
    Redis(redis::Server),
}

impl Server {
    /// A server of its own that keeps what it is given, if this backend has one.
    pub(crate) fn start(programs: &Programs, backend: &str, folder: &Path) -> Option<Self> {
        match (&programs.etcd, backend) {
            (Some(program), "etcd") => Some(Self::Etcd(Cluster::durable(program, folder))),
            (_, REDIS) => Some(Self::Redis(redis::Server::start(&["--appendonly", "yes"]))),
            (_, REDIS_LIST) => {
                let options = ["--appendonly", "yes", "--notify-keyspace-events", "Kl"];
                let server = redis::Server::start(&options);
                // Traefik would have all changes notified of.
                server.run(&["ACL", "SETUSER", "default", "-config"]);
                Some(Self::Redis(server))
            }
            _ => None,
        }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Etcd(cluster) => cluster.url().into(),
            Self::Redis(server) => server.url(),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Etcd(cluster) => cluster.port(),
            Self::Redis(server) => server.port(),
        }
    }

    /// The keys that Traefik reads.
    pub(crate) fn traefik_keys(&self) -> Result<BTreeMap<String, String>> {
        let (root, url) = ("traefik/", self.url());
        let found = match self {
            Self::Etcd(_) => Etcd::new([url])?.read_tree(root)?,
            Self::Redis(_) => Redis::new(url)?.read_tree(root)?,
        };
        Ok(found
            .into_iter()
            .map(|(key, entry)| (key, entry.value))
            .collect())
    }

    /// Drops the notifications that Traefik has not read yet: after thousands of keys these are minutes of work.
    pub(crate) fn drop_notifications(&self) {
        if let Self::Redis(server) = self {
            server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        }
    }
}

/// The library's backend for the store at this URL.
pub(crate) fn backend(backend: &str, url: &str) -> Result<Box<dyn Backend>> {
    Ok(match backend {
        REDIS => Box::new(KvBackend::new(Redis::new(url)?)),
        REDIS_LIST => Box::new(KvBackend::new(Redis::new(url)?.change_list(CHANGE_LIST))),
        _ => Box::new(KvBackend::new(Etcd::new([url])?)),
    })
}
