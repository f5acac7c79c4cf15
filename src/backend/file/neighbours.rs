//! The other files of the folder that Traefik watches.

use std::fs;
use std::path::{Path, PathBuf};

use crate::atomic;
use crate::config::dynamic::{Own, api_routers, has_default_certificate};
use crate::config::text::Syntax;
use crate::error::{Error, ErrorKind, Result};

/// How many folders are searched where time does not matter. The file may be in a home folder, which Traefik does not
/// watch.
pub(super) const MANY: usize = 100;

/// Settings of the other files that Traefik takes from one file alone.
#[derive(Default)]
pub(super) struct Neighbours {
    /// The file that sets a default certificate: Traefik takes the first one that it finds.
    pub(super) certificate: Option<PathBuf>,
    /// The file that has a router for the API on our entrypoint.
    api: Option<PathBuf>,
}

/// The other files that Traefik loads if it watches the folder: those in it and in its subfolders. At most `most`
/// folders are searched. Traefik follows links to files, but not to folders.
fn others(path: &Path, most: usize) -> impl Iterator<Item = (PathBuf, Syntax, String)> {
    let mut folders: Vec<_> = path.parent().map(PathBuf::from).into_iter().collect();
    let mut files = Vec::new();
    let mut next = 0;
    while let Some(folder) = folders.get(next).filter(|_| next < most) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let list = if is_folder { &mut folders } else { &mut files };
            list.push(entry.path());
        }
        next += 1;
    }
    (files.into_iter())
        .filter(move |other| other != path)
        .filter_map(|other| {
            // Traefik ignores the case of an ending.
            let name = other.to_string_lossy().to_ascii_lowercase();
            let syntax = Syntax::of(Path::new(&name)).ok()?;
            let (text, _) = atomic::read(&other).ok()??;
            Some((other, syntax, text))
        })
}

/// Another file that Traefik would load, and no link to this one, that has the table with this marker. At most `most`
/// folders are searched.
pub(super) fn copy(path: &Path, marker: &str, most: usize) -> Option<PathBuf> {
    let is_another = |other: &PathBuf| atomic::resolve(other).is_ok_and(|file| file != path);
    let mut others = others(path, most);
    let copy = others.find(|(other, _, text)| text.contains(marker) && is_another(other));
    copy.map(|(other, ..)| other)
}

impl Neighbours {
    pub(super) fn of(path: &Path, api_entrypoint: &str) -> Self {
        let mut found = Self::default();
        for (other, syntax, text) in others(path, MANY) {
            let Ok(config) = syntax.parse(&text).map(|tree| tree.to_value()) else {
                continue;
            };
            if has_default_certificate(&config) {
                found.certificate = Some(other.clone());
            }
            if !api_routers(&config, api_entrypoint).is_empty() {
                found.api = Some(other);
            }
        }
        found
    }

    /// Fails if a Traefik that is started on this folder would take theirs for ours.
    pub(super) fn check(&self, own: &Own) -> Result<()> {
        let refuse = |file: &Path, what: &str| {
            let message = format!("{}, which Traefik reads as well, {what}", file.display());
            Err(Error::new(ErrorKind::InUse, message))
        };
        if let Some(file) = &self.api {
            return refuse(
                file,
                "has a router for Traefik's API on this entrypoint; choose another \
                 traefik_api_entrypoint",
            );
        }
        match &self.certificate {
            Some(file) if !own.certificate.made_up => refuse(
                file,
                "sets the default certificate, and Traefik takes one of the two (ssl)",
            ),
            _ => Ok(()),
        }
    }
}
