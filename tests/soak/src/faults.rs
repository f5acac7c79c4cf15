//! The faults that come during a soak.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use compare::Result;
use traefik_router::etcd::Client;
use traefik_router::{Backend as _, Error, ErrorKind, Etcd, FileBackend, KvBackend, Route, Router};

use crate::{Store, Tally, ensure};

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
    /// Somebody holds the lock for a while.
    Lock,
    /// Somebody adds to the file.
    HandEdit,
    /// Somebody breaks the file and mends it.
    BrokenEdit,
    /// etcd is killed and started again.
    Restart,
    Compaction,
}

pub(super) struct Faults<'a> {
    store: &'a Store,
    folder: &'a Path,
    random: Mutex<u64>,
    hand: Mutex<()>,
    is_broken: AtomicBool,
    come: Mutex<BTreeMap<Fault, usize>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Faults<'a> {
    pub(super) fn new(store: &'a Store, folder: &'a Path, seed: u64) -> Self {
        Self {
            store,
            folder,
            random: Mutex::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
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
        let mut random = locked(&self.random);
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        (*random >> 11) % limit
    }

    fn pause(&self, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(self.below(milliseconds)));
    }

    /// One after the other, until it is over.
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
                Err(error) => tally.fail(format!("{fault:?}: {error}")),
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
                locked(etcd).restart()
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
        let mut writer = Command::new(std::env::current_exe()?)
            .args(["writer", &place, target])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = writer.stdout.take().ok_or("no output")?;
        BufReader::new(output).read_line(&mut String::new())?;
        self.pause(200);
        if self.below(2) == 0 {
            let mut stop = Command::new("kill");
            stop.args(["-STOP", &writer.id().to_string()]).status()?;
            self.pause(500);
        }
        writer.kill()?;
        writer.wait()?;
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
        backend.commit(&mut |_, _| vec![route.clone().into()])?;
        if n == 0 {
            println!("writing");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
