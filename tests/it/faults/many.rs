//! Many writers at once, and what their changes must come to.

use std::collections::{BTreeMap, HashMap};

use kit::{Echo, Random};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use traefik_router::{Change, Route, RouteSpec};

use crate::support::child::{Actor, say};
use crate::support::{External, Kind, Rig};

const PROCESSES: u64 = 4;
const THREADS: u64 = 4;
const CHANGES: u64 = 10_000;

/// One change, as its writer got it back.
#[derive(Serialize, Deserialize)]
struct Reported {
    generation: u64,
    /// Whether the call changed anything.
    changed: bool,
    spec: String,
    /// The target and the data; nothing if it was deleted.
    route: Option<(String, Value)>,
}

mod toml {
    #[test]
    fn changes_follow_the_model() {
        super::ten_thousand_changes(super::Kind::Toml);
    }
}

mod etcd {
    #[test]
    fn changes_follow_the_model() {
        super::ten_thousand_changes(super::Kind::Etcd);
    }
}

fn ten_thousand_changes(kind: Kind) {
    let mut random = Random::printed();
    let rig = Rig::new(kind);
    drop(rig.builder().offline().unwrap());
    let echoes = [(); 2].map(|()| Echo::start());
    let mixers: Vec<_> = (0..PROCESSES)
        .map(|process| {
            let arguments = json!({
                "rig": rig.to_json(),
                "process": process,
                "seed": random.below(1 << 40),
                "targets": echoes.each_ref().map(Echo::url),
            });
            Actor::start("mixer", &arguments)
        })
        .collect();
    let mut reported: BTreeMap<String, Vec<Reported>> = BTreeMap::new();
    let mut writer_of: HashMap<u64, usize> = HashMap::new();
    for (process, mut mixer) in mixers.into_iter().enumerate() {
        for _ in 0..THREADS {
            let heard: Vec<Reported> = serde_json::from_str(&mixer.hear().unwrap()).unwrap();
            for change in heard {
                if change.changed {
                    let writer = writer_of.insert(change.generation, process);
                    assert!(writer.is_none_or(|writer| writer == process));
                }
                reported
                    .entry(change.spec.clone())
                    .or_default()
                    .push(change);
            }
        }
        assert!(mixer.finish());
    }
    let made: usize = reported.values().map(Vec::len).sum();
    println!("{made} changes in {} commits", writer_of.len());
    assert!(made as u64 >= CHANGES);

    // The last commit counts. Callers that share a commit do not know their order.
    let table = rig.backend().read().unwrap();
    for (spec, reported) in &reported {
        let last = reported.iter().map(|reported| reported.generation).max();
        let possible = reported
            .iter()
            .filter(|reported| Some(reported.generation) == last);
        let spec = RouteSpec::new(spec).unwrap();
        let found = table.get(&spec);
        let found = found.map(|route| (route.target.to_string(), route.data.clone()));
        let possible: Vec<_> = possible.map(|reported| &reported.route).collect();
        assert!(
            possible.contains(&&found),
            "{spec}: {found:?}, not {possible:?}"
        );
    }
    assert!(
        table
            .iter()
            .all(|route| reported.contains_key(route.spec.as_str()))
    );

    let _traefik = External::start(&rig);
    let router = rig.builder().attach().unwrap();
    for spec in reported.keys() {
        let target = router.get_route(spec).unwrap();
        let target = target.map(|route| route.target.to_string());
        let landed = rig.landed("h", spec);
        assert_eq!(
            landed.map(|port| format!("http://127.0.0.1:{port}")),
            target,
            "{spec}"
        );
    }
    let served = rig.api().routers().unwrap();
    let ours = served
        .iter()
        .filter(|router| router.rule.contains("PathPrefix"));
    let api = served
        .iter()
        .filter(|router| router.service == "api@internal");
    assert_eq!(ours.count() - api.count(), table.len());
    assert_eq!(rig.api().refused_routers().unwrap(), []);
}

/// A part for another process: makes its share of the changes, and prints what was returned.
pub(crate) fn mix(arguments: &Value) {
    let rig = Rig::from_json(&arguments["rig"]);
    let router = rig.builder().offline().unwrap();
    let number = |key: &str| arguments[key].as_u64().unwrap();
    let targets: [String; 2] = serde_json::from_value(arguments["targets"].clone()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (router, targets) = (&router, &targets);
            let mut random = Random::new(number("seed") + thread);
            let name = format!("{}-{thread}", number("process"));
            scope.spawn(move || {
                let mut reported = Vec::new();
                while (reported.len() as u64) < CHANGES / PROCESSES / THREADS {
                    let mut changes = BTreeMap::new();
                    for _ in 0..=random.below(4) {
                        let n = reported.len() + changes.len();
                        let (spec, route) = some_change(&mut random, &name, n, targets);
                        changes.insert(spec, route);
                    }
                    let applied = router.apply(changes.iter().map(change)).unwrap();
                    let changed = !(applied.added.is_empty()
                        && applied.changed.is_empty()
                        && applied.deleted.is_empty());
                    reported.extend(changes.into_iter().map(|(spec, route)| Reported {
                        generation: applied.generation,
                        changed,
                        spec,
                        route,
                    }));
                }
                say(serde_json::to_string(&reported).unwrap());
            });
        }
    });
}

/// Of five changes four are to routes of this thread's own, and one to a route of everybody's.
fn some_change(
    random: &mut Random,
    name: &str,
    n: usize,
    targets: &[String; 2],
) -> (String, Option<(String, Value)>) {
    let spec = match random.below(5) {
        0 => format!("/shared/{}/", random.below(12)),
        _ => format!("/{name}/{}/", random.below(6)),
    };
    let target = targets[random.below(2) as usize].clone();
    let route = (random.below(3) > 0).then(|| (target, json!({"by": name, "n": n})));
    (spec, route)
}

fn change((spec, route): (&String, &Option<(String, Value)>)) -> Change {
    match route {
        Some((target, data)) => Route::new(spec, target).unwrap().data(data.clone()).into(),
        None => Change::delete(spec).unwrap(),
    }
}
