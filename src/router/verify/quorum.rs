//! Several Traefiks, and how many of them have to agree.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use crate::error::Result;

/// Asks all Traefiks in parallel; returns the answers of a quorum. With `quorum` `None` all have to answer.
///
/// `ask` gets a flag that is set once the outcome is certain; it may then return `None` at once.
///
/// # Errors
/// If fewer than a quorum `do_what`: the first error, with how many do it and how many have to.
pub(super) fn ask_quorum<'a, I: Sync, T: Send>(
    traefiks: &'a [I],
    quorum: Option<usize>,
    do_what: &str,
    ask: impl Fn(&'a I, &AtomicBool) -> Result<Option<T>> + Sync,
) -> Result<Vec<(&'a I, T)>> {
    let all = traefiks.len();
    let needed = quorum.unwrap_or(all).min(all);
    let (mut answers, mut first_error) = (Vec::new(), None);
    for (traefik, outcome) in ask_all(traefiks, needed, ask) {
        match outcome {
            Ok(answer) => answers.extend(answer.map(|answer| (traefik, answer))),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    match first_error {
        Some(error) if all == 1 => Err(error),
        Some(error) if answers.len() < needed => {
            let have = answers.len();
            Err(error.context(format_args!(
                "{have} of {all} Traefiks {do_what}, {needed} have to"
            )))
        }
        _ => Ok(answers),
    }
}

/// The outcomes of all, in their order. A single Traefik is asked on this thread.
fn ask_all<'a, I: Sync, T: Send>(
    traefiks: &'a [I],
    needed: usize,
    ask: impl Fn(&'a I, &AtomicBool) -> Result<Option<T>> + Sync,
) -> Vec<(&'a I, Result<Option<T>>)> {
    let is_certain = AtomicBool::new(false);
    if let [traefik] = traefiks {
        return vec![(traefik, ask(traefik, &is_certain))];
    }
    let (answered, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ask_one = |traefik: &'a I| {
        let outcome = ask(traefik, &is_certain);
        let (count, limit) = match &outcome {
            Ok(_) => (&answered, needed),
            Err(_) => (&failed, traefiks.len() - needed + 1),
        };
        if count.fetch_add(1, Ordering::Relaxed) + 1 >= limit {
            is_certain.store(true, Ordering::Relaxed);
        }
        (traefik, outcome)
    };
    std::thread::scope(|scope| {
        let ask_one = &ask_one;
        let spawned = traefiks.iter().map(|one| scope.spawn(move || ask_one(one)));
        let threads: Vec<_> = spawned.collect();
        let join = |thread: ScopedJoinHandle<'_, _>| {
            let joined = thread.join();
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    #[test]
    fn quorum_decides_the_outcome() {
        let unavailable = |name: &str| Error::new(ErrorKind::Unavailable, name);
        for (fails, quorum, expected) in [
            (&[][..], None, Ok(3)),
            (&["b"], None, Err("2 of 3 Traefiks answer, 3 have to: b")),
            (&["b"], Some(2), Ok(2)),
            (
                &["b", "c"],
                Some(2),
                Err("1 of 3 Traefiks answer, 2 have to: b"),
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
    fn certain_outcome_reaches_slow_threads() {
        let answers = ask_quorum(&["fast", "slow"], Some(1), "answer", |name, is_certain| {
            while *name == "slow" && !is_certain.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            Ok((*name == "fast").then_some(()))
        });
        assert_eq!(answers.unwrap(), [(&"fast", ())]);
    }
}
