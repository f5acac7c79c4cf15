//! The steps of a commit to a file, where tests make it fail or kill the program.

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
        #[cfg(test)]
        tests::tell(self)?;
        step()
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
