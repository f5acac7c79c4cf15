//! How long changes take until a real Traefik serves them from a real etcd; for a release build:
//!
//! ```sh
//! cargo test --release --test it -- --ignored --nocapture etcd_backend::speed
//! ```

use std::time::Duration;

use serde_json::json;
use traefik_router::Route;

use crate::support::{Kind, Rig};

fn routes(count: usize) -> impl Iterator<Item = Route> {
    let target = |n: usize| format!("http://10.0.{}.{}:8888", n >> 8, n & 255);
    (0..count).map(move |n| {
        Route::new(format!("/user/n{n}/"), target(n))
            .unwrap()
            .data(json!({"n": n}))
    })
}

#[test]
#[ignore = "a measurement"]
fn verified_changes_are_timed() {
    for size in [0, 100, 1_000, 10_000] {
        let rig = Rig::new(Kind::Etcd);
        let router = rig.start();
        router.reconcile(routes(size)).unwrap();
        let rounds = if size < 10_000 { 51 } else { 7 };
        let mut times: Vec<Duration> = (0..rounds)
            .map(|n| {
                let (spec, target) = (format!("/new/{n}/"), format!("http://10.1.0.{n}:8888"));
                let applied = router.add_route(&spec, target, json!({"n": n})).unwrap();
                router.delete_route(&spec).unwrap();
                applied.served_after.unwrap()
            })
            .collect();
        times.sort();
        let p95 = times[rounds * 95 / 100];
        println!(
            "add at {size} routes: median {:?}, 95 % {p95:?}",
            times[rounds / 2]
        );
        router.reconcile([]).unwrap();
    }
    let rig = Rig::new(Kind::Etcd);
    let router = rig.start();
    let mut times: Vec<_> = (0..7)
        .map(|_| {
            let applied = router.reconcile(routes(1_000)).unwrap();
            router.reconcile([]).unwrap();
            (applied.served_after.unwrap(), applied.stored_after)
        })
        .collect();
    times.sort();
    println!(
        "1,000 routes in one apply: median (served, stored) {:?}",
        times[3]
    );
}
