//! What a process uses.

use std::fmt;
use std::fs;

use crate::Result;

pub(super) struct Usage {
    pub(super) kilobytes: u64,
    pub(super) files: usize,
}

impl Usage {
    pub(super) fn of(process: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = memory.and_then(|memory| memory.split_whitespace().next());
        Ok(Self {
            kilobytes: number.ok_or("no VmRSS")?.parse()?,
            files: fs::read_dir(format!("/proc/{process}/fd"))?.count(),
        })
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4} MB {:>3} fds", self.kilobytes / 1024, self.files)
    }
}
