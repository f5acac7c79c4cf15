//! jupyterhub-traefik-proxy, driven by `peer.py` in its virtual environment.

use std::fs;
use std::path::Path;
use std::process::Command;

use kit::ports;
use serde_json::json;

use crate::Result;
use crate::child::Child;
use crate::cpu::Meter;
use crate::server::Server;

const SCRIPT: &str = include_str!("peer.py");

pub(super) struct Peer {
    /// Before its server, so that it ends first.
    child: Child,
    server: Option<Server>,
}

impl Peer {
    pub(super) fn start(
        python: &Path,
        traefik: &Path,
        folder: &Path,
        (backend, routes): (&str, usize),
        server: Option<Server>,
        cheap: bool,
    ) -> Result<Self> {
        let script = folder.join("peer.py");
        fs::write(&script, SCRIPT)?;
        // It looks for a program of this name on PATH.
        std::os::unix::fs::symlink(traefik, folder.join("traefik"))?;
        let options = json!({
            "backend": backend,
            "folder": folder,
            "public": ports::free(),
            "api": ports::free(),
            "server": server.as_ref().map(Server::url),
            "routes": routes,
            "cheap": cheap,
        });
        let mut command = Command::new(python);
        command
            .arg(script)
            .arg(options.to_string())
            .current_dir(folder);
        let name = if cheap { "peer (cheap hash)" } else { "peer" };
        let child = Child::start(name, &mut command)?;
        Ok(Self { child, server })
    }

    /// The milliseconds that a command took.
    pub(super) fn sample(&mut self, command: &str) -> Result<f64> {
        let answer = self.child.ask(command)?;
        Ok(answer["ms"]
            .as_f64()
            .ok_or("the peer's answer has no time")?)
    }

    /// Waits until its Traefik has read all of a change.
    pub(super) fn until_idle(&self) -> Result {
        let process = self.child.ready["pid"].as_u64().ok_or("no Traefik")?;
        self.server.iter().for_each(Server::drop_notifications);
        Meter::new(process.try_into()?)?.until_idle()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.close();
        // Its Traefik, where Python was killed.
        if let Some(process) = self.child.ready["pid"].as_u64() {
            let is_traefik = fs::read_link(format!("/proc/{process}/exe"))
                .is_ok_and(|program| program.ends_with("traefik"));
            if is_traefik {
                drop(
                    Command::new("kill")
                        .args(["-KILL", &process.to_string()])
                        .status(),
                );
            }
        }
    }
}
