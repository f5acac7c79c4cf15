//! The file as it was last read or written.

use std::path::PathBuf;
use std::time::Instant;

use super::table_file::TableFile;
use crate::atomic::{self, FileId, Known};
use crate::error::Result;
use crate::lock::Lock;

/// The file as it was last read or written.
pub(super) struct State {
    /// The file's own place, behind all symbolic links.
    pub(super) path: PathBuf,
    /// `None` where the file was not there, or may differ from `file`.
    pub(super) known: Option<Known>,
    pub(super) file: TableFile,
    /// The latest generation that was seen of this table. The file may be an older one that was put
    /// back, and Traefik may still show a later generation.
    pub(super) latest: u64,
}

impl State {
    pub(super) fn id(&self) -> Option<FileId> {
        self.known.as_ref().map(|(id, _)| *id)
    }

    /// Starts the next commit.
    pub(super) fn advance(&mut self) {
        let header = &mut self.file.header;
        header.generation = header.generation.max(self.latest);
        header.advance();
    }

    /// Whether the file has our table, and not as we have written it.
    pub(super) fn is_edited(&self) -> bool {
        self.file.header.generation > 0 && !self.file.is_written
    }

    /// Writes the file; since when readers see it. `None`, with nothing written, if the lock file
    /// was replaced or the file is not what was read.
    pub(super) fn save(&mut self, lock: &Lock, durable: bool) -> Result<Option<Instant>> {
        let id = self.id();
        let text = self.file.render();
        let text = text.map_err(|error| error.context(self.path.display()))?;
        let path = &self.path;
        let is_as_read = || match FileId::of(path) {
            Ok(now) => now.is_none() || now == id,
            Err(_) => false,
        };
        let is_wanted = || lock.is_met() && is_as_read();
        let Some((known, visible)) = atomic::replace_if(path, text, durable, &is_wanted)? else {
            return Ok(None);
        };
        self.known = Some(known);
        self.file.inherited = false;
        self.file.is_written = true;
        Ok(Some(visible))
    }
}
