//! One call: which endpoint is asked, when it is asked again, and when that is too dangerous.
//!
//! The policy, in one place:
//!
//! | what happened | a read | a change that can be repeated | any other change |
//! |---|---|---|---|
//! | not connected, or not all of the request sent | next endpoint | next endpoint | next endpoint |
//! | answered: no leader, too many requests, dropped | next endpoint, then again | the same | the same |
//! | sent to an endpoint that has answered before, and the connection was closed | same endpoint, once; then as below | as below | as below |
//! | sent, and the connection broke or no answer came | next endpoint | next endpoint | error, `Stored::Unknown` |
//! | answered: timed out, stopped, unavailable | next endpoint, then again | the same | error, `Stored::Unknown` |
//! | answered: token not accepted | new token, once, same endpoint | the same | the same |
//! | answered: anything else | error | error | error |
//!
//! "Then again": when every endpoint was asked and one of them answered that it can't serve now,
//! all are asked again after a pause. Where nobody answered at all, the call fails at once.
//! Everything ends at the client's timeout, which the endpoints share: a silent one uses up only
//! its part, unless it is the one that a change was sent to.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::Client;
use super::exchange::{post, to_json};
use super::fault::{Failure, Remedy};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::http::{Bounds, Http};

/// What a second application of the same request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes nothing.
    Read,
    /// Its compares fail once it was applied. A repetition that fails in them proves nothing.
    Guarded,
    /// It could undo what others did in between.
    Harmful,
}

/// An answer.
pub(super) struct Answered<T> {
    pub(super) value: T,
    /// An earlier attempt of this call may have been applied as well.
    pub(super) in_doubt: bool,
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl Client {
    /// Posts `request` as JSON and reads the answer, under the policy above.
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

    /// Runs `exchange` with an endpoint, and with others as far as the policy allows.
    pub(super) fn call<T>(
        &self,
        repeat: Repeat,
        exchange: impl Fn(&Http, Option<&str>, Bounds) -> Result<T, Failure>,
    ) -> Result<Answered<T>> {
        let deadline = after(self.timeout);
        let mut failed = Vec::new();
        let mut in_doubt = false;
        let mut pause = FIRST_PAUSE;
        loop {
            let mut patience_helps = false;
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
                    return Err(doubtful(failure.error, in_doubt));
                }
                log::debug!("etcd endpoint failed: {}", failure.error);
                self.endpoints.failed(index);
                patience_helps |= failure.remedy == Remedy::RetryLater;
                failed.push(failure.error);
                if in_doubt && repeat == Repeat::Harmful {
                    return Err(doubtful(all(failed), true));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !patience_helps || left <= pause {
                return Err(doubtful(all(failed), in_doubt));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            failed.clear();
        }
    }

    /// One exchange with one endpoint; two, where the token was not accepted.
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

/// The end of a wait, which for `Duration::MAX` is far away rather than a panic.
pub(super) fn after(wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + wait.min(YEAR)
}

/// The part of the time until `deadline` that the next of `candidates` endpoints may use.
fn share(deadline: Instant, candidates: usize, repeat: Repeat) -> Option<Bounds> {
    let left = deadline.saturating_duration_since(Instant::now());
    let share = left / u32::try_from(candidates).unwrap_or(u32::MAX);
    // Nothing comes after a change that was sent and may not be repeated: it may use all there is.
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

/// One error of those of all endpoints, in the order they were asked.
fn all(failed: Vec<Error>) -> Error {
    let text = |error: &Error| error.to_string();
    let mut texts: Vec<String> = failed.iter().map(text).collect();
    texts.dedup();
    match failed.into_iter().last() {
        None => Error::new(
            ErrorKind::Unavailable,
            "etcd: no time was left to ask an endpoint",
        ),
        Some(last) if texts.len() == 1 => last,
        Some(last) => Error::new(
            last.kind(),
            format!("no etcd endpoint: {}", texts.join("; ")),
        ),
    }
}

fn doubtful(error: Error, in_doubt: bool) -> Error {
    error.with_stored(if in_doubt {
        Stored::Unknown
    } else {
        Stored::Nothing
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_share_the_time_but_a_sent_change_may_use_all() {
        let deadline = Instant::now() + Duration::from_secs(9);
        assert!(after(Duration::MAX) > deadline);
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
