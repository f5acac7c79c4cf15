//! Who may use a rules file, and the files beside it, before and after a change.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

use super::{names_in, opened};
use crate::atomic::{NOBODY, pass_as_nobody};
use crate::backend::Backend as _;
use crate::backend::file::FileBackend;
use crate::error::{ErrorKind, Stored};
use crate::fault::{Step, observed};
use crate::finding::Finding;
use crate::route::Change;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
/// A user that owns nothing here.
const ANOTHER: u32 = 54321;

/// An ACL as Linux stores it, where the owner may read and write and others may do nothing. The other
/// permissions are those of [`ANOTHER`], of the group and of the mask.
fn acl(another: u16, group: u16, mask: u16) -> Vec<u8> {
    const NO_ID: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] = [
        (0x01, 6, NO_ID),
        (0x02, another, ANOTHER),
        (0x04, group, NO_ID),
        (0x10, mask, NO_ID),
        (0x20, 0, NO_ID),
    ];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

#[track_caller]
fn set_acl(path: &Path, name: &str, acl: &[u8]) {
    setxattr(path, name, acl, XattrFlags::empty()).unwrap_or_else(|error| {
        panic!(
            "can't set an ACL on {}: {error}; set TMPDIR to a folder on a file system with POSIX ACLs, \
             such as ext4, xfs or btrfs",
            path.display()
        )
    });
}

fn acl_of(path: &Path) -> Option<Vec<u8>> {
    let mut acl = [0; 1024];
    match getxattr(path, ACCESS, &mut acl[..]) {
        Ok(length) => Some(acl[..length].to_vec()),
        Err(Errno::NODATA) => None,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// Owner, group, mode and access ACL.
fn access(path: &Path) -> (u32, u32, u32, Option<Vec<u8>>) {
    let metadata = fs::metadata(path).unwrap();
    let mode = metadata.mode() & 0o7777;
    (metadata.uid(), metadata.gid(), mode, acl_of(path))
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn commit(backend: &FileBackend, target: &str) -> crate::Result<()> {
    let change = Change::set("/", target).unwrap();
    backend
        .commit(&mut |_, _| Ok(vec![change.clone()]))
        .map(drop)
}

struct Place {
    _folder: tempfile::TempDir,
    folder: PathBuf,
    rules: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        Self {
            rules: path.join("rules.toml"),
            folder: path,
            _folder: folder,
        }
    }

    /// Gives new files in the folder an ACL by which others may use them.
    fn with_default_acl(self) -> Self {
        set_acl(&self.folder, DEFAULT, &acl(7, 7, 7));
        self
    }
}

#[test]
fn change_keeps_owner_and_permissions() {
    // The group may do less than its mode says, which is the mask: the hash is not for it.
    let acls = [
        None,
        Some(acl(4, 0, 4)),
        Some(acl(6, 4, 6)),
        Some(acl(4, 4, 0)),
    ];
    for place in [Place::new, || Place::new().with_default_acl()] {
        for acl in &acls {
            for mode in [0o600, 0o640, 0o664] {
                let place = place();
                let backend = opened(&place.rules);
                set_mode(&place.rules, mode);
                if let Some(acl) = acl {
                    set_acl(&place.rules, ACCESS, acl);
                }
                if is_root() {
                    chown(&place.rules, Some(NOBODY), Some(ANOTHER)).unwrap();
                }
                let before = access(&place.rules);
                for target in ["http://a", "http://b"] {
                    commit(&backend, target).unwrap();
                    assert_eq!(access(&place.rules), before, "mode {mode:o}, ACL {acl:?}");
                }
            }
        }
    }
}

#[test]
fn folder_default_acl_grants_nothing() {
    let place = Place::new().with_default_acl();
    let backend = opened(&place.rules);
    let lock = crate::lock::path_of(&place.rules);
    for file in [&place.rules, &lock] {
        let (_, _, mode, acl) = access(file);
        assert_eq!((mode, acl), (0o600, None), "{}", file.display());
    }
    // With an ACL of the folder's, this would be the mask of the other user as well.
    set_mode(&place.rules, 0o660);
    fs::remove_file(&lock).unwrap();
    commit(&backend, "http://a").unwrap();
    for file in [&place.rules, &lock] {
        let (_, _, mode, acl) = access(file);
        assert_eq!((mode, acl), (0o660, None), "{}", file.display());
    }
}

/// Whoever can open a lock can hold it. The mask stands where the mode has the group.
#[test]
fn acl_mask_grants_no_lock() {
    let place = Place::new();
    let backend = opened(&place.rules);
    set_acl(&place.rules, ACCESS, &acl(6, 0, 6));
    let lock = crate::lock::path_of(&place.rules);
    fs::remove_file(&lock).unwrap();
    commit(&backend, "http://a").unwrap();
    assert_eq!(access(&lock).2, 0o600);
}

/// Names the folder for the part of this test that runs as another user.
const FOLDER: &str = "TRAEFIK_ROUTER_TEST_FOLDER";

#[test]
fn losing_the_owner_is_refused() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return as_another_user(Path::new(&folder));
    }
    let place = Place::new();
    let owner = opened(&place.rules);
    commit(&owner, "http://a").unwrap();
    if !is_root() {
        return refused_without_root(&place.rules, &owner);
    }
    set_mode(&place.rules, 0o666);
    chown(&place.folder, Some(NOBODY), Some(NOBODY)).unwrap();
    for (user, group) in [(0, NOBODY), (NOBODY, 0), (0, 0)] {
        chown(&place.rules, Some(user), Some(group)).unwrap();
        // The other user makes a new one, which must not keep the owner out.
        fs::remove_file(crate::lock::path_of(&place.rules)).unwrap();
        let text = fs::read(&place.rules).unwrap();
        let before = access(&place.rules);
        let name = "backend::file::tests::access::losing_the_owner_is_refused";
        pass_as_nobody(name, &[(FOLDER, &place.folder)]);
        assert_eq!(fs::read(&place.rules).unwrap(), text);
        assert_eq!(access(&place.rules), before);
        commit(&owner, "http://b").unwrap();
        commit(&owner, "http://a").unwrap();
        assert_eq!(access(&place.rules), before);
    }
}

#[test]
fn foreign_lock_brings_advice() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = Path::new(&folder);
        return match fs::exists(folder.join("locked")).unwrap() {
            true => refuses_with(folder, &["rules.toml.lock", "owner", "chown"]),
            false => refuses_with(folder, &["create files in", folder.to_str().unwrap()]),
        };
    }
    // Only root can prepare files of another user.
    if !is_root() {
        return;
    }
    let name = "backend::file::tests::access::foreign_lock_brings_advice";
    let place = Place::new();
    commit(&opened(&place.rules), "http://a").unwrap();
    set_mode(&place.folder, 0o755);
    chown(&place.rules, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::write(place.folder.join("locked"), "").unwrap();
    pass_as_nobody(name, &[(FOLDER, &place.folder)]);
    fs::remove_file(place.folder.join("locked")).unwrap();
    fs::remove_file(crate::lock::path_of(&place.rules)).unwrap();
    pass_as_nobody(name, &[(FOLDER, &place.folder)]);
    let lock = crate::lock::path_of(&place.rules);
    fs::write(&lock, "").unwrap();
    chown(&lock, Some(NOBODY), Some(NOBODY)).unwrap();
    pass_as_nobody(name, &[(FOLDER, &place.folder)]);
}

#[test]
fn foreign_file_brings_advice() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let backend = FileBackend::new(Path::new(&folder).join("rules.toml"));
        let error = backend.read().unwrap_err();
        assert_eq!(error.stored(), &Stored::Nothing, "{error}");
        let advice = match fs::metadata(&folder).unwrap().mode() & 0o1 {
            0 => "enter all folders",
            _ => "it belongs to user 0, group 0, and has mode 0600",
        };
        assert!(error.to_string().contains(advice), "{error}");
        let found = backend.diagnose();
        let is_folder = |finding: &Finding| finding.check == "folder";
        // Who can't enter a folder can't see whether it can be written either.
        assert_eq!(
            found.iter().any(is_folder),
            advice.contains("0600"),
            "{found:?}"
        );
        return;
    }
    // Only root can prepare files of another user.
    if !is_root() {
        return;
    }
    let name = "backend::file::tests::access::foreign_file_brings_advice";
    let place = Place::new();
    let owner = opened(&place.rules);
    commit(&owner, "http://a").unwrap();
    for mode in [0o755, 0o700] {
        set_mode(&place.folder, mode);
        pass_as_nobody(name, &[(FOLDER, &place.folder)]);
    }
    let found = owner.diagnose();
    assert!(
        found.iter().all(|finding| finding.check != "folder"),
        "{found:?}"
    );
}

fn refuses_with(folder: &Path, parts: &[&str]) {
    let error = commit(&FileBackend::new(folder.join("rules.toml")), "http://c").unwrap_err();
    let reported = (error.kind(), error.stored());
    assert_eq!(reported, (ErrorKind::Store, &Stored::Nothing), "{error}");
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} in {message}");
    }
}

/// Only root can prepare a file of another user. The test of `atomic::access` has the system refuse an
/// owner; here the step fails in its place.
fn refused_without_root(rules: &Path, owner: &FileBackend) {
    let (text, before) = (fs::read(rules).unwrap(), access(rules));
    let refuse = |step: Step<'_>| match step {
        Step::SetMode => Err(io::ErrorKind::PermissionDenied.into()),
        Step::Write(..) => panic!("the text is written"),
        _ => Ok(()),
    };
    let error = observed(refuse, || commit(owner, "http://c")).unwrap_err();
    let reported = (error.kind(), error.stored());
    assert_eq!(reported, (ErrorKind::Store, &Stored::Nothing), "{error}");
    assert_eq!(fs::read(rules).unwrap(), text);
    assert_eq!(access(rules), before);
}

fn as_another_user(folder: &Path) {
    let rules = folder.join("rules.toml");
    let backend = FileBackend::new(&rules);
    let error = commit(&backend, "http://c").unwrap_err();
    let reported = (error.kind(), error.stored());
    assert_eq!(reported, (ErrorKind::Store, &Stored::Nothing), "{error}");
    let message = error.to_string();
    let (belongs, advice) = match fs::metadata(&rules).unwrap().uid() {
        NOBODY => ("group 0", "chgrp"),
        _ => ("user 0", "chown"),
    };
    for part in [rules.to_str().unwrap(), belongs, "user 65534", advice] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
    assert_eq!(backend.read().unwrap().len(), 1, "it can be read");
    assert_eq!(names_in(folder), ["rules.toml", "rules.toml.lock"]);
}
