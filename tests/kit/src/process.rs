//! Processes: those that tests start, and those that are left.

use std::fs::{self, DirEntry, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::eventually;

/// A program that is killed when this is dropped.
#[derive(Debug)]
#[must_use = "the program is killed when this is dropped"]
pub(crate) struct Process(Child);

impl Process {
    /// Starts it without input. What it writes is appended to the file `log`.
    #[track_caller]
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let output = OpenOptions::new().create(true).append(true).open(log);
        let output = output.unwrap();
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The command lines that have `text` in them, of all processes.
pub fn processes_naming(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(text)).collect()
}

/// Sends a signal, such as `KILL`, to a process that a test has started. After `STOP` it returns once
/// all threads of the process stand still.
#[track_caller]
pub fn send_signal(process: u32, signal: &str) {
    let mut kill = Command::new("kill");
    let kill = kill.args([&format!("-{signal}"), &process.to_string()]);
    assert!(kill.status().unwrap().success(), "{kill:?}");
    if signal == "STOP" {
        eventually("all of its threads stand still", || {
            let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
            let stat = |entry: DirEntry| fs::read_to_string(entry.path().join("stat"));
            let stats: Vec<_> = threads.flatten().flat_map(stat).collect();
            stats.iter().all(|stat| stat.contains(") T "))
        });
    }
}

/// Whether a process runs: it is there, and is no zombie.
pub fn is_alive(process: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = state.rsplit(')').next().unwrap_or_default();
    !state.is_empty() && !state.trim_start().starts_with('Z')
}
