//! What the demo needs around the crate: servers, requests, an etcd, and lines of text.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use kit::terminal::{bold, dim, green, human};
use traefik_router::Applied;
use traefik_router::etcd::Client;

use crate::Result;

/// Starts an HTTP server that answers every request with its name; it ends with this program.
pub(crate) fn backend(name: &'static str) -> Result<String> {
    let listener = listen()?;
    let url = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || answer(connection, name));
        }
    });
    Ok(url)
}

fn answer(connection: TcpStream, name: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(&connection).lines();
    while lines
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
    write!(&connection, "{head} {}\r\n\r\n{name}", name.len())
}

/// Listens on a free port below those that the system hands out for outgoing connections, so that
/// none of these takes it in the meantime.
fn listen() -> Result<TcpListener> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 10_000) as u16;
    (0..1000)
        .map(|_| 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000)
        .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .ok_or_else(|| "no free port on 127.0.0.1".into())
}

/// What a request lands at that no route takes.
pub(crate) const NOBODY: &str = "404";

/// An address that Traefik is to listen on.
pub(crate) struct Proxy {
    pub(crate) url: String,
    address: SocketAddr,
}

impl Proxy {
    pub(crate) fn new() -> Result<Self> {
        let address = listen()?.local_addr()?;
        Ok(Self {
            url: format!("http://{address}"),
            address,
        })
    }

    /// Sends one request, and fails unless it lands at the backend of this name. There is no
    /// second try: a route is served when the call that added it returns.
    pub(crate) fn expect(&self, path: &str, name: &str) -> Result {
        self.reaches(path, name)?;
        let outcome = match name {
            NOBODY => dim("404, no route"),
            _ => green(&format!("reaches {name}")),
        };
        step("GET", path, &outcome);
        Ok(())
    }

    /// The same without a line of text.
    pub(crate) fn reaches(&self, path: &str, name: &str) -> Result {
        let landed = self.get(path)?;
        let otherwise = format!("GET {path} should give {name}, not {landed}");
        ensure(landed == name, &otherwise)
    }

    /// The name of the backend that a request reaches, or the status that Traefik answers with.
    fn get(&self, path: &str) -> Result<String> {
        let mut connection = TcpStream::connect(self.address)?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            connection,
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.address
        )?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        match answer.split_once("\r\n\r\n") {
            Some((_, body)) if status == "200" => Ok(body.into()),
            _ => Ok(status.into()),
        }
    }

    pub(crate) fn listens(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }
}

/// etcd with its data in the demo's folder; it ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start(program: &Path, folder: &Path) -> Result<Self> {
        let [url, peer] = [listen()?, listen()?].map(|at| at.local_addr());
        let (url, peer) = (format!("http://{}", url?), format!("http://{}", peer?));
        let log = File::create(folder.join("etcd.log"))?;
        let mut command = Command::new(program);
        command
            .arg("--data-dir")
            .arg(folder.join("etcd"))
            .args([
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn()?;
        let server = Self { child, url };
        server.wait()?;
        Ok(server)
    }

    fn wait(&self) -> Result {
        let client = Client::new([&*self.url])?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = client.status() {
            if Instant::now() > deadline {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for done in [self.child.kill(), self.child.wait().map(drop)] {
            if let Err(error) = done {
                eprintln!("etcd: {error}");
            }
        }
    }
}

pub(crate) fn is_running(process: u32) -> bool {
    let mut kill = Command::new("kill");
    kill.args(["-0", &process.to_string()])
        .stderr(Stdio::null());
    kill.status().is_ok_and(|status| status.success())
}

pub(crate) fn ensure(holds: bool, otherwise: &str) -> Result {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

pub(crate) fn title(text: &str) {
    println!("\n{}", bold(text));
}

pub(crate) fn step(verb: &str, what: &str, outcome: &str) {
    println!("{}", format!("  {verb:<8} {what:<50} {outcome}").trim_end());
}

pub(crate) fn served(verb: &str, what: &str, applied: &Applied) {
    let outcome = match applied.served_after {
        Some(time) => format!("served after {}", human(time)),
        None => "stored".into(),
    };
    step(verb, what, &outcome);
}

pub(crate) fn ready(start: Instant) -> String {
    format!("ready after {}", human(start.elapsed()))
}
