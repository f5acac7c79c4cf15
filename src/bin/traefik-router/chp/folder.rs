//! A private temporary folder; what killed programs left of theirs is removed.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::sync::unpoisoned;

const PREFIX: &str = "traefik-router-chp-";
/// The file in it that is locked for as long as its program lives.
const LOCK: &str = "lock";
/// A younger folder may not have its lock yet.
const MIN_AGE: Duration = Duration::from_secs(60);

pub(super) struct Folder {
    path: PathBuf,
    /// `None` once it is removed.
    made: Mutex<Option<Made>>,
}

/// The folder and its lock. As long as they are open, no others get their numbers.
struct Made {
    folder: File,
    lock: File,
}

impl Folder {
    pub(super) fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()?;
        let made = Made {
            folder: File::open(folder.path())?,
            lock: lock_in(folder.path())?,
        };
        if let Err(error) = remove_stale(folder.path()) {
            log::debug!("old temporary folders stay: {error}");
        }
        Ok(Self {
            path: folder.keep(),
            made: Mutex::new(Some(made)),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder anew if others have removed it, such as programs that clean up old files.
    ///
    /// # Errors
    /// If it can't be made, or something else has its path: that may be another user's.
    pub(super) fn restore(&self) -> Result<(), String> {
        let mut made = unpoisoned(self.made.lock());
        let restored = made.as_mut().map_or(Ok(()), |made| self.restore_as(made));
        restored.map_err(|error| {
            format!(
                "the private folder {} was removed, and can't be made anew: {error}",
                self.path.display()
            )
        })
    }

    fn restore_as(&self, made: &mut Made) -> io::Result<()> {
        match fs::symlink_metadata(&self.path) {
            Ok(now) if is_same(&now, &made.folder)? => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                log::warn!("{} is gone; it is made anew", self.path.display());
                self.path.parent().map_or(Ok(()), fs::create_dir_all)?;
                DirBuilder::new().mode(0o700).create(&self.path)?;
                made.folder = File::open(&self.path)?;
            }
            Ok(_) => return Err(io::Error::other("something else has its path")),
            Err(error) => return Err(error),
        }
        let lock = fs::symlink_metadata(self.path.join(LOCK));
        if !matches!(&lock, Ok(lock) if is_same(lock, &made.lock)?) {
            made.lock = lock_in(&self.path)?;
        }
        Ok(())
    }

    /// Removes it, unless others have put something else in its place.
    fn remove(&self) {
        let made = unpoisoned(self.made.lock()).take();
        let Some(made) = made else {
            return;
        };
        let removed = fs::symlink_metadata(&self.path).and_then(|now| {
            if is_same(&now, &made.folder)? {
                fs::remove_dir_all(&self.path)?;
            }
            Ok(())
        });
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("{}: {error}", self.path.display());
            }
            _ => {}
        }
    }
}

/// Removes the folder when it is dropped. Threads that use the folder live as long as the program.
pub(super) struct RemovedAtEnd(pub(super) Arc<Folder>);

impl Drop for RemovedAtEnd {
    fn drop(&mut self) {
        self.0.remove();
    }
}

fn is_same(now: &fs::Metadata, file: &File) -> io::Result<bool> {
    let then = file.metadata()?;
    Ok((now.dev(), now.ino()) == (then.dev(), then.ino()))
}

fn lock_in(folder: &Path) -> io::Result<File> {
    let lock = File::create(folder.join(LOCK))?;
    fs2::FileExt::try_lock_exclusive(&lock)?;
    Ok(lock)
}

/// Removes the folders of our user beside this one whose programs are gone.
fn remove_stale(own: &Path) -> io::Result<()> {
    let Some(parent) = own.parent() else {
        return Ok(());
    };
    let user = fs::metadata(own)?.uid();
    for entry in fs::read_dir(parent)?.flatten() {
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            continue;
        }
        // Does not follow symbolic links, as `remove_dir_all` doesn't.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let age = metadata
            .modified()
            .ok()
            .and_then(|then| then.elapsed().ok());
        let is_old = age.is_some_and(|age| age >= MIN_AGE);
        if !metadata.is_dir() || metadata.uid() != user || !is_old {
            continue;
        }
        let path = entry.path();
        let Ok(lock) = File::open(path.join(LOCK)) else {
            continue;
        };
        if fs2::FileExt::try_lock_exclusive(&lock).is_ok() {
            match fs::remove_dir_all(&path) {
                Ok(()) => log::info!(
                    "removed {}, which a killed program had left",
                    path.display()
                ),
                Err(error) => log::warn!("{}: {error}", path.display()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owner_has_access() {
        let folder = Folder::new().unwrap();
        let mode = folder.path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        folder.remove();
    }
    #[test]
    fn removed_folder_is_made_anew() {
        let folder = Folder::new().unwrap();
        let path = folder.path().to_path_buf();
        for remove in [
            |path: &Path| fs::remove_dir_all(path),
            |path: &Path| fs::remove_file(path.join(LOCK)),
            |_: &Path| Ok(()),
        ] {
            remove(&path).unwrap();
            folder.restore().unwrap();
            let mode = path.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
            let lock = File::open(path.join(LOCK)).unwrap();
            assert!(fs2::FileExt::try_lock_exclusive(&lock).is_err());
        }
        folder.remove();
        assert!(!path.exists());
    }

    #[test]
    fn foreign_replacement_stays() {
        let folder = Folder::new().unwrap();
        let path = folder.path().to_path_buf();
        fs::remove_dir_all(&path).unwrap();
        let others = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(others.path(), &path).unwrap();
        let error = folder.restore().unwrap_err();
        assert!(error.contains("something else has its path"), "{error}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        folder.restore().unwrap_err();
        folder.remove();
        assert!(path.exists());
        fs::remove_dir(&path).unwrap();
    }
}
