//! How long changes take until a real Traefik serves them from a real Redis, beside the floor: the same keys set
//! without this crate, until Traefik shows the marker. And how busy Traefik is afterwards.
//!
//! ```sh
//! cargo test --release --all-features --test it -- --ignored --nocapture redis_backend::speed
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use kit::Connection;
use kit::redis::Server;
use serde_json::json;
use traefik_router::{Change, KvBackend, ProcessStatus, Redis, Route, Router};

use crate::support::keys::text_of;
use crate::support::rig::PASSWORD;
use crate::support::{Kind, Rig};

fn route(n: usize) -> Route {
    let target = format!("http://10.0.{}.{}:8888", n >> 8, n & 255);
    let route = Route::new(format!("/user/n{n}/"), target).unwrap();
    route.data(json!({"n": n}))
}

/// The CPU that a process has used, in seconds.
fn cpu(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split(' ').collect();
    let ticks = |n: usize| fields[n].parse::<f64>().unwrap();
    (ticks(12) + ticks(13)) / 100.0
}

/// Waits until a process is idle for a second. Returns the CPU that it has used since.
fn settle(process: u32, since: f64) -> f64 {
    let mut last = cpu(process);
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = cpu(process);
        if now - last < 0.03 {
            return now - since;
        }
        last = now;
    }
}

fn median(mut times: Vec<Duration>) -> [Duration; 2] {
    times.sort();
    [times[times.len() / 2], times[times.len() * 95 / 100]]
}

fn traefik(router: &Router) -> u32 {
    match router.process() {
        Some(ProcessStatus::Running { pid, .. }) => pid,
        other => panic!("{other:?}"),
    }
}

/// The keys of Traefik that an added route sets, without the marker's, and the marker's key.
fn keys_of_add(server: &Server, router: &Router, route: Route) -> (Vec<[String; 2]>, String) {
    let lines = || -> BTreeSet<String> {
        let store = Redis::new(server.url()).unwrap();
        let text = text_of(&store, &["traefik/".into()]);
        text.lines().map(String::from).collect()
    };
    let before = lines();
    let spec = route.spec.to_string();
    router.apply([Change::from(route)]).unwrap();
    let after = lines();
    router.delete_route(spec).unwrap();
    let pair = |line: &String| -> [String; 2] {
        let (key, value) = line.split_once(' ').unwrap();
        [key.into(), serde_json::from_str(value).unwrap()]
    };
    let new = after.difference(&before).map(pair);
    let (marker, new): (Vec<_>, Vec<_>) = new.partition(|[key, _]| key.ends_with("-Generation"));
    (new, marker.into_iter().next().unwrap()[0].clone())
}

#[test]
#[ignore = "a measurement"]
fn verified_adds_are_timed() {
    for size in [0, 100] {
        let rig = Rig::new(Kind::Redis);
        let server = Server::start(&["--save", ""]);
        let backend = KvBackend::new(Redis::new(server.url()).unwrap());
        let router = rig.builder_over(backend).start().unwrap();
        let process = traefik(&router);
        let applied = router.reconcile((0..size).map(route)).unwrap();
        println!(
            "{size} routes at once: served after {:?}",
            applied.served_after.unwrap()
        );
        settle(process, 0.0);
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        let (keys, marker) = keys_of_add(&server, &router, route(5000));
        let marker_name = marker.split('/').nth(3).unwrap();
        let path = format!("/api/http/middlewares/{marker_name}%40redis");
        let mut api = Connection::new(rig.api, Some(&format!("jupyterhub:{PASSWORD}")));
        let mut used = Vec::new();
        for n in 0..9 {
            let spec = format!("/user/n{}/", 5001 + n);
            settle(process, 0.0);
            let before = cpu(process);
            let applied = router.apply([Change::from(route(5001 + n))]).unwrap();
            ours.push(applied.served_after.unwrap());
            used.push(settle(process, before));
            router.delete_route(&spec).unwrap();

            settle(process, 0.0);
            let generation = format!("{}", router.get_all_routes().unwrap().len() + 7 + n);
            let mut command = vec!["MSET", &*marker, &*generation];
            command.extend(keys.iter().flatten().map(String::as_str));
            let begun = Instant::now();
            server.run(&command);
            let wanted = format!("\"{generation}\"");
            loop {
                let (_, shown) = api.get(&path).unwrap();
                if String::from_utf8_lossy(shown).contains(&wanted) {
                    break;
                }
                std::thread::sleep(Duration::from_micros(100));
            }
            floor.push(begun.elapsed());
            let mut gone = vec!["DEL"];
            gone.extend(keys.iter().map(|[key, _]| &**key));
            server.run(&gone);
        }
        used.sort_by(f64::total_cmp);
        println!(
            "add at {size} routes: median and 95 % {:?}, floor {:?}, {} keys, {:.2} s of CPU",
            median(ours),
            median(floor),
            keys.len() + 1,
            used[used.len() / 2]
        );
    }
}
