//! Several Traefiks, and how many of them have to agree.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::threads::at_once;
use crate::traefik::Api;

/// A Traefik that is asked.
pub(in crate::router) trait Asked: Sync {
    /// Where its API is.
    fn url(&self) -> &str;
}

impl Asked for Api {
    fn url(&self) -> &str {
        self.url()
    }
}

/// How long a first request to a Traefik may take that the others can do without.
const BRIEFLY: Duration = Duration::from_millis(250);

/// What is known of the others where one Traefik of several is asked.
pub(in crate::router) struct Others {
    can_do_without: bool,
    is_certain: AtomicBool,
}

impl Others {
    /// Whether they have made the outcome certain.
    pub(in crate::router) fn are_certain(&self) -> bool {
        self.is_certain.load(Ordering::Relaxed)
    }

    /// How long a request may take, so long after the first one. A Traefik that accepts connections and never
    /// answers must hold up nobody if the others can do without it.
    pub(in crate::router) fn patience(&self, elapsed: Duration) -> Duration {
        match self.can_do_without {
            true => elapsed.max(BRIEFLY),
            false => Duration::MAX,
        }
    }

    /// Asks a Traefik again where it does not answer in time, with more time. `None` if it has not once the
    /// outcome is certain.
    pub(in crate::router) fn ask<T>(
        &self,
        api: &Api,
        ask: impl Fn(&Api) -> Result<T>,
    ) -> Result<Option<T>> {
        let begun = Instant::now();
        loop {
            let (asked_at, patience) = (Instant::now(), self.patience(begun.elapsed()));
            match ask(&api.at_most(patience)) {
                Err(error)
                    if error.kind() == ErrorKind::Unavailable && asked_at.elapsed() >= patience =>
                {
                    if self.are_certain() {
                        return Ok(None);
                    }
                }
                asked => return asked.map(Some),
            }
        }
    }
}

/// Asks all Traefiks in parallel; returns the answers of a quorum. With `quorum` `None` all have to answer.
///
/// `ask` may return `None` once the [`Others`] are certain.
///
/// # Errors
/// If fewer than a quorum `do_what`: the first error, with how many do it and how many have to, the other errors,
/// and the Traefiks that had not answered by then.
pub(in crate::router) fn ask_quorum<'a, I: Asked, T: Send>(
    traefiks: &'a [I],
    quorum: Option<usize>,
    do_what: &str,
    ask: impl Fn(&'a I, &Others) -> Result<Option<T>> + Sync,
) -> Result<Vec<(&'a I, T)>> {
    let all = traefiks.len();
    let needed = quorum.unwrap_or(all).min(all);
    let (mut answers, mut errors, mut cut_off) = (Vec::new(), Vec::new(), Vec::new());
    for (traefik, outcome) in ask_all(traefiks, needed, ask) {
        match outcome {
            Ok(Some(answer)) => answers.push((traefik, answer)),
            Ok(None) => cut_off.push(traefik.url()),
            Err(error) => errors.push(error),
        }
    }
    if answers.len() >= needed && (all > 1 || errors.is_empty()) {
        return Ok(answers);
    }
    let (have, mut errors) = (answers.len(), errors.into_iter());
    let Some(first) = errors.next() else {
        return Ok(answers);
    };
    if all == 1 {
        return Err(first);
    }
    let error = errors.fold(first, Error::and);
    let error = cut_off.into_iter().fold(error, |error, url| {
        error.and(format_args!("Traefik at {url} had not done so by then"))
    });
    Err(error.context(format_args!(
        "{have} of {all} Traefiks {do_what}, {needed} must"
    )))
}

/// The outcomes of all, in their order.
fn ask_all<'a, I: Asked, T: Send>(
    traefiks: &'a [I],
    needed: usize,
    ask: impl Fn(&'a I, &Others) -> Result<Option<T>> + Sync,
) -> Vec<(&'a I, Result<Option<T>>)> {
    let others = Others {
        can_do_without: needed < traefiks.len(),
        is_certain: AtomicBool::new(false),
    };
    let (answered, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    at_once(traefiks, |traefik| {
        let outcome = ask(traefik, &others);
        let (count, limit) = match &outcome {
            Ok(_) => (&answered, needed),
            Err(_) => (&failed, traefiks.len() - needed + 1),
        };
        if count.fetch_add(1, Ordering::Relaxed) + 1 >= limit {
            others.is_certain.store(true, Ordering::Relaxed);
        }
        (traefik, outcome)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    impl Asked for &str {
        fn url(&self) -> &str {
            self
        }
    }

    #[test]
    fn quorum_decides_the_outcome() {
        let unavailable = |name: &str| Error::new(ErrorKind::Unavailable, name);
        for (fails, quorum, expected) in [
            (&[][..], None, Ok(3)),
            (&["b"], None, Err("2 of 3 Traefiks answer, 3 must: b")),
            (&["b"], Some(2), Ok(2)),
            (
                &["b", "c"],
                Some(2),
                Err("1 of 3 Traefiks answer, 2 must: b; c"),
            ),
            (&[], Some(9), Ok(3)),
        ] {
            let asked = ask_quorum(&["a", "b", "c"], quorum, "answer", |name, _| {
                match fails.contains(name) {
                    true => Err(unavailable(name)),
                    false => Ok(Some(())),
                }
            });
            let found = asked.map(|answers| answers.len());
            let found = found.map_err(|error| error.to_string());
            assert_eq!(
                found,
                expected.map_err(String::from),
                "{fails:?} {quorum:?}"
            );
        }
        let alone = ask_quorum(&["a"], None, "answer", |name, _| {
            Err::<Option<()>, _>(unavailable(name))
        });
        assert_eq!(alone.unwrap_err().to_string(), "a");
    }

    #[test]
    fn error_names_those_cut_off() {
        let asked = ask_quorum(&["a", "b", "c"], Some(3), "answer", |name, others| {
            while *name == "c" && !others.are_certain() {
                std::thread::yield_now();
            }
            match *name {
                "a" => Err(Error::new(ErrorKind::Unavailable, "a")),
                "b" => Ok(Some(())),
                _ => Ok(None),
            }
        });
        assert_eq!(
            asked.unwrap_err().to_string(),
            "1 of 3 Traefiks answer, 3 must: a; Traefik at c had not done so by then"
        );
    }

    #[test]
    fn certain_outcome_reaches_slow_threads() {
        let answers = ask_quorum(&["fast", "slow"], Some(1), "answer", |name, others| {
            while *name == "slow" && !others.are_certain() {
                std::thread::yield_now();
            }
            Ok((*name == "fast").then_some(()))
        });
        assert_eq!(answers.unwrap(), [(&"fast", ())]);
    }
}
