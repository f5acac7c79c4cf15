//! The lock on a file that stands beside the one it protects. The only module that names fs2.
//!
//! The protected file itself can't carry the lock: it is replaced by each write, and a lock on
//! what it was says nothing about what it is.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::atomic::{self, FileId};
use crate::error::{Error, ErrorKind, Result};
use crate::fault::Step;

/// Holds the lock until it is dropped.
#[must_use = "the lock is let go when this is dropped"]
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits for the lock of the file at `protected`, at most this long.
    pub(super) fn acquire(protected: &Path, patience: Duration) -> Result<Self> {
        let path = &path_of(protected);
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_micros(200);
        let fail = |error: io::Error| {
            Error::new(ErrorKind::Store, format!("can't lock {}", path.display()))
                .with_source(error)
        };
        loop {
            let file = open(path, protected).map_err(fail)?;
            match Step::Lock.run(|| fs2::FileExt::try_lock_exclusive(&file)) {
                // Whoever held the lock before us may have removed the file that we opened.
                Ok(()) if is_at(&file, path) => {
                    return Ok(Self {
                        file,
                        path: path.into(),
                    });
                }
                Ok(()) => {}
                Err(error) if error.kind() == fs2::lock_contended_error().kind() => {
                    let now = Instant::now();
                    if now >= deadline {
                        return Err(Error::new(
                            ErrorKind::Locked,
                            format!(
                                "another program has held the lock {} for more than {patience:?}; \
                                 `fuser {}` names it",
                                path.display(),
                                path.display(),
                            ),
                        ));
                    }
                    std::thread::sleep(pause.min(deadline - now));
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                Err(error) => return Err(fail(error)),
            }
        }
    }

    /// Lets go of the lock and removes its file.
    pub(super) fn remove(self) -> io::Result<()> {
        atomic::remove(&self.path)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would let go as well, but not before a copy of it that a child process
        // has inherited is closed too.
        if let Err(error) = Step::Unlock.run(|| fs2::FileExt::unlock(&self.file)) {
            log::warn!("can't unlock {}: {error}", self.path.display());
        }
    }
}

/// A program that may not write the file can still lock it, if it may read it.
fn open(path: &Path, protected: &Path) -> io::Result<File> {
    loop {
        let opened = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                atomic::create_beside(protected, path)
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                File::open(path).map_err(|_| error)
            }
            other => other,
        };
        match opened {
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => FileId::new(&ours).is_same_file(&FileId::new(&theirs)),
        _ => false,
    }
}

/// The file that is locked in place of the `protected` one.
pub(super) fn path_of(protected: &Path) -> PathBuf {
    let mut name = protected.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}
