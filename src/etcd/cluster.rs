//! The cluster itself: the state of a member, and the store's history.

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
pub struct MemberStatus {
    /// etcd's version, such as `3.5.16`.
    pub version: String,
    /// The ID of this member.
    pub member: u64,
    /// The ID of the leader, or 0 if there is none.
    pub leader: u64,
    /// The store's revision.
    pub revision: i64,
    /// What the member reports as wrong: raised alarms, such as `NOSPACE`, or that there is no leader.
    pub errors: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusResponse {
    header: Header,
    version: String,
    #[serde(with = "number")]
    leader: u64,
    errors: Vec<String>,
}

#[derive(Serialize)]
struct Compaction {
    #[serde(with = "number")]
    revision: i64,
    physical: bool,
}

impl Client {
    /// Each endpoint's URL, with the cluster and member it says it is. Asks all in parallel.
    pub(crate) fn identify_endpoints(&self) -> Vec<(&str, Result<Identity>)> {
        self.endpoints.identify(self.timeout)
    }

    /// The state of the member that this client prefers now.
    ///
    /// # Errors
    /// See [the module](super#errors).
    pub fn status(&self) -> Result<MemberStatus> {
        let answer = self
            .ask::<StatusResponse>(STATUS_PATH, &json!({}), Repeat::Read)?
            .value;
        Ok(MemberStatus {
            version: answer.version,
            member: answer.header.member_id,
            leader: answer.leader,
            revision: answer.header.revision,
            errors: answer.errors,
        })
    }

    /// Deletes the history of the store before `revision`, and returns once it is deleted.
    ///
    /// # Errors
    /// See [the module](super#errors). [`ErrorKind::Compacted`](crate::ErrorKind::Compacted) if
    /// this history is deleted already.
    pub fn compact(&self, revision: i64) -> Result<()> {
        let request = Compaction {
            revision,
            physical: true,
        };
        self.ask::<Headed>("/v3/kv/compaction", &request, Repeat::Harmful)?;
        Ok(())
    }
}
