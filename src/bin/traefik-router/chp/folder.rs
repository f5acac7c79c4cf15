//! A private temporary folder; what killed programs left of theirs is removed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

const PREFIX: &str = "traefik-router-chp-";
/// The file in it that is locked for as long as its program lives.
const LOCK: &str = "lock";
/// A younger folder may not have its lock yet.
const MIN_AGE: Duration = Duration::from_secs(60);

/// Removed when it is dropped.
pub(super) struct Folder {
    folder: TempDir,
    _lock: File,
}

impl Folder {
    pub(super) fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()?;
        let lock = File::create(folder.path().join(LOCK))?;
        fs2::FileExt::try_lock_exclusive(&lock)?;
        if let Err(error) = remove_stale(folder.path()) {
            log::debug!("old temporary folders stay: {error}");
        }
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
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
    fn it_is_for_its_owner_alone() {
        let folder = Folder::new().unwrap();
        let mode = folder.path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
