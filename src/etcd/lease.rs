//! Leases: keys that end when their owner stops asking for more time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::Repeat;
use super::client::Client;
use super::wire::{Headed, number};
use crate::error::{Error, ErrorKind, Result};

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Its ID, for [`Op::put_leased`](super::Op::put_leased).
    pub id: i64,
    /// How long it lasts; etcd may give more than was asked for.
    pub ttl: Duration,
}

#[derive(Default, Serialize)]
struct Request {
    #[serde(rename = "ID", with = "number")]
    id: i64,
    #[serde(
        rename = "TTL",
        with = "number",
        skip_serializing_if = "super::wire::is_zero"
    )]
    ttl: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Response {
    #[serde(rename = "ID", with = "number")]
    id: i64,
    #[serde(rename = "TTL", with = "number")]
    ttl: i64,
}

/// A keep-alive is a stream, which the gateway wraps.
#[derive(Debug, Deserialize)]
struct Streamed {
    result: Response,
}

impl Client {
    /// Grants a lease. `ttl` is rounded up to whole seconds; etcd has a minimum of about two.
    ///
    /// # Errors
    /// See [the module](super#errors). Where the answer is lost, a lease may exist that nobody
    /// knows; it ends after its time.
    pub fn lease_grant(&self, ttl: Duration) -> Result<Lease> {
        let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let request = Request {
            id: 0,
            ttl: i64::try_from(whole).unwrap_or(i64::MAX),
        };
        let answer = self
            .ask::<Response>("/v3/lease/grant", &request, Repeat::Harmful)?
            .value;
        Ok(Lease {
            id: answer.id,
            ttl: seconds(answer.ttl),
        })
    }

    /// Gives the lease its whole time again, and returns that. Call it a few times within it.
    ///
    /// # Errors
    /// See [the module](super#errors). [`ErrorKind::Store`] when the lease has ended, and its keys
    /// with it: grant a new one.
    pub fn lease_keep_alive(&self, id: i64) -> Result<Duration> {
        let request = Request { id, ttl: 0 };
        let answer = self.ask::<Streamed>("/v3/lease/keepalive", &request, Repeat::Read)?;
        match answer.value.result.ttl {
            ttl @ 1.. => Ok(seconds(ttl)),
            _ => {
                let message = format!("etcd lease {id}: it has ended: grant a new one");
                Err(Error::new(ErrorKind::Store, message))
            }
        }
    }

    /// Ends the lease, and deletes its keys.
    ///
    /// # Errors
    /// See [the module](super#errors). [`ErrorKind::Store`] when there is no such lease.
    pub fn lease_revoke(&self, id: i64) -> Result<()> {
        let request = Request { id, ttl: 0 };
        self.ask::<Headed>("/v3/lease/revoke", &request, Repeat::Harmful)?;
        Ok(())
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}
