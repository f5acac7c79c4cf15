//! The first process of a container, which becomes the parent of all that lose their own.

use std::env;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode, ExitStatus};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// If this is the first process: starts the program once more as its child, passes signals on to it, and waits
/// for every process that ends, so that none stays as a zombie. Returns when the program has ended. The program
/// itself can't do that: it would take from others of its parts how their children ended.
///
/// # Errors
/// If no child can be started, as where there is no `/proc`.
pub(super) fn run_below() -> io::Result<Option<ExitCode>> {
    if std::process::id() != 1 {
        return Ok(None);
    }
    // Before there is a child, so that no signal is lost.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let mut arguments = env::args_os();
    let mut command = Command::new(env::current_exe()?);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let child = Pid::from_child(&command.args(arguments).spawn()?);
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let signal = match signal {
                SIGHUP => Signal::HUP,
                SIGINT => Signal::INT,
                _ => Signal::TERM,
            };
            // It may just have ended.
            kill_process(child, signal).ok();
        }
    });
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((ended, status))) if ended == child => {
                return Ok(Some(exit_code(ExitStatus::from_raw(status.as_raw()))));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// As a shell says it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
