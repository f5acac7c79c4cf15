//! What a call reports.

use std::time::Duration;

use crate::route::RouteSpec;

/// What a call changed, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Applied {
    /// Routes that were not there before.
    pub added: Vec<RouteSpec>,
    /// Routes whose target, data or settings are different now.
    pub changed: Vec<RouteSpec>,
    /// Routes that were there before.
    pub deleted: Vec<RouteSpec>,
    /// The generation that Traefik shows for it.
    pub generation: u64,
    /// How many calls of this Router shared the commit, this one included.
    pub callers: usize,
    /// How long the store took.
    pub stored_after: Duration,
    /// How long it took, from the same start, until every Traefik had loaded it, as its API or requests
    /// to `public_url` have shown; at least as long as to store it. `None` if the Router is offline.
    pub loaded_after: Option<Duration>,
    /// How long it took, from the same start, until every Traefik was known to serve it: it has loaded
    /// the change and refuses nothing of it. `None` if the Router is offline.
    pub served_after: Option<Duration>,
    /// Whether requests were seen to meet the change.
    pub verified: Verified,
}

/// How far a change was followed, once every Traefik's API has shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verified {
    /// Requests to [`public_url`](crate::Builder::public_url) meet it.
    Seen,
    /// Nothing was asked there.
    NotAsked(NotAsked),
}

/// Why [`public_url`](crate::Builder::public_url) was not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotAsked {
    /// The Router works on the store alone.
    Offline,
    /// There are several Traefiks, and a request reaches one of them.
    SeveralTraefiks,
    /// `public_url` was not set, and the Traefik is an external one.
    DefaultUrl,
    /// It can't be reached from here. After half a second without an answer it is not asked again for 5
    /// seconds, and for longer each time.
    #[non_exhaustive]
    Unreachable {
        /// Why it can't be reached.
        reason: String,
    },
}

impl Default for Verified {
    fn default() -> Self {
        Self::NotAsked(NotAsked::Offline)
    }
}
