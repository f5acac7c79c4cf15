//! The faults that come during a soak.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use kit::process::send_signal;
use kit::{Process, Random, ensure};
use traefik_router::etcd::Client;
use traefik_router::{Backend as _, Error, ErrorKind, Etcd, FileBackend, KvBackend, Route, Router};

use crate::{Result, Store, Tally, locked};

const FILE: [Fault; 5] = [
    Fault::OtherWriter,
    Fault::KilledWriter,
    Fault::Lock,
    Fault::HandEdit,
    Fault::BrokenEdit,
];
const ETCD: [Fault; 4] = [
    Fault::OtherWriter,
    Fault::KilledWriter,
    Fault::Restart,
    Fault::Compaction,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// Another Router changes the table.
    OtherWriter,
    /// One in another process does until it is killed, half of the times after it was stopped.
    KilledWriter,
    /// Another program holds the lock for a while.
    Lock,
    /// Another program adds to the file.
    HandEdit,
    /// Another program breaks the file and mends it.
    BrokenEdit,
    /// etcd is killed and started again.
    Restart,
    Compaction,
}

pub(super) struct Faults<'a> {
    store: &'a Store,
    folder: &'a Path,
    random: Mutex<Random>,
    hand: Mutex<()>,
    is_broken: AtomicBool,
    come: Mutex<BTreeMap<Fault, usize>>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(store: &'a Store, folder: &'a Path, seed: u64) -> Self {
        Self {
            store,
            folder,
            random: Mutex::new(Random::new(seed)),
            hand: Mutex::default(),
            is_broken: AtomicBool::default(),
            come: Mutex::default(),
        }
    }

    /// While this is held nobody edits the file by hand.
    pub(super) fn hand(&self) -> MutexGuard<'_, ()> {
        locked(&self.hand)
    }

    /// Whether the file is broken by hand.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    /// Whether a change may fail like this, with nothing stored: the store may be away, or was
    /// broken when the change began.
    pub(super) fn explain(&self, error: &Error, was_broken: bool) -> bool {
        match self.store.etcd {
            None => was_broken && error.kind() == ErrorKind::Corrupt,
            Some(_) => error.kind() == ErrorKind::Unavailable,
        }
    }

    fn below(&self, limit: u64) -> u64 {
        locked(&self.random).below(limit)
    }

    fn pause(&self, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(self.below(milliseconds)));
    }

    /// One after the other, until it is over or one could not be provoked.
    pub(super) fn come(&self, target: &str, tally: &Tally) {
        let faults: &[Fault] = match self.store.etcd {
            None => &FILE,
            Some(_) => &ETCD,
        };
        while tally.goes_on() {
            self.pause(2_000);
            let fault = faults[self.below(faults.len() as u64) as usize];
            match self.provoke(fault, target) {
                Ok(()) => *locked(&self.come).entry(fault).or_default() += 1,
                Err(error) => return tally.fail(format!("{fault:?}: {error}")),
            }
        }
    }

    fn provoke(&self, fault: Fault, target: &str) -> Result {
        match fault {
            Fault::OtherWriter => {
                let other = Router::builder(self.store.backend()?).offline()?;
                for n in 0..5 {
                    other.add_route(format!("/other/{n}/"), target, self.below(1_000))?;
                }
                Ok(())
            }
            Fault::KilledWriter => self.killed_writer(target),
            Fault::Lock => {
                let mut lock = self.store.rules.clone().into_os_string();
                lock.push(".lock");
                let mut holder = Command::new("flock");
                let holder = holder.arg(lock).args(["sleep", "0.5"]);
                ensure(holder.status()?.success(), "flock failed")
            }
            Fault::HandEdit => {
                let _hand = self.hand();
                let text = fs::read_to_string(&self.store.rules)?;
                self.edit(&format!("{text}# {}\n", self.below(1_000)))
            }
            Fault::BrokenEdit => {
                let hand = self.hand();
                let text = fs::read_to_string(&self.store.rules)?;
                self.is_broken.store(true, Ordering::Relaxed);
                self.edit(&format!("{text}[broken\n"))?;
                // Nobody can write a file that is broken.
                drop(hand);
                self.pause(500);
                self.edit(&text)?;
                self.is_broken.store(false, Ordering::Relaxed);
                Ok(())
            }
            Fault::Restart => {
                let etcd = self.store.etcd.as_ref().ok_or("no etcd")?;
                locked(etcd).restart(0);
                Ok(())
            }
            Fault::Compaction => {
                let etcd = Client::new([&self.store.url])?;
                Ok(etcd.compact(etcd.status()?.revision)?)
            }
        }
    }

    fn edit(&self, text: &str) -> Result {
        let temp = self.folder.join("edited");
        fs::write(&temp, text)?;
        Ok(fs::rename(temp, &self.store.rules)?)
    }

    fn killed_writer(&self, target: &str) -> Result {
        // It writes by its own hand as well, and may die in the middle of it.
        let place = match self.store.etcd {
            None => self.store.rules.display().to_string(),
            Some(_) => self.store.url.clone(),
        };
        let log = self.folder.join("writer.log");
        fs::write(&log, "")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["writer", &place, target]);
        let mut writer = Process::start(&mut command, &log);
        writer.wait_until("the writer writes", || {
            fs::read_to_string(&log).is_ok_and(|text| text.starts_with("writing"))
        });
        self.pause(200);
        if self.below(2) == 0 {
            send_signal(writer.id(), "STOP");
            self.pause(500);
        }
        Ok(())
    }
}

impl fmt::Display for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, count) in &*locked(&self.come) {
            writeln!(f, "  {count:>6}  {fault:?}")?;
        }
        Ok(())
    }
}

/// Changes a table until it is killed.
pub(crate) fn write_until_killed(place: &str, target: &str) -> Result {
    let backend: Box<dyn traefik_router::Backend> = match place.starts_with("http://") {
        true => Box::new(KvBackend::new(Etcd::new([place])?)),
        false => Box::new(FileBackend::new(place)),
    };
    for n in 0_u64.. {
        let route = Route::new(format!("/killed/{}/", n % 10), target)?.data(n);
        backend.commit(&mut |_, _| Ok(vec![route.clone().into()]))?;
        if n == 0 {
            println!("writing");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
