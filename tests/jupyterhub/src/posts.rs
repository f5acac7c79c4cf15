//! Many routes at once, as JupyterHub sends them after a restart.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use compare::Result;
use compare::http::Connection;
use compare::programs::{Folder, Program, free_port, wait_for};
use compare::stats::quantile;
use kit::terminal::{bold, green};

use crate::{CHP, Side};

const ROUTES: usize = 200;
const ROUNDS: usize = 5;
const TOKEN: &str = "token of-a-measurement";

pub(super) fn run(sides: &[Side], folder: &Folder) -> Result {
    let target = targets()?;
    let proxies = sides
        .iter()
        .map(|side| Proxy::start(side, folder))
        .collect::<Result<Vec<_>>>()?;
    println!("{ROUTES} routes, median of {ROUNDS} rounds; each route is asked for its own target");
    for together in [1, 10, ROUTES] {
        let mut times = vec![Vec::new(); proxies.len()];
        for _ in 0..ROUNDS {
            for (proxy, times) in proxies.iter().zip(&mut times) {
                times.push(proxy.round(together, target)?);
            }
        }
        println!("\n{}", bold(&format!("{together} at a time")));
        for (proxy, times) in proxies.iter().zip(&mut times) {
            let seconds = quantile(times, 0.5);
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
    program: Program,
}

impl Proxy {
    fn start(side: &Side, folder: &Folder) -> Result<Self> {
        let (public, api) = (free_port()?, free_port()?);
        let mut command = side.command("env");
        command
            .arg(CHP)
            .args(["--ip", "127.0.0.1", "--port", &public.to_string()])
            .args(["--api-ip", "127.0.0.1", "--api-port", &api.to_string()])
            .args(["--log-level", "error"])
            .env("CONFIGPROXY_AUTH_TOKEN", &TOKEN["token ".len()..]);
        let log = folder.sub(side.name)?.join("proxy.log");
        let program = Program::run(&command, &log)?;
        for port in [public, api] {
            let ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
            wait_for(Duration::from_secs(20), side.name, ready).map_err(|error| {
                let log = fs::read_to_string(&log).unwrap_or_default();
                format!("{error}\n{log}")
            })?;
        }
        Ok(Self {
            name: side.name,
            public,
            api,
            program,
        })
    }

    /// The seconds until the last of all routes was answered for; then they are gone again.
    fn round(&self, together: usize, target: u16) -> Result<f64> {
        let start = Instant::now();
        self.each(together, |connection, n| {
            let body = format!(r#"{{"target": "http://127.0.1.{n}:{target}"}}"#);
            let answer = connection.post(&path(n), body.as_bytes())?;
            expect(answer, 201, "")
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let mut public = Connection::new(self.public, None);
        for n in 1..=ROUTES {
            let answer = public.get(&format!("/user/u{n}/lab"))?;
            expect(answer, 200, &format!("127.0.1.{n}"))
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
                        (first + 1..=ROUTES)
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

fn path(n: usize) -> String {
    format!("/api/routes/user/u{n}")
}

fn expect((status, body): (u16, &[u8]), wanted: u16, text: &str) -> Result {
    let body = String::from_utf8_lossy(body);
    if status == wanted && body == text {
        return Ok(());
    }
    Err(format!("answered {status} {body:?}, not {wanted} {text:?}").into())
}

/// One port on every address of the loopback network: it answers with the address that was asked.
fn targets() -> Result<u16> {
    let port = free_port()?;
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(port)
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let text = stream.local_addr()?.ip().to_string();
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            let length = text.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"
            )?;
        }
        line.clear();
    }
    Ok(())
}
