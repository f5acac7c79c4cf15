//! The places of connections, and who makes room where there are too few.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::listener::at_most;

/// How long a client that has just come may take to ask for the first time where others wait for its
/// place.
const ASKING: Duration = Duration::from_millis(250);
/// How long it may take to read a piece of an answer then.
const READING: Duration = Duration::from_secs(1);

/// The connections that are open, at most so many.
pub(crate) struct Seats {
    limit: usize,
    taken: Mutex<Taken>,
    /// Told when one is free, or its occupant begins to wait for its client.
    changed: Notify,
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// How many connections wait for a place.
    wanted: usize,
    by_number: HashMap<u64, Occupant>,
}

struct Occupant {
    /// From when on it may be closed for another one, since it waits for its client, to ask or to
    /// read; `None` while it does not.
    may_go: Option<Instant>,
    /// Told when it is closed.
    closed: Arc<Notify>,
}

/// A connection's place; free again when this is dropped.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    taken_at: Instant,
    closed: Arc<Notify>,
}

impl Seats {
    /// As many as this, or fewer if the system gives us fewer files.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: at_most(limit),
            taken: Mutex::default(),
            changed: Notify::new(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection. If there is none left, the connection that has waited longest for
    /// its client is closed; if none waits, this waits until one does.
    pub(crate) async fn take(self: &Arc<Self>) -> Seat {
        self.taken().wanted += 1;
        loop {
            let changed = self.changed.notified();
            let left = match self.try_take() {
                Ok(seat) => return seat,
                Err(left) => left,
            };
            // Nothing has changed if the time is over.
            tokio::time::timeout(left, changed).await.ok();
        }
    }

    /// A place for one of those who want one; the error is how long no connection may be closed.
    fn try_take(self: &Arc<Self>) -> Result<Seat, Duration> {
        let mut taken = self.taken();
        if taken.by_number.len() >= self.limit {
            taken.close_one()?;
        }
        taken.wanted -= 1;
        let number = taken.next;
        taken.next += 1;
        let (now, closed) = (Instant::now(), Arc::new(Notify::new()));
        let occupant = Occupant {
            may_go: Some(now + ASKING),
            closed: Arc::clone(&closed),
        };
        taken.by_number.insert(number, occupant);
        Ok(Seat {
            seats: Arc::clone(self),
            number,
            taken_at: now,
            closed,
        })
    }

    /// Closes a connection that waits for its client, if there is one.
    pub(super) fn make_room(&self) {
        self.taken().close_one().ok();
    }
}

impl Taken {
    /// Closes the connection that has waited longest for its client; the error is how long no other
    /// one may be closed.
    fn close_one(&mut self) -> Result<(), Duration> {
        let waiting = self.by_number.iter();
        let waiting = waiting.filter_map(|(number, one)| Some((one.may_go?, *number)));
        let (may_go, number) = waiting.min().ok_or(Duration::from_secs(1))?;
        let left = may_go.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Err(left);
        }
        if let Some(one) = self.by_number.remove(&number) {
            one.closed.notify_one();
        }
        Ok(())
    }
}

impl Seat {
    /// Runs what a connection does until that is done, or the place goes to another one.
    pub(crate) async fn until_closed(&self, work: impl Future<Output = ()>) {
        tokio::select! {
            () = work => {}
            () = self.closed.notified() => {}
        }
    }

    /// The client has sent something: it is waited for from now on.
    pub(super) fn heard(&self) {
        self.wait_from(Instant::now().max(self.taken_at + ASKING));
    }

    /// The client has read something: one that reads on loses no answer.
    pub(super) fn told(&self) {
        self.wait_from(Instant::now() + READING);
    }

    fn wait_from(&self, may_go: Instant) {
        if let Some(one) = self.seats.taken().by_number.get_mut(&self.number) {
            if one.may_go.is_some() {
                one.may_go = Some(may_go);
            }
        }
    }

    /// Nobody gets the place while an answer is made, or ever. `false` if it has gone.
    pub(crate) fn begin_work(&self) -> bool {
        let mut taken = self.seats.taken();
        let one = taken.by_number.get_mut(&self.number);
        one.map(|one| one.may_go = None).is_some()
    }

    /// The answer is there to be read. Whether another connection waits for the place.
    pub(super) fn end_work(&self) -> bool {
        let mut taken = self.seats.taken();
        if let Some(one) = taken.by_number.get_mut(&self.number) {
            one.may_go = Some(Instant::now() + READING);
        }
        let is_wanted = taken.wanted > 0;
        drop(taken);
        self.seats.changed.notify_waiters();
        is_wanted
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().by_number.remove(&self.number);
        self.seats.changed.notify_waiters();
    }
}
