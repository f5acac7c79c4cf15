//! The cluster itself: its members, their state, and its history.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::call::Repeat;
use super::client::Client;
use super::endpoints::{Identity, STATUS_PATH};
use super::wire::{Headed, Header, number};
use crate::error::Result;

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
    header: Header,
    version: String,
    #[serde(with = "number")]
    leader: u64,
    #[serde(with = "number")]
    db_size: i64,
    #[serde(with = "number")]
    db_size_in_use: i64,
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

impl Client {
    /// Each endpoint's URL, and which cluster and member it says it is. All are asked in parallel.
    pub(crate) fn identify_endpoints(&self) -> Vec<(&str, Result<Identity>)> {
        self.endpoints.identify(self.timeout)
    }

    /// The state of the member that this client prefers now.
    ///
    /// # Errors
    /// See [the module](super#errors).
    pub fn status(&self) -> Result<Status> {
        let answer = self
            .ask::<StatusResponse>(STATUS_PATH, &json!({}), Repeat::Read)?
            .value;
        Ok(Status {
            version: answer.version,
            member: answer.header.member_id,
            leader: answer.leader,
            db_size: answer.db_size,
            db_size_in_use: answer.db_size_in_use,
            revision: answer.header.revision,
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
