//! `cargo xtask demo --etcd`: one table in etcd, two Traefiks that serve it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use traefik_router::etcd::Client;
use traefik_router::{Builder, Change, Etcd, KvBackend, Route, Router};

use super::{Folder, NOBODY, Proxy, backend, ensure, listen, n_of, served, step, title};
use crate::{Result, tools};
use kit::terminal::{green, human};

const PASSWORD: &str = "for-this-demo-only";

pub(crate) fn run() -> Result {
    let (traefik, etcd) = (tools::traefik()?, tools::etcd_3_5()?);
    tools::show("traefik", &traefik);
    tools::show("etcd", &etcd);
    let folder = Folder::new()?;
    let (apple, pear) = (backend("apple")?, backend("pear")?);
    println!("backends   apple {apple}, pear {pear}");

    title("Start");
    let start = Instant::now();
    let server = Server::start(&etcd.path, &folder)?;
    step("start", &format!("etcd on {}", server.url), &ready(start));
    let on_etcd = || {
        Ok::<_, traefik_router::Error>(Router::builder(KvBackend::new(Etcd::new([&*server.url])?)))
    };
    let proxies = [
        (Proxy::new()?, Proxy::new()?),
        (Proxy::new()?, Proxy::new()?),
    ];
    let mut owners = Vec::new();
    for (n, (public, api)) in proxies.iter().enumerate() {
        let start = Instant::now();
        let config = folder.0.join(format!("traefik-{n}.toml"));
        let builder: Builder = on_etcd()?
            .traefik_bin(&traefik.path)
            .static_config_file(config);
        let builder = builder.public_url(&public.url).traefik_api_url(&api.url);
        owners.push(builder.traefik_api_password(PASSWORD).start()?);
        step(
            "start",
            &format!("a Traefik on {}", public.url),
            &ready(start),
        );
    }
    let router = on_etcd()?
        .traefik_api_urls(proxies.iter().map(|(_, api)| &*api.url))
        .traefik_api_password(PASSWORD)
        .check_route_timeout(Duration::from_secs(5))
        .attach()?;
    let expect = |path: &str, name: &str| -> Result {
        proxies
            .iter()
            .try_for_each(|(public, _)| public.expect(path, name))
    };

    title("One route: each call returns when both Traefiks serve it");
    served(
        "add",
        "/user/zoe/ to apple",
        &router.add_route("/user/zoe/", &apple, "Zoe's")?,
    );
    expect("/user/zoe/notebook", "apple")?;
    served(
        "change",
        "/user/zoe/ to pear",
        &router.add_route("/user/zoe/", &pear, "Zoe's")?,
    );
    expect("/user/zoe/notebook", "pear")?;
    served("delete", "/user/zoe/", &router.delete_route("/user/zoe/")?);
    expect("/user/zoe/notebook", NOBODY)?;

    title("A hundred routes in one transaction, and another writer hears of them");
    let mut watch = owners[0].watch()?;
    let paths: Vec<_> = (0..100).map(|n| format!("/user/{n}/")).collect();
    let add = |path: &String| {
        let route = Route::new(path, &apple);
        route.map(|route| Change::from(route.data(n_of(path))))
    };
    let changes = paths.iter().map(add).collect::<Result<Vec<_>, _>>()?;
    served("add", "100 routes to apple", &router.apply(changes)?);
    for path in &paths {
        for (public, _) in &proxies {
            ensure(
                public.get(path)? == "apple",
                &format!("{path} does not reach apple"),
            )?;
        }
    }
    step(
        "GET",
        "each of them from both",
        &green("200 of 200 reach apple"),
    );
    let heard = watch.next(Duration::from_secs(5))?.len();
    ensure(
        heard == 100,
        &format!("the other writer hears of {heard} changes"),
    )?;
    step(
        "watch",
        "by the first Traefik's owner",
        &green("100 changes heard"),
    );

    title("One Traefik stops: the other one goes on, and the error names who lacks");
    let second = owners.pop().ok_or("two owners")?;
    second.stop()?;
    let error = match router.add_route("/user/late/", &pear, "late") {
        Ok(_) => return Err("nobody serves it there".into()),
        Err(error) => error,
    };
    let (_, gone) = &proxies[1];
    ensure(error.to_string().contains(&gone.url), &format!("{error}"))?;
    step("add", "/user/late/, which both should serve", "NotLoaded");
    println!("           {error}");
    proxies[0].0.expect("/user/late/", "pear")?;

    title("Stop");
    drop(router);
    let first = owners.pop().ok_or("two owners")?;
    first.reconcile([])?;
    first.stop()?;
    let left = Client::new([&*server.url])?.get_prefix("")?.kvs.len();
    ensure(left == 0, &format!("{left} keys are left in etcd"))?;
    step("check", "keys in etcd", &green("nothing left"));
    drop(server);
    let open = proxies
        .iter()
        .any(|(public, api)| public.listens() || api.listens());
    ensure(!open, "something still listens on a Traefik's port")?;
    folder.remove()?;
    step(
        "check",
        "no process, no port, no file",
        &green("nothing left"),
    );
    Ok(())
}

fn ready(start: Instant) -> String {
    format!("ready after {}", human(start.elapsed()))
}

/// etcd with its data in the demo's folder; it ends when this is dropped.
pub(crate) struct Server {
    command: Command,
    child: Child,
    url: String,
}

impl Server {
    pub(crate) fn start(program: &Path, folder: &Folder) -> Result<Self> {
        let [url, peer] = [listen()?, listen()?].map(|at| at.local_addr());
        let (url, peer) = (format!("http://{}", url?), format!("http://{}", peer?));
        let log = std::fs::File::create(folder.0.join("etcd.log"))?;
        let mut command = Command::new(program);
        command
            .arg("--data-dir")
            .arg(folder.0.join("etcd"))
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
        let server = Self {
            command,
            child,
            url,
        };
        server.wait()?;
        Ok(server)
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Kills it and starts it again on the same data.
    pub(crate) fn restart(&mut self) -> Result {
        self.child.kill()?;
        self.child.wait()?;
        self.child = self.command.spawn()?;
        self.wait()
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
