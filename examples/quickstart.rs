//! Starts a Traefik, leads `/user/zoe/` to a server on port 9001, and stops when Enter is pressed.
//!
//! Traefik is the one on PATH, or the one that TRAEFIK_BIN names; `cargo xtask tools traefik` gets one.

use std::path::PathBuf;

use traefik_router::{MemoryBackend, Result, Router};

#[expect(clippy::print_stdout, reason = "an example is there to be watched")]
fn main() -> Result<()> {
    let traefik = std::env::var_os("TRAEFIK_BIN").map_or("traefik".into(), PathBuf::from);
    let folder = tempfile::tempdir().expect("a folder to try this in");
    let router = Router::builder(MemoryBackend::new())
        .traefik_bin(traefik)
        .static_config_file(folder.path().join("traefik.toml"))
        .public_url("http://127.0.0.1:8000")
        .start()?;

    let applied = router.add_route("/user/zoe/", "http://127.0.0.1:9001", "Zoe's notebook")?;
    if let Some(time) = applied.served_after {
        println!("http://127.0.0.1:8000/user/zoe/ is served, after {time:?}");
    }
    for route in &router.get_all_routes()? {
        println!(
            "{} leads to {}, with {}",
            route.spec, route.target, route.data
        );
    }

    println!("Press Enter to stop");
    drop(std::io::stdin().read_line(&mut String::new()));
    router.delete_route("/user/zoe/")?;
    router.stop()
}
