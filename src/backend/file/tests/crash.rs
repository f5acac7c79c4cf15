//! What is left of a file when the power goes off, or when a step of a commit fails.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::json;

use super::{names_in, opened};
use crate::backend::file::FileBackend;
use crate::backend::{Backend as _, Setup};
use crate::error::Stored;
use crate::fault::{Step, observed};
use crate::route::{Change, Route, Table};

const COMMITS: usize = 40;

/// What happened, in order.
enum Event {
    Create(PathBuf),
    Write(PathBuf, String),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    SyncFolder,
    Remove(PathBuf),
    /// The call returned: this is stored.
    Acknowledged(Table),
}

impl Event {
    fn of(step: Step<'_>) -> Option<Self> {
        Some(match step {
            Step::Create(path) => Self::Create(path.into()),
            Step::Write(path, text) => Self::Write(path.into(), text.into()),
            Step::Sync(path) => Self::Sync(path.into()),
            Step::Rename(from, to) => Self::Rename(from.into(), to.into()),
            Step::SyncFolder => Self::SyncFolder,
            Step::Remove(path) => Self::Remove(path.into()),
            Step::Lock | Step::SetMode | Step::Unlock => return None,
        })
    }
}

/// Files by their names, each as a number in `contents`.
type Names = BTreeMap<PathBuf, usize>;

/// A disk that loses what was not flushed: of a file's text nothing, a half or all of it may be
/// there, and of the changes to the folder any that came first.
#[derive(Default)]
struct Disk {
    flushed_names: Names,
    /// The folder as it was after each change since it was flushed; the last one is what is seen.
    unflushed_names: Vec<Names>,
    contents: Vec<Content>,
}

/// The text of a file.
#[derive(Default)]
struct Content {
    flushed: String,
    seen: String,
}

impl Content {
    /// What may be there after a power cut.
    fn survivors(&self) -> [&str; 3] {
        let half = match self.flushed == self.seen {
            true => &*self.seen,
            false => &self.seen[..self.seen.len() / 2],
        };
        [&self.flushed, half, &self.seen]
    }
}

impl Disk {
    fn names(&self) -> Names {
        self.unflushed_names
            .last()
            .unwrap_or(&self.flushed_names)
            .clone()
    }

    fn content(&mut self, path: &Path) -> &mut Content {
        let number = self.names()[path];
        &mut self.contents[number]
    }

    fn happens(&mut self, event: &Event) {
        let mut names = self.names();
        match event {
            Event::Create(path) => {
                names.insert(path.clone(), self.contents.len());
                self.contents.push(Default::default());
            }
            Event::Write(path, text) => self.content(path).seen.clone_from(text),
            Event::Sync(path) => {
                let content = self.content(path);
                content.flushed.clone_from(&content.seen);
            }
            Event::Rename(from, to) => {
                let number = names.remove(from).unwrap();
                names.insert(to.clone(), number);
            }
            Event::Remove(path) => {
                names.remove(path);
            }
            Event::SyncFolder => {
                self.flushed_names = names;
                self.unflushed_names.clear();
                return;
            }
            Event::Acknowledged(_) => return,
        }
        self.unflushed_names.push(names);
    }

    /// All that may be found when the power is back.
    fn survivors(&self) -> BTreeSet<BTreeMap<PathBuf, String>> {
        let files = |names: &Names, which: usize| {
            let file = |(path, number): (&PathBuf, &usize)| {
                let text = self.contents[*number].survivors()[which];
                (path.clone(), text.to_string())
            };
            names.iter().map(file).collect()
        };
        let folders = [&self.flushed_names].into_iter();
        let folders = folders.chain(&self.unflushed_names);
        folders
            .flat_map(|names| [0, 1, 2].map(|which| files(names, which)))
            .collect()
    }
}

/// The n-th change of a sequence that adds, replaces and deletes.
fn change(n: usize) -> Change {
    let spec = format!("/{}/", n * 7 % 10);
    if n % 3 == 2 {
        Change::delete(spec).unwrap()
    } else {
        Route::new(spec, format!("http://h{n}"))
            .unwrap()
            .data(json!({"n": n}))
            .into()
    }
}

fn commit(backend: &FileBackend, n: usize) -> crate::Result<()> {
    backend.commit(&mut |_, _| Ok(vec![change(n)])).map(drop)
}

#[test]
fn power_cut_keeps_acknowledged_commits() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().canonicalize().unwrap().join("rules.toml");
    let events = Rc::new(RefCell::new(Vec::new()));
    let recorder = Rc::clone(&events);
    let observer = move |step: Step<'_>| {
        recorder.borrow_mut().extend(Event::of(step));
        Ok(())
    };
    observed(observer, || {
        let backend = FileBackend::new(&rules);
        let acknowledge = || {
            let table = backend.read().unwrap();
            events.borrow_mut().push(Event::Acknowledged(table));
        };
        backend
            .open(&Setup::new("web"), &mut |_, _| Ok(Vec::new()))
            .unwrap();
        acknowledge();
        for n in 0..COMMITS {
            commit(&backend, n).unwrap();
            acknowledge();
        }
    });

    let mut disk = Disk::default();
    let mut acknowledged = None;
    let (mut cuts, mut found) = (0, 0);
    for (n, event) in events.borrow().iter().enumerate() {
        disk.happens(event);
        if let Event::Acknowledged(table) = event {
            acknowledged = Some(table.clone());
        }
        let next = events.borrow()[n..].iter().find_map(|event| match event {
            Event::Acknowledged(table) => Some(table.clone()),
            _ => None,
        });
        cuts += 1;
        for files in disk.survivors() {
            found += 1;
            let table = after_a_restart(&files, &rules);
            let is_old = table == acknowledged.clone().unwrap_or_default();
            let is_new = Some(&table) == next.as_ref();
            assert!(is_old || is_new, "cut {n}: {table:?} of {files:?}");
        }
    }
    assert!(cuts > 5 * COMMITS && found > 2 * cuts, "{cuts} {found}");
}

/// The table in what is left, which the next Router opens and cleans up.
fn after_a_restart(files: &BTreeMap<PathBuf, String>, rules: &Path) -> Table {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        fs::write(folder.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let name = rules.file_name().unwrap();
    let backend = FileBackend::new(folder.path().join(name));
    let table = backend.read().unwrap();
    if files.len() > 1 {
        backend
            .open(&Setup::new("web"), &mut |_, _| Ok(Vec::new()))
            .unwrap();
        assert_eq!(backend.read().unwrap(), table);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
    table
}

#[test]
fn failed_step_is_reported() {
    let mut failed = 0;
    for step in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("rules.toml");
        let backend = opened(&rules);
        commit(&backend, 0).unwrap();
        let before = backend.read().unwrap();
        let mut left = step;
        let fail = move |_: Step<'_>| {
            left -= 1;
            match left {
                0 => Err(io::ErrorKind::StorageFull.into()),
                _ => Ok(()),
            }
        };
        let outcome = observed(fail, || commit(&backend, 1));
        let after = FileBackend::new(&rules).read().unwrap();
        assert_eq!(backend.read().unwrap(), after, "step {step}");
        match &outcome {
            Err(error) => {
                failed += 1;
                assert!(error.to_string().contains("rules.toml"), "{error}");
                let stored = *error.stored() == Stored::All;
                assert_eq!(after == before, !stored, "step {step}: {error}");
                assert!(after.len() == 1 + usize::from(stored));
            }
            Ok(()) => assert_eq!(after.len(), 2, "step {step}"),
        }
        let names = names_in(folder.path());
        assert_eq!(names, ["rules.toml", "rules.toml.lock"], "step {step}");
        let other = FileBackend::new(&rules);
        commit(&other, 3).unwrap();
        commit(&backend, 4).unwrap();
        assert_eq!(backend.read().unwrap(), other.read().unwrap());
        // The last step lets go of the lock, and closing the file does that as well.
        if outcome.is_ok() {
            assert_eq!(failed, 7);
            return;
        }
    }
}

/// Where the lock's file was removed, two may write at once, and each takes the other's files for those of a
/// killed writer.
#[test]
fn removed_temporary_file_loses_nothing() {
    let removed = Rc::new(Cell::new(0));
    // There are no more steps.
    for step in 1..12 {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("rules.toml");
        let backend = opened(&rules);
        let (mut left, place, count) = (step, folder.path().to_owned(), Rc::clone(&removed));
        let remove = move |_: Step<'_>| {
            left -= 1;
            for name in names_in(&place) {
                if left == 0 && name.ends_with(".tmp") {
                    fs::remove_file(place.join(name))?;
                    count.set(count.get() + 1);
                }
            }
            Ok(())
        };
        let outcome = observed(remove, || commit(&backend, 0));
        outcome.unwrap_or_else(|error| panic!("step {step}: {error}"));
        assert_eq!(backend.read().unwrap().len(), 1, "step {step}");
    }
    assert_eq!(removed.get(), 4);
}

/// A writer whose lock was removed writes again. If it can't, its first file may be there.
#[test]
fn failed_second_write_leaves_uncertainty() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.toml");
    let (backend, lock) = (opened(&rules), folder.path().join("rules.toml.lock"));
    let mut has_written = false;
    let observer = move |step: Step<'_>| match step {
        Step::Rename(..) => {
            has_written = true;
            fs::remove_file(&lock)
        }
        Step::Lock if has_written => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    };
    let error = observed(observer, || commit(&backend, 0)).unwrap_err();
    assert_eq!(FileBackend::new(&rules).read().unwrap().len(), 1);
    assert_eq!(*error.stored(), Stored::Unknown, "{error}");
}

/// A file that was replaced twice within a tick of the clock, or after the clock was set back, may
/// have the number and the times of one from before.
#[cfg(unix)]
#[test]
fn known_inode_is_not_reused() {
    use std::os::unix::fs::MetadataExt as _;

    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.toml");
    let [ours, theirs] = [(); 2].map(|()| FileBackend::new(&rules));
    ours.open(&Setup::new("web"), &mut |_, _| Ok(Vec::new()))
        .unwrap();
    let known = fs::metadata(&rules).unwrap().ino();
    for n in 0..20 {
        commit(&theirs, n).unwrap();
        assert_ne!(fs::metadata(&rules).unwrap().ino(), known, "commit {n}");
    }
    assert_eq!(ours.read().unwrap(), theirs.read().unwrap());
}
