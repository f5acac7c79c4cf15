//! Processes: those that tests start, and those that are left.

use std::fs::{self, DirEntry, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::eventually;

/// A program that is killed when this is dropped, or when this process ends, even by a signal.
#[derive(Debug)]
#[must_use = "the program is killed when this is dropped"]
pub struct Process {
    program: Child,
    log: PathBuf,
    _watchdog: Watchdog,
}

impl Process {
    /// Starts it without input. What it writes is appended to the file `log`.
    #[track_caller]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        Self::start_in(command, log, None)
    }

    /// The same in a folder that is removed if this process ends first.
    #[track_caller]
    pub(crate) fn start_in(command: &mut Command, log: &Path, folder: Option<&Path>) -> Self {
        let output = OpenOptions::new().create(true).append(true).open(log);
        let output = output.unwrap();
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            // Ctrl-C ends this process alone, and the watchdog then ends the program.
            .process_group(0);
        let program = command.spawn();
        let program = program.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            _watchdog: Watchdog::start(program.id(), folder),
            program,
            log: log.into(),
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.program.wait().unwrap()
    }

    /// Waits until `ready`. If the program ends before, or 30 seconds pass, this panics with its log.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ready() {
            let ended = self.program.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                panic!("not in 30 s, or the program ended ({ended:?}): {what}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What fails here has ended already.
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

/// Waits for a line. If its input ends without one, the process that started it is gone: it kills the
/// program, and removes the folder. The program may write for a moment longer.
const WATCHDOG: &str = r#"read -r _ || { kill -KILL "$0"; sleep 1; rm -rf "$@"; }"#;

/// Kills a program if this process ends before it drops this. The program has to have ended by then.
#[derive(Debug)]
#[must_use = "it watches until it is dropped"]
pub struct Watchdog(Child);

impl Watchdog {
    /// Watches over the program with this process id.
    pub fn over(program: u32) -> Self {
        Self::start(program, None)
    }

    fn start(program: u32, folder: Option<&Path>) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", WATCHDOG, &program.to_string()])
            .args(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal to this process's group leaves it alive.
            .process_group(0);
        Self(shell.spawn().unwrap())
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(mut input) = self.0.stdin.take() {
            drop(input.write_all(b"\n"));
        }
        drop(self.0.wait());
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

/// The resident memory of a process, in kilobytes.
///
/// # Errors
///
/// If the process is gone.
pub fn resident_kilobytes(process: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = memory.and_then(|memory| memory.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("process {process} has no VmRSS")))
}

/// Whether a process runs: it is there, and is no zombie.
pub fn is_alive(process: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = state.rsplit(')').next().unwrap_or_default();
    !state.is_empty() && !state.trim_start().starts_with('Z')
}
