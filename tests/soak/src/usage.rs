//! What a process uses.

use std::fmt;
use std::fs;

use kit::process::resident_kilobytes;

use crate::Result;

pub(super) struct Usage {
    pub(super) kilobytes: u64,
    pub(super) files: usize,
}

impl Usage {
    pub(super) fn of(process: u32) -> Result<Self> {
        Ok(Self {
            kilobytes: resident_kilobytes(process)?,
            files: fs::read_dir(format!("/proc/{process}/fd"))?.count(),
        })
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4} MB {:>3} fds", self.kilobytes / 1024, self.files)
    }
}
