//! The steps of a commit to a file, where tests make it fail. Without tests, only a build with
//! `RUSTFLAGS="--cfg traefik_router_fault_points"` has fault points: no crate can set that flag for
//! the programs that depend on it.

use std::io;
use std::path::Path;

#[cfg(test)]
pub(crate) use tests::observed;

/// A step that changes what is on the disk, or who may change it.
// Only tests look into it.
#[cfg_attr(not(test), allow(dead_code))]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'a> {
    Lock,
    Create(&'a Path),
    SetMode,
    Write(&'a Path, &'a str),
    Sync(&'a Path),
    Rename(&'a Path, &'a Path),
    SyncFolder,
    Remove(&'a Path),
    Unlock,
}

impl Step<'_> {
    /// Does the step, unless a test has it fail.
    #[inline]
    pub(crate) fn run<T>(self, step: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(traefik_router_fault_points)]
        kill::at_this_point();
        #[cfg(test)]
        tests::tell(self)?;
        step()
    }
}

/// With `TRAEFIK_ROUTER_KILL_AT=N` in its environment, the program kills itself by SIGKILL before the
/// N-th step, so that it cannot clean up.
#[cfg(traefik_router_fault_points)]
mod kill {
    use std::process::Command;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    pub(super) fn at_this_point() {
        static FATAL: OnceLock<Option<u64>> = OnceLock::new();
        static STEPS: AtomicU64 = AtomicU64::new(0);
        let told = || std::env::var("TRAEFIK_ROUTER_KILL_AT").ok()?.parse().ok();
        let step = STEPS.fetch_add(1, Ordering::Relaxed) + 1;
        if *FATAL.get_or_init(told) == Some(step) {
            let me = std::process::id().to_string();
            let killed = Command::new("kill").args(["-KILL", &me]).status();
            unreachable!("killed: {killed:?}");
        }
    }
}

/// What a test does at each step of its own thread.
#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;

    use super::Step;

    type Observer = Box<dyn FnMut(Step<'_>) -> io::Result<()>>;

    thread_local! {
        static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
    }

    pub(super) fn tell(step: Step<'_>) -> io::Result<()> {
        OBSERVER.with_borrow_mut(|observer| observer.as_mut().map_or(Ok(()), |tell| tell(step)))
    }

    /// Runs `job` while `observer` hears of each step before it is done, and may have it fail.
    pub(crate) fn observed<T>(
        observer: impl FnMut(Step<'_>) -> io::Result<()> + 'static,
        job: impl FnOnce() -> T,
    ) -> T {
        OBSERVER.set(Some(Box::new(observer)));
        let done = job();
        OBSERVER.set(None);
        done
    }
}
