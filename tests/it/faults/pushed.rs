//! Three Traefiks that are sent their table, while they, the network and the program fail at random.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kit::{Connection, Echo, Mood, Proxy, Random, Traefik, eventually};
use serde_json::{Value, json};
use traefik_router::{MemoryBackend, Router};

use crate::support::child::{Actor, say};
use crate::support::{Kind, Rig, rig};

/// For how many seconds, if not for a minute.
const SECONDS: &str = "TRAEFIK_ROUTER_TEST_SOAK";
/// Changes are made to this many routes.
const ROUTES: u64 = 40;
/// So many at a time ask each Traefik for the route that nobody touches.
const CALLERS: usize = 3;

/// A Traefik, and what leads to its API.
struct Site {
    rig: Rig,
    proxy: Proxy,
    traefik: Mutex<Option<Traefik>>,
    /// Counts when Traefik goes down, and when it serves again: it is odd while it is down.
    outages: AtomicU64,
}

impl Site {
    /// It is down until [`Self::is_back`] is called.
    fn new() -> Self {
        let rig = Rig::new(Kind::Push);
        let proxy = Proxy::new(&rig.api_url());
        let site = Self {
            rig,
            proxy,
            traefik: Mutex::new(None),
            outages: AtomicU64::new(1),
        };
        site.start();
        site
    }

    fn start(&self) {
        *self.traefik.lock().unwrap() = Some(crate::pushing::external(&self.rig, "a"));
    }

    /// Something happens that ends or stops Traefik itself. It serves again when this returns.
    fn go_down(&self, still: u16, what: impl FnOnce()) {
        self.outages.fetch_add(1, Ordering::SeqCst);
        what();
        self.wait_until_served(still);
        self.is_back();
    }

    fn is_back(&self) {
        self.outages.fetch_add(1, Ordering::SeqCst);
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
    let mut random = Random::printed();
    let sites = [(); 3].map(|()| Site::new());
    let echoes = [(); 3].map(|()| Echo::start());
    let (still, targets) = (echoes[0].port, [echoes[1].port, echoes[2].port]);
    let (mut possible, mut made, mut faults) = (Possible::new(), 0, 0);
    let failures = Mutex::new(Vec::new());
    let requests = AtomicU64::new(0);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let end_watches = OnDrop(|| ended.store(true, Ordering::SeqCst));
        for site in sites.iter().flat_map(|site| [site; CALLERS]) {
            scope.spawn(|| watch(site, still, &ended, &requests, &failures));
        }
        let mut lives = 0;
        while Instant::now() < end {
            // One life of the program.
            let seed = random.below(1 << 40);
            let mut changer =
                Changer::start(&sites, still, targets, seed, std::mem::take(&mut possible));
            changer.actor.hear().unwrap();
            if lives == 0 {
                sites.iter().for_each(Site::is_back);
            }
            lives += 1;
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let listener = scope.spawn(|| changer.listen(&is_over));
                let end_life = OnDrop(|| is_over.store(true, Ordering::SeqCst));
                for _ in 0..random.below(6) {
                    if Instant::now() > end {
                        break;
                    }
                    let site = &sites[random.below(3) as usize];
                    fault(site, &mut random, still);
                    faults += 1;
                    std::thread::sleep(Duration::from_millis(random.below(1_000)));
                }
                drop(end_life);
                listener.join().unwrap();
            });
            changer.actor.process.kill().unwrap();
            while let Some(said) = changer.actor.hear() {
                changer.note(&said);
            }
            made += changer.made;
            possible = changer.possible;
        }
        drop(end_watches);
    });
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

/// Does this when it is dropped, also by a panic: the threads of a scope end then.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Asks for the route that nobody touches. It fails nowhere but at a Traefik that is down meanwhile.
fn watch(
    site: &Site,
    still: u16,
    ended: &AtomicBool,
    requests: &AtomicU64,
    failures: &Mutex<Vec<String>>,
) {
    while !ended.load(Ordering::SeqCst) {
        let before = site.outages.load(Ordering::SeqCst);
        let answer = landed(site.rig.web);
        let is_up = before.is_multiple_of(2) && site.outages.load(Ordering::SeqCst) == before;
        if is_up {
            requests.fetch_add(1, Ordering::Relaxed);
        }
        if is_up && answer.as_ref().ok() != Some(&Some(still)) {
            let mut failures = failures.lock().unwrap();
            failures.push(format!("{}: {answer:?}", site.rig.web));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The port that a request lands at, over a connection of its own.
fn landed(web: u16) -> std::io::Result<Option<u16>> {
    let mut connection = Connection::new(web, None);
    let (status, body) = connection.get("/still/x")?;
    let echo: Value = serde_json::from_slice(body).unwrap_or_default();
    let port = echo["port"].as_u64().filter(|_| status == 200);
    Ok(port.map(|port| port as u16))
}

/// Something happens to a Traefik or its network, and is over when this returns.
fn fault(site: &Site, random: &mut Random, still: u16) {
    let pause = Duration::from_millis(100 + random.below(1_500));
    match random.below(5) {
        0 => site.go_down(still, || {
            *site.traefik.lock().unwrap() = None;
            std::thread::sleep(pause);
            site.start();
        }),
        1 => site.go_down(still, || {
            let id = site.traefik.lock().unwrap().as_ref().unwrap().id();
            kit::process::send_signal(id, "STOP");
            std::thread::sleep(pause);
            kit::process::send_signal(id, "CONT");
        }),
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
