//! One call: which endpoints get the request, and when it is sent again.
//!
//! A request that changes something is sent again only if this can't apply the change twice:
//!
//! | what happened | a read | a change guarded by its compares | any other change |
//! |---|---|---|---|
//! | no connection, or the request was not sent in full | next endpoint | next endpoint | next endpoint |
//! | answer: no leader, too many requests, proposal dropped | next endpoint, then retry | the same | the same |
//! | an endpoint that has answered before closed the connection | same endpoint once, then next | next endpoint | error, `Stored::Unknown` |
//! | sent, but the connection broke or no answer came | next endpoint | next endpoint | error, `Stored::Unknown` |
//! | answer: timed out, stopped, unavailable | next endpoint, then retry | the same | error, `Stored::Unknown` |
//! | answer: token not accepted | log in again, once, same endpoint | the same | the same |
//! | any other answer | error | error | error |
//!
//! "Then retry": if all endpoints failed and one of them answered that it can't serve now, the call
//! pauses and asks all of them again. If none of them answered, the call fails at once.
//!
//! The call ends at the client's timeout. The endpoints share that time, so that one that does not
//! answer leaves time for the others. An endpoint that was sent an unguarded change may use all of it,
//! because no other endpoint may be asked afterwards.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::Client;
use super::exchange::{post, to_json};
use super::fault::{Failure, Remedy};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::http::{Bounds, Http};

/// The effect of applying the same request twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// None: the request only reads.
    Read,
    /// None: once the request is applied, its compares fail. If they fail on a retry, the first
    /// attempt may have been applied.
    Guarded,
    /// It could undo a change that another client made in between.
    Harmful,
}

pub(super) struct Answered<T> {
    pub(super) value: T,
    /// Whether an earlier attempt of this call may have been applied as well.
    pub(super) in_doubt: bool,
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(500);

impl Client {
    /// Posts `request` as JSON and reads the answer, by the policy above.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        request: &impl Serialize,
        repeat: Repeat,
    ) -> Result<Answered<T>> {
        let body = to_json(path, request)?;
        self.call(repeat, |http, token, bounds| {
            post(http, path, &body, token, bounds, repeat == Repeat::Read)
        })
    }

    /// Calls `exchange` with one endpoint after the other, as the policy above says.
    pub(super) fn call<T>(
        &self,
        repeat: Repeat,
        exchange: impl Fn(&Http, Option<&str>, Bounds) -> Result<T, Failure>,
    ) -> Result<Answered<T>> {
        let deadline = deadline_after(self.timeout);
        let mut failed = Vec::new();
        let mut in_doubt = false;
        let mut pause = FIRST_PAUSE;
        loop {
            let order = self.endpoints.order();
            for (tried, &index) in order.iter().enumerate() {
                let Some(bounds) = share(deadline, order.len() - tried, repeat) else {
                    break;
                };
                let failure = match self.attempt(index, bounds, &exchange) {
                    Ok(value) => {
                        self.endpoints.worked(index);
                        return Ok(Answered { value, in_doubt });
                    }
                    Err(failure) => failure,
                };
                in_doubt |= *failure.error.stored() == Stored::Unknown && repeat != Repeat::Read;
                if matches!(failure.remedy, Remedy::GiveUp | Remedy::Login) {
                    return Err(with_doubt(failure, in_doubt));
                }
                log::debug!("etcd endpoint failed: {}", failure.error);
                self.endpoints.failed(index);
                failed.push(failure);
                if in_doubt && repeat == Repeat::Harmful {
                    return Err(with_doubt(join(failed), true));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let failure = join(failed);
            if failure.remedy != Remedy::RetryLater || left <= pause {
                return Err(with_doubt(failure, in_doubt));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(MAX_PAUSE);
            failed = Vec::new();
        }
    }

    /// One exchange with one endpoint, and a second one if the token was not accepted.
    fn attempt<T>(
        &self,
        index: usize,
        bounds: Bounds,
        exchange: impl Fn(&Http, Option<&str>, Bounds) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let http = self.endpoints.get(index);
        let end = Instant::now() + bounds.total;
        let remaining = || Bounds {
            total: end
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1)),
            ..bounds
        };
        let share = Bounds {
            total: bounds.connect,
            ..bounds
        };
        self.endpoints.check_cluster(index, share)?;
        let Some(auth) = self.auth.as_deref() else {
            return exchange(http, None, remaining());
        };
        let token = || auth.token(end, || auth.login(http, remaining()));
        let first = token()?;
        match exchange(http, Some(&first), remaining()) {
            Err(failure) if failure.remedy == Remedy::Login => {
                auth.forget(&first);
                exchange(http, Some(&token()?), remaining())
            }
            result => result,
        }
    }
}

/// When `wait` ends. It is cut to a year, because `Instant` can't hold `Duration::MAX`.
pub(super) fn deadline_after(wait: Duration) -> Instant {
    const MAX_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + wait.min(MAX_WAIT)
}

/// The part of the time until `deadline` that the next of `candidates` endpoints may use.
fn share(deadline: Instant, candidates: usize, repeat: Repeat) -> Option<Bounds> {
    let left = deadline.saturating_duration_since(Instant::now());
    let share = left / u32::try_from(candidates).unwrap_or(u32::MAX);
    // Once an unguarded change is sent, no other endpoint is asked: it may use all of the time.
    let total = if repeat == Repeat::Harmful {
        left
    } else {
        share
    };
    (!share.is_zero()).then_some(Bounds {
        connect: share,
        total,
    })
}

/// Joins the failures of all endpoints into one, in the order they were asked. It may be retried if one of them may.
fn join(failed: Vec<Failure>) -> Failure {
    let may_recover = |failure: &Failure| failure.remedy == Remedy::RetryLater;
    let remedy = match failed.iter().any(may_recover) {
        true => Remedy::RetryLater,
        false => Remedy::NextEndpoint,
    };
    let mut messages: Vec<String> = failed.iter().map(|one| one.error.to_string()).collect();
    messages.dedup();
    let error = match failed.into_iter().last() {
        None => Error::new(
            ErrorKind::Unavailable,
            "the timeout ended before an endpoint was asked",
        ),
        Some(last) if messages.len() == 1 => last.error,
        Some(last) => Error::new(last.error.kind(), messages.join("; ")),
    };
    Failure { error, remedy }
}

fn with_doubt(failure: Failure, in_doubt: bool) -> Error {
    failure.described().with_stored(if in_doubt {
        Stored::Unknown
    } else {
        Stored::Nothing
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change that was sent may use all of it.
    #[test]
    fn endpoints_share_the_time() {
        let deadline = Instant::now() + Duration::from_secs(9);
        assert!(deadline_after(Duration::MAX) > deadline);
        let near = |found: Duration, seconds| {
            let expected = Duration::from_secs(seconds);
            assert!(
                found <= expected && expected - found < Duration::from_secs(1),
                "{found:?}"
            );
        };
        let read = share(deadline, 3, Repeat::Read).expect("time is left");
        near(read.connect, 3);
        near(read.total, 3);
        let change = share(deadline, 3, Repeat::Harmful).expect("time is left");
        near(change.connect, 3);
        near(change.total, 9);
        assert!(share(Instant::now(), 3, Repeat::Read).is_none());
    }
}
