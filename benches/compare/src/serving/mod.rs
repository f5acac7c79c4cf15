//! With --serving: how many requests a table of routes serves, and what a reload
//! takes, with the routes as a flat table and as a tree, beside configurable-http-proxy.
//!
//! All proxies with all their tables run at the same time and take turns under the load: one
//! sample each, then the next round, so that whatever else the machine does hits all of them.

mod load;
mod report;
mod sides;
pub(super) mod target;

use std::path::PathBuf;
use std::time::Instant;

use kit::terminal::human;
use kit::{Connection, Folder, Process, ports, tools};
use serde_json::json;

use self::load::{Cores, Sample, on_core};
use self::sides::{ALL, CHP, FLAT, Side, TREE, Table, Traefik};
use crate::options::Options;
use crate::{Result, cpu, say};

const ROUTES: [usize; 5] = [1, 100, 1_000, 5_000, 10_000];

pub(super) fn run(options: Options) -> Result {
    let mut routes = options.routes.unwrap_or_else(|| ROUTES.into());
    routes.sort_unstable();
    if routes.first() == Some(&0) {
        return Err("--routes: a table without routes serves nothing".into());
    }
    let run = Run {
        quick: options.quick,
        routes,
        programs: Programs {
            traefik: tools::TRAEFIK.get()?,
            chp: tools::CONFIGURABLE_HTTP_PROXY.get()?,
            wrk: tools::WRK.get()?,
        },
        folder: Folder::new()?,
        cores: Cores::choose()?,
        start: Instant::now(),
    };
    let rows = run.serving()?;
    let reloads = run.reloads()?;
    say(
        run.start,
        &format!("done after {}", human(run.start.elapsed())),
    );
    report::save(&rows, &reloads)?;
    println!("{}", report::markdown(&rows, &reloads));
    println!("{}", report::targets(&rows, &reloads));
    Ok(())
}

struct Programs {
    traefik: PathBuf,
    chp: PathBuf,
    wrk: PathBuf,
}

/// The requests for one route of one table, through one proxy.
struct Row {
    side: &'static str,
    routes: usize,
    position: &'static str,
    samples: Vec<Sample>,
}

/// Adds, each until it is served; milliseconds, and those of Traefik's CPU.
struct Reload {
    layout: &'static str,
    routes: usize,
    ms: Vec<f64>,
    cpu: Vec<f64>,
}

/// The target itself, without a proxy.
const DIRECT: &str = "direct";

struct Run {
    quick: bool,
    /// In ascending order.
    routes: Vec<usize>,
    programs: Programs,
    folder: Folder,
    cores: Cores,
    start: Instant,
}

impl Run {
    fn serving(&self) -> Result<Vec<Row>> {
        let port = ports::free();
        let target = self.target(port)?;
        let direct = Place {
            name: DIRECT,
            table: Table {
                routes: 1,
                target: port,
            },
            place: (target.id(), port),
        };
        let sides = self.sides(port)?;
        let mut places = vec![direct];
        for side in &sides {
            places.push(Place {
                name: side.name,
                table: side.table,
                place: side.place()?,
            });
        }
        say(self.start, "warming up");
        for place in &places {
            self.sample(place, 0, 1)?;
        }
        let mut rows: Vec<(Row, &Place, usize)> = Vec::new();
        for place in &places {
            for (position, n) in place.table.positions() {
                let row = Row {
                    side: place.name,
                    routes: place.table.routes,
                    position,
                    samples: Vec::new(),
                };
                rows.push((row, place, n));
            }
        }
        // The sides take turns at each route.
        rows.sort_by_key(|(row, _, n)| (row.routes, *n));
        let (rounds, seconds) = if self.quick { (2, 1) } else { (5, 3) };
        for round in 1..=rounds {
            say(self.start, &format!("round {round} of {rounds}"));
            for (row, place, n) in &mut rows {
                row.samples.push(self.sample(place, *n, seconds)?);
            }
        }
        Ok(rows.into_iter().map(|(row, ..)| row).collect())
    }

    fn sample(&self, place: &Place, n: usize, seconds: usize) -> Result<Sample> {
        let path = place.table.path(n);
        let wrk = &self.programs.wrk;
        load::sample(wrk, &self.cores, place.place, &path, seconds).map_err(|error| {
            format!("{}, {} routes: {error}", place.name, place.table.routes).into()
        })
    }

    fn target(&self, port: u16) -> Result<Process> {
        let mut command = on_core(self.cores.load, &std::env::current_exe()?);
        command.args(["target", &port.to_string()]);
        let mut program = Process::start(&mut command, &self.folder.sub("target")?.join("log"));
        program.wait_until("the target answers", || {
            matches!(Connection::new(port, None).get("/"), Ok((200, _)))
        });
        Ok(program)
    }

    /// All of them, with each number of routes.
    fn sides(&self, target: u16) -> Result<Vec<Side>> {
        let mut sides = Vec::new();
        for &routes in &self.routes {
            say(self.start, &format!("{routes} routes: starting"));
            for name in ALL {
                let program = match name {
                    CHP => &self.programs.chp,
                    _ => &self.programs.traefik,
                };
                let folder = self.folder.sub(&format!("{name}-{routes}"))?;
                let table = Table { routes, target };
                let core = self.cores.proxy;
                sides.push(Side::start(name, program, table, &folder, core)?);
            }
        }
        Ok(sides)
    }

    /// With the largest table, on all cores.
    fn reloads(&self) -> Result<Vec<Reload>> {
        let Some(&routes) = self.routes.last() else {
            return Ok(Vec::new());
        };
        say(self.start, &format!("{routes} routes: reloads"));
        let table = Table { routes, target: 9 };
        let mut sides = Vec::new();
        for layout in [FLAT, TREE] {
            let folder = self.folder.sub(&format!("{layout}-reload"))?;
            let traefik = &self.programs.traefik;
            let traefik = Traefik::start(traefik, layout, table, &folder, None)?;
            let reload = Reload {
                layout,
                routes,
                ms: Vec::new(),
                cpu: Vec::new(),
            };
            sides.push((traefik, reload));
        }
        let rounds = if self.quick { 3 } else { 9 };
        for _ in 0..rounds {
            for (traefik, reload) in &mut sides {
                reload.add(traefik)?;
            }
        }
        Ok(sides.into_iter().map(|(_, reload)| reload).collect())
    }
}

/// Where a table can be asked.
struct Place {
    name: &'static str,
    table: Table,
    /// The process and its port.
    place: (u32, u16),
}

impl Reload {
    fn add(&mut self, traefik: &Traefik) -> Result {
        let (spec, target) = ("/user/new/", "http://10.255.0.1:8888");
        let process = traefik.process()?;
        let (cpu, start) = (cpu::of_process(process)?, Instant::now());
        traefik.router.add_route(spec, target, json!({}))?;
        self.ms.push(start.elapsed().as_secs_f64() * 1e3);
        self.cpu.push(cpu::of_process(process)? - cpu);
        traefik.router.delete_route(spec)?;
        Ok(())
    }
}
