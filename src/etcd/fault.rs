//! The kinds of error that etcd answers with, and what helps against each.

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Stored};

/// A failed attempt: the error, and what may help. The error's [`Stored`] says whether the change
/// may have been applied.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) remedy: Remedy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing helps: etcd understood and refused.
    GiveUp,
    /// A new token.
    Login,
    /// Another endpoint: this one does not answer.
    NextEndpoint,
    /// Another endpoint, or the same one later: the member answered that it can't serve now.
    RetryLater,
}

/// A part of etcd's message, the kind of failure, what helps, and advice for the user. The first
/// entry that fits counts. In all of these cases etcd has applied nothing.
///
/// The message decides because one gRPC code stands for many failures: 3 is a wrong password, an old
/// token and a transaction that is too large.
const KNOWN: &[(&str, ErrorKind, Remedy, &str)] = &[
    (
        "invalid auth token",
        ErrorKind::Unauthorized,
        Remedy::Login,
        "a new token was refused too",
    ),
    (
        "auth store is old",
        ErrorKind::Unauthorized,
        Remedy::Login,
        "users or roles keep changing",
    ),
    (
        "raft proposal dropped",
        ErrorKind::Unavailable,
        Remedy::RetryLater,
        "nothing was changed",
    ),
    (
        "too many requests",
        ErrorKind::Unavailable,
        Remedy::RetryLater,
        "nothing was changed",
    ),
    (
        "no leader",
        ErrorKind::Unavailable,
        Remedy::RetryLater,
        "nothing was changed",
    ),
    (
        "not supported for learner",
        ErrorKind::Unavailable,
        Remedy::RetryLater,
        "ask another member",
    ),
    (
        "larger than max",
        ErrorKind::TooLarge,
        Remedy::GiveUp,
        TOO_LARGE,
    ),
    (
        "request is too large",
        ErrorKind::TooLarge,
        Remedy::GiveUp,
        TOO_LARGE,
    ),
    (
        "too many operations",
        ErrorKind::TooLarge,
        Remedy::GiveUp,
        "send fewer at once, or raise etcd's --max-txn-ops",
    ),
    (
        "space exceeded",
        ErrorKind::Store,
        Remedy::GiveUp,
        "etcd is full and refuses writes: compact it, defragment it and run 'etcdctl alarm disarm', \
         or raise etcd's --quota-backend-bytes",
    ),
    (
        "has been compacted",
        ErrorKind::Compacted,
        Remedy::GiveUp,
        "read the current revision and continue from there",
    ),
    (
        "permission denied",
        ErrorKind::Unauthorized,
        Remedy::GiveUp,
        "the user's roles don't grant this: use 'etcdctl role grant-permission'",
    ),
    (
        "authentication failed",
        ErrorKind::Unauthorized,
        Remedy::GiveUp,
        "check the user name and the password",
    ),
    (
        "user name is empty",
        ErrorKind::Unauthorized,
        Remedy::GiveUp,
        "etcd's authentication is on: give both a user name and a password",
    ),
    (
        "authentication is not enabled",
        ErrorKind::Unauthorized,
        Remedy::GiveUp,
        "a user name was given, but etcd's authentication is off: turn it on with 'etcdctl auth \
         enable', or give no user name",
    ),
    (
        "CommonName of client sending",
        ErrorKind::Unauthorized,
        Remedy::GiveUp,
        "the gateway accepts only client certificates without a Common Name",
    ),
];

const TOO_LARGE: &str = "send less at once, or raise etcd's --max-request-bytes";

impl Failure {
    /// The same failure, of a request that came before the caller's own: that one was not sent.
    pub(super) fn before_request(self) -> Self {
        Self {
            error: self.error.with_stored(Stored::Nothing),
            ..self
        }
    }

    /// The error, whose message begins with what happened; then come the URL and the details.
    pub(super) fn described(self) -> Error {
        let happened = match (self.error.kind(), self.remedy) {
            (ErrorKind::Unavailable, Remedy::NextEndpoint) => {
                "etcd does not answer (check its URLs, and whether it runs)"
            }
            (ErrorKind::Unavailable, _) => "etcd can't serve now",
            (ErrorKind::Protocol, _) | (_, Remedy::NextEndpoint) => "etcd can't be asked",
            _ => "etcd refuses",
        };
        self.error.context(happened)
    }

    /// Reads an answer whose status is not 200.
    pub(super) fn read(url: &str, status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<Wire>(body) {
            Ok(Wire {
                code,
                error,
                message,
            }) => {
                let text = message.or(error).unwrap_or_default();
                Self::of(url, code, &text)
            }
            Err(_) => Self::no_gateway(url, status),
        }
    }

    /// A failure by its gRPC code and message.
    pub(super) fn of(url: &str, code: i32, message: &str) -> Self {
        let known = KNOWN.iter().find(|known| message.contains(known.0));
        if let Some((_, kind, remedy, advice)) = known {
            let error = Error::new(*kind, format!("{url}: {message} ({advice})"));
            return Self {
                error,
                remedy: *remedy,
            };
        }
        // The gRPC codes that mean that the request itself is at fault.
        let refused = [3, 5, 6, 7, 8, 9, 11, 12].contains(&code);
        if refused || code == UNAUTHENTICATED {
            let kind = match code {
                7 | UNAUTHENTICATED => ErrorKind::Unauthorized,
                _ => ErrorKind::Store,
            };
            let remedy = if refused {
                Remedy::GiveUp
            } else {
                Remedy::Login
            };
            return Self {
                error: Error::new(kind, format!("{url}: {message}")),
                remedy,
            };
        }
        // Unavailable, timed out, stopped or unknown to this client: it may have been applied.
        let error = Error::new(ErrorKind::Unavailable, format!("{url}: {message}"));
        Self {
            error: error.with_stored(Stored::Unknown),
            remedy: Remedy::RetryLater,
        }
    }

    /// Leaves out the answer's text: it comes from an unknown server and could repeat a secret.
    fn no_gateway(url: &str, status: u16) -> Self {
        let hint = match status {
            400 => ": if the server speaks TLS, the URL must begin with https://",
            404 => {
                ": etcd must be 3.4 or later, and its gateway must be on \
                 (--enable-grpc-gateway=true, or enable-grpc-gateway: true in its configuration file)"
            }
            _ => "",
        };
        let message = format!("{url}: status {status}, not an answer of etcd's gateway{hint}");
        if status < 500 {
            Self {
                error: Error::new(ErrorKind::Protocol, message),
                remedy: Remedy::GiveUp,
            }
        } else {
            let error = Error::new(ErrorKind::Unavailable, message);
            Self {
                error: error.with_stored(Stored::Unknown),
                remedy: Remedy::RetryLater,
            }
        }
    }
}

impl From<Error> for Failure {
    /// For an exchange that ended without an answer.
    fn from(error: Error) -> Self {
        Self {
            error,
            remedy: Remedy::NextEndpoint,
        }
    }
}

/// gRPC's code for a missing or a bad token.
const UNAUTHENTICATED: i32 = 16;

/// `{"error","message","code"}` or `{"code","message"}`.
#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    code: i32,
    error: Option<String>,
    message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_answers_are_classified() {
        let url = "http://a:1/v3/kv/txn";
        for (status, body, kind, remedy, stored) in [
            // The HTTP status differs between 3.4 and 3.5, so it is ignored.
            (
                401,
                r#"{"error":"x","code":16,"message":"etcdserver: invalid auth token"}"#,
                ErrorKind::Unauthorized,
                Remedy::Login,
                Stored::Nothing,
            ),
            (
                400,
                r#"{"code":3,"message":"etcdserver: revision of auth store is old"}"#,
                ErrorKind::Unauthorized,
                Remedy::Login,
                Stored::Nothing,
            ),
            (
                400,
                r#"{"error":"etcdserver: user name is empty","code":3}"#,
                ErrorKind::Unauthorized,
                Remedy::GiveUp,
                Stored::Nothing,
            ),
            (
                403,
                r#"{"code":7,"message":"etcdserver: permission denied"}"#,
                ErrorKind::Unauthorized,
                Remedy::GiveUp,
                Stored::Nothing,
            ),
            (
                412,
                r#"{"code":9,"message":"etcdserver: authentication is not enabled"}"#,
                ErrorKind::Unauthorized,
                Remedy::GiveUp,
                Stored::Nothing,
            ),
            (
                429,
                r#"{"code":8,"message":"etcdserver: mvcc: database space exceeded"}"#,
                ErrorKind::Store,
                Remedy::GiveUp,
                Stored::Nothing,
            ),
            (
                429,
                r#"{"code":8,"message":"etcdserver: too many requests"}"#,
                ErrorKind::Unavailable,
                Remedy::RetryLater,
                Stored::Nothing,
            ),
            (
                400,
                r#"{"code":11,"message":"etcdserver: mvcc: required revision has been compacted"}"#,
                ErrorKind::Compacted,
                Remedy::GiveUp,
                Stored::Nothing,
            ),
            (
                503,
                r#"{"code":14,"message":"etcdserver: no leader"}"#,
                ErrorKind::Unavailable,
                Remedy::RetryLater,
                Stored::Nothing,
            ),
            (
                503,
                r#"{"code":14,"message":"etcdserver: request timed out"}"#,
                ErrorKind::Unavailable,
                Remedy::RetryLater,
                Stored::Unknown,
            ),
            (
                503,
                r#"{"code":14,"message":"transport is closing"}"#,
                ErrorKind::Unavailable,
                Remedy::RetryLater,
                Stored::Unknown,
            ),
            (
                500,
                r#"{"code":2,"message":"raft proposal dropped"}"#,
                ErrorKind::Unavailable,
                Remedy::RetryLater,
                Stored::Nothing,
            ),
            (
                500,
                r#"{"code":2,"message":"something new"}"#,
                ErrorKind::Unavailable,
                Remedy::RetryLater,
                Stored::Unknown,
            ),
            (
                404,
                "Not Found\n",
                ErrorKind::Protocol,
                Remedy::GiveUp,
                Stored::Nothing,
            ),
            (
                502,
                "<html>",
                ErrorKind::Unavailable,
                Remedy::RetryLater,
                Stored::Unknown,
            ),
        ] {
            let failure = Failure::read(url, status, body.as_bytes());
            let found = (failure.error.kind(), failure.remedy, failure.error.stored());
            assert_eq!(found, (kind, remedy, &stored), "{body}");
            assert!(failure.error.to_string().starts_with(url), "{body}");
        }
    }
}
