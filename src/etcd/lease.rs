//! Leases: when a lease is not renewed in time, etcd deletes its keys.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::Repeat;
use super::client::Client;
use super::wire::{Headed, number};
use crate::error::{Error, ErrorKind, Result};

/// A granted lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Its ID, for [`Op::put_leased`](super::Op::put_leased).
    pub id: i64,
    /// How long it lasts. etcd may grant more than was requested.
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

/// The gateway wraps each answer of a stream, and a keep-alive is a stream in gRPC.
#[derive(Debug, Deserialize)]
struct Streamed {
    result: Response,
}

impl Client {
    /// Grants a lease. `ttl` is rounded up to whole seconds. etcd's own minimum is about two.
    ///
    /// # Errors
    /// See [the module](super#errors). If the answer is lost, etcd may keep a lease without keys
    /// until its time ends.
    pub fn lease_grant(&self, ttl: Duration) -> Result<Lease> {
        let whole = ttl
            .as_secs()
            .saturating_add(u64::from(ttl.subsec_nanos() > 0));
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

    /// Renews the lease for its whole time, and returns that time. Call this several times before the
    /// lease ends.
    ///
    /// # Errors
    /// See [the module](super#errors). [`ErrorKind::Store`] if the lease has ended. Its keys are
    /// deleted then: grant a new one.
    pub fn lease_keep_alive(&self, id: i64) -> Result<Duration> {
        let request = Request { id, ttl: 0 };
        let answer = self.ask::<Streamed>("/v3/lease/keepalive", &request, Repeat::Read)?;
        match answer.value.result.ttl {
            ttl @ 1.. => Ok(seconds(ttl)),
            _ => {
                let message = format!("etcd lease {id} has ended: grant a new one");
                Err(Error::new(ErrorKind::Store, message))
            }
        }
    }

    /// Ends the lease, and deletes its keys.
    ///
    /// # Errors
    /// See [the module](super#errors). [`ErrorKind::Store`] if there is no such lease.
    pub fn lease_revoke(&self, id: i64) -> Result<()> {
        let request = Request { id, ttl: 0 };
        self.ask::<Headed>("/v3/lease/revoke", &request, Repeat::Harmful)?;
        Ok(())
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}
