//! The connection limit, and which connection is closed for a new one.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use tokio::sync::Notify;

use crate::sync::unpoisoned;

/// A new connection is not closed for another one before this, so that its client can send a request.
const TO_ASK: Duration = Duration::from_millis(250);
/// A connection is not closed for another one before this after its client has read a piece of an answer.
const TO_READ: Duration = Duration::from_secs(1);

/// So many connections, or fewer, so that all the servers and relays of this program leave files for
/// its other work.
pub(crate) fn at_most(connections: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current;
    files.map_or(connections, |files| connections.min(files as usize / 8))
}

/// At most so many connections are open. A new one has an idle one closed if need be: one that waits for
/// its client.
pub(crate) struct ConnectionLimit {
    limit: usize,
    open: Mutex<Open>,
    /// Notified when a connection ends or becomes idle.
    changed: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    /// The number of connections that wait for a permit.
    waiting: usize,
    by_number: HashMap<u64, Connection>,
}

struct Connection {
    /// Once this is over, the connection may be closed for another one; `None` while its answer is made.
    idle_at: Option<Instant>,
    /// Notified when it is closed for another one.
    closed: Arc<Notify>,
}

/// Permits one open connection. Another one may be opened once this is dropped.
pub(crate) struct Permit {
    limit: Arc<ConnectionLimit>,
    number: u64,
    since: Instant,
    closed: Arc<Notify>,
}

impl ConnectionLimit {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            open: Mutex::default(),
            changed: Notify::new(),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        unpoisoned(self.open.lock())
    }

    /// A permit for a connection. At the limit, the connection that has been idle longest is closed; if
    /// none is idle, this waits until one is.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Permit {
        self.open().waiting += 1;
        loop {
            let changed = self.changed.notified();
            let wait = match self.try_acquire() {
                Ok(permit) => return permit,
                Err(wait) => wait,
            };
            // A connection may be idle after this time, without a notice.
            tokio::time::timeout(wait, changed).await.ok();
        }
    }

    /// A permit for one of those that wait; the error is how long to wait before the next attempt.
    fn try_acquire(self: &Arc<Self>) -> Result<Permit, Duration> {
        let mut open = self.open();
        if open.by_number.len() >= self.limit {
            open.close_idle()?;
        }
        open.waiting -= 1;
        let number = open.next;
        open.next += 1;
        let (now, closed) = (Instant::now(), Arc::new(Notify::new()));
        let connection = Connection {
            idle_at: Some(now + TO_ASK),
            closed: Arc::clone(&closed),
        };
        open.by_number.insert(number, connection);
        Ok(Permit {
            limit: Arc::clone(self),
            number,
            since: now,
            closed,
        })
    }

    /// Closes the connection that has been idle longest, if there is one.
    pub(super) fn close_idle(&self) {
        self.open().close_idle().ok();
    }
}

impl Open {
    /// Closes the connection that has been idle longest; the error is how long none will be idle.
    fn close_idle(&mut self) -> Result<(), Duration> {
        let idle = self.by_number.iter();
        let idle = idle.filter_map(|(number, one)| Some((one.idle_at?, *number)));
        let (idle_at, number) = idle.min().ok_or(Duration::from_secs(1))?;
        let wait = idle_at.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            return Err(wait);
        }
        if let Some(one) = self.by_number.remove(&number) {
            one.closed.notify_one();
        }
        Ok(())
    }
}

impl Permit {
    /// Runs a connection until it ends, or is closed for another one.
    pub(crate) async fn until_closed(&self, connection: impl Future<Output = ()>) {
        tokio::select! {
            () = connection => {}
            () = self.closed.notified() => {}
        }
    }

    /// The client has sent something. The connection is idle from now on, since that may be all it sends.
    pub(super) fn received(&self) {
        self.idle_at(Instant::now().max(self.since + TO_ASK));
    }

    /// The client has read something. As long as it goes on, its answer is not cut off.
    pub(super) fn sent(&self) {
        self.idle_at(Instant::now() + TO_READ);
    }

    fn idle_at(&self, idle_at: Instant) {
        if let Some(one) = self.limit.open().by_number.get_mut(&self.number) {
            if one.idle_at.is_some() {
                one.idle_at = Some(idle_at);
            }
        }
    }

    /// The connection is not closed for another one while an answer is made, or ever if that does not
    /// end. `false` if it has been closed.
    pub(crate) fn start_work(&self) -> bool {
        let mut open = self.limit.open();
        let one = open.by_number.get_mut(&self.number);
        one.map(|one| one.idle_at = None).is_some()
    }

    /// The answer is ready.
    pub(super) fn end_work(&self) {
        let mut open = self.limit.open();
        if let Some(one) = open.by_number.get_mut(&self.number) {
            one.idle_at = Some(Instant::now() + TO_READ);
        }
        drop(open);
        self.limit.changed.notify_waiters();
    }

    /// Whether another connection waits for a permit. This one must end after its answer then: a client
    /// that sends one request after the other is never idle.
    pub(super) fn has_waiters(&self) -> bool {
        self.limit.open().waiting > 0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limit.open().by_number.remove(&self.number);
        self.limit.changed.notify_waiters();
    }
}
