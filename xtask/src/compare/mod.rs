//! `cargo xtask compare`: the floor, the library and jupyterhub-traefik-proxy side by side in one
//! run. All sides run at the same time, each with its own Traefik (and etcd), and take turns: one
//! sample each, then the next one, so that whatever else the machine does hits all of them.

mod child;
mod cpu;
mod floor;
pub(crate) mod http;
mod ours;
mod peer;
mod plot;
pub(crate) mod programs;
mod report;
mod serving;
pub(crate) mod stats;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Map, Value, json};

use self::child::Child;
use self::floor::Floor;
use self::peer::Peer;
use self::programs::{Etcd, Folder, free_port};
use crate::{Result, tools};
use kit::terminal::human;

pub(crate) use self::ours::run as run_ours;
pub(crate) use self::serving::target::{COMMAND as TARGET, run as run_target};

/// The hidden command that runs the library in a process of its own.
pub(crate) const OURS: &str = "compare-ours";
const BACKENDS: [&str; 3] = ["toml", "yaml", "etcd"];
const SINGLE: [&str; 3] = ["add", "change", "delete"];

pub(crate) fn run(arguments: &[&str]) -> Result {
    if arguments.contains(&"--serving") {
        return serving::run(arguments);
    }
    let options = Options::parse(arguments)?;
    if cfg!(debug_assertions) {
        return in_release(arguments);
    }
    let programs = Programs::find(&options)?;
    let folder = Folder::new()?;
    let start = Instant::now();
    let mut run = Run {
        options,
        programs,
        folder,
        rows: Vec::new(),
        failures: Vec::new(),
        start,
    };
    for backend in run.options.backends.clone() {
        for routes in run.sizes(&backend) {
            if let Err(error) = run.table(&backend, routes) {
                run.say(&format!("{backend}, {routes} routes: {error}"));
                run.failures
                    .push(format!("{backend}, {routes} routes: {error}"));
            }
            // What there is, in case the rest fails.
            report::save(&run.rows)?;
        }
    }
    run.say(&format!("done after {}", human(start.elapsed())));
    println!("{}", report::markdown(&run.rows));
    println!("{}", report::targets(&run.rows));
    match run.failures.as_slice() {
        [] => Ok(()),
        failures => Err(failures.join("\n").into()),
    }
}

/// Figures of a debug build say nothing.
fn in_release(arguments: &[&str]) -> Result {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "xtask",
            "--",
            "compare",
        ])
        .args(arguments)
        .current_dir(tools::workspace())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the comparison failed ({status})").into())
    }
}

struct Options {
    quick: bool,
    only: Option<String>,
    routes: Option<Vec<usize>>,
    backends: Vec<String>,
    peer: bool,
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self {
            quick: false,
            only: None,
            routes: None,
            backends: BACKENDS.map(String::from).into(),
            peer: true,
        };
        let mut arguments = arguments.iter();
        while let Some(&name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
            match name {
                "--quick" => options.quick = true,
                "--no-peer" => options.peer = false,
                "--only" => options.only = Some(value()?.to_string()),
                "--routes" => {
                    let sizes = value()?.split(',').map(str::parse);
                    options.routes = Some(sizes.collect::<Result<_, _>>()?);
                }
                "--backend" => {
                    options.backends = value()?.split(',').map(String::from).collect();
                }
                _ => return Err(format!("no such option: {name}; see cargo xtask --help").into()),
            }
        }
        let is_known = |name: &str| BACKENDS.contains(&name) || name == ours::UNFLUSHED;
        if let Some(other) = options.backends.iter().find(|name| !is_known(name)) {
            let known = BACKENDS.join(", ");
            return Err(format!("--backend {other}: {known} or {}", ours::UNFLUSHED).into());
        }
        let cases = ["add", "change", "delete", "apply", "concurrent", "reads"];
        if let Some(only) = options.only.as_deref().filter(|only| !cases.contains(only)) {
            return Err(format!("--only {only}: {}", cases.join(", ")).into());
        }
        Ok(options)
    }

    fn wants(&self, case: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == case)
    }
}

struct Programs {
    traefik: tools::Tool,
    etcd: Option<tools::Tool>,
    peer: Option<tools::Tool>,
}

impl Programs {
    fn find(options: &Options) -> Result<Self> {
        let etcd = options.backends.iter().any(|backend| backend == "etcd");
        let found = Self {
            traefik: tools::traefik()?,
            etcd: etcd.then(tools::etcd_3_5).transpose()?,
            peer: options.peer.then(tools::peer).transpose()?,
        };
        tools::show("traefik", &found.traefik);
        for (name, tool) in [("etcd", &found.etcd), ("peer", &found.peer)] {
            if let Some(tool) = tool {
                tools::show(name, tool);
            }
        }
        Ok(found)
    }
}

/// What was measured in one case.
#[derive(Default)]
struct Row {
    case: String,
    backend: String,
    routes: usize,
    floor: Vec<f64>,
    /// The floor with the library's waits for the disk.
    flushed: Vec<f64>,
    ours: Vec<f64>,
    /// Of these, the part until it was stored.
    stored: Vec<f64>,
    cpu: Vec<f64>,
    peer: Vec<f64>,
    cheap: Vec<f64>,
    more: Map<String, Value>,
}

impl Row {
    fn new(case: &str, backend: &str, routes: usize) -> Self {
        Self {
            case: case.into(),
            backend: backend.into(),
            routes,
            ..Self::default()
        }
    }

    fn add_ours(&mut self, answer: &Value) {
        self.ours.extend(answer["ms"].as_f64());
        self.stored.extend(answer["stored_ms"].as_f64());
        self.cpu.extend(answer["cpu_ms"].as_f64());
    }
}

/// How often each thing is measured for one table.
struct Amount {
    rounds: usize,
    peer_rounds: usize,
    /// Sizes of batches, and whether the peer adds as many.
    bulk: Vec<(usize, bool)>,
    bulk_rounds: usize,
    reads: bool,
    /// Whether the floor is measured with the disk's share, too.
    flushed: bool,
}

struct Run {
    options: Options,
    programs: Programs,
    folder: Folder,
    rows: Vec<Row>,
    failures: Vec<String>,
    start: Instant,
}

impl Run {
    fn say(&self, text: &str) {
        eprintln!("[{:>4.0} s] {text}", self.start.elapsed().as_secs_f64());
    }

    fn sizes(&self, backend: &str) -> Vec<usize> {
        match &self.options.routes {
            Some(routes) => routes.clone(),
            None if self.options.quick && backend != "toml" => vec![0, 100, 1_000],
            None => vec![0, 100, 1_000, 10_000],
        }
    }

    fn amount(&self, backend: &str, routes: usize) -> Amount {
        let quick = self.options.quick;
        let single = SINGLE.iter().any(|case| self.options.wants(case));
        let large = routes > 1_000;
        let rounds = match (quick, routes) {
            (true, ..=100) => 60,
            (true, ..=1_000) => 15,
            (true, _) => 3,
            (false, ..=100) => 200,
            (false, ..=1_000) => 40,
            (false, _) => 9,
        };
        let peer_rounds = match (quick, routes) {
            _ if self.programs.peer.is_none() => 0,
            (true, 100) => 5,
            (true, ..=1_000) => 2,
            (false, ..=1_000) => 10,
            // Filling the peer's etcd would take minutes.
            (false, ..=10_000) if backend != "etcd" => 3,
            _ => 0,
        };
        let apply = self.options.wants("apply") || self.options.wants("concurrent");
        // The peer takes minutes for a thousand routes, so it adds them once, to an empty table.
        let slow = quick && backend == "yaml";
        let with_peer = self.programs.peer.is_some() && routes == 0 && !slow;
        let bulk = match (apply && !large, quick && with_peer) {
            (false, _) => vec![],
            (true, true) => vec![(100, true), (1_000, false)],
            (true, false) => vec![(1_000, with_peer)],
        };
        let largest = self.sizes(backend).into_iter().max() == Some(routes);
        Amount {
            rounds: if single { rounds } else { 0 },
            peer_rounds: if single { peer_rounds } else { 0 },
            bulk,
            bulk_rounds: if quick { 2 } else { 7 },
            reads: self.options.wants("reads") && largest && routes > 0,
            // Beyond that a reload takes so long that the disk is nothing beside it.
            flushed: routes <= 100 && backend != ours::UNFLUSHED,
        }
    }

    /// Measures everything for one backend and one number of routes.
    fn table(&mut self, backend: &str, routes: usize) -> Result {
        let amount = self.amount(backend, routes);
        self.say(&format!("{backend}, {routes} routes: starting"));
        let mut sides = Sides::start(&self.programs, &self.folder, backend, routes, &amount)?;
        let before = sides.ours.ask("usage")?;
        let mut rows = SINGLE.map(|case| Row::new(case, backend, routes));
        for round in 0..amount.rounds {
            if round % 20 == 0 {
                let rounds = amount.rounds;
                self.say(&format!(
                    "{backend}, {routes} routes: round {round} of {rounds}"
                ));
            }
            for row in &mut rows {
                let case = row.case.clone();
                row.floor.push(sides.floor.sample(&case)?);
                if amount.flushed {
                    row.flushed.extend(sides.floor.sample_flushed(&case)?);
                }
                let answer = sides.ours.ask(&case)?;
                row.add_ours(&answer);
                match &mut sides.peers {
                    Some([peer, cheap]) if round < amount.peer_rounds => {
                        row.peer.push(peer.sample(&case)?);
                        row.cheap.push(cheap.sample(&case)?);
                    }
                    _ => {}
                }
            }
        }
        let after = sides.ours.ask("usage")?;
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        if amount.rounds > 0 {
            let spent = number(&after["cpu_ms"]) - number(&before["cpu_ms"]);
            let each = spent / (amount.rounds * rows.len()) as f64;
            for row in &mut rows {
                row.more.insert("ours_process_cpu_ms".into(), json!(each));
                row.more
                    .insert("ours_rss_mb".into(), after["rss_mb"].clone());
            }
        }
        let rows = rows.into_iter();
        let rows = rows.filter(|row| self.options.wants(&row.case) && !row.ours.is_empty());
        let mut rows: Vec<Row> = rows.collect();
        if amount.reads {
            let answer = sides.ours.ask("reads")?;
            for case in ["get", "resolve", "get_all"] {
                for (how, times) in [("", &answer), (report::AGED, &answer["max_age"])] {
                    if let Some(ms) = times[case].as_f64() {
                        let mut row = Row::new(&format!("{case}{how}"), backend, routes);
                        row.ours.push(ms);
                        rows.push(row);
                    }
                }
            }
        }
        self.rows.append(&mut rows);
        for &(count, with_peer) in &amount.bulk {
            self.bulk(
                &mut sides,
                (backend, routes),
                count,
                with_peer,
                amount.bulk_rounds,
            )?;
        }
        Ok(())
    }

    fn bulk(
        &mut self,
        sides: &mut Sides,
        (backend, routes): (&str, usize),
        count: usize,
        with_peer: bool,
        rounds: usize,
    ) -> Result {
        self.say(&format!("{backend}, {routes} routes: {count} at once"));
        let mut apply = Row::new(&format!("apply {count}"), backend, routes);
        let command = format!("bulk {count}");
        let mut concurrent = Row::new(&format!("concurrent {count}"), backend, routes);
        for _ in 0..rounds {
            apply.floor.push(sides.floor.sample(&command)?);
            concurrent.floor.push(sides.floor.reload(&command)?);
            sides.floor.sample("reset")?;
            let answer = sides.ours.ask(&command)?;
            apply.add_ours(&answer);
            sides.ours.ask("reset")?;
        }
        for _ in 0..rounds.div_ceil(2) {
            let answer = sides.ours.ask(&format!("concurrent {count}"))?;
            concurrent.add_ours(&answer);
            for key in ["p99_ms", "max_ms", "generations"] {
                concurrent.more.insert(key.into(), answer[key].clone());
            }
            sides.ours.ask("reset")?;
        }
        if let Some(peers) = sides.peers.as_mut().filter(|_| with_peer) {
            self.say(&format!(
                "{backend}, {routes} routes: the peer adds {count}"
            ));
            for (n, peer) in peers.iter_mut().enumerate() {
                let ms = peer.sample(&command)?;
                self.say(&format!("... which took it {:.1} s", ms / 1e3));
                for row in [&mut apply, &mut concurrent] {
                    if n == 0 {
                        &mut row.peer
                    } else {
                        &mut row.cheap
                    }
                    .push(ms);
                }
            }
        }
        for (case, row) in [("apply", apply), ("concurrent", concurrent)] {
            if self.options.wants(case) {
                self.rows.push(row);
            }
        }
        Ok(())
    }
}

/// All sides for one table, ready to be measured.
struct Sides {
    floor: Floor,
    ours: Child,
    /// As it comes, and with a cheap hash.
    peers: Option<[Peer; 2]>,
    _etcd: Option<Etcd>,
}

impl Sides {
    fn start(
        programs: &Programs,
        folder: &Folder,
        backend: &str,
        routes: usize,
        amount: &Amount,
    ) -> Result<Self> {
        let sub = |side: &str| folder.sub(&format!("{backend}-{routes}-{side}"));
        let etcd = |folder: &Path| match &programs.etcd {
            Some(tool) if backend == "etcd" => Etcd::start(&tool.path, folder).map(Some),
            _ => Ok(None),
        };
        let own = sub("ours")?;
        let (public, api) = (free_port()?, free_port()?);
        let own_etcd = etcd(&own)?;
        let url = own_etcd.as_ref().map_or("-".into(), Etcd::url);
        let ours = Child::start(
            "ours",
            Command::new(std::env::current_exe()?)
                .args([OURS, backend])
                .arg(&own)
                .args([public.to_string(), api.to_string(), url, routes.to_string()])
                .arg(&programs.traefik.path),
        )?;
        let bottom = sub("floor")?;
        let bulk: Vec<usize> = amount.bulk.iter().map(|(count, _)| *count).collect();
        let port = own_etcd.as_ref().map_or(0, |etcd| etcd.port);
        let floor = Floor::start(floor::Plan {
            backend,
            routes,
            bulk: &bulk,
            folder: &bottom,
            traefik: &programs.traefik.path,
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
                    let traefik = &programs.traefik.path;
                    Peer::start(&python.path, traefik, &home, (backend, routes), etcd, cheap)
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
