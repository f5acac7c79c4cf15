//! One request to one endpoint, and its answer.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fault::{Failure, Remedy};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::http::{Bounds, Http};

pub(super) fn to_json(path: &str, request: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(request).map_err(|error| {
        let message = format!("{path}: the request can't be written as JSON");
        Error::internal(message).with_source(error)
    })
}

/// Posts `body` and reads the JSON of the answer. `reads` says that the request changes nothing.
pub(super) fn post<T: DeserializeOwned>(
    http: &Http,
    path: &str,
    body: &[u8],
    token: Option<&str>,
    bounds: Bounds,
    reads: bool,
) -> Result<T, Failure> {
    let answer = http.post(path, body, token, bounds, reads)?;
    let url = || format!("{}{path}", http.base());
    if answer.status != 200 {
        return Err(Failure::read(&url(), answer.status, &answer.body));
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        let message = format!("{}: the answer is not JSON of etcd's gateway", url());
        let error = Error::new(ErrorKind::Protocol, message).with_source(error);
        let stored = if reads {
            Stored::Nothing
        } else {
            Stored::Unknown
        };
        Failure {
            error: error.with_stored(stored),
            remedy: Remedy::GiveUp,
        }
    })
}
