//! Folders.

use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

use crate::tools;

/// A folder on the same disk as the build; it is gone when this is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it in `target/work`.
    pub fn new() -> Result<Self> {
        let parent = tools::workspace().join("target/work");
        fs::create_dir_all(&parent)?;
        // A run that was killed leaves its folder to the next one.
        for left in fs::read_dir(&parent)? {
            let left = left?;
            if !Path::new("/proc").join(left.file_name()).exists() {
                fs::remove_dir_all(left.path())?;
            }
        }
        let path = parent.join(std::process::id().to_string());
        fs::create_dir(&path)?;
        Ok(Self(fs::canonicalize(path)?))
    }

    /// Its subfolder of this name, which is made if it is not there.
    pub fn sub(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for Folder {
    #[allow(clippy::print_stderr, reason = "it belongs to programs for a terminal")]
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("can't remove {}: {error}", self.0.display());
        }
    }
}

/// The names of the files in a folder, sorted.
pub fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
