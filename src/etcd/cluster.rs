//! The cluster itself: its members, their state, and its history.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::call::{Repeat, post};
use super::client::Client;
use super::fault::Failure;
use super::wire::{Headed, Header, number};
use crate::error::Result;
use crate::http::{Bounds, Http};

/// The state of the member that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// etcd's version, such as `3.5.16`.
    pub version: String,
    /// The ID of this member.
    pub member: u64,
    /// The ID of the leader, or 0 when there is none.
    pub leader: u64,
    /// The size of the member's file, in bytes, free space included.
    pub db_size: i64,
    /// The size of what is in the file, in bytes.
    pub db_size_in_use: i64,
    /// The store's revision.
    pub revision: i64,
}

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Member {
    /// Its ID.
    #[serde(rename = "ID", with = "number")]
    pub id: u64,
    /// Its name; empty before it has started for the first time.
    pub name: String,
    /// The URLs it has for other members.
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    /// The URLs it has for clients. They need not be reachable from here.
    #[serde(rename = "clientURLs")]
    pub client_urls: Vec<String>,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct StatusResponse {
    header: StatusHeader,
    version: String,
    #[serde(with = "number")]
    leader: u64,
    #[serde(with = "number")]
    db_size: i64,
    #[serde(with = "number")]
    db_size_in_use: i64,
}

/// How long an endpoint may take to say of which cluster it is where nobody waits for its answer.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusHeader {
    #[serde(with = "number")]
    cluster_id: u64,
    #[serde(with = "number")]
    member_id: u64,
    #[serde(flatten)]
    header: Header,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Members {
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Compaction {
    #[serde(with = "number")]
    revision: i64,
    physical: bool,
}

const STATUS: &str = "/v3/maintenance/status";

/// What an endpoint says of itself to everybody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    pub(crate) cluster: u64,
    pub(crate) member: u64,
}

/// Asks an endpoint which one it is.
///
/// # Errors
/// As [`post`].
pub(super) fn ask_endpoint(http: &Http, bounds: Bounds) -> Result<Endpoint, Failure> {
    let answer: StatusResponse = post(http, STATUS, b"{}", None, bounds, true)?;
    Ok(Endpoint {
        cluster: answer.header.cluster_id,
        member: answer.header.member_id,
    })
}

impl Client {
    /// What each endpoint says of itself, in their order. Asks them all at once.
    pub(crate) fn ask_endpoints(&self) -> Vec<Result<Endpoint>> {
        let total = LONGEST_LOOK.min(self.timeout);
        let bounds = Bounds {
            connect: total,
            total,
        };
        let ask = |http| ask_endpoint(http, bounds).map_err(|failure| failure.error);
        std::thread::scope(|scope| {
            let endpoints = self.endpoints.all().iter();
            let asked: Vec<_> = endpoints
                .map(|http| scope.spawn(move || ask(http)))
                .collect();
            let join = |asked: std::thread::ScopedJoinHandle<'_, _>| {
                asked
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            asked.into_iter().map(join).collect()
        })
    }

    /// The state of the member that this client prefers now.
    ///
    /// # Errors
    /// See [the module](super#errors).
    pub fn status(&self) -> Result<Status> {
        let answer = self
            .ask::<StatusResponse>(STATUS, &json!({}), Repeat::Read)?
            .value;
        Ok(Status {
            version: answer.version,
            member: answer.header.member_id,
            leader: answer.leader,
            db_size: answer.db_size,
            db_size_in_use: answer.db_size_in_use,
            revision: answer.header.header.revision,
        })
    }

    /// The members of the cluster, whether they run or not.
    ///
    /// # Errors
    /// See [the module](super#errors).
    pub fn members(&self) -> Result<Vec<Member>> {
        let path = "/v3/cluster/member/list";
        Ok(self
            .ask::<Members>(path, &json!({}), Repeat::Read)?
            .value
            .members)
    }

    /// Forgets what the store was before `revision`, and returns when it is forgotten.
    ///
    /// # Errors
    /// See [the module](super#errors). [`ErrorKind::Compacted`](crate::ErrorKind::Compacted) when
    /// that much is forgotten already.
    pub fn compact(&self, revision: i64) -> Result<()> {
        let request = Compaction {
            revision,
            physical: true,
        };
        self.ask::<Headed>("/v3/kv/compaction", &request, Repeat::Harmful)?;
        Ok(())
    }
}
