//! The one error type of this crate.

use std::fmt;
use std::sync::Arc;

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what is stored now.
///
/// The message reads from the outside in, `while doing a: b: c`. It names the file, key or URL
/// and, where that is known, what to do next. It never holds a password or a token.
///
/// `Display` prints the whole chain of causes, so [`source`](std::error::Error::source) is always
/// `None`: a program that prints sources too prints no cause twice. `Debug`, which `fn main()` prints,
/// is the same text, followed by what is stored if that is not [`Stored::Nothing`].
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    stored: Stored,
    message: String,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A routespec, target or request path is not acceptable. Nothing was written.
    InvalidRoute,
    /// An option or a combination of options is not acceptable. The store is as it was.
    InvalidConfig,
    /// Another program uses the store, or a file, in a way that conflicts with the call. The store is as it was.
    InUse,
    /// Another program held the store's lock beyond `lock_timeout`.
    Locked,
    /// The store could not be read or written.
    Store,
    /// What is in the store can't be understood: a file that does not parse, a damaged value.
    Corrupt,
    /// A change is larger than the store takes in one transaction. Nothing was written.
    TooLarge,
    /// etcd no longer keeps the requested revision. Only the module [`etcd`](crate::etcd) returns this.
    Compacted,
    /// Other writers kept changing the store before this change could be stored; or the store was restored to an
    /// earlier state than this program has seen, as from a backup; or another program has pushed a table in place of
    /// this one.
    Conflict,
    /// User name, password or certificate was refused.
    Unauthorized,
    /// No answer came, or not in time.
    Unavailable,
    /// Traefik, etcd or Redis gave an answer that this crate can't read, such as if something else listens at the
    /// URL.
    Protocol,
    /// Traefik did not load in time what was stored, or does not serve it at `public_url`. A change stays stored. A
    /// `start` or `attach` restores the store, unless another program has written to it meanwhile;
    /// [`Error::stored`] says so.
    NotLoaded,
    /// Stored and loaded, but Traefik refuses the router. The message has Traefik's reason.
    Refused,
    /// Traefik's process could not be started, or has ended.
    Process,
    /// This program or the operating system failed in a way that is no fault of the caller, the store
    /// or Traefik: another thread was committing this change, together with its own, and panicked; there are no
    /// random bytes; or no certificate can be made.
    Internal,
}

/// How much of a change is in the store after an error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// Nothing: the store is as it was.
    Nothing,
    /// All of it. Traefik may serve it at any moment, but this was not confirmed.
    All,
    /// A part: the change needed several transactions, and only the routes with these routespecs are stored.
    Some(Vec<String>),
    /// Not known: the connection broke after the request was sent and before the answer came.
    Unknown,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            stored: Stored::Nothing,
            message: message.into(),
            cause: None,
        }))
    }

    /// An option, or a combination of options, is not acceptable.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidConfig, message)
    }

    /// This program or the operating system failed.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Keeps the cause, whose text is appended to the message.
    pub(crate) fn with_source(
        mut self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        self.0.cause = Some(Arc::new(source));
        self
    }

    /// The cause, for this crate alone: its type is that of a dependency.
    pub(crate) fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let cause = self.0.cause.as_deref()?;
        Some(cause)
    }

    /// Puts what was being done in front of the message.
    pub(crate) fn context(mut self, doing: impl fmt::Display) -> Self {
        self.0.message = format!("{doing}: {}", self.0.message);
        self
    }

    /// Appends what else went wrong to the message.
    pub(crate) fn and(mut self, other: impl fmt::Display) -> Self {
        self.0.message = format!("{self}; {other}");
        self.0.cause = None;
        self
    }

    pub(crate) fn with_stored(mut self, stored: Stored) -> Self {
        self.0.stored = stored;
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What is in the store now.
    pub fn stored(&self) -> &Stored {
        &self.0.stored
    }

    /// Whether the caller's input was at fault; trying again without a change is useless.
    pub fn is_invalid_input(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::InvalidRoute | ErrorKind::InvalidConfig
        )
    }

    /// Whether the same call may succeed later: `true` for [`Unavailable`](ErrorKind::Unavailable),
    /// [`NotLoaded`](ErrorKind::NotLoaded), [`Locked`](ErrorKind::Locked) and [`Conflict`](ErrorKind::Conflict).
    ///
    /// It does not promise success. A redirect at `public_url` stays an error until you remove it. If the store was
    /// restored to an earlier state, or another program has pushed its table, calls fail with `Conflict` until you
    /// call [`Router::reconcile`](crate::Router::reconcile) or [`Router::repair`](crate::Router::repair).
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Locked | ErrorKind::Conflict | ErrorKind::Unavailable | ErrorKind::NotLoaded
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        match &self.0.stored {
            Stored::Nothing => Ok(()),
            Stored::All => f.write_str(" (the change is stored)"),
            Stored::Some(specs) => write!(f, " (stored: {})", specs.join(", ")),
            Stored::Unknown => f.write_str(" (whether the change is stored is not known)"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::io;

    use super::*;

    fn unreadable() -> Error {
        let cause = io::Error::other("no such disk");
        let error = Error::new(ErrorKind::Store, "can't read rules.toml").with_source(cause);
        error.context("add /a/")
    }

    #[test]
    fn cause_is_printed_once() {
        let error = unreadable();
        let text = "add /a/: can't read rules.toml: no such disk";
        assert_eq!(error.to_string(), text);
        assert!(error.source().is_none());
    }

    #[test]
    fn debug_shows_what_is_stored() {
        let some = vec!["/a/".into(), "/b/".into()];
        for (stored, suffix) in [
            (Stored::Nothing, ""),
            (Stored::All, " (the change is stored)"),
            (Stored::Some(some), " (stored: /a/, /b/)"),
            (
                Stored::Unknown,
                " (whether the change is stored is not known)",
            ),
        ] {
            let error = unreadable().with_stored(stored);
            assert_eq!(format!("{error:?}"), format!("{error}{suffix}"));
        }
    }

    #[test]
    fn passing_failures_are_transient() {
        for kind in [
            ErrorKind::Locked,
            ErrorKind::Conflict,
            ErrorKind::Unavailable,
            ErrorKind::NotLoaded,
        ] {
            assert!(Error::new(kind, "").is_transient(), "{kind:?}");
        }
        for kind in [
            ErrorKind::InvalidRoute,
            ErrorKind::InvalidConfig,
            ErrorKind::InUse,
            ErrorKind::Store,
            ErrorKind::Corrupt,
            ErrorKind::TooLarge,
            ErrorKind::Compacted,
            ErrorKind::Unauthorized,
            ErrorKind::Protocol,
            ErrorKind::Refused,
            ErrorKind::Process,
            ErrorKind::Internal,
        ] {
            assert!(!Error::new(kind, "").is_transient(), "{kind:?}");
        }
    }
}
