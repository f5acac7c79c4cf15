//! Readers that come together share one question to the store. Does no I/O itself.

use std::sync::{Condvar, Mutex, MutexGuard};

use crate::error::{Error, ErrorKind, Result};
use crate::route::Table;
use crate::sync::unpoisoned;

/// One reader at a time asks the store for all that wait.
#[derive(Default)]
pub(super) struct Readers {
    rounds: Mutex<Rounds>,
    ended: Condvar,
}

/// Questions to the store, counted from 1.
#[derive(Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    outcome: Option<Result<Table>>,
    #[cfg(test)]
    waiting: usize,
}

impl Readers {
    /// The table, by a question that began after this call.
    ///
    /// A question that is already under way may miss a commit that the caller has made, so its table
    /// is not for this caller. If it finds the store out of reach, that is this caller's error too.
    pub(super) fn ask(&self, question: impl FnOnce() -> Result<Table>) -> Result<Table> {
        let mut rounds = self.rounds();
        let first = rounds.begun + 1;
        let is_ours = |rounds: &Rounds| match &rounds.outcome {
            Some(Err(error)) => rounds.ended >= first || is_out_of_reach(error),
            Some(Ok(_)) => rounds.ended >= first,
            // The reader that asked has panicked.
            None => false,
        };
        #[cfg(test)]
        {
            rounds.waiting += 1;
        }
        while rounds.begun != rounds.ended {
            let before = rounds.ended;
            while rounds.ended == before {
                rounds = unpoisoned(self.ended.wait(rounds));
            }
            if is_ours(&rounds) {
                return rounds.outcome.clone().unwrap_or_else(|| Ok(Table::new()));
            }
        }
        rounds.begun += 1;
        rounds.outcome = None;
        drop(rounds);
        let asking = Asking(self);
        let outcome = question();
        self.rounds().outcome = Some(outcome.clone());
        drop(asking);
        outcome
    }

    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        unpoisoned(self.rounds.lock())
    }
}

fn is_out_of_reach(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable
}

/// Ends a round, also when the reader that asks panics.
struct Asking<'a>(&'a Readers);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.rounds().ended += 1;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread::{scope, yield_now};

    /// Runs eight readers, which all wait during a question with this outcome. Returns how many others were asked.
    fn questions_after(first: &Result<Table>) -> usize {
        let (readers, count) = (Readers::default(), AtomicUsize::new(0));
        scope(|scope| {
            scope.spawn(|| {
                readers.ask(|| {
                    // Itself, and the others.
                    while readers.rounds().waiting < 9 {
                        yield_now();
                    }
                    first.clone()
                })
            });
            while readers.rounds().begun == 0 {
                yield_now();
            }
            for _ in 0..8 {
                scope.spawn(|| {
                    let outcome = readers.ask(|| {
                        count.fetch_add(1, SeqCst);
                        Ok(Table::new())
                    });
                    let is_shared = matches!(first, Err(error) if is_out_of_reach(error));
                    assert_eq!(outcome.is_err(), is_shared);
                });
            }
        });
        count.load(SeqCst)
    }

    #[test]
    fn waiting_readers_share_one_question() {
        assert_eq!(questions_after(&Ok(Table::new())), 1);
        let torn = Error::new(ErrorKind::Corrupt, "torn");
        assert_eq!(questions_after(&Err(torn)), 1);
        let silent = Error::new(ErrorKind::Unavailable, "silent");
        assert_eq!(questions_after(&Err(silent)), 0);
    }

    #[test]
    fn panicking_reader_blocks_nobody() {
        let readers = Readers::default();
        let panics = || readers.ask(|| panic!("as the test wants"));
        scope(|scope| assert!(scope.spawn(panics).join().is_err()));
        assert!(readers.ask(|| Ok(Table::new())).is_ok());
    }
}
