//! What may be wrong with the file itself and with what stands beside it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::FileBackend;
use super::neighbours;
use crate::atomic;
use crate::error::ErrorKind;
use crate::finding::{Finding, Level};
use crate::lock::{self, Lock};

/// No commit of a healthy writer takes this long.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

impl FileBackend {
    pub(super) fn findings(&self) -> Vec<Finding> {
        // Other reasons why it can't be read are reported by the reader.
        let Ok(path) = atomic::resolve(&self.path) else {
            return Vec::new();
        };
        let mut findings: Vec<_> = (permissions(&path).into_iter())
            .chain(folder(&path))
            .chain(self.link(&path))
            .chain(self.copy(&path))
            .collect();
        let lock = lock(&path);
        // While the lock is held, temporary files are those of a writer at work.
        if lock.level == Level::Ok {
            findings.extend(left_behind(&path));
        }
        findings.push(lock);
        findings
    }

    /// Whether another file of the folder has the same table, with the same names for Traefik.
    fn copy(&self, path: &Path) -> Option<Finding> {
        let header = self.load(path.into()).ok()?.file.header;
        let copy = neighbours::copy(path, &header.marker, neighbours::MANY)?;
        let message = format!("{} has a copy of this table", copy.display());
        Some(Finding::warning("copies", message).advice(
            "a Traefik that watches the folder serves routes of the copy, also deleted ones: move it out of the folder, \
             or let its name end in .bak",
        ))
    }

    /// Whether the file is reached by a symbolic link, behind which Traefik sees no change.
    fn link(&self, file: &Path) -> Option<Finding> {
        let link = fs::symlink_metadata(&self.path).ok()?.is_symlink();
        let (link, file) = (link.then(|| self.path.display())?, file.display());
        let message = format!("{link} is a symbolic link to {file}");
        Some(Finding::new(Level::Note, "link", message).advice(format!(
            "have Traefik read {file}: it hears of no change behind a link"
        )))
    }
}

fn permissions(path: &Path) -> Option<Finding> {
    let metadata = fs::metadata(path).ok()?;
    let shown = path.display();
    let open = atomic::is_readable_by_all(&metadata);
    Some(if open {
        let message = format!(
            "{shown} can be read by everybody on this machine; it holds the hash of the API's \
             password, and may hold a private key"
        );
        Finding::warning("permissions", message).advice(format!(
            "chmod o-r {shown}; if Traefik runs as another user, give it the file by its group"
        ))
    } else {
        Finding::ok(
            "permissions",
            format!("{shown} is not readable by everybody"),
        )
    })
}

/// Whether files can't be created beside it, as each change does.
fn folder(path: &Path) -> Option<Finding> {
    let error = atomic::check_folder(path).err()?;
    Some(Finding::problem("folder", error.to_string()).advice(
        "run as the user that writes the routes, or make the folder writable; a read-only disk has to be mounted \
         for writing",
    ))
}

/// Whether another program keeps the lock. Without a lock file, none does.
fn lock(path: &Path) -> Finding {
    let acquired = match lock::path_of(path).exists() {
        true => Lock::acquire(path, LOCK_PATIENCE).map(drop),
        false => Ok(()),
    };
    match acquired {
        Ok(()) => Finding::ok("lock", "no writer holds the lock"),
        Err(error) => Finding::problem("lock", error.to_string()).advice(match error.kind() {
            ErrorKind::Locked => "if that program hangs, end it; its end releases the lock",
            _ => "run as the user that writes the routes, or make the file accessible",
        }),
    }
}

fn left_behind(path: &Path) -> Option<Finding> {
    let temps = atomic::temps(path);
    let first = temps.first()?;
    let message = format!(
        "{} temporary files of writers that were killed, such as {}",
        temps.len(),
        first.display()
    );
    Some(
        Finding::warning("leftovers", message)
            .advice("they do no harm; the next Router that opens the store removes them"),
    )
}
