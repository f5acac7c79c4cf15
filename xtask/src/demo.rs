//! `cargo xtask demo`: what the crate does, shown on a real Traefik with real requests.

pub(crate) mod etcd;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use traefik_router::{Applied, Builder, Change, FileBackend, ProcessStatus, Route, Router};

use crate::{Result, tools};
use kit::terminal::{bold, dim, green, human};

pub(crate) fn run() -> Result {
    let traefik = tools::traefik()?;
    tools::show("traefik", &traefik);
    let folder = Folder::new()?;
    let (apple, pear) = (backend("apple")?, backend("pear")?);
    println!("backends   apple {apple}, pear {pear}");

    title("Start");
    let rules = folder.0.join("rules.toml");
    let by_hand = by_hand(&pear);
    fs::write(&rules, &by_hand)?;
    step("by hand", "a router for /by-hand in rules.toml", "");
    let (public, api) = (Proxy::new()?, Proxy::new()?);
    let start = Instant::now();
    let router = on_file(&rules)
        .traefik_bin(&traefik.path)
        .static_config_file(folder.0.join("traefik.toml"))
        .public_url(&public.url)
        .traefik_api_url(&api.url)
        .start()?;
    let process = match router.status().process {
        Some(ProcessStatus::Running { pid: process, .. }) => process,
        other => return Err(format!("Traefik should be running, but is {other:?}").into()),
    };
    let what = format!("Traefik on {}, process {process}", public.url);
    step(
        "start",
        &what,
        &format!("ready after {}", human(start.elapsed())),
    );
    public.expect("/by-hand", "pear")?;
    public.expect("/user/zoe/notebook", NOBODY)?;

    title("One route: added, changed, deleted; each call returns when requests follow");
    served(
        "add",
        "/user/zoe/ to apple",
        &router.add_route("/user/zoe/", &apple, "Zoe's")?,
    );
    public.expect("/user/zoe/notebook", "apple")?;
    public.expect("/user/zoeira", NOBODY)?;
    served(
        "change",
        "/user/zoe/ to pear",
        &router.add_route("/user/zoe/", &pear, "Zoe's")?,
    );
    public.expect("/user/zoe/notebook", "pear")?;
    let data = router
        .get_route("/user/zoe/")?
        .map(|route| route.data.clone());
    ensure(
        data == Some("Zoe's".into()),
        &format!("its data came back as {data:?}"),
    )?;
    served("delete", "/user/zoe/", &router.delete_route("/user/zoe/")?);
    public.expect("/user/zoe/notebook", NOBODY)?;

    title("A hundred routes in one go");
    let paths: Vec<_> = (0..100).map(|n| format!("/user/{n}/")).collect();
    let add = |path: &String| {
        let route = Route::new(path, &apple);
        route.map(|route| Change::from(route.data(n_of(path))))
    };
    served(
        "add",
        "100 routes to apple",
        &router.apply(paths.iter().map(add).collect::<Result<Vec<_>, _>>()?)?,
    );
    for path in &paths {
        ensure(
            public.get(path)? == "apple",
            &format!("{path} does not reach apple"),
        )?;
    }
    step("GET", "each of them", &green("100 of 100 reach apple"));
    public.expect("/by-hand", "pear")?;
    served("delete", "all of them", &router.reconcile([])?);
    public.expect("/user/99/", NOBODY)?;

    title("Stop");
    let start = Instant::now();
    router.stop()?;
    step(
        "stop",
        "Traefik",
        &format!("ended after {}", human(start.elapsed())),
    );
    ensure(!is_running(process), "Traefik's process is still there")?;
    ensure(
        !public.listens() && !api.listens(),
        "something still listens on Traefik's ports",
    )?;
    step("check", "no process, no port", &green("nothing left"));
    let left = fs::read_to_string(&rules)?;
    ensure(
        left.starts_with(&by_hand),
        &format!("what was written by hand is another text now:\n{left}"),
    )?;
    step("check", "what was written by hand", &green("unchanged"));
    let others = folder.names()?;
    ensure(
        others
            .iter()
            .all(|name| matches!(&**name, "rules.toml" | "rules.toml.lock")),
        &format!("files are left behind: {others:?}"),
    )?;
    folder.remove()?;
    step("check", "no other file", &green("nothing left"));
    Ok(())
}

fn on_file(rules: &Path) -> Builder {
    Router::builder(FileBackend::new(rules))
}

fn by_hand(target: &str) -> String {
    format!(
        "# Somebody wrote this by hand, and it stays.\n\
         [http.routers.by-hand]\n\
         rule = \"Path(`/by-hand`)\"   # with this comment\n\
         entryPoints = [\"http\"]\n\
         service = \"by-hand\"\n\
         \n\
         [http.services.by-hand.loadBalancer]\n\
         servers = [{{ url = \"{target}\" }}]\n"
    )
}

/// Any JSON may go with a route.
fn n_of(path: &str) -> &str {
    path.trim_matches(|c: char| !c.is_ascii_digit())
}

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

const NOBODY: &str = "404";

/// An address that Traefik is to listen on.
pub(crate) struct Proxy {
    pub(crate) url: String,
    address: std::net::SocketAddr,
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
    fn expect(&self, path: &str, name: &str) -> Result {
        let landed = self.get(path)?;
        ensure(
            landed == name,
            &format!("GET {path} should give {name}, not {landed}"),
        )?;
        let outcome = match name {
            NOBODY => dim("404, no route"),
            _ => green(&format!("reaches {name}")),
        };
        step("GET", path, &outcome);
        Ok(())
    }

    /// The name of the backend that a request reaches, or the status that Traefik answers with.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
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

    fn listens(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }
}

fn is_running(process: u32) -> bool {
    let mut kill = Command::new("kill");
    kill.args(["-0", &process.to_string()])
        .stderr(Stdio::null());
    kill.status().is_ok_and(|status| status.success())
}

/// A temporary folder, which goes in the end, however that comes.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let name = format!("traefik-router-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    fn names(&self) -> Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn remove(&self) -> Result {
        Ok(fs::remove_dir_all(&self.0)?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = self.remove()
        {
            eprintln!("{error}");
        }
    }
}

pub(crate) fn ensure(holds: bool, otherwise: &str) -> Result {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

fn title(text: &str) {
    println!("\n{}", bold(text));
}

fn step(verb: &str, what: &str, outcome: &str) {
    println!("{}", format!("  {verb:<8} {what:<50} {outcome}").trim_end());
}

fn served(verb: &str, what: &str, applied: &Applied) {
    step(
        verb,
        what,
        &match applied.served_after {
            Some(time) => format!("served after {}", human(time)),
            None => "stored".into(),
        },
    );
}
