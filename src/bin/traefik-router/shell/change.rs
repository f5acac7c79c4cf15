//! Changes of the table, and what is told of them.

use std::time::Duration;

use serde_json::json;
use traefik_router::backend::Contents;
use traefik_router::{Applied, Backend as _, NotAsked, RouteSpec, Router, Verified};

use super::output::{Output, Progress, warn};
use crate::failure::Failure;
use crate::settings::Resolved;

/// Has a Router change the table, and prints the result.
pub(super) fn make(
    resolved: &Resolved,
    change: impl FnOnce(&Router) -> traefik_router::Result<Applied>,
) -> Result<(), Failure> {
    let waits = !resolved.settings.api_url.is_empty();
    let progress = Progress::show(match waits {
        true => "waiting for Traefik",
        false => "storing",
    });
    let before = Entrance::of(resolved).map_err(|error| Failure::before_change(&error))?;
    let router = open(resolved, waits)?;
    let applied = change(&router);
    drop(progress);
    let now = || Entrance::of(resolved).ok().flatten();
    let moved = before.map_or_else(Moved::default, |before| before.left_for(now()));
    let applied = applied.map_err(|error| moved.with_moved(Failure::of_change(&error)))?;
    warn_if_unseen(&applied);
    report(&applied, moved, resolved.json)
}

/// Says so if requests could not show that a change is served.
pub(super) fn warn_if_unseen(applied: &Applied) {
    if let Verified::NotAsked(NotAsked::Unreachable { reason, .. }) = &applied.verified {
        warn(&format!(
            "--public-url can't be reached from here, so only Traefik's API has shown the change: {reason}"
        ));
    }
}

pub(super) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

pub(super) fn how(served: Option<Duration>) -> String {
    match served {
        Some(served) => format!("served after {} ms", millis(served)),
        None => "stored; no Traefik was asked whether it serves it".into(),
    }
}

/// Where requests for all routes of a table come in.
struct Entrance {
    entrypoint: String,
    tls: bool,
}

impl Entrance {
    /// `None` if no option can change it, or there are no routes.
    fn of(resolved: &Resolved) -> traefik_router::Result<Option<Self>> {
        let settings = &resolved.settings;
        if settings.entrypoint.is_none() && settings.public_url.is_none() {
            return Ok(None);
        }
        let stored = resolved.store.open()?.inspect()?;
        let stored = stored.filter(|stored| !stored.routes.is_empty());
        Ok(stored.map(|stored| Self {
            entrypoint: stored.entrypoint,
            tls: stored.tls,
        }))
    }

    fn left_for(self, now: Option<Self>) -> Moved {
        let Some(now) = now else {
            return Moved::default();
        };
        Moved {
            tls: (now.tls != self.tls).then_some(now.tls),
            entrypoint: (now.entrypoint != self.entrypoint).then_some(now.entrypoint),
        }
    }
}

/// What has changed for all routes, beside the change that was asked for.
#[derive(Default)]
struct Moved {
    entrypoint: Option<String>,
    tls: Option<bool>,
}

impl Moved {
    fn words(&self) -> Vec<String> {
        let to = |entrypoint| format!("moved all routes to the entrypoint {entrypoint:?}");
        let over = |tls| match tls {
            true => "all routes are served over HTTPS".to_string(),
            false => "all routes are served over HTTP".to_string(),
        };
        (self.entrypoint.iter().map(to))
            .chain(self.tls.map(over))
            .collect()
    }

    /// A failure of the change, which is not all that has happened.
    fn with_moved(&self, failure: Failure) -> Failure {
        let words = self.words();
        match failure.message {
            Some(message) if !words.is_empty() => Failure {
                message: Some(format!("{}, and then: {message}", words.join(", "))),
                ..failure
            },
            _ => failure,
        }
    }
}

/// What is stored before a change.
pub(super) fn stored(resolved: &Resolved) -> Result<Option<Contents>, Failure> {
    let stored = resolved.store.open().and_then(|store| store.inspect());
    stored.map_err(|error| Failure::before_change(&error))
}

/// Opens the store for a change.
pub(super) fn open(resolved: &Resolved, waits: bool) -> Result<Router, Failure> {
    let builder = resolved.builder()?;
    let opened = match waits {
        true => builder.attach(),
        false => builder.offline(),
    };
    opened.map_err(|error| Failure::before_change(&error))
}

fn report(applied: &Applied, moved: Moved, json: bool) -> Result<(), Failure> {
    let output = Output::new();
    if json {
        output.json(&json!({
            "added": applied.added,
            "changed": applied.changed,
            "deleted": applied.deleted,
            "moved_to": moved.entrypoint,
            "generation": applied.generation,
            "stored_ms": millis(applied.stored_after),
            "served_ms": applied.served_after.map(millis),
        }))?;
        return Ok(());
    }
    let groups = [
        ("added", &applied.added),
        ("changed", &applied.changed),
        ("deleted", &applied.deleted),
    ];
    let count: usize = groups.iter().map(|(_, specs)| specs.len()).sum();
    let groups = groups.iter().filter(|(_, specs)| !specs.is_empty());
    let phrase = |(done, specs): &(&str, &Vec<RouteSpec>)| match &specs[..] {
        [spec] if count == 1 => format!("{done} {spec}"),
        specs => format!("{} {done}", specs.len()),
    };
    let mut done: Vec<_> = groups.map(phrase).collect();
    done.extend(moved.words());
    if done.is_empty() {
        done.push("nothing to change".into());
    }
    let how = how(applied.served_after);
    output.report(&format!("{}: {how}", done.join(", ")))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_reports_moved_routes() {
        let moved = Moved {
            entrypoint: Some("web".into()),
            tls: None,
        };
        let failure = moved.with_moved(Failure::failed("nothing was changed: it is too large"));
        assert_eq!(
            failure.message.as_deref(),
            Some(
                "moved all routes to the entrypoint \"web\", and then: nothing was changed: it is too \
                 large"
            )
        );
    }
}
