//! 40,000 routes on four Traefiks, a Router each, behind a Traefik with four fixed routes, and the same routes on one
//! Traefik: `cargo run --release --example parts`. See docs/scale.md.

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use kit::tools::TRAEFIK;
use kit::{Connection, Folder, Server, ensure, ports};
use traefik_router::{Change, MemoryBackend, Router};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const PARTS: usize = 4;
const ROUTES: usize = 10_000;
const ADDS: usize = 9;

/// A Traefik with its Router, and the port of its entrypoint.
struct Proxy {
    router: Router,
    port: u16,
}

impl Proxy {
    fn start(traefik: &Path, folder: &Folder, name: &str) -> Result<Self> {
        let port = ports::free();
        let router = Router::builder(MemoryBackend::new())
            .traefik_bin(traefik)
            .static_config_file(folder.sub(name)?.join("traefik.toml"))
            .public_url(format!("http://127.0.0.1:{port}"))
            .traefik_api_url(format!("http://127.0.0.1:{}", ports::free()))
            .start()?;
        Ok(Self { router, port })
    }
}

fn main() -> Result {
    let folder = Folder::new()?;
    let server = Server::named("server");
    let target = server.url();

    let traefik = TRAEFIK.get()?;
    let front = Proxy::start(&traefik, &folder, "front")?;
    let parts: Vec<Proxy> = (0..PARTS)
        .map(|part| Proxy::start(&traefik, &folder, &format!("part-{part}")))
        .collect::<Result<_>>()?;
    front.router.apply(
        parts
            .iter()
            .enumerate()
            .map(|(n, part)| {
                let url = format!("http://127.0.0.1:{}", part.port);
                Change::set(format!("/{n}/"), &url)
            })
            .collect::<Result<Vec<_>, _>>()?,
    )?;

    let took = on_all(&parts, |n, router| {
        let changes = (0..ROUTES).map(|route| Change::set(format!("/{n}/{route}/"), &target));
        router
            .apply(changes.collect::<Result<Vec<_>, _>>()?)
            .map(drop)
    })?;
    println!("{ROUTES} routes on each of {PARTS} Traefiks, all at once: {took:.1?}");

    let mut times = Vec::new();
    for add in 0..ADDS {
        let n = add % PARTS;
        let start = Instant::now();
        let path = format!("/{n}/one-more-{add}/");
        parts[n].router.add_route(&path, &target, add)?;
        times.push(start.elapsed());
        request(&mut Connection::new(front.port, None), &path)?;
    }
    println!("one more route, on one part:  {:.0?}", median(&mut times));

    let took = on_all(&parts, |n, router| {
        let path = format!("/{n}/last/");
        router.add_route(&path, &target, "last").map(drop)
    })?;
    println!("one more route, on each part: {took:.0?}");

    let (mut direct, mut through) = (Vec::new(), Vec::new());
    let path = format!("/0/{}/", ROUTES - 1);
    for (port, times) in [(parts[0].port, &mut direct), (front.port, &mut through)] {
        let mut connection = Connection::new(port, None);
        for _ in 0..1_000 {
            let start = Instant::now();
            request(&mut connection, &path)?;
            times.push(start.elapsed());
        }
    }
    let [direct, through] = [direct, through].map(|mut times| median(&mut times));
    println!("a request: {direct:.0?} to the part, {through:.0?} through the front");

    drop(parts);
    drop(front);
    let whole = Proxy::start(&traefik, &folder, "whole")?;
    let routes = (0..PARTS).flat_map(|n| (0..ROUTES).map(move |route| format!("/{n}/{route}/")));
    let changes = routes.map(|path| Change::set(&path, &target));
    whole
        .router
        .apply(changes.collect::<Result<Vec<_>, _>>()?)?;
    let mut alone = Vec::new();
    for add in 0..ADDS / 2 {
        let start = Instant::now();
        whole
            .router
            .add_route(format!("/one-more-{add}/"), &target, add)?;
        alone.push(start.elapsed());
    }
    println!(
        "one more route, on one Traefik with all: {:.0?}",
        median(&mut alone)
    );
    Ok(())
}

/// How long it takes to do something on all parts, a thread each.
fn on_all(
    parts: &[Proxy],
    job: impl Fn(usize, &Router) -> traefik_router::Result<()> + Sync,
) -> Result<Duration> {
    let start = Instant::now();
    thread::scope(|scope| {
        let job = &job;
        let parts = parts.iter().enumerate();
        let threads = parts.map(|(n, part)| scope.spawn(move || job(n, &part.router)));
        let threads: Vec<_> = threads.collect();
        let mut done = threads.into_iter().map(|thread| thread.join());
        done.try_for_each(|done| {
            done.map_err(|_| "a thread has panicked")?
                .map_err(Into::into)
        })
    })
    .map_err(|error: Box<dyn std::error::Error>| error)?;
    Ok(start.elapsed())
}

/// A request that has to reach the server.
fn request(connection: &mut Connection, path: &str) -> Result {
    let (status, _) = connection.get(path)?;
    ensure(status == 200, &format!("{path} answers {status}"))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
