//! Programs that end with the comparison, and ports for them.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub use kit::Folder;
use kit::Process;
use kit::etcd::Cluster;

use crate::Result;

/// A program that ends when this is dropped, or when we end.
pub struct Program(Process);

impl Program {
    /// Starts Traefik with this static configuration.
    pub fn traefik(program: &Path, config: &Path, log: &Path) -> Result<Self> {
        let option = format!("--configFile={}", config.display());
        let mut command = Command::new(program);
        command.arg(option);
        if std::env::var_os("GOGC").is_none() {
            // As the library starts it.
            command.env("GOGC", "400");
        }
        Ok(Self(Process::start(&mut command, log)))
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

/// An etcd of its own, which flushes its data to the disk that its folder is on.
pub struct Etcd {
    /// Where clients connect.
    pub port: u16,
    cluster: Cluster,
}

impl Etcd {
    /// Starts it, and waits until it answers.
    pub fn start(program: &Path, folder: &Path) -> Result<Self> {
        let cluster = Cluster::durable(program, folder);
        let port = cluster.url().rsplit(':').next().unwrap_or_default();
        Ok(Self {
            port: port.parse()?,
            cluster,
        })
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        self.cluster.url().into()
    }
}

/// Waits until `ready` returns true.
///
/// # Errors
///
/// If it does not within `most`.
pub fn wait_for(most: Duration, what: &str, mut ready: impl FnMut() -> bool) -> Result {
    let start = Instant::now();
    while !ready() {
        if start.elapsed() > most {
            return Err(format!("{what} is not ready after {most:?}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A port that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(kit::ports::free())
}
