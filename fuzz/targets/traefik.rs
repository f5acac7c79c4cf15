//! Any answer of Traefik's API, to every question: a value or an error, in bounded time.

#![no_main]

use std::time::Duration;

use fuzz::answers;
use libfuzzer_sys::fuzz_target;
use traefik_router::traefik::Api;
use traefik_router::{MemoryBackend, Router};

const WAIT: Duration = Duration::from_millis(20);

fuzz_target!(|input: (u8, u8, Option<u64>, &[u8])| {
    let (call, status, next_page, body) = input;
    let status = [200, 200, 200, 301, 401, 404, 500][usize::from(status) % 7];
    let next_page = next_page.map(|page| format!("x-next-page: {page}\r\n"));
    let url = answers(status, next_page.as_deref().unwrap_or_default(), body);
    let api = Api::new(&url).expect("a URL").timeout(WAIT);
    match call % 11 {
        0 => drop(api.version()),
        1 => drop(api.overview()),
        2 => drop(api.entrypoints()),
        3 => drop(api.routers()),
        4 => drop(api.refused_routers()),
        5 => drop(api.services()),
        6 => drop(api.middlewares()),
        7 => drop(api.router("r@file")),
        8 => drop(api.middleware("m@file")),
        9 => drop(api.generation("m@file")),
        _ => {
            let router = Router::builder(MemoryBackend::new())
                .traefik_api_url(&url)
                .traefik_api_timeout(WAIT)
                .check_route_timeout(WAIT);
            if let Ok(router) = router.attach() {
                drop(router.add_route("/a/", "http://127.0.0.1:1", ()));
                drop(router.status());
            }
        }
    }
});
