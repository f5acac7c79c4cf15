//! All that is measured for one table.

use std::fs;
use std::path::Path;
use std::process::Command;

use compare::Result;
use compare::programs::{Etcd, Folder, free_port};

use crate::child::Child;
use crate::floor::{self, Floor};
use crate::peer::Peer;
use crate::{Amount, Programs};

/// All sides for one table, ready to be measured.
pub(crate) struct Sides {
    pub(crate) floor: Floor,
    pub(crate) ours: Child,
    /// As it comes, and with a cheap hash.
    pub(crate) peers: Option<[Peer; 2]>,
    _etcd: Option<Etcd>,
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
        let etcd = |folder: &Path| match &programs.etcd {
            Some(etcd) if backend == "etcd" => Etcd::start(etcd, folder).map(Some),
            _ => Ok(None),
        };
        let own = sub("ours")?;
        let (public, api) = (free_port()?, free_port()?);
        let own_etcd = etcd(&own)?;
        let ours = Child::start(
            "ours",
            Command::new(std::env::current_exe()?)
                .args(["ours", backend])
                .arg(&own)
                .args([public.to_string(), api.to_string(), routes.to_string()])
                .arg(&programs.traefik)
                .args(own_etcd.as_ref().map(Etcd::url)),
        )?;
        let bottom = sub("floor")?;
        let bulk: Vec<usize> = amount.bulk.iter().map(|(count, _)| *count).collect();
        let port = own_etcd.as_ref().map_or(0, |etcd| etcd.port);
        let floor = Floor::start(floor::Plan {
            backend,
            routes,
            bulk: &bulk,
            folder: &bottom,
            traefik: &programs.traefik,
            etcd: etcd(&bottom)?,
            theirs: (
                &fs::read_to_string(own.join("traefik.toml"))?,
                &own,
                [public, api, port],
            ),
        })
        .map_err(|error| format!("the floor: {error}"))?;
        let wanted = amount.peer_rounds > 0 || amount.bulk.iter().any(|(_, with_peer)| *with_peer);
        let peers = match programs.peer.as_ref().filter(|_| wanted) {
            None => None,
            Some(python) => {
                let start = |cheap: bool| {
                    let home = sub(if cheap { "cheap" } else { "peer" })?;
                    let etcd = etcd(&home)?;
                    let traefik = &programs.traefik;
                    Peer::start(python, traefik, &home, (backend, routes), etcd, cheap)
                };
                Some([start(false)?, start(true)?])
            }
        };
        Ok(Self {
            floor,
            ours,
            peers,
            _etcd: own_etcd,
        })
    }
}
