//! Writers that are killed: at each step of a commit, and at any moment.

use std::collections::BTreeMap;
use std::time::Duration;

use kit::Random;
use serde_json::{Value, json};
use traefik_router::backend::Setup;
use traefik_router::{Backend as _, Change, FileBackend, Route, Table};

use crate::support::child::{Actor, say};
use crate::support::{Kind, Rig};

const KILLS: usize = 300;

/// What the next Router finds: the lock is free, and what lay around is gone once it is open.
#[track_caller]
fn is_whole(rig: &Rig) -> Table {
    let backend = FileBackend::new(rig.rules()).lock_timeout(Duration::ZERO);
    let table = backend.read().unwrap();
    backend
        .open(&Setup::new("http"), &mut |_, _| Vec::new())
        .unwrap();
    assert_eq!(backend.read().unwrap(), table);
    let rules = format!("rules.{}", rig.kind.ending());
    let mut files = rig.files();
    // It says nothing unless it is locked, too.
    files.retain(|name| {
        ![".serving", ".started"]
            .iter()
            .any(|end| name.ends_with(end))
    });
    assert_eq!(files, [rules.clone(), format!("{rules}.lock")]);
    table
}

mod at_every_step {
    use std::os::unix::process::ExitStatusExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::sync::OnceLock;

    use super::*;
    use crate::support::on_each_file;

    on_each_file! {
        commit_is_whole_or_absent,
        opening_and_closing_keep_table,
    }

    /// This test program with fault points, built in a folder of its own: with other flags Cargo would
    /// build all crates in `target` again, each time.
    fn program_with_fault_points() -> &'static Path {
        static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
        PROGRAM.get_or_init(|| {
            let mut cargo = Command::new(env!("CARGO"));
            cargo
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .args(["test", "--no-run", "--test", "it", "--features", "yaml"])
                .args(["--target-dir", "target/fault-points"])
                .args(["--message-format", "json-render-diagnostics"])
                .env_remove("CARGO_ENCODED_RUSTFLAGS")
                .env("RUSTFLAGS", "--cfg traefik_router_fault_points")
                .stderr(Stdio::inherit());
            let output = cargo.output().unwrap();
            assert!(output.status.success(), "{cargo:?} failed; see above");
            let messages = output.stdout.split(|byte| *byte == b'\n');
            let messages = messages.filter_map(|line| serde_json::from_slice(line).ok());
            let mut programs =
                messages.filter_map(|message: Value| Some(message["executable"].as_str()?.into()));
            programs.next().unwrap()
        })
    }

    /// Kills a process that does `job` before its n-th step, for each n. Returns the tables found.
    fn tables_after_kills(kind: Kind, job: &str) -> Vec<Table> {
        let mut tables = Vec::new();
        for step in 1.. {
            let rig = Rig::new(kind);
            let backend = rig.backend();
            // It is there for others, and stays when the table goes.
            rig.write_rules("# theirs\n");
            backend
                .open(&Setup::new("http").started(), &mut |_, _| Vec::new())
                .unwrap();
            backend.commit(&mut |_, _| vec![change(0)]).unwrap();
            if job == "close" {
                // Without routes there is something to take out.
                let gone = Change::Delete(change(0).spec().clone());
                backend.commit(&mut |_, _| vec![gone.clone()]).unwrap();
            }
            let mut program = Command::new(program_with_fault_points());
            program.env("TRAEFIK_ROUTER_KILL_AT", step.to_string());
            let arguments = json!({"rig": rig.tell(), "job": job});
            let mut victim = Actor::start_by(program, "victim", &arguments);
            let done = victim.hear().is_some();
            let signal = victim.process.wait().unwrap().signal();
            assert_eq!(signal, (!done).then_some(9), "step {step} of {job}");
            tables.push(is_whole(&rig));
            if done {
                break;
            }
        }
        println!("{job}: killed at each of {} steps", tables.len() - 1);
        tables
    }

    fn commit_is_whole_or_absent(kind: Kind) {
        let tables = tables_after_kills(kind, "commit");
        let [old, new] = [1, 2].map(table_after);
        let renamed = tables.iter().position(|table| *table == new).unwrap();
        assert!(tables[..renamed].iter().all(|table| *table == old));
        assert!(tables[renamed..].iter().all(|table| *table == new));
        assert_eq!((renamed, tables.len()), (6, 9), "steps before, and all");
    }

    fn opening_and_closing_keep_table(kind: Kind) {
        for (job, routes) in [("open", 1), ("close", 0)] {
            let tables = tables_after_kills(kind, job);
            assert!(tables.len() > 8, "{job}: {}", tables.len());
            let expected = table_after(routes);
            assert!(tables.iter().all(|table| *table == expected), "{job}");
        }
    }
}

/// A part for another process: does its job until it is killed.
pub(crate) fn be_a_victim(arguments: &Value) {
    let backend = Rig::told(&arguments["rig"]).backend();
    match arguments["job"].as_str().unwrap() {
        "commit" => drop(backend.commit(&mut |_, _| vec![change(1)]).unwrap()),
        "open" => drop(
            backend
                .open(&Setup::new("other"), &mut |_, _| Vec::new())
                .unwrap(),
        ),
        "close" => backend.close().unwrap(),
        other => panic!("{other}"),
    }
    say("done");
}

/// The n-th change of a sequence that adds, replaces and deletes.
fn change(n: usize) -> Change {
    let spec = format!("/{}/", n * 7 % 10);
    match n % 3 {
        2 => Change::delete(spec).unwrap(),
        _ => Route::new(spec, format!("http://h{n}"))
            .unwrap()
            .data(json!({"n": n}))
            .into(),
    }
}

/// What the first of these changes come to.
fn table_after(changes: usize) -> Table {
    let mut routes = BTreeMap::new();
    // The last 30 touch all routespecs.
    for change in (changes.saturating_sub(30)..changes).map(change) {
        routes.insert(change.spec().clone(), change);
    }
    let set = |change| match change {
        Change::Set(route) => Some(route),
        _ => None,
    };
    routes.into_values().filter_map(set).collect()
}

#[test]
fn random_kills_lose_no_commit() {
    let mut random = Random::told();
    let rig = Rig::new(Kind::Toml);
    rig.backend()
        .open(&Setup::new("http"), &mut |_, _| Vec::new())
        .unwrap();
    let (mut made, mut unacknowledged) = (0, 0);
    for kill in 0..KILLS {
        let mut churner = Actor::start("churner", &json!({"rig": rig.tell(), "from": made}));
        let first = churner.hear().unwrap();
        std::thread::sleep(Duration::from_micros(random.below(15_000)));
        churner.process.kill().unwrap();
        let last = std::iter::from_fn(|| churner.hear()).last();
        let acknowledged: usize = last.unwrap_or(first).parse().unwrap();
        let table = is_whole(&rig);
        let lost = table != table_after(acknowledged);
        assert!(
            !lost || table == table_after(acknowledged + 1),
            "kill {kill}: {acknowledged} changes were made, then {table:?}"
        );
        unacknowledged += usize::from(lost);
        made = acknowledged + usize::from(lost);
    }
    println!("{KILLS} kills, {made} commits, {unacknowledged} made that were not acknowledged");
    assert!(made > KILLS, "{made}");
}

/// A part for another process: makes changes, and says how many, until it is killed.
pub(crate) fn churn(arguments: &Value) {
    let backend = Rig::told(&arguments["rig"]).backend();
    let from = arguments["from"].as_u64().unwrap() as usize;
    for n in from.. {
        backend.commit(&mut |_, _| vec![change(n)]).unwrap();
        say(n + 1);
    }
}
