//! Who may use a file: its owner, its group, its mode and, on Linux, its POSIX access ACL. Also opens files that other
//! users may have put in place of ours.
//!
//! ACLs of other kinds (NFSv4, macOS, Windows) are not read. Neither is any other extended attribute:
//! a new file gets those that the system gives it, such as its SELinux label.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// Who may use a file.
pub(super) struct Access {
    metadata: Metadata,
    acl: Option<acl::Acl>,
}

impl Access {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            metadata: fs::metadata(path)?,
            acl: acl::of(path)?,
        })
    }

    /// Gives a new, private and empty file to the same users, or fails and says what to do.
    pub(super) fn give(&self, file: &File) -> io::Result<()> {
        // The group and the ACL come first: a mode alone would open the file to others for a moment,
        // and a user that opens it then can read what is written later.
        let new = file.metadata()?;
        self.give_to_owner(file, &new)?;
        if let Some(acl) = &self.acl {
            acl::set(file, acl).map_err(|error| {
                let message = format!(
                    "can't keep its ACL ({error}); run this program as the file's owner, or remove \
                     the ACL with `setfacl -b`"
                );
                io::Error::new(error.kind(), message)
            })?;
        }
        let mode = self.metadata.permissions();
        // The ACL may have changed the mode.
        if self.acl.is_none() && new.permissions() == mode {
            return Ok(());
        }
        file.set_permissions(mode)
    }

    #[cfg(unix)]
    fn give_to_owner(&self, file: &File, new: &Metadata) -> io::Result<()> {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let [(user, group), (our_user, our_group)] =
            [&self.metadata, new].map(|of| (of.uid(), of.gid()));
        if (user, group) == (our_user, our_group) {
            return Ok(());
        }
        fchown(file, Some(user), Some(group)).map_err(|error| {
            let message = if user == our_user {
                format!(
                    "it belongs to group {group}, and user {our_user} can't give a new file to that \
                     group ({error}); run this program as a member of the group, or give the file \
                     to another group with chgrp"
                )
            } else {
                format!(
                    "it belongs to user {user}, and this program runs as user {our_user}, which \
                     can't give a new file to another user ({error}); run it as user {user}, or \
                     give the file to user {our_user} with chown"
                )
            };
            io::Error::new(error.kind(), message)
        })
    }

    #[cfg(not(unix))]
    fn give_to_owner(&self, _file: &File, _new: &Metadata) -> io::Result<()> {
        Ok(())
    }

    /// Opens a new, private file to those who may write to this one. If it can't be given to the same
    /// owner it is for everybody, since the owner must not be kept out.
    #[cfg(unix)]
    pub(super) fn share(&self, file: &File) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = self.metadata.permissions().mode();
        let writers = match (self.give_to_owner(file, &file.metadata()?), &self.acl) {
            (Err(_), _) => 0o222,
            (Ok(()), None) => mode & 0o222,
            // The mask of the ACL stands in the group's place; it does not say what the group may do.
            (Ok(()), Some(_)) => mode & 0o202,
        };
        let mode = 0o600 | writers | writers << 1;
        file.set_permissions(fs::Permissions::from_mode(mode))
    }

    #[cfg(not(unix))]
    pub(super) fn share(&self, _file: &File) -> io::Result<()> {
        Ok(())
    }
}

/// What to do if this program may not read the file at `path`.
#[cfg(unix)]
pub(super) fn advice_to_read(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(metadata) = fs::metadata(path) else {
        return "run this program as a user who may enter all folders of the path".into();
    };
    format!(
        "it belongs to user {}, group {}, and has mode {:04o}: run this program as that user, or let it read the file \
         by the group, the mode or an ACL",
        metadata.uid(),
        metadata.gid(),
        metadata.mode() & 0o7777
    )
}

#[cfg(not(unix))]
pub(super) fn advice_to_read(_path: &Path) -> String {
    "run this program as a user who may read the file".into()
}

/// Fails if this program may not write to a folder, or its disk is read-only.
pub(super) fn may_write(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK)?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Takes from a new file the ACL that it has from its folder. With mode 0600 the ACL has no effect, but
/// any wider mode would open the file to the users whom the ACL names.
pub(super) fn remove_inherited_acl(file: &File) -> io::Result<()> {
    acl::remove(file)
}

/// Opens a file that may be in a folder of others: a symbolic link is refused, and a pipe is not waited for.
pub(crate) fn open_itself(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags.bits().cast_signed());
    }
    options.open(path).map_err(|error| {
        if path.is_symlink() {
            io::Error::other("it is a symbolic link; remove it")
        } else {
            error
        }
    })
}

#[cfg(target_os = "linux")]
mod acl {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    use rustix::fs::{XattrFlags, fremovexattr, fsetxattr, getxattr, getxattr_query};
    use rustix::io::Errno;

    const NAME: &str = "system.posix_acl_access";

    pub(super) type Acl = Vec<u8>;

    pub(super) fn of(path: &Path) -> io::Result<Option<Acl>> {
        let length = match getxattr_query(path, NAME) {
            Err(error) if is_none(error) => return Ok(None),
            length => length?,
        };
        let mut acl = vec![0; length];
        let length = getxattr(path, NAME, &mut acl[..])?;
        acl.truncate(length);
        Ok(Some(acl))
    }

    pub(super) fn set(file: &File, acl: &Acl) -> io::Result<()> {
        Ok(fsetxattr(file, NAME, acl, XattrFlags::empty())?)
    }

    pub(super) fn remove(file: &File) -> io::Result<()> {
        match fremovexattr(file, NAME) {
            Err(error) if !is_none(error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Whether the file has no ACL, or its file system has none.
    fn is_none(error: Errno) -> bool {
        [Errno::NODATA, Errno::OPNOTSUPP, Errno::NOTSUP].contains(&error)
    }
}

#[cfg(not(target_os = "linux"))]
mod acl {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    pub(super) enum Acl {}

    pub(super) fn of(_path: &Path) -> io::Result<Option<Acl>> {
        Ok(None)
    }

    pub(super) fn set(_file: &File, acl: &Acl) -> io::Result<()> {
        match *acl {}
    }

    pub(super) fn remove(_file: &File) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[cfg(unix)]
pub(super) mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    /// The number of the user, and of the group, that own nothing.
    pub(crate) const NOBODY: u32 = 65534;

    /// Runs a test of this program once more, in a new process of the user [`NOBODY`], with these
    /// variables. It has to pass there.
    #[track_caller]
    pub(crate) fn pass_as_nobody(test: &str, variables: &[(&str, &Path)]) {
        let program = std::env::current_exe().unwrap();
        let output = Command::new(&program)
            .args(["--exact", test])
            .envs(variables.iter().copied())
            .uid(NOBODY)
            .gid(NOBODY)
            .output();
        let output = output.unwrap_or_else(|error| {
            panic!("user {NOBODY} can't run {}: {error}", program.display())
        });
        let said = String::from_utf8_lossy(&output.stdout);
        let passed = output.status.success() && said.contains("1 passed");
        assert!(passed, "{test} as user {NOBODY}: {output:?}");
    }

    /// Root may give files away: it runs this test once more as another user.
    #[test]
    fn losing_the_owner_is_refused() {
        let temp = tempfile::tempfile().unwrap();
        if temp.metadata().unwrap().uid() == 0 {
            return pass_as_nobody("atomic::access::tests::losing_the_owner_is_refused", &[]);
        }
        let user = temp.metadata().unwrap().uid();
        let root = Access::of(Path::new("/")).unwrap();
        let error = root.give(&temp).unwrap_err();
        let message = error.to_string();
        for part in [&*format!("as user {user}"), "belongs to user", "chown"] {
            assert!(message.contains(part), "{part:?} in {message}");
        }
    }
}
