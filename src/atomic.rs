//! Replacing a file so that whoever reads it sees the old text or the new one, whole, and where it
//! has to be durable even after the power went off. What differs between operating systems is in here and
//! in [`access`].

mod access;

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use self::access::Access;
pub(crate) use self::access::open_itself;
#[cfg(all(test, target_os = "linux"))]
pub(crate) use self::access::tests::{NOBODY, pass_as_nobody};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::fault::Step;

const TEMP_ENDING: &str = ".tmp";

/// Tells whether a file is another one, or has been written to. A new file may have the number of
/// one that is gone, and its times, if the clock was set back: who compares keeps the file open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    len: u64,
    file: (u64, u64),
    times: [i64; 4],
}

impl FileId {
    #[cfg(unix)]
    pub(crate) fn new(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self {
            len: metadata.len(),
            file: (metadata.dev(), metadata.ino()),
            times: [
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ],
        }
    }

    #[cfg(not(unix))]
    pub(crate) fn new(metadata: &Metadata) -> Self {
        let since_epoch = |time: io::Result<std::time::SystemTime>| {
            time.ok()
                .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
                .map_or((0, 0), |age| {
                    (age.as_secs() as i64, i64::from(age.subsec_nanos()))
                })
        };
        let (modified, created) = (
            since_epoch(metadata.modified()),
            since_epoch(metadata.created()),
        );
        Self {
            len: metadata.len(),
            file: (0, 0),
            times: [modified.0, modified.1, created.0, created.1],
        }
    }

    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        self.file == other.file
    }

    /// What the file at `path` is now; `None` if there is none.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::new(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable("read", path, error)),
        }
    }
}

/// The path with symbolic links followed, also where the file itself is not there yet.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Ok(link) = fs::read_link(path) {
                let target = folder_of(path).join(link);
                return Err(failed("follow the symbolic link to", &target, error));
            }
            let folder = folder_of(path);
            let folder =
                fs::canonicalize(&folder).map_err(|e| unreadable("use the folder", &folder, e))?;
            let name = path.file_name().ok_or_else(|| failed("use", path, error))?;
            Ok(folder.join(name))
        }
        Err(error) => Err(unreadable("use", path, error)),
    }
}

/// A file that is open, and what it was when it was read or written.
pub(crate) type Known = (FileId, File);

/// The text of a file and what it was when it was read; `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<(String, Known)>> {
    let opened = fs::metadata(path).and_then(|metadata| match metadata.is_file() {
        true => File::open(path),
        // Opening a pipe would wait for a writer.
        false => Err(io::Error::other("it is not a regular file")),
    });
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable("read", path, error)),
    };
    let id = file.metadata().map(|metadata| FileId::new(&metadata));
    let text = io::read_to_string(&file);
    match (text, id) {
        (Ok(text), Ok(id)) => Ok(Some((text, (id, file)))),
        (Err(error), _) if error.kind() == io::ErrorKind::InvalidData => Err(Error::new(
            ErrorKind::Corrupt,
            format!("{} is not UTF-8", path.display()),
        )),
        (Err(error), _) | (_, Err(error)) => Err(failed("read", path, error)),
    }
}

/// A folder that is open: as long as it is, no other one gets its number.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    id: FileId,
    _open: File,
}

impl Folder {
    /// The folder at `path`; `None` if there is none, or the system opens no folders.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        let open = File::open(path).ok()?;
        Some(Self {
            path: path.into(),
            id: FileId::new(&open.metadata().ok()?),
            _open: open,
        })
    }

    /// Whether another folder has its path now.
    pub(crate) fn is_replaced(&self) -> bool {
        let now = FileId::of(&self.path);
        matches!(now, Ok(Some(now)) if !now.is_same_file(&self.id))
    }
}

/// Replaces the file at `path`, which must have no symbolic link in it. If it has to be `durable`, this
/// waits for the disk. Returns also since when readers see it.
///
/// This holds for every file that is written here, with routes, configuration or a private key in it:
/// its owner, group, mode and access ACL stay. Where they can't be kept, nothing is written, and the
/// error says what to do. A new file has mode 0600 and no ACL, whatever its folder gives to new files.
pub(crate) fn replace(path: &Path, text: &str, durable: bool) -> Result<(Known, Instant)> {
    let replaced = replace_if(path, text, durable, &|| true)?;
    replaced.ok_or_else(|| failed("write", path, io::Error::other("it is not as it was")))
}

/// [`replace`], if that is still wanted once all is ready; or else `None`, with nothing changed.
pub(crate) fn replace_if(
    path: &Path,
    text: &str,
    durable: bool,
    is_wanted: &dyn Fn() -> bool,
) -> Result<Option<(Known, Instant)>> {
    let temp = temp_path(path);
    let replaced = open_folder(path, durable).and_then(|folder| {
        let created = Step::Create(&temp).run(|| create_private(&temp))?;
        let filled = fill(created, &temp, path, text, durable).and_then(|file| {
            if !is_wanted() {
                remove(&temp)?;
                return Ok(None);
            }
            Step::Rename(&temp, path).run(|| fs::rename(&temp, path))?;
            Ok(Some((folder, file, Instant::now())))
        });
        match filled {
            Err(error) if is_removed(&error, &temp) => Ok(None),
            filled => filled,
        }
    });
    let replaced = replaced.map_err(|error| {
        // There may be nothing to remove, and the first error is the one to report.
        drop(remove(&temp));
        let busy = error.kind() == io::ErrorKind::ResourceBusy;
        let error = failed("write", path, error);
        if busy {
            error.context("a file that is mounted by itself can't be replaced; mount its folder")
        } else {
            error
        }
    })?;
    let Some((folder, file, visible)) = replaced else {
        return Ok(None);
    };
    // The rename itself is kept only once the folder is.
    let kept = folder.map_or(Ok(()), |folder| Step::SyncFolder.run(|| folder.sync_all()));
    kept.and_then(|()| Ok(Some(((FileId::new(&file.metadata()?), file), visible))))
        .map_err(|error| failed("flush", path, error).with_stored(Stored::All))
}

/// Whether a step failed since another writer has opened the file meanwhile, and took this temporary one for what a
/// killed writer left.
fn is_removed(error: &io::Error, temp: &Path) -> bool {
    error.kind() == io::ErrorKind::NotFound && !temp.exists()
}

/// The folder of a file, where one can be opened and is going to be flushed.
fn open_folder(path: &Path, durable: bool) -> io::Result<Option<File>> {
    let folder = (cfg!(unix) && durable).then(|| File::open(folder_of(path)));
    folder.transpose()
}

/// Gives a new file this text, and the permissions of the one at `path`. Returns it open for reading.
fn fill(mut file: File, temp: &Path, path: &Path, text: &str, durable: bool) -> io::Result<File> {
    match Access::of(path) {
        Ok(old) => Step::SetMode.run(|| old.give(&file))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Step::Write(temp, text).run(|| file.write_all(text.as_bytes()))?;
    if durable {
        Step::Sync(temp).run(|| file.sync_all())?;
    }
    // As long as a file is open for writing its disk can't be made read-only.
    File::open(temp)
}

pub(crate) fn remove(path: &Path) -> io::Result<()> {
    Step::Remove(path).run(|| fs::remove_file(path))
}

/// Creates an empty file beside that at `path`, for the users that may write to this one: a user that can open
/// a lock can hold it. If it can't be given to their owner it is for everybody, since the owner must
/// not be kept out.
pub(crate) fn create_beside(path: &Path, beside: &Path) -> io::Result<File> {
    // Nobody meets it before it is whole.
    let temp = temp_path(path);
    let file = create_private(&temp)?;
    let shared = match Access::of(path) {
        Ok(old) => old.share(&file),
        Err(_) => Ok(()),
    };
    let linked = shared.and_then(|()| fs::hard_link(&temp, beside));
    let is_removed = matches!(&linked, Err(error) if is_removed(error, &temp));
    fs::remove_file(&temp).ok();
    match linked {
        _ if is_removed => create_beside(path, beside),
        // Not every file system has links.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => create_private(beside),
        linked => linked.map(|()| file),
    }
}

/// Creates a file for its owner alone, also in a folder that gives an ACL to its new files.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(|error| {
        denied(error, || {
            let folder = folder_of(path);
            let folder = folder.display();
            format!("run this program as a user who may create files in {folder}")
        })
    })?;
    access::remove_inherited_acl(&file).inspect_err(|_| {
        // The first error is the one to report.
        fs::remove_file(path).ok();
    })?;
    Ok(file)
}

/// The file next to this one with the same name and this ending after it.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A name that Traefik does not load when it watches the whole folder. Containers that share a folder
/// have the same process numbers, and processes that were forked the same random one.
fn temp_path(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static RANDOM: OnceLock<u64> = OnceLock::new();
    let random = RANDOM.get_or_init(|| {
        let digits = crate::random::hex::<8>().unwrap_or_default();
        u64::from_str_radix(&digits, 16).unwrap_or_default()
    });
    let writer = random.wrapping_add(std::process::id().into());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}{writer}.{count}{TEMP_ENDING}", temp_prefix(path));
    folder_of(path).join(name)
}

fn temp_prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.")
}

/// Removes what writers that were killed left behind. Only while no writer is at work.
pub(crate) fn remove_stale_temps(path: &Path) {
    for temp in temps(path) {
        match remove(&temp) {
            Ok(()) => log::info!("removed {}, left by a killed writer", temp.display()),
            Err(error) => log::warn!("can't remove {}: {error}", temp.display()),
        }
    }
}

/// The temporary files of writers of `path`: of one at work, or of some that were killed.
pub(crate) fn temps(path: &Path) -> Vec<PathBuf> {
    let prefix = temp_prefix(path);
    let is_ours = |name: &str| {
        let middle = name
            .strip_prefix(&prefix)
            .and_then(|name| name.strip_suffix(TEMP_ENDING));
        middle.is_some_and(|middle| {
            middle.split('.').count() == 2
                && middle.split('.').all(|part| part.parse::<u64>().is_ok())
        })
    };
    let entries = fs::read_dir(folder_of(path)).into_iter().flatten();
    entries
        .flatten()
        .filter(|entry| is_ours(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect()
}

/// Whether others than the owner and the group may read the file.
pub(crate) fn is_readable_by_all(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        metadata.permissions().mode() & 0o004 != 0
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        false
    }
}

/// Fails if this program can't create files in the folder of this file, as each change does.
pub(crate) fn check_folder(path: &Path) -> Result<()> {
    let folder = folder_of(path);
    let checked = access::may_write(&folder);
    checked.map_err(|error| failed("create files in", &folder, error))
}

/// The folder of a file; the current one for a bare name.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.into(),
        _ => PathBuf::from("."),
    }
}

/// A path as it can stand in a configuration.
pub(crate) fn utf8(path: &Path) -> Result<String> {
    path.to_str().map(Into::into).ok_or_else(|| {
        let message = format!(
            "{}: its name is not UTF-8, and Traefik takes no such path; choose another one",
            path.display()
        );
        Error::new(ErrorKind::InvalidConfig, message)
    })
}

/// Adds what to do to an error, if permission was denied.
pub(crate) fn denied(error: io::Error, advice: impl FnOnce() -> String) -> io::Error {
    match error.kind() {
        kind @ io::ErrorKind::PermissionDenied => {
            io::Error::new(kind, format!("{error}; {}", advice()))
        }
        _ => error,
    }
}

fn unreadable(doing: &str, path: &Path, error: io::Error) -> Error {
    let error = denied(error, || access::advice_to_read(path));
    failed(doing, path, error)
}

pub(crate) fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::new(
        ErrorKind::Store,
        format!("can't {doing} {}", path.display()),
    )
    .with_source(error)
}
