//! Routers with different options come and go on one store, as chance has it: each is refused or
//! works, and nothing of the others changes.

use kit::{Echo, Random, eventually};
use serde_json::json;
use traefik_router::{Builder, Result, Route, Router, Stored};

use super::{plain, write_by_hand};
use crate::support::rig::PASSWORD;
use crate::support::{Kind, Rig, on_each_backend};

on_each_backend! {
    foreign_configuration_never_changes,
}

const STEPS: usize = 40;
const SLOTS: usize = 3;

/// What may be tried next.
#[derive(Debug, Clone, Copy)]
enum Try {
    Start { password: &'static str },
    StartEmpty,
    StartAndFail,
    StartOnTakenPort,
    Attach { password: &'static str },
    AttachToNobody,
    AttachToVanishedEntrypoint,
    Read,
    ChangeOffline,
    Stop,
}

const ALL: [Try; 13] = [
    Try::Start { password: PASSWORD },
    Try::Start { password: PASSWORD },
    Try::Start { password: PASSWORD },
    Try::Start { password: "other" },
    Try::StartEmpty,
    Try::StartAndFail,
    Try::StartOnTakenPort,
    Try::Attach { password: PASSWORD },
    Try::Attach { password: "other" },
    Try::AttachToNobody,
    Try::AttachToVanishedEntrypoint,
    Try::Read,
    Try::ChangeOffline,
];

struct World {
    /// The store, with ports for each slot.
    rigs: Vec<Rig>,
    /// The Traefiks that were started, and the Routers that are attached to one of them.
    started: Vec<Option<Router>>,
    attached: Vec<Router>,
    echo: Echo,
    random: Random,
}

fn foreign_configuration_never_changes(kind: Kind) {
    let rig = Rig::new(kind);
    let mut rigs: Vec<_> = (1..SLOTS).map(|_| rig.sibling()).collect();
    rigs.insert(0, rig);
    let mut world = World {
        started: rigs.iter().map(|_| None).collect(),
        rigs,
        attached: Vec::new(),
        echo: Echo::start(),
        random: Random::printed(),
    };
    let by_hand = json!({"middlewares": {"theirs": {"compress": {"minResponseBodyBytes": 7}}}});
    write_by_hand(&world.rigs[0], &by_hand);
    let keep = plain(&world.rigs[0]).offline().unwrap();
    keep.add_route("/keep/", world.echo.url(), json!("kept"))
        .unwrap();
    for step in 0..STEPS {
        world.step(step);
    }
}

impl World {
    fn step(&mut self, step: usize) {
        let slot = self.below(SLOTS);
        let what = match self.below(4) {
            0 => Try::Stop,
            _ => ALL[self.below(ALL.len())],
        };
        let (before, files) = (self.rigs[0].rules_text(), self.rigs[0].files());
        let outcome = self.try_out(what, slot);
        println!(
            "{step}: {what:?} in {slot}: {:?}",
            outcome.as_ref().map_err(ToString::to_string)
        );
        if let Err(error) = outcome {
            assert_eq!(*error.stored(), Stored::Nothing, "{error}");
            assert_eq!(self.rigs[0].rules_text(), before, "{error}");
            super::no_file_more(&self.rigs[0], &files);
        }
        self.check();
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random.below(limit as u64) as usize
    }

    fn builder(&self, slot: usize) -> Builder {
        let file = self.rigs[slot].path(format!("traefik-{slot}.toml"));
        self.rigs[slot].builder().static_config_file(file)
    }

    /// A Traefik of others.
    fn running(&self) -> Option<usize> {
        self.started.iter().position(Option::is_some)
    }

    fn try_out(&mut self, what: Try, slot: usize) -> Result<()> {
        let is_free = self.started[slot].is_none();
        match what {
            Try::Stop => {
                self.attached.clear();
                self.started[slot] = None;
            }
            Try::Start { password } if is_free => {
                let router = self.builder(slot).traefik_api_password(password).start()?;
                self.started[slot] = Some(router);
            }
            Try::StartEmpty if is_free && self.running().is_some() => {
                let none: [Route; 0] = [];
                let refused = self.builder(slot).initial_routes(none).start();
                return Err(refused.expect_err("others serve the table"));
            }
            Try::StartAndFail if is_free => {
                let broken = json!({"entryPoints": {"http": {"address": "nowhere"}}});
                let refused = self.builder(slot).extra_static_config(broken).start();
                return Err(refused.expect_err("Traefik ends at once"));
            }
            Try::StartOnTakenPort if !is_free => {
                let file = self.rigs[slot].path("taken.toml");
                let refused = self.builder(slot).static_config_file(file).start();
                return Err(refused.expect_err("the port is in use"));
            }
            Try::Attach { password } => {
                if let Some(other) = self.running() {
                    let builder = self.rigs[other].builder().traefik_api_password(password);
                    self.attached.push(builder.attach()?);
                }
            }
            Try::AttachToNobody => {
                let nobody = self.rigs[slot]
                    .builder()
                    .traefik_api_url("http://127.0.0.1:1");
                return Err(nobody.attach().expect_err("nobody is there"));
            }
            Try::AttachToVanishedEntrypoint => {
                if let Some(other) = self.running() {
                    let builder = self.rigs[other].builder().traefik_entrypoint("vanished");
                    return Err(builder.attach().expect_err("there is none"));
                }
            }
            Try::Read => {
                let reader = plain(&self.rigs[0]).public_url("https://x").offline()?;
                let before = self.rigs[0].rules_text();
                assert!(reader.get_route("/keep/")?.is_some());
                assert_eq!(self.rigs[0].rules_text(), before);
            }
            Try::ChangeOffline => {
                let writer = plain(&self.rigs[0]).offline()?;
                writer.add_route("/offline/", self.echo.url(), super::rand())?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What was served is served, by every Traefik, and every Router can change it.
    fn check(&self) {
        let text = self.rigs[0].rules_text();
        assert!(
            text.contains("theirs") && text.contains("minResponseBodyBytes"),
            "{text}"
        );
        let started = self.started.iter().flatten();
        for router in started.chain(&self.attached) {
            let spec = format!("/probe/{}/", super::rand());
            router.add_route(&spec, self.echo.url(), ()).unwrap();
            for (rig, _) in self
                .rigs
                .iter()
                .zip(&self.started)
                .filter(|(_, one)| one.is_some())
            {
                assert_eq!(rig.landed("h", "/keep/"), Some(self.echo.port));
                eventually("every Traefik serves it", || {
                    rig.landed("h", &spec) == Some(self.echo.port)
                });
            }
            router.delete_route(&spec).unwrap();
        }
    }
}
