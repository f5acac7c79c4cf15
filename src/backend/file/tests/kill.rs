//! Programs that are killed at each step of what they do to a file.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use super::names_in;
use crate::backend::{Backend as _, FileBackend, Setup};
use crate::fault::{Step, observed};
use crate::route::{Change, Table};

/// What another process is to do, to which file, and before which step it is to kill itself.
const JOB: &str = "TRAEFIK_ROUTER_TEST_JOB";

const ENDINGS: &[&str] = &[
    "toml",
    #[cfg(feature = "yaml")]
    "yaml",
];

fn set() -> Vec<Change> {
    vec![Change::set("/a/", "http://h0").unwrap()]
}

fn replaced() -> Vec<Change> {
    let other = Change::set("/b/", "http://h1").unwrap();
    vec![Change::delete("/a/").unwrap(), other]
}

fn table(changes: &[Change]) -> Table {
    let mut table = Table::new();
    for change in changes {
        table.apply(change);
    }
    table
}

/// What the next Router finds: the lock is free, and what lay around is gone once it is open.
#[track_caller]
fn whole_table(rules: &Path) -> Table {
    let backend = FileBackend::new(rules).lock_timeout(Duration::ZERO);
    let table = backend.read().unwrap();
    backend
        .open(&Setup::new("http"), &mut |_, _| Ok(Vec::new()))
        .unwrap();
    assert_eq!(backend.read().unwrap(), table);
    let mut names = names_in(rules.parent().unwrap());
    // These say nothing unless they are locked.
    names.retain(|name| !name.ends_with(".serving") && !name.ends_with(".started"));
    let file = rules.file_name().unwrap().to_str().unwrap();
    assert_eq!(names, [file.to_string(), format!("{file}.lock")]);
    table
}

/// Kills a process that does `job` before its n-th step, for each n. Returns the tables found.
fn tables_after_kills(ending: &str, job: &str) -> Vec<Table> {
    let mut tables = Vec::new();
    for step in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().canonicalize().unwrap();
        let rules = rules.join(format!("rules.{ending}"));
        // It is there for others, and stays when the table goes.
        std::fs::write(&rules, "# theirs\n").unwrap();
        let backend = FileBackend::new(&rules);
        backend
            .open(&Setup::new("http").started(), &mut |_, _| Ok(Vec::new()))
            .unwrap();
        backend.commit(&mut |_, _| Ok(set())).unwrap();
        if job == "close" {
            // Without routes there is something to take out.
            let gone = Change::delete("/a/").unwrap();
            backend.commit(&mut |_, _| Ok(vec![gone.clone()])).unwrap();
        }
        let status = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "backend::file::tests::kill::process_kills_itself",
                "--ignored",
            ])
            .env(JOB, format!("{job} {step} {}", rules.display()))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        let done = status.success();
        let killed = (!done).then_some(9);
        assert_eq!(status.signal(), killed, "step {step} of {job}: {status}");
        tables.push(whole_table(&rules));
        if done {
            break;
        }
    }
    tables
}

#[test]
#[ignore = "the part that other tests give to a process of their own"]
fn process_kills_itself() {
    let Ok(job) = std::env::var(JOB) else {
        return;
    };
    let mut words = job.splitn(3, ' ');
    let mut word = || words.next().unwrap().to_string();
    let (job, fatal, rules) = (word(), word(), PathBuf::from(word()));
    let mut left: u32 = fatal.parse().unwrap();
    let kill = move |_: Step<'_>| {
        left -= 1;
        if left == 0 {
            let killed = kill_process(getpid(), Signal::KILL);
            unreachable!("killed: {killed:?}");
        }
        Ok(())
    };
    let backend = FileBackend::new(rules);
    observed(kill, || match &*job {
        "commit" => drop(backend.commit(&mut |_, _| Ok(replaced())).unwrap()),
        "open" => drop(
            backend
                .open(&Setup::new("other"), &mut |_, _| Ok(Vec::new()))
                .unwrap(),
        ),
        "close" => backend.close().unwrap(),
        other => panic!("{other}"),
    });
}

#[test]
fn commit_is_whole_or_absent() {
    for ending in ENDINGS {
        let tables = tables_after_kills(ending, "commit");
        let (old, new) = (table(&set()), table(&replaced()));
        let renamed = tables.iter().position(|table| *table == new).unwrap();
        assert!(tables[..renamed].iter().all(|table| *table == old));
        assert!(tables[renamed..].iter().all(|table| *table == new));
        assert_eq!((renamed, tables.len()), (6, 9), "steps before, and all");
    }
}

#[test]
fn opening_and_closing_keep_table() {
    for ending in ENDINGS {
        for (job, expected) in [("open", table(&set())), ("close", Table::new())] {
            let tables = tables_after_kills(ending, job);
            assert!(tables.len() > 8, "{job}: {}", tables.len());
            assert!(tables.iter().all(|table| *table == expected), "{job}");
        }
    }
}
