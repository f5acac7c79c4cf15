//! Three Traefiks that are sent their table, while they, the network and the program fail at random.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kit::{Echo, Mood, Proxy, Random, Traefik, client, eventually};
use serde_json::{Value, json};
use traefik_router::{MemoryBackend, Router};

use crate::support::child::{Actor, say};
use crate::support::{Kind, Rig, rig};

/// For how many seconds, if not for a minute.
const SECONDS: &str = "TRAEFIK_ROUTER_TEST_SOAK";
/// Changes are made to this many routes.
const ROUTES: u64 = 40;

/// A Traefik, and what leads to its API.
struct Site {
    rig: Rig,
    proxy: Proxy,
    traefik: Option<Traefik>,
}

impl Site {
    fn new() -> Self {
        let rig = Rig::new(Kind::Push);
        let proxy = Proxy::new(&rig.api_url());
        let mut site = Self {
            rig,
            proxy,
            traefik: None,
        };
        site.start();
        site
    }

    fn start(&mut self) {
        self.traefik = Some(crate::pushing::external(&self.rig, "a"));
    }

    fn wait_until_served(&self, still: u16) {
        eventually("it has the table", || {
            self.rig.landed("h", "/still/") == Some(still)
        });
    }
}

/// The ports that a route may lead to; `None` for no route.
type Possible = BTreeMap<String, Vec<Option<u16>>>;

/// Makes changes in a process of its own, and notes what must and what may have come of them.
struct Changer {
    actor: Actor,
    possible: Possible,
    made: usize,
}

impl Changer {
    fn start(sites: &[Site], still: u16, targets: [u16; 2], seed: u64, possible: Possible) -> Self {
        let urls: Vec<_> = sites.iter().map(|site| &site.proxy.url).collect();
        let arguments = json!({"urls": urls, "still": still, "targets": targets, "seed": seed});
        Self {
            actor: Actor::start("pusher", &arguments),
            possible,
            made: 0,
        }
    }

    /// Hears of changes until `is_over`, and kills the process if that is to be.
    fn listen(&mut self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::SeqCst) {
            let Some(said) = self.actor.hear() else {
                return;
            };
            self.note(&said);
        }
    }

    fn note(&mut self, said: &str) {
        let said: Value = serde_json::from_str(said).unwrap();
        let Some(spec) = said["spec"].as_str() else {
            return;
        };
        let port = said["port"].as_u64().map(|port| port as u16);
        let possible = self
            .possible
            .entry(spec.into())
            .or_insert_with(|| vec![None]);
        match said["made"].as_bool() {
            Some(true) => {
                *possible = vec![port];
                self.made += 1;
            }
            _ => possible.push(port),
        }
    }
}

/// A part for another process: attaches, and makes changes until it is killed.
pub(crate) fn push(arguments: &Value) {
    let urls: Vec<String> = serde_json::from_value(arguments["urls"].clone()).unwrap();
    let attach = || {
        Router::builder(MemoryBackend::new())
            .traefik_api_urls(&urls)
            .traefik_api_password(rig::PASSWORD)
            .traefik_api_timeout(Duration::from_secs(1))
            .check_route_timeout(Duration::from_secs(3))
            .keeper_interval(Duration::from_millis(100))
            .attach()
    };
    let url = |port: &Value| format!("http://127.0.0.1:{port}");
    let mut attached = None;
    eventually("it attaches", || {
        attached = attach().map_err(|error| println!("{error}")).ok();
        attached.is_some()
    });
    let router = attached.unwrap();
    eventually("there is a route", || {
        router
            .add_route("/still/", url(&arguments["still"]), ())
            .is_ok()
    });
    say(json!({}));
    let mut random = Random::new(arguments["seed"].as_u64().unwrap());
    loop {
        let spec = format!("/n/{}/", random.below(ROUTES));
        let target = &arguments["targets"][random.below(2) as usize];
        let port = (random.below(3) > 0).then_some(target);
        say(json!({"spec": spec, "port": port}));
        let made = match port {
            Some(port) => router.add_route(&spec, url(port), json!({"port": port})),
            None => router.delete_route(&spec),
        };
        if let Err(error) = &made {
            println!("{error}");
        }
        say(json!({"spec": spec, "port": port, "made": made.is_ok()}));
    }
}

#[test]
fn random_faults_lose_no_change() {
    let seconds = std::env::var(SECONDS).map_or(60, |seconds| seconds.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut random = Random::told();
    let mut sites = [(); 3].map(|()| Site::new());
    let echoes = [(); 3].map(|()| Echo::start());
    let (still, targets) = (echoes[0].port, [echoes[1].port, echoes[2].port]);
    let (mut possible, mut made, mut faults) = (Possible::new(), 0, 0);
    let failures = Mutex::new(Vec::new());
    let requests = AtomicU64::new(0);
    while Instant::now() < end {
        // One life of the program.
        let mut changer = Changer::start(&sites, still, targets, random.below(1 << 40), possible);
        changer.actor.hear().unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let listener = scope.spawn(|| changer.listen(&is_over));
            for _ in 0..random.below(6) {
                if Instant::now() > end {
                    break;
                }
                let watched = AtomicBool::new(true);
                let site = random.below(3) as usize;
                let (before, rest) = sites.split_at_mut(site);
                let (site, after) = rest.split_first_mut().unwrap();
                std::thread::scope(|scope| {
                    for other in before.iter().chain(&*after) {
                        scope.spawn(|| watch(other, still, &watched, &requests, &failures));
                    }
                    fault(site, &mut random, still);
                    watched.store(false, Ordering::SeqCst);
                });
                faults += 1;
                std::thread::sleep(Duration::from_millis(random.below(1_000)));
            }
            is_over.store(true, Ordering::SeqCst);
            listener.join().unwrap();
        });
        changer.actor.process.kill().unwrap();
        while let Some(said) = changer.actor.hear() {
            changer.note(&said);
        }
        made += changer.made;
        possible = changer.possible;
    }
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    // The next life brings all to one state.
    let mut last = Changer::start(&sites, still, targets, 1, possible);
    last.actor.hear().unwrap();
    for site in &sites {
        site.wait_until_served(still);
    }
    last.actor.process.kill().unwrap();
    while let Some(said) = last.actor.hear() {
        last.note(&said);
    }
    for site in &sites {
        for (spec, possible) in &last.possible {
            let landed = site.rig.landed("h", spec);
            assert!(
                possible.contains(&landed),
                "{spec}: {landed:?}, not {possible:?}"
            );
        }
    }
    println!(
        "{faults} faults, {made} changes, {} requests",
        requests.into_inner()
    );
    assert!(made > 50 && faults > 5, "{made} {faults}");
}

/// Asks for the route that nobody touches.
fn watch(
    site: &Site,
    still: u16,
    watched: &AtomicBool,
    requests: &AtomicU64,
    failures: &Mutex<Vec<String>>,
) {
    while watched.load(Ordering::SeqCst) {
        let answer = client::get(site.rig.web, "h", "/still/x");
        requests.fetch_add(1, Ordering::Relaxed);
        if answer.status != 200 || answer.landed() != Some(still) {
            failures
                .lock()
                .unwrap()
                .push(format!("{}: {answer:?}", site.rig.web));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Something happens to a Traefik or its network, and is over when this returns.
fn fault(site: &mut Site, random: &mut Random, still: u16) {
    let pause = Duration::from_millis(100 + random.below(1_500));
    match random.below(5) {
        0 => {
            site.traefik = None;
            std::thread::sleep(pause);
            site.start();
        }
        1 => {
            let id = site.traefik.as_ref().unwrap().id();
            kit::process::send_signal(id, "STOP");
            std::thread::sleep(pause);
            kit::process::send_signal(id, "CONT");
        }
        2 => {
            site.proxy.mood(Mood::Silent);
            std::thread::sleep(pause);
            site.proxy.mood(Mood::Honest);
        }
        3 => {
            site.proxy.lose_answers(true);
            std::thread::sleep(pause);
            site.proxy.lose_answers(false);
        }
        _ => {
            site.proxy.mood(Mood::Drop(Duration::ZERO));
            std::thread::sleep(pause);
            site.proxy.mood(Mood::Honest);
        }
    }
    site.wait_until_served(still);
}
