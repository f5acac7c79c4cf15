//! Pebble, a certificate authority for ACME, whose server of names says 127.0.0.1 of every name.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::process::Process;
use crate::tools::{PEBBLE, PEBBLE_NAMES};
use crate::{Ca, ports};

/// Killed when it is dropped.
#[derive(Debug)]
pub struct Pebble {
    /// The CA of its own certificate, not of those that it gives out.
    pub ca: Ca,
    acme: u16,
    management: u16,
    folder: tempfile::TempDir,
    _processes: [Process; 2],
}

impl Pebble {
    /// One that looks at this port for the answers to its TLS challenges.
    pub fn start(port: u16) -> Self {
        let (folder, ca) = (
            tempfile::tempdir().expect("a temporary folder"),
            Ca::generate(),
        );
        let [acme, management, names, other] = [(); 4].map(|()| ports::free());
        let address = |port: u16| format!("127.0.0.1:{port}");
        let [cert, key] = ca.sign_files("pebble");
        let config = json!({"pebble": {
            "listenAddress": address(acme),
            "managementListenAddress": address(management),
            "certificate": cert,
            "privateKey": key,
            "httpPort": other,
            "tlsPort": port,
        }});
        let file = folder.path().join("pebble.json");
        fs::write(&file, config.to_string()).expect("a configuration file");
        let mut server = Command::new(PEBBLE_NAMES.path());
        server.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        server.args(["-dns01", &address(names), "-management", &address(other)]);
        server.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        let names_process = Process::start(&mut server, &folder.path().join("names.log"));
        let mut authority = Command::new(PEBBLE.path());
        authority.arg("-config").arg(&file);
        authority.args(["-dnsserver", &address(names)]);
        authority.envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0")]);
        let mut authority = Process::start(&mut authority, &folder.path().join("pebble.log"));
        authority.wait_until("Pebble listens", || ports::is_open(management));
        Self {
            ca,
            acme,
            management,
            folder,
            _processes: [names_process, authority],
        }
    }

    /// The URL for ACME clients, which have to trust its CA.
    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.acme)
    }

    /// The URL of the root of the certificates that it gives out.
    pub fn root(&self) -> String {
        format!("https://127.0.0.1:{}/roots/0", self.management)
    }

    /// A file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("pebble.log")).unwrap_or_default()
    }
}
