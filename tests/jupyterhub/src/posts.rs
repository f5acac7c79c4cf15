//! Many routes at once, as JupyterHub sends them after a restart: ten at a time.

use std::fs;
use std::time::Instant;

use kit::terminal::{bold, green, println};
use kit::{Connection, Folder, Process, Server, ports, provenance};

use crate::{CHP, Result, Side};

/// Routes, and rounds of which the median is printed.
const RUNS: [(usize, usize); 2] = [(200, 5), (1000, 3)];
const TOKEN: &str = "token of-a-measurement";

pub(super) fn run([ours, real]: &[Side; 2], folder: &Folder) -> Result {
    let rules = format!("toml:{}", folder.sub("file")?.join("rules.toml").display());
    let mut proxies = [
        Proxy::start("traefik-router, pushed", ours, &[], folder)?,
        Proxy::start("traefik-router, file", ours, &["--backend", &rules], folder)?,
        Proxy::start(real.name, real, &[], folder)?,
    ];
    for (routes, rounds) in RUNS {
        let targets: Vec<Server> = (0..routes).map(|n| Server::named(&name(n))).collect();
        println!(
            "{routes} routes, median of {rounds} rounds; each route is asked for its own target"
        );
        for together in [1, 2, 10, 64, routes] {
            compare(&mut proxies, &targets, together, rounds)?;
        }
    }
    println!("\n{}", provenance());
    println!("{}", green("every route reached its own target"));
    Ok(())
}

fn compare(proxies: &mut [Proxy], targets: &[Server], together: usize, rounds: usize) -> Result {
    let mut times = vec![Vec::new(); proxies.len()];
    let mut commits = vec![Vec::new(); proxies.len()];
    for round in 0..rounds {
        for n in 0..proxies.len() {
            // Each comes first in turn.
            let n = (n + round) % proxies.len();
            let (seconds, count) = proxies[n].round(together, targets)?;
            times[n].push(seconds);
            commits[n].extend(count);
        }
    }
    println!("\n{}", bold(&format!("{together} at a time")));
    for (n, proxy) in proxies.iter().enumerate() {
        times[n].sort_by(f64::total_cmp);
        commits[n].sort_unstable();
        let (millis, memory) = (times[n][rounds / 2] * 1e3, proxy.memory()?);
        let shared = commits[n]
            .get(rounds / 2)
            .map_or_else(String::new, |commits| {
                let callers = targets.len() as f64 / *commits as f64;
                format!("{commits:>6} commits of {callers:>5.1} callers")
            });
        println!(
            "  {:<24} {millis:>9.1} ms {memory:>6} MB {shared}",
            proxy.name
        );
    }
    Ok(())
}

struct Proxy {
    name: &'static str,
    public: u16,
    api: u16,
    /// Where it counts its commits, if it does.
    metrics: Option<u16>,
    program: Process,
}

impl Proxy {
    fn start(name: &'static str, side: &Side, options: &[&str], folder: &Folder) -> Result<Self> {
        let (public, api, metrics) = (ports::free(), ports::free(), ports::free());
        let mut command = side.command("env");
        command
            .arg(CHP)
            .args(["--ip", "127.0.0.1", "--port", &public.to_string()])
            .args(["--api-ip", "127.0.0.1", "--api-port", &api.to_string()])
            .args([
                "--metrics-ip",
                "127.0.0.1",
                "--metrics-port",
                &metrics.to_string(),
            ])
            .args(["--log-level", "error"])
            .args(options)
            .env("CONFIGPROXY_AUTH_TOKEN", &TOKEN["token ".len()..]);
        let log = folder.sub(name)?.join("proxy.log");
        let mut program = Process::start(&mut command, &log);
        program.wait_until("the proxy listens", || {
            [public, api].into_iter().all(ports::is_open)
        });
        Ok(Self {
            name,
            public,
            api,
            metrics: (side.name != CHP).then_some(metrics),
            program,
        })
    }

    /// The seconds until the last of all routes was answered for, and the commits that it took; then they
    /// are gone again.
    fn round(&self, together: usize, targets: &[Server]) -> Result<(f64, Option<u64>)> {
        let routes = targets.len();
        let before = self.commits()?;
        let start = Instant::now();
        self.each(together, routes, |connection, n| {
            let body = format!(r#"{{"target": "{}"}}"#, targets[n].url());
            let answer = connection.post(&path(n), body.as_bytes())?;
            expect(answer, 201, "")
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let commits = self
            .commits()?
            .zip(before)
            .map(|(after, before)| after - before);
        let mut public = Connection::new(self.public, None);
        for n in 0..routes {
            let answer = public.get(&format!("/user/{}/lab", name(n)))?;
            expect(answer, 200, &name(n))
                .map_err(|error| format!("{}, route {n}: {error}", self.name))?;
        }
        self.each(together, routes, |connection, n| {
            expect(connection.delete(&path(n))?, 204, "")
        })?;
        Ok((seconds, commits))
    }

    /// The commits that it has made.
    fn commits(&self) -> Result<Option<u64>> {
        let Some(port) = self.metrics else {
            return Ok(None);
        };
        let mut connection = Connection::new(port, None);
        let (_, text) = connection.get("/metrics")?;
        let text = String::from_utf8_lossy(text);
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("traefik_router_chp_commits_total "));
        Ok(Some(count.ok_or("no count of commits")?.parse()?))
    }

    /// All routes, over so many connections.
    fn each(
        &self,
        together: usize,
        routes: usize,
        job: impl Fn(&mut Connection, usize) -> Result + Sync,
    ) -> Result {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..together)
                .map(|first| {
                    let job = &job;
                    scope.spawn(move || {
                        let mut connection = Connection::authorized(self.api, Some(TOKEN));
                        (first..routes)
                            .step_by(together)
                            .try_for_each(|n| job(&mut connection, n))
                            .map_err(|error| error.to_string())
                    })
                })
                .collect();
            for thread in threads {
                let done = thread.join().map_err(|_| "a panic")?;
                done.map_err(|error| format!("{}: {error}", self.name))?;
            }
            Ok(())
        })
    }

    /// Resident, with its children, in MB.
    fn memory(&self) -> Result<u64> {
        let mut pages = 0;
        let mut processes = vec![self.program.id()];
        while let Some(process) = processes.pop() {
            let folder = format!("/proc/{process}");
            let memory = fs::read_to_string(format!("{folder}/statm"))?;
            let resident = memory.split(' ').nth(1).unwrap_or_default();
            pages += resident.parse::<u64>()?;
            for task in fs::read_dir(format!("{folder}/task"))? {
                let children = fs::read_to_string(task?.path().join("children"))?;
                let children = children.split_whitespace().map(str::parse);
                processes.extend(children.collect::<Result<Vec<u32>, _>>()?);
            }
        }
        Ok(pages * 4096 / 1_000_000)
    }
}

/// The user of a route, and the name of its target.
fn name(n: usize) -> String {
    format!("u{n}")
}

fn path(n: usize) -> String {
    format!("/api/routes/user/{}", name(n))
}

fn expect((status, body): (u16, &[u8]), wanted: u16, text: &str) -> Result {
    let body = String::from_utf8_lossy(body);
    if status == wanted && body == text {
        return Ok(());
    }
    Err(format!("answered {status} {body:?}, not {wanted} {text:?}").into())
}
