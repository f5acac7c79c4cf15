//! Traefik alone (the floor), the library and jupyterhub-traefik-proxy side by side in one run. All sides
//! run at the same time, each with its own Traefik (and etcd), and take turns: one sample each, then the
//! next one, so that whatever else the machine does hits all of them.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod child;
mod cpu;
mod floor;
mod options;
mod ours;
mod peer;
mod plot;
mod report;
mod server;
mod serving;
mod sides;
mod stats;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;
use kit::terminal::{exit_code, human};
use kit::{Folder, tools};
use serde_json::{Map, Value, json};

use self::options::{Arguments, Options, Part};
use self::sides::Sides;

/// The error says what failed, for a person.
type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const SINGLE: [&str; 3] = ["add", "change", "delete"];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.part {
        Some(Part::Ours(setup)) => {
            ours::run(&setup);
            Ok(())
        }
        Some(Part::Target { port }) => serving::target::run(port),
        None if cfg!(debug_assertions) => {
            Err("figures of a debug build say nothing: run it by `cargo xtask compare`".into())
        }
        None if arguments.options.serving => serving::run(arguments.options),
        None => run(arguments.options),
    };
    exit_code(done)
}

/// Prints what is being done, and how long after the start.
fn say(start: Instant, text: &str) {
    eprintln!("[{:>4.0} s] {text}", start.elapsed().as_secs_f64());
}

fn run(options: Options) -> Result {
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
            // A program that does not start panics.
            let done = catch_unwind(AssertUnwindSafe(|| run.table(&backend, routes)));
            let done = done.unwrap_or_else(|_| Err("a panic; its message is above".into()));
            if let Err(error) = done {
                let failure = format!("{backend}, {routes} routes: {error}");
                say(start, &failure);
                run.failures.push(failure);
            }
            // What there is, in case the rest fails.
            report::save(&run.rows)?;
        }
    }
    say(start, &format!("done after {}", human(start.elapsed())));
    println!("{}", report::markdown(&run.rows));
    println!("{}", report::targets(&run.rows));
    match run.failures.as_slice() {
        [] => Ok(()),
        failures => Err(failures.join("\n").into()),
    }
}

struct Programs {
    traefik: PathBuf,
    etcd: Option<PathBuf>,
    /// The Python that jupyterhub-traefik-proxy is installed for.
    peer: Option<PathBuf>,
}

impl Programs {
    fn find(options: &Options) -> Result<Self> {
        let etcd = options.backends.iter().any(|backend| backend == "etcd");
        let peer = !options.no_peer;
        Ok(Self {
            traefik: tools::TRAEFIK.get()?,
            etcd: etcd.then(|| tools::ETCD.get()).transpose()?,
            peer: peer.then(|| tools::PEER.get()).transpose()?,
        })
    }
}

/// What was measured in one case.
#[derive(Default)]
struct Row {
    case: String,
    backend: String,
    routes: usize,
    floor: Vec<f64>,
    /// The floor of a file with the library's waits for the disk.
    flushed: Vec<f64>,
    /// The floor of a TOML file, where ours is pushed.
    file: Vec<f64>,
    ours: Vec<f64>,
    /// Of these, the part until it was stored.
    stored: Vec<f64>,
    cpu: Vec<f64>,
    /// The CPU of our Traefik, of the floor's and of the file's.
    traefik_cpu: Vec<f64>,
    floor_cpu: Vec<f64>,
    file_cpu: Vec<f64>,
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
}

/// How often each thing is measured for one table.
struct Amount {
    rounds: usize,
    peer_rounds: usize,
    /// Sizes of batches, and whether the peer adds as many.
    bulk: Vec<(usize, bool)>,
    bulk_rounds: usize,
    reads: bool,
    /// Whether the floor of a file is measured with the library's waits for the disk, too.
    flushed: bool,
}

fn is_redis(backend: &str) -> bool {
    [server::REDIS, server::REDIS_LIST].contains(&backend)
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
    fn sizes(&self, backend: &str) -> Vec<usize> {
        match &self.options.routes {
            Some(routes) => routes.clone(),
            None if is_redis(backend)
                || self.options.quick && !["toml", ours::PUSH].contains(&backend) =>
            {
                vec![0, 100, 1_000]
            }
            None => vec![0, 100, 1_000, 10_000],
        }
    }

    fn amount(&self, backend: &str, routes: usize) -> Amount {
        let quick = self.options.quick;
        let single = SINGLE.iter().any(|case| self.options.wants(case));
        let large = routes > 1_000;
        let rounds = match (quick, routes) {
            // Traefik is at work for long after each change.
            (_, ..=100) if is_redis(backend) => 20,
            (_, _) if is_redis(backend) => 7,
            (true, ..=100) => 60,
            (true, ..=1_000) => 15,
            (true, _) => 3,
            (false, ..=100) => 200,
            (false, ..=1_000) => 40,
            (false, _) => 9,
        };
        let has_peer =
            self.programs.peer.is_some() && ![ours::PUSH, server::REDIS_LIST].contains(&backend);
        let peer_rounds = match (quick, routes) {
            _ if !has_peer => 0,
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
        let with_peer = has_peer && routes == 0 && !slow;
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
            bulk_rounds: match quick || is_redis(backend) {
                _ if backend == server::REDIS => 1,
                true => 2,
                // Traefik collects garbage during some of its reloads only.
                false if backend == ours::PUSH => 21,
                false => 7,
            },
            reads: self.options.wants("reads") && largest && routes > 0,
            flushed: ["toml", "yaml"].contains(&backend),
        }
    }

    /// Measures everything for one backend and one number of routes.
    fn table(&mut self, backend: &str, routes: usize) -> Result {
        let amount = self.amount(backend, routes);
        say(self.start, &format!("{backend}, {routes} routes: starting"));
        let mut sides = Sides::start(&self.programs, &self.folder, backend, routes, &amount)?;
        if routes > 1_000 && self.options.wants("apply") {
            let mut row = Row::new(&format!("apply {routes}"), backend, 0);
            row.ours.extend(sides.ours.ready["ms"].as_f64());
            self.rows.push(row);
        }
        let before = sides.ours.ask("usage")?;
        sides.reset_cpu()?;
        let mut rows = SINGLE.map(|case| Row::new(case, backend, routes));
        for round in 0..amount.rounds {
            if round % 20 == 0 {
                let rounds = amount.rounds;
                say(
                    self.start,
                    &format!("{backend}, {routes} routes: round {round} of {rounds}"),
                );
            }
            for row in &mut rows {
                let case = row.case.clone();
                sides.sample(row, &case)?;
                if amount.flushed {
                    sides.sample_flushed(row, &case)?;
                }
                if round < amount.peer_rounds
                    && let Some([peer, cheap]) = sides.sample_peers(&case)?
                {
                    row.peer.push(peer);
                    row.cheap.push(cheap);
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
                for (how, times) in [("", &answer), (", uncached", &answer["uncached"])] {
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
            self.bulk(&mut sides, (backend, routes), count, with_peer, &amount)?;
        }
        Ok(())
    }

    fn bulk(
        &mut self,
        sides: &mut Sides,
        (backend, routes): (&str, usize),
        count: usize,
        with_peer: bool,
        amount: &Amount,
    ) -> Result {
        say(
            self.start,
            &format!("{backend}, {routes} routes: {count} at once"),
        );
        let mut apply = Row::new(&format!("apply {count}"), backend, routes);
        let command = format!("bulk {count}");
        let mut concurrent = Row::new(&format!("concurrent {count}"), backend, routes);
        sides.reset_cpu()?;
        for _ in 0..amount.bulk_rounds {
            sides.sample(&mut apply, &command)?;
            sides.reset()?;
            if amount.flushed {
                sides.sample_flushed(&mut apply, &command)?;
                sides.reset()?;
            }
        }
        let concurrent_rounds = match self.options.wants("concurrent") {
            true => amount.bulk_rounds.div_ceil(2),
            false => 0,
        };
        // By themselves: each side's Traefik has as much behind it as the other's when `apply` is measured.
        for _ in 0..concurrent_rounds {
            sides.floor.sample(&command)?;
            concurrent.floor.push(sides.floor.reload(&command)?);
            sides.reset()?;
        }
        for _ in 0..concurrent_rounds {
            let answer = sides.sample_ours(&mut concurrent, &format!("concurrent {count}"))?;
            for key in ["p99_ms", "max_ms", "generations"] {
                concurrent.more.insert(key.into(), answer[key].clone());
            }
            sides.ours.ask("reset")?;
            sides.reset_cpu()?;
        }
        if let Some(peers) = sides.peers.as_mut().filter(|_| with_peer) {
            say(
                self.start,
                &format!("{backend}, {routes} routes: the peer adds {count}"),
            );
            for (n, peer) in peers.iter_mut().enumerate() {
                let ms = peer.sample(&command)?;
                say(self.start, &format!("... which took it {:.1} s", ms / 1e3));
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
