//! All that is measured for one table.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kit::{Folder, ports};
use serde_json::Value;

use crate::child::Child;
use crate::cpu::Meter;
use crate::floor::{self, Floor};
use crate::ours::PUSH;
use crate::peer::Peer;
use crate::server::Server;
use crate::{Amount, Programs, Result, Row, SINGLE};

/// All sides for one table, ready to be measured.
pub(crate) struct Sides {
    pub(crate) floor: Floor,
    /// The same table in a TOML file, where ours is pushed.
    file: Option<Floor>,
    pub(crate) ours: Child,
    /// Of our Traefik.
    cpu: Meter,
    /// As it comes, and with a cheap hash.
    pub(crate) peers: Option<[Peer; 2]>,
    server: Option<Server>,
    has_redis: bool,
}

impl Sides {
    pub(crate) fn start(
        programs: &Programs,
        folder: &Folder,
        backend: &str,
        routes: usize,
        amount: &Amount,
    ) -> Result<Self> {
        let sub = |side: &str| folder.sub(&format!("{backend}-{routes}-{side}"));
        let server = |folder: &Path| Server::start(programs, backend, folder);
        let start =
            |backend: &str, routes: usize, folder: &Path, server: Option<&Server>| -> Result<_> {
                let (public, api) = (ports::free(), ports::free());
                let child = Child::start(
                    "ours",
                    Command::new(std::env::current_exe()?)
                        .args(["ours", backend])
                        .arg(folder)
                        .args([public.to_string(), api.to_string(), routes.to_string()])
                        .arg(&programs.traefik)
                        .args(server.map(Server::url)),
                )?;
                let ports = [public, api, server.map_or(0, Server::port)];
                Ok((child, ports))
            };
        let bulk: Vec<usize> = amount.bulk.iter().map(|(count, _)| *count).collect();
        let floor = |backend: &str, folder: &Path, own: &Path, ports: [u16; 3]| -> Result<Floor> {
            let text = fs::read_to_string(own.join("traefik.toml"))?;
            Floor::start(floor::Plan {
                backend,
                routes,
                bulk: &bulk,
                folder,
                traefik: &programs.traefik,
                server: Server::start(programs, backend, folder),
                theirs: (&text, own, ports),
            })
            .map_err(|error| format!("the floor: {error}").into())
        };
        let own = sub("ours")?;
        let own_server = server(&own);
        let (ours, ports) = start(backend, routes, &own, own_server.as_ref())?;
        let process = ours.ready["traefik"].as_u64().ok_or("no Traefik")?;
        let cpu = Meter::new(process.try_into()?)?;
        let bottom = floor(backend, &sub("floor")?, &own, ports)?;
        let file = (backend == PUSH)
            .then(|| {
                // It shows how the library sets a Traefik up that reads a file, and ends.
                let own = sub("file")?;
                let (_model, ports) = start("toml", 0, &own, None)?;
                floor("toml", &sub("file-floor")?, &own, ports)
            })
            .transpose()?;
        let wanted = amount.peer_rounds > 0 || amount.bulk.iter().any(|(_, with_peer)| *with_peer);
        let peers = match programs.peer.as_ref().filter(|_| wanted) {
            None => None,
            Some(python) => {
                let start = |cheap: bool| {
                    let home = sub(if cheap { "cheap" } else { "peer" })?;
                    let server = server(&home);
                    let traefik = &programs.traefik;
                    Peer::start(python, traefik, &home, (backend, routes), server, cheap)
                };
                Some([start(false)?, start(true)?])
            }
        };
        Ok(Self {
            floor: bottom,
            file,
            ours,
            cpu,
            peers,
            has_redis: matches!(own_server, Some(Server::Redis(_))),
            server: own_server,
        })
    }

    /// Forgets the CPU that was used so far.
    pub(crate) fn reset_cpu(&mut self) -> Result {
        self.cpu.lap()?;
        self.floor.cpu.lap()?;
        if let Some(file) = &mut self.file {
            file.cpu.lap()?;
        }
        Ok(())
    }

    /// A sample of each side.
    pub(crate) fn sample(&mut self, row: &mut Row, command: &str) -> Result {
        let is_heavy = self.is_heavy(command);
        let ms = self.floor.sample(command)?;
        if !SINGLE.contains(&command) {
            self.floor.drop_notifications();
        }
        settle(ms, &self.floor.cpu, is_heavy)?;
        row.floor.push(ms);
        row.floor_cpu.push(self.floor.cpu.lap()?);
        if let Some(file) = &mut self.file {
            let ms = file.sample(command)?;
            settle(ms, &file.cpu, is_heavy)?;
            row.file.push(ms);
            row.file_cpu.push(file.cpu.lap()?);
        }
        self.sample_ours(row, command).map(drop)
    }

    /// A sample of a file that waits for the disk.
    pub(crate) fn sample_flushed(&mut self, row: &mut Row, command: &str) -> Result {
        let ms = self.floor.sample_flushed(command)?;
        pause(ms);
        row.flushed.push(ms);
        self.floor.cpu.lap()?;
        Ok(())
    }

    pub(crate) fn sample_ours(&mut self, row: &mut Row, command: &str) -> Result<Value> {
        let answer = self.ours.ask(command)?;
        let ms = answer["ms"].as_f64().ok_or("no time")?;
        if !SINGLE.contains(&command) {
            self.server.iter().for_each(Server::drop_notifications);
        }
        settle(ms, &self.cpu, self.is_heavy(command))?;
        row.ours.push(ms);
        row.stored.extend(answer["stored_ms"].as_f64());
        row.cpu.extend(answer["cpu_ms"].as_f64());
        row.traefik_cpu.push(self.cpu.lap()?);
        Ok(answer)
    }

    /// A sample of the peer as it comes, and of it with a cheap hash.
    pub(crate) fn sample_peers(&mut self, command: &str) -> Result<Option<[f64; 2]>> {
        let Some([peer, cheap]) = &mut self.peers else {
            return Ok(None);
        };
        let sample = |peer: &mut Peer| -> Result<f64> {
            let ms = peer.sample(command)?;
            if self.has_redis {
                peer.until_idle()?;
            }
            Ok(ms)
        };
        Ok(Some([sample(peer)?, sample(cheap)?]))
    }

    /// Puts all tables back, after a batch.
    pub(crate) fn reset(&mut self) -> Result {
        self.forget_changes()?;
        self.floor.sample("reset")?;
        if let Some(file) = &mut self.file {
            file.sample("reset")?;
        }
        self.ours.ask("reset")?;
        self.forget_changes()?;
        self.cpu.until_idle()?;
        self.reset_cpu()
    }

    /// Lets the Traefiks come to rest after thousands of notifications.
    fn forget_changes(&self) -> Result {
        if self.has_redis {
            self.floor.drop_notifications();
            self.server.iter().for_each(Server::drop_notifications);
            self.floor.cpu.until_idle()?;
            self.cpu.until_idle()?;
        }
        Ok(())
    }

    /// Whether Traefik is at work for a while after this command.
    fn is_heavy(&self, command: &str) -> bool {
        self.has_redis || !SINGLE.contains(&command)
    }
}

/// Waits after a sample until Traefik is done with it. What it still does belongs to this sample's CPU, and
/// would slow the next side: it collects garbage once it has loaded a table, and reads Redis again for each key.
fn settle(ms: f64, traefik: &Meter, is_heavy: bool) -> Result {
    pause(ms);
    match is_heavy {
        true => traefik.until_idle(),
        false => Ok(()),
    }
}

fn pause(ms: f64) {
    std::thread::sleep(Duration::from_secs_f64(ms / 4e3));
}
