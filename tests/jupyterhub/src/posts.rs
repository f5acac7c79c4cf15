//! Many routes at once, as JupyterHub sends them after a restart.

use std::fs;
use std::time::Instant;

use kit::terminal::{bold, green, println};
use kit::{Connection, Folder, Process, Server, ports};

use crate::{CHP, Result, Side};

const ROUTES: usize = 200;
const ROUNDS: usize = 5;
const TOKEN: &str = "token of-a-measurement";

pub(super) fn run(sides: &[Side], folder: &Folder) -> Result {
    let targets: Vec<Server> = (0..ROUTES).map(|n| Server::named(&name(n))).collect();
    let proxies = sides
        .iter()
        .map(|side| Proxy::start(side, folder))
        .collect::<Result<Vec<_>>>()?;
    println!("{ROUTES} routes, median of {ROUNDS} rounds; each route is asked for its own target");
    for together in [1, 10, ROUTES] {
        let mut times = vec![Vec::new(); proxies.len()];
        for _ in 0..ROUNDS {
            for (proxy, times) in proxies.iter().zip(&mut times) {
                times.push(proxy.round(together, &targets)?);
            }
        }
        println!("\n{}", bold(&format!("{together} at a time")));
        for (proxy, times) in proxies.iter().zip(&mut times) {
            times.sort_by(f64::total_cmp);
            let seconds = times[ROUNDS / 2];
            let rate = ROUTES as f64 / seconds;
            let (name, memory) = (proxy.name, proxy.memory()?);
            println!(
                "  {name:<24} {:>8.1} ms {rate:>8.0} routes/s {memory:>6} MB",
                seconds * 1e3
            );
        }
    }
    println!("\n{}", green("every route reached its own target"));
    Ok(())
}

struct Proxy {
    name: &'static str,
    public: u16,
    api: u16,
    program: Process,
}

impl Proxy {
    fn start(side: &Side, folder: &Folder) -> Result<Self> {
        let (public, api) = (ports::free(), ports::free());
        let mut command = side.command("env");
        command
            .arg(CHP)
            .args(["--ip", "127.0.0.1", "--port", &public.to_string()])
            .args(["--api-ip", "127.0.0.1", "--api-port", &api.to_string()])
            .args(["--log-level", "error"])
            .env("CONFIGPROXY_AUTH_TOKEN", &TOKEN["token ".len()..]);
        let log = folder.sub(side.name)?.join("proxy.log");
        let mut program = Process::start(&mut command, &log);
        program.wait_until("the proxy listens", || {
            [public, api].into_iter().all(ports::is_open)
        });
        Ok(Self {
            name: side.name,
            public,
            api,
            program,
        })
    }

    /// The seconds until the last of all routes was answered for; then they are gone again.
    fn round(&self, together: usize, targets: &[Server]) -> Result<f64> {
        let start = Instant::now();
        self.each(together, |connection, n| {
            let body = format!(r#"{{"target": "{}"}}"#, targets[n].url());
            let answer = connection.post(&path(n), body.as_bytes())?;
            expect(answer, 201, "")
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let mut public = Connection::new(self.public, None);
        for n in 0..ROUTES {
            let answer = public.get(&format!("/user/{}/lab", name(n)))?;
            expect(answer, 200, &name(n))
                .map_err(|error| format!("{}, route {n}: {error}", self.name))?;
        }
        self.each(together, |connection, n| {
            expect(connection.delete(&path(n))?, 204, "")
        })?;
        Ok(seconds)
    }

    /// All routes, over so many connections.
    fn each(
        &self,
        together: usize,
        job: impl Fn(&mut Connection, usize) -> Result + Sync,
    ) -> Result {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..together)
                .map(|first| {
                    let job = &job;
                    scope.spawn(move || {
                        let mut connection = Connection::authorized(self.api, Some(TOKEN));
                        (first..ROUTES)
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
