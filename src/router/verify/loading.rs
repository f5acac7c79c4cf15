//! Whether one Traefik has loaded a commit: its API shows the generation that it has loaded.

use std::time::{Duration, Instant};

use super::pending::{Pending, in_time};
use super::quorum::Others;
use super::schedule::PollSchedule;
use crate::error::{Error, ErrorKind, Result};
use crate::traefik::Api;

/// What an API answered last.
enum LastAnswer {
    /// It answers, but has no generation of this table.
    NoGeneration,
    Generation(u64),
    Failure(Error),
}

/// Waits until this Traefik has loaded the commit. Returns `false` if it has not once the others are
/// certain. The schedule begins at `since`.
pub(super) fn wait_until_loaded(
    api: &Api,
    pending: &Pending<'_>,
    polls: &mut PollSchedule,
    since: Instant,
    others: &Others,
) -> Result<bool> {
    let marker = pending.commit.marker_at(pending.provider);
    let mut unauthorized_since = None;
    let mut before = None;
    let begun = Instant::now();
    loop {
        let patience = pending.time_left().min(others.patience(begun.elapsed()));
        let seen = match poll_once(api, pending, &marker, Instant::now() + patience) {
            Ok(()) => return Ok(true),
            Err(seen) => seen,
        };
        pending.check(api)?;
        match &seen {
            LastAnswer::Failure(error) if error.kind() == ErrorKind::Unauthorized => {
                let since = *unauthorized_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= pending.unauthorized_grace {
                    return Err(error.clone());
                }
            }
            _ => unauthorized_since = None,
        }
        if others.are_certain() {
            return Ok(false);
        }
        let left = pending.time_left();
        if left.is_zero() || pending.is_rejected() {
            // A last request that the deadline cut short shows nothing.
            let is_cut_short = matches!(&seen, LastAnswer::Failure(error) if error.kind() == ErrorKind::Unavailable);
            let seen = before.filter(|_| is_cut_short).unwrap_or(seen);
            return Err(match seen {
                LastAnswer::Failure(error) if error.kind() == ErrorKind::Unauthorized => error,
                seen => not_loaded(api, pending, seen),
            });
        }
        if !matches!(seen, LastAnswer::Generation(_)) {
            polls.set_failed();
        }
        before = Some(seen);
        std::thread::sleep(polls.next_pause(since.elapsed()).min(left));
    }
}

/// Asks the API once, for an answer by `deadline`. The error is what it shows instead of the commit.
fn poll_once(
    api: &Api,
    pending: &Pending<'_>,
    marker: &str,
    deadline: Instant,
) -> Result<(), LastAnswer> {
    let generation = api.generation_by(marker, deadline);
    let generation = generation
        .map_err(LastAnswer::Failure)?
        .ok_or(LastAnswer::NoGeneration)?;
    match pending.is_shown_by(generation) {
        Ok(true) => Ok(()),
        Ok(false) => Err(LastAnswer::Generation(generation)),
        Err(error) => Err(LastAnswer::Failure(error)),
    }
}

fn not_loaded(api: &Api, pending: &Pending<'_>, seen: LastAnswer) -> Error {
    let provider = pending.provider;
    let why = match seen {
        LastAnswer::NoGeneration => match providers(api) {
            Ok(running) if !running.contains(&provider.to_lowercase()) => format!(
                "its provider {provider:?} is not running (these are: {}); check its static \
                 configuration, and restart it if the store was not there when it started",
                running.join(", "),
            ),
            Ok(_) => format!(
                "it has never loaded this table from its provider {provider:?}: {}",
                unread(provider)
            ),
            Err(error) => error.to_string(),
        },
        LastAnswer::Generation(generation) if generation > pending.commit.generation => {
            format!(
                "it shows generation {generation}, which is later than the one stored, {}: the store \
             was put back to an earlier state, and this Traefik hears nothing of it; restart it",
                pending.commit.generation
            )
        }
        LastAnswer::Generation(generation) => {
            let copy = pending.serving.store.copy_of(pending.commit);
            let copy =
                copy.map(|copy| format!("; or it reads {copy}, which has a copy of the table"));
            format!(
                "it still has generation {generation} instead of {}: {}{}",
                pending.commit.generation,
                unheard(provider),
                copy.unwrap_or_default()
            )
        }
        LastAnswer::Failure(error) => error.to_string(),
    };
    let mut message = format!(
        "{}Traefik at {} did not load it within {} ms: {why}",
        pending.message_start(),
        api.url(),
        pending.stored_at.elapsed().as_millis()
    );
    message.push_str(&pending.complaints());
    Error::new(ErrorKind::NotLoaded, message)
}

/// Why a Traefik may have loaded nothing of a store that it reads with this provider, or is sent.
pub(in crate::router) fn unread(provider: &str) -> &'static str {
    match provider {
        "rest" => {
            "it was not sent the table, another program has replaced it, or \
             `providersThrottleDuration` in its static configuration is too long"
        }
        _ => {
            "it reads another file or prefix than this one, or rejects what is in it, and its log says why; or its \
             `providersThrottleDuration` is too long; or the file was not there when it started: restart it"
        }
    }
}

/// Why a Traefik may not load a change.
pub(in crate::router) fn unheard(provider: &str) -> &'static str {
    match provider {
        "rest" => {
            "it was not sent the change, or needs longer to load it: \
             `providersThrottleDuration` in its static configuration is best 0s"
        }
        _ => {
            "it rejects what is stored, and its log says why; or its `providersThrottleDuration` is too \
             long; or it hears of no change: where it reads a symbolic link, have it read the file itself, and restart \
             it otherwise"
        }
    }
}

/// The providers that run, in lower case. The time for the commit is over: this must be quick.
pub(in crate::router) fn providers(api: &Api) -> Result<Vec<String>> {
    let overview = in_time(api, Duration::ZERO).overview()?;
    let names = overview["providers"].as_array();
    let names = names.map(Vec::as_slice).unwrap_or_default();
    Ok(names
        .iter()
        .filter_map(|name| name.as_str().map(str::to_lowercase))
        .collect())
}
