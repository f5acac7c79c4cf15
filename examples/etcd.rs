//! Two Routers on one etcd: what one of them adds, the other one hears of.
//!
//! Wants an etcd at http://127.0.0.1:2379, or where ETCD_URL says, and Traefik on PATH or where
//! TRAEFIK_BIN says; `cargo xtask tools traefik etcd-3.5` gets both.

use std::path::PathBuf;
use std::time::Duration;

use traefik_router::{Etcd, KvBackend, Result, Router};

fn routes() -> Result<KvBackend<Etcd>> {
    let url = std::env::var("ETCD_URL").unwrap_or("http://127.0.0.1:2379".into());
    let etcd = Etcd::new([url])?;
    Ok(KvBackend::new(etcd)
        .traefik_prefix("/example-traefik/")
        .jupyterhub_prefix("/example-jupyterhub/"))
}

#[expect(clippy::print_stdout, reason = "an example is there to be watched")]
fn main() -> Result<()> {
    let traefik = std::env::var_os("TRAEFIK_BIN").map_or("traefik".into(), PathBuf::from);
    let router = Router::builder(routes()?)
        .traefik_bin(traefik)
        .static_config_file(std::env::temp_dir().join("example-etcd-traefik.toml"))
        .public_url("http://127.0.0.1:8000")
        .start()?;
    // Another program, on another machine perhaps.
    let other = Router::builder(routes()?).offline()?;
    let mut watch = other.watch()?;

    let applied = router.add_route("/user/zoe/", "http://127.0.0.1:9001", "Zoe's notebook")?;
    if let Some(time) = applied.served_after {
        println!("http://127.0.0.1:8000/user/zoe/ is served, after {time:?}");
    }
    for event in watch.next(Duration::from_secs(5))? {
        println!("the other one hears: {event:?}");
    }

    println!("Press Enter to stop");
    drop(std::io::stdin().read_line(&mut String::new()));
    router.delete_route("/user/zoe/")?;
    router.stop()
}
