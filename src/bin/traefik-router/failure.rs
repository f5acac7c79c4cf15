//! Why the program has failed, and with which exit code.

use std::io;

use traefik_router::{Error, Stored};

/// Something went wrong, or is not as it should be.
pub(crate) const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NO_ROUTE: u8 = 3;
const NOT_SERVED: u8 = 4;

/// An option that is wrong, by itself or with others, or a file that one names, is bad usage: nothing was begun, and
/// trying again is useless. All else has failed: a port, the store, a Traefik.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// `None` if nobody is there to read it.
    pub(crate) message: Option<String>,
}

impl Failure {
    fn new(code: u8, message: String) -> Self {
        Self {
            code,
            message: Some(message),
        }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, message.into())
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message.into())
    }

    pub(crate) fn no_route(message: impl Into<String>) -> Self {
        Self::new(NO_ROUTE, message.into())
    }

    /// A change that has failed, perhaps after it was stored.
    pub(crate) fn of_change(error: &Error) -> Self {
        match error.stored() {
            Stored::Nothing => Self::before_change(error),
            _ => Self::new(NOT_SERVED, error.to_string()),
        }
    }

    /// What has failed before a change was made.
    pub(crate) fn before_change(error: &Error) -> Self {
        if error.is_invalid_input() {
            return Self::usage(error.to_string());
        }
        let what = match error.stored() {
            Stored::Nothing => "nothing was changed",
            _ => "no route was changed, since the stored routes are not served",
        };
        Self::failed(format!("{what}: {error}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.is_invalid_input() {
            Self::usage(error.to_string())
        } else {
            Self::failed(error.to_string())
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // `| head` has read enough.
        let gone = error.kind() == io::ErrorKind::BrokenPipe;
        Self {
            code: if gone { 0 } else { FAILED },
            message: (!gone).then(|| format!("can't write the output: {error}")),
        }
    }
}
