//! Jobs on threads of their own.

use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle, scope};
use std::time::Duration;

use crate::error::{Error, Result};

/// Does a job for all of these at the same time; what it returns comes in their order. The last is done on this
/// thread, and so is one for which there can be no other.
pub(crate) fn at_once<T: Copy + Send, R: Send>(
    all: impl IntoIterator<Item = T>,
    job: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let all: Vec<T> = all.into_iter().collect();
    let Some((&last, others)) = all.split_last() else {
        return Vec::new();
    };
    let job = &job;
    scope(|scope| {
        let start = |&one| (one, Builder::new().spawn_scoped(scope, move || job(one)));
        let started: Vec<_> = others.iter().map(start).collect();
        let last = job(last);
        let outcomes = started.into_iter().map(|(one, thread)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => job(one),
        });
        outcomes.chain([last]).collect()
    })
}

/// A job that is done in intervals until this is dropped, which waits for the end of one that is under way.
#[derive(Debug)]
pub(crate) struct Repeated {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Repeated {
    /// Does the job for the first time after one interval.
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) if there can be no thread.
    pub(crate) fn start(
        name: &str,
        interval: Duration,
        job: impl Fn() + Send + 'static,
    ) -> Result<Self> {
        let (stop, stopped) = channel();
        let repeat = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                job();
            }
        };
        let name = format!("traefik-router-{name}");
        let thread = Builder::new().name(name.clone()).spawn(repeat);
        let thread = thread.map_err(|error| {
            Error::internal(format!("the thread {name} can't be started")).with_source(error)
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has panicked if this fails.
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn all_are_done_at_once() {
        let all = Barrier::new(3);
        let outcomes = at_once([1, 2, 3], |n| {
            all.wait();
            10 * n
        });
        assert_eq!(outcomes, [10, 20, 30]);
        assert!(at_once([], |n: u8| n).is_empty());
    }

    #[test]
    fn drop_waits_for_the_job() {
        let [begun, ended] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let job = {
            let (begun, ended) = (Arc::clone(&begun), Arc::clone(&ended));
            move || {
                begun.store(true, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(50));
                ended.store(true, Ordering::SeqCst);
            }
        };
        let repeated = Repeated::start("test", Duration::from_millis(1), job).unwrap();
        while !begun.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        drop(repeated);
        assert!(ended.load(Ordering::SeqCst));
    }
}
