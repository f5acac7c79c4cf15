//! What opening a file has changed.

use std::path::{Path, PathBuf};

use crate::atomic::{self, FileId};
use crate::backend::record::{Explicit, Header};
use crate::config::dynamic::Certificate;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{Lock, Share};

/// What `open` has changed. `revert` and `close` undo it, except for what other Routers need.
#[derive(Default)]
pub(super) struct Opened {
    pub(super) explicit: Explicit,
    /// Held while this Router serves from the file.
    pub(super) share: Option<Share>,
    /// Held while it does so with a Traefik that it has started.
    pub(super) started: Option<Share>,
    /// The certificate that was last found or written for that Traefik.
    pub(super) pem: Option<String>,
    pub(super) before: Option<Before>,
}

impl Opened {
    /// Keeps what was there before a call of `open`. If the file that this call has `read` is what an earlier call has
    /// written, what was there before the earlier call stays.
    pub(super) fn keep(&mut self, before: Before, read: Option<FileId>) {
        self.before = Some(match self.before.take() {
            Some(first) if read == Some(first.written) => Before {
                routes: first.routes || before.routes,
                written: before.written,
                made: before.made,
                ..first
            },
            first => Before {
                incomplete: first.is_some(),
                ..before
            },
        });
    }

    /// Writes the certificate of a Traefik that we have started again, if others have removed it. Returns
    /// whether it has: Traefik reads it only when it loads the file at `path`.
    pub(super) fn restore_certificate(&self, path: &Path) -> Result<bool> {
        let Some(pem) = self.pem.as_ref().filter(|_| self.started.is_some()) else {
            return Ok(false);
        };
        let file = pem_of(path);
        let is_gone = FileId::of(&file)?.is_none();
        if is_gone {
            log::warn!("{} is gone; it is written again", file.display());
            put_back(&file, Some(pem.clone()))?;
        }
        Ok(is_gone)
    }
}

/// What was there before `open`, to be put back by `revert`.
pub(super) struct Before {
    pub(super) text: Option<String>,
    pub(super) pem: Option<String>,
    pub(super) header: Header,
    /// Whether other Routers served from the file then, and whether some had started a Traefik.
    pub(super) others: bool,
    pub(super) shared: bool,
    /// Whether others have written between two calls of `open`: then only the last one is undone.
    pub(super) incomplete: bool,
    /// Whether `open` has changed routes.
    pub(super) routes: bool,
    /// The file and the header that `open` has written.
    pub(super) written: FileId,
    pub(super) made: Header,
}

/// The endings of the files by which Routers know of each other: one for Routers that serve from a file, and one
/// for those of them that have started a Traefik.
pub(super) const SERVING: &str = ".serving";
pub(super) const STARTED: &str = ".started";

/// Gives up a share. The last one removes its file, and that of the lock.
pub(super) fn leave(share: Option<Share>, lock: Option<&Lock>) -> Result<()> {
    let failed = |error| Error::new(ErrorKind::Store, "can't remove a lock").with_source(error);
    if let Some(share) = share {
        if share.is_alone()? {
            share.remove().map_err(failed)?;
            return lock.map_or(Ok(()), |lock| lock.remove().map_err(failed));
        }
    }
    Ok(())
}

/// Restores a file; without a text it is removed.
pub(super) fn put_back(path: &Path, text: Option<String>) -> Result<()> {
    match text {
        Some(text) => atomic::replace(path, &text, true).map(drop),
        None => match atomic::remove(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(atomic::failed("remove", path, error))
            }
            _ => Ok(()),
        },
    }
}

/// Removes the certificate that we have written, if it is there.
pub(super) fn remove_certificate(file: &Path) -> Result<()> {
    match atomic::read(file)? {
        Some((text, _)) if Certificate::is_ours(&text) => put_back(file, None),
        _ => Ok(()),
    }
}

/// The file of the certificate that belongs to the file at `path`.
pub(super) fn pem_of(path: &Path) -> PathBuf {
    atomic::beside(path, ".pem")
}
