//! What the crate does, shown on a real Traefik with real requests: `cargo xtask demo`.
//!
//! Traefik is the one that TRAEFIK_BIN names, or the one on PATH, or else the demo gets one. With
//! `--etcd` the routes are in etcd (ETCD_BIN, or on PATH) and two Traefiks serve them.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod etcd;
mod stage;

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use kit::process::is_alive;
use kit::terminal::{exit_code, green, human};
use kit::tools::TRAEFIK;
use kit::{Server, ensure};
use traefik_router::{Change, FileBackend, ProcessStatus, Route, Router};

use self::stage::{NOBODY, Proxy, ready, served, step, title};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let options: Vec<String> = std::env::args().skip(1).collect();
    let done = match options.as_slice() {
        [] => file(),
        [option] if option == "--etcd" => etcd::run(),
        _ => Err("the only option is --etcd".into()),
    };
    exit_code(done)
}

/// Routes in a file, which one Traefik watches.
fn file() -> Result {
    let traefik = TRAEFIK.get()?;
    let folder = tempfile::tempdir()?;
    let servers = ["apple", "pear"].map(Server::named);
    let [apple, pear] = servers.each_ref().map(Server::url);
    println!("backends   apple {apple}, pear {pear}");

    title("Start");
    let rules = folder.path().join("rules.toml");
    let by_hand = by_hand(&pear);
    fs::write(&rules, &by_hand)?;
    step("by hand", "a router for /by-hand in rules.toml", "");
    let (public, api) = (Proxy::new(), Proxy::new());
    let start = Instant::now();
    let router = Router::builder(FileBackend::new(&rules))
        .traefik_bin(traefik)
        .static_config_file(folder.path().join("traefik.toml"))
        .public_url(&public.url)
        .traefik_api_url(&api.url)
        .start()?;
    let process = match router.status().process {
        Some(ProcessStatus::Running { pid: process, .. }) => process,
        other => return Err(format!("Traefik should be running, but is {other:?}").into()),
    };
    let what = format!("Traefik on {}, process {process}", public.url);
    step("start", &what, &ready(start));
    public.expect("/by-hand", "pear")?;
    public.expect("/user/zoe/notebook", NOBODY)?;

    title("One route: added, changed, deleted; each call returns when requests follow");
    let applied = router.add_route("/user/zoe/", &apple, "Zoe's")?;
    served("add", "/user/zoe/ to apple", &applied);
    public.expect("/user/zoe/notebook", "apple")?;
    public.expect("/user/zoeira", NOBODY)?;
    let applied = router.add_route("/user/zoe/", &pear, "Zoe's")?;
    served("change", "/user/zoe/ to pear", &applied);
    public.expect("/user/zoe/notebook", "pear")?;
    let route = router.get_route("/user/zoe/")?;
    let data = route.map(|route| route.data.clone());
    let otherwise = format!("its data came back as {data:?}");
    ensure(data == Some("Zoe's".into()), &otherwise)?;
    let applied = router.delete_route("/user/zoe/")?;
    served("delete", "/user/zoe/", &applied);
    public.expect("/user/zoe/notebook", NOBODY)?;

    title("A hundred routes in one go");
    let applied = router.apply(hundred_users(&apple)?)?;
    served("add", "100 routes to apple", &applied);
    for n in 0..100 {
        public.reaches(&format!("/user/{n}/"), "apple")?;
    }
    step("GET", "each of them", &green("100 of 100 reach apple"));
    public.expect("/by-hand", "pear")?;
    let applied = router.reconcile([])?;
    served("delete", "all of them", &applied);
    public.expect("/user/99/", NOBODY)?;

    title("Stop");
    let start = Instant::now();
    router.stop()?;
    let ended = format!("ended after {}", human(start.elapsed()));
    step("stop", "Traefik", &ended);
    ensure(!is_alive(process), "Traefik's process is still there")?;
    let listens = public.listens() || api.listens();
    ensure(!listens, "something still listens on Traefik's ports")?;
    step("check", "no process, no port", &green("nothing left"));
    let left = fs::read_to_string(&rules)?;
    let otherwise = format!("what was written by hand is another text now:\n{left}");
    ensure(left.starts_with(&by_hand), &otherwise)?;
    step("check", "what was written by hand", &green("unchanged"));
    for file in fs::read_dir(&folder)? {
        let name = file?.file_name();
        let expected = name == "rules.toml" || name == "rules.toml.lock";
        ensure(expected, &format!("{} is left behind", name.display()))?;
    }
    folder.close()?;
    step("check", "no other file", &green("nothing left"));
    Ok(())
}

fn by_hand(target: &str) -> String {
    format!(
        "# This was written by hand, and it stays.\n\
         [http.routers.by-hand]\n\
         rule = \"Path(`/by-hand`)\"   # with this comment\n\
         entryPoints = [\"http\"]\n\
         service = \"by-hand\"\n\
         \n\
         [http.services.by-hand.loadBalancer]\n\
         servers = [{{ url = \"{target}\" }}]\n"
    )
}

/// A route for each of a hundred users. Any JSON may go with a route as its data.
fn hundred_users(target: &str) -> Result<Vec<Change>> {
    let add = |n: u32| Ok(Route::new(format!("/user/{n}/"), target)?.data(n).into());
    (0..100).map(add).collect()
}
