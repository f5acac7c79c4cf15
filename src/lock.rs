//! Locks on files that stand beside the one they are for. The only module that names fs2.
//!
//! That file itself can't carry a lock: it is replaced by each write, and a lock on what it was
//! says nothing about what it is.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::atomic::{self, FileId};
use crate::error::{Error, ErrorKind, Result};
use crate::fault::Step;

/// Holds the lock until it is dropped.
#[must_use = "the lock is let go when this is dropped"]
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits for the lock of the file at `protected`, at most this long.
    pub(crate) fn acquire(protected: &Path, patience: Duration) -> Result<Self> {
        let path = path_of(protected);
        let lock = |file: &File| Step::Lock.run(|| fs2::FileExt::try_lock_exclusive(file));
        match locked(&path, protected, Access::Write, patience, lock)? {
            Some(file) => Ok(Self { file, path }),
            None => Err(Error::new(
                ErrorKind::Locked,
                format!(
                    "another program has held the lock {0} for more than {patience:?}; \
                     `fuser {0}` names it",
                    path.display(),
                ),
            )),
        }
    }

    /// Takes the lock for as long as this program uses the file at `protected`, and writes down
    /// whose it is. `Err` has the process that uses it already, where that is known.
    pub(crate) fn claim(protected: &Path) -> Result<Result<Self, Option<u32>>> {
        let path = path_of(protected);
        let lock = |file: &File| fs2::FileExt::try_lock_exclusive(file);
        let locked = |access| locked(&path, protected, access, Duration::ZERO, lock);
        // On network file systems only who may write can lock for himself alone.
        let Some(file) = locked(Access::Read).or_else(|_| locked(Access::Write))? else {
            let holder = std::fs::read_to_string(&path).ok();
            return Ok(Err(holder.and_then(|pid| pid.trim().parse().ok())));
        };
        write_pid(&file, &path).map_err(|error| cannot_lock(&path, error))?;
        Ok(Ok(Self { file, path }))
    }

    /// Whether other programs still contend for this lock. Not if its file was removed.
    pub(crate) fn is_met(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    /// Removes the lock's file. Later callers create a new file and lock that.
    pub(crate) fn remove(&self) -> io::Result<()> {
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

/// Held by each of those who use a file together, until it is dropped.
///
/// All that is done with it is to be done by one at a time.
#[must_use = "the share is given up when this is dropped"]
#[derive(Debug)]
pub(crate) struct Share {
    file: File,
    path: PathBuf,
}

impl Share {
    /// Joins those who use the file at `protected` in the way that `ending` stands for.
    pub(crate) fn join(protected: &Path, ending: &str) -> Result<Self> {
        let path = atomic::beside(protected, ending);
        let lock = |file: &File| fs2::FileExt::try_lock_shared(file);
        match locked(&path, protected, Access::Read, SHARE_PATIENCE, lock)? {
            Some(file) => Ok(Self { file, path }),
            None => Err(Error::new(
                ErrorKind::Locked,
                format!("another program keeps {} to itself", path.display()),
            )),
        }
    }

    /// Whether any program uses the file at `protected` in this way. Creates nothing.
    pub(crate) fn is_held(protected: &Path, ending: &str) -> Result<bool> {
        let path = atomic::beside(protected, ending);
        let tried = (OpenOptions::new().read(true).write(true).open(&path))
            .and_then(|file| fs2::FileExt::try_lock_exclusive(&file));
        match tried {
            Ok(()) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) if is_contended(&error) => Ok(true),
            Err(error) => Err(cannot_lock(&path, error)),
        }
    }

    /// Whether nobody else uses the file.
    pub(crate) fn is_alone(&self) -> Result<bool> {
        let fail = |error| cannot_lock(&self.path, error);
        // Our own share would be in the way.
        fs2::FileExt::unlock(&self.file).map_err(fail)?;
        let alone = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .and_then(|file| fs2::FileExt::try_lock_exclusive(&file));
        fs2::FileExt::lock_shared(&self.file).map_err(fail)?;
        match alone {
            Ok(()) => Ok(true),
            // Where the file was removed, others may hold what it was.
            Err(error) if is_contended(&error) || error.kind() == io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(error) => Err(fail(error)),
        }
    }

    /// Removes the file that is locked. For the last one who uses it.
    pub(crate) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Err(error) = fs2::FileExt::unlock(&self.file) {
            log::warn!("can't unlock {}: {error}", self.path.display());
        }
    }
}

/// How a lock's file is opened. As long as one is open for writing, its disk can't be made read-only.
#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

/// An exclusive lock on it is held only while [`Share::is_alone`] looks.
const SHARE_PATIENCE: Duration = Duration::from_secs(1);

/// Opens the file at `path` and locks it, for at most so long; `None` if others have locked it.
fn locked(
    path: &Path,
    protected: &Path,
    access: Access,
    patience: Duration,
    lock: impl Fn(&File) -> io::Result<()>,
) -> Result<Option<File>> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_micros(200);
    loop {
        let file = open(path, protected, access).map_err(|error| cannot_lock(path, error))?;
        match lock(&file) {
            // The holder before us may have removed the file that we opened.
            Ok(()) if is_at(&file, path) => return Ok(Some(file)),
            Ok(()) => {}
            Err(error) if is_contended(&error) => {
                let now = Instant::now();
                if now >= deadline {
                    return Ok(None);
                }
                std::thread::sleep(pause.min(deadline - now));
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(error) => return Err(cannot_lock(path, error)),
        }
    }
}

fn is_contended(error: &io::Error) -> bool {
    error.kind() == fs2::lock_contended_error().kind()
}

fn cannot_lock(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Store, format!("can't lock {}", path.display())).with_source(error)
}

/// A program that may not write the file can still lock it, if it may read it.
fn open(path: &Path, protected: &Path, access: Access) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(matches!(access, Access::Write));
    loop {
        match atomic::open_itself(&mut options, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match atomic::create_beside(protected, path) {
                    // Another program was faster.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    created => drop(created?),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return atomic::open_itself(OpenOptions::new().read(true), path).map_err(|_| {
                    atomic::denied(error, || {
                        "run this program as the owner of this lock file, or give the lock file to the user of this \
                         program with chown"
                            .into()
                    })
                });
            }
            opened => return opened,
        }
    }
}

/// Writes our process into a lock that we hold.
fn write_pid(mut lock: &File, path: &Path) -> io::Result<()> {
    let mut text = String::new();
    lock.read_to_string(&mut text)?;
    if !text.trim().bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(io::Error::other(
            "this program did not write it; move it away",
        ));
    }
    let mut file = atomic::open_itself(OpenOptions::new().write(true).truncate(true), path)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => FileId::new(&ours).is_same_file(&FileId::new(&theirs)),
        _ => false,
    }
}

/// The file that is locked in place of the `protected` one.
pub(crate) fn path_of(protected: &Path) -> PathBuf {
    atomic::beside(protected, ".lock")
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let [protected, mine] = ["file", "mine"].map(|name| folder.path().join(name));
        symlink(&mine, path_of(&protected)).unwrap();
        for text in [None, Some("a user's"), Some("")] {
            if let Some(text) = text {
                fs::write(&mine, text).unwrap();
            }
            let claimed = Lock::claim(&protected).map(drop).unwrap_err();
            let acquired = Lock::acquire(&protected, Duration::ZERO)
                .map(drop)
                .unwrap_err();
            for error in [claimed, acquired] {
                assert!(error.to_string().contains("symbolic link"), "{error}");
            }
            assert_eq!(fs::read_to_string(&mine).ok().as_deref(), text);
        }
    }

    #[test]
    fn foreign_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let protected = folder.path().join("file");
        let lock = path_of(&protected);
        fs::write(&lock, "a user's").unwrap();
        let error = Lock::claim(&protected).map(drop).unwrap_err();
        assert!(error.to_string().contains("move it away"), "{error}");
        assert_eq!(fs::read_to_string(&lock).unwrap(), "a user's");
        for left in ["", "1234567\n"] {
            fs::write(&lock, left).unwrap();
            drop(Lock::claim(&protected).unwrap().unwrap());
        }
    }
}
