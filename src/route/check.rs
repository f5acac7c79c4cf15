//! Whether a route can be stored, and served as it asks.

use serde_json::Value;

use super::settings::Settings;
use super::{Route, Version};
use crate::error::{Error, ErrorKind, Result};

/// The first Traefik in whose rules a host may be a wildcard. It is the latest that any setting needs.
const WILDCARDS: Version = (3, 7);

/// JSON is read with a limit of 128 levels, a few of which are ours.
const MAX_DEPTH: usize = 100;

impl Route {
    /// Whether the route can be stored, read back and served.
    pub(crate) fn check(&self) -> Result<()> {
        if depth(&self.data) > MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::InvalidRoute,
                format!(
                    "the data of {} is nested more than {MAX_DEPTH} levels deep",
                    self.spec
                ),
            ));
        }
        let Some(settings) = self.settings.as_deref() else {
            return Ok(());
        };
        if self.spec.host().is_none() && settings.tls_options().is_some() {
            return Err(self.invalid(
                "Traefik chooses TLS options by the host, so that a route without one can't have any",
            ));
        }
        match settings.problem() {
            Some(problem) => Err(self.invalid(problem)),
            None => Ok(()),
        }
    }

    /// Why Traefik would serve neither this route nor another one of its host as they ask.
    pub(crate) fn clash_with(&self, other: &Self) -> Option<Error> {
        let [ours, theirs] = [self, other].map(Self::tls_options);
        if ours == theirs || self.spec.host() != other.spec.host() {
            return None;
        }
        let name = |options: Option<&str>| match options {
            Some(name) => format!("the TLS options {name:?}"),
            None => "Traefik's default TLS options".into(),
        };
        Some(self.invalid(&format!(
            "it asks for {}, and the route {} of the same host for {}: Traefik would take its default ones for \
             both, so give all routes of a host the same, in one change",
            name(ours),
            other.spec,
            name(theirs)
        )))
    }

    /// The first Traefik that knows all that the route asks for, and for what it needs that one. `None` if any
    /// Traefik 3 will do.
    pub(crate) fn needs(&self) -> Option<(Version, String)> {
        if self.spec.is_wildcard() {
            return Some((WILDCARDS, "a wildcard host".into()));
        }
        let latest = self.settings.as_deref().and_then(Settings::latest);
        latest.filter(|(since, _)| *since > (3, 0))
    }
}

/// How deep a value is nested, as far as that matters here.
fn depth(value: &Value) -> usize {
    let mut deepest = 0;
    let mut left = vec![(value, 1)];
    while let Some((value, depth)) = left.pop() {
        deepest = deepest.max(depth);
        match value {
            Value::Array(items) => left.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => left.extend(map.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    deepest
}
