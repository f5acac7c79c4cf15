//! One table in etcd, two Traefiks that serve it.

use std::time::{Duration, Instant};

use kit::etcd::Cluster;
use kit::terminal::green;
use kit::tools::{ETCD, TRAEFIK};
use kit::{Server, ensure};
use traefik_router::etcd::Client;
use traefik_router::{Builder, Etcd, KvBackend, Router};

use crate::stage::{NOBODY, Proxy, ready, served, step, title};
use crate::{Result, hundred_users};

const PASSWORD: &str = "for-this-demo-only";

pub(crate) fn run() -> Result {
    let (traefik, etcd) = (TRAEFIK.get()?, ETCD.get()?);
    let folder = tempfile::tempdir()?;
    let servers = ["apple", "pear"].map(Server::named);
    let [apple, pear] = servers.each_ref().map(Server::url);
    println!("backends   apple {apple}, pear {pear}");

    title("Start");
    let start = Instant::now();
    let store = Cluster::start(&etcd);
    step("start", &format!("etcd on {}", store.url()), &ready(start));
    let on_etcd = || -> Result<Builder> {
        let etcd = Etcd::new([store.url()])?;
        Ok(Router::builder(KvBackend::new(etcd)))
    };
    let proxies = [(Proxy::new(), Proxy::new()), (Proxy::new(), Proxy::new())];
    // A Router each, which starts and stops its Traefik.
    let mut owners = Vec::new();
    for (n, (public, api)) in proxies.iter().enumerate() {
        let start = Instant::now();
        let owner = on_etcd()?
            .traefik_bin(&traefik)
            .static_config_file(folder.path().join(format!("traefik-{n}.toml")))
            .public_url(&public.url)
            .traefik_api_url(&api.url)
            .traefik_api_password(PASSWORD)
            .start()?;
        owners.push(owner);
        let what = format!("a Traefik on {}", public.url);
        step("start", &what, &ready(start));
    }
    // It starts none: its calls return when both Traefiks serve what it has stored.
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
    let applied = router.add_route("/user/zoe/", &apple, "Zoe's")?;
    served("add", "/user/zoe/ to apple", &applied);
    expect("/user/zoe/notebook", "apple")?;
    let applied = router.add_route("/user/zoe/", &pear, "Zoe's")?;
    served("change", "/user/zoe/ to pear", &applied);
    expect("/user/zoe/notebook", "pear")?;
    let applied = router.delete_route("/user/zoe/")?;
    served("delete", "/user/zoe/", &applied);
    expect("/user/zoe/notebook", NOBODY)?;

    title("A hundred routes in one transaction, and another writer hears of them");
    let mut watch = owners[0].watch()?;
    let applied = router.apply(hundred_users(&apple)?)?;
    served("add", "100 routes to apple", &applied);
    for n in 0..100 {
        for (public, _) in &proxies {
            public.reaches(&format!("/user/{n}/"), "apple")?;
        }
    }
    let all_reach = green("200 of 200 reach apple");
    step("GET", "each of them from both", &all_reach);
    let heard = watch.next(Duration::from_secs(5))?.len();
    let otherwise = format!("the other writer hears of {heard} changes");
    ensure(heard == 100, &otherwise)?;
    let all_heard = green("100 changes heard");
    step("watch", "by the first Traefik's owner", &all_heard);

    title("One Traefik stops: the other one goes on, and the error names who lacks");
    let second = owners.pop().ok_or("two owners")?;
    second.stop()?;
    let Err(error) = router.add_route("/user/late/", &pear, "late") else {
        return Err("a Traefik that is stopped serves a route".into());
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
    let left = Client::new([store.url()])?.get_prefix("")?.kvs.len();
    ensure(left == 0, &format!("{left} keys are left in etcd"))?;
    step("check", "keys in etcd", &green("nothing left"));
    drop(store);
    let open = proxies
        .iter()
        .any(|(public, api)| public.listens() || api.listens());
    ensure(!open, "something still listens on a Traefik's port")?;
    folder.close()?;
    let nothing_left = green("nothing left");
    step("check", "no process, no port, no file", &nothing_left);
    Ok(())
}
