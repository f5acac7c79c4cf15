//! Processes: those that tests start, and those that are left.

use std::fs::{self, DirEntry, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

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
        let mut program = program.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            _watchdog: Watchdog::start(&mut program, folder),
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
        end(&mut self.program);
    }
}

fn end(program: &mut Child) {
    // What fails here has ended already.
    drop(program.kill());
    drop(program.wait());
}

/// Waits for a line. If its input ends without one, the process that started it is gone: it kills the
/// program, and removes the folder. The program may write for a moment longer.
const WATCHDOG: &str = r#"read -r _ || { kill -KILL "$0"; sleep 1; rm -rf "$@"; }"#;

/// Kills a program if this process ends before it drops this. The program has to have ended by then.
#[derive(Debug)]
#[must_use = "it watches until it is dropped"]
pub struct Watchdog(Child);

impl Watchdog {
    /// Watches over this program. If that fails, it kills the program and panics.
    #[track_caller]
    pub fn over(program: &mut Child) -> Self {
        Self::start(program, None)
    }

    #[track_caller]
    fn start(program: &mut Child, folder: Option<&Path>) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", WATCHDOG, &program.id().to_string()])
            .args(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal to this process's group leaves it alive.
            .process_group(0);
        match shell.spawn() {
            Ok(shell) => Self(shell),
            Err(error) => {
                end(program);
                panic!("can't watch over a program: {shell:?}: {error}");
            }
        }
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
    let number = match signal {
        "CONT" => Signal::CONT,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "TERM" => Signal::TERM,
        other => panic!("no such signal: {other}"),
    };
    let pid = Pid::from_raw(process.cast_signed()).unwrap();
    kill_process(pid, number).unwrap_or_else(|error| panic!("SIG{signal} to {pid:?}: {error}"));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The log of the program that the owner starts.
    const LOG: &str = "KIT_TEST_LOG";

    #[test]
    #[ignore = "the part that another test gives to a process of its own"]
    fn owner_waits_for_its_program() {
        if let Some(log) = std::env::var_os(LOG) {
            let mut program = Process::start(Command::new("sleep").arg("300"), log.as_ref());
            fs::write(
                Path::new(&log).with_extension("pid"),
                program.id().to_string(),
            )
            .unwrap();
            program.wait();
        }
    }

    #[test]
    fn program_ends_with_killed_owner() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("program.log");
        let mut owner = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "process::tests::owner_waits_for_its_program",
                "--ignored",
            ])
            .env(LOG, &log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut program = None;
        eventually("the owner has started the program", || {
            let pid = fs::read_to_string(log.with_extension("pid")).unwrap_or_default();
            program = pid.parse().ok();
            program.is_some()
        });
        let program = program.unwrap();
        assert!(is_alive(program));
        send_signal(owner.id(), "KILL");
        owner.wait().unwrap();
        eventually("the program has ended", || !is_alive(program));
    }
}
