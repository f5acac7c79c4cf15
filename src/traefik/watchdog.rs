//! A program that ends with its owner.

#[cfg(unix)]
pub(super) use unix::{Watched, command};

#[cfg(not(unix))]
pub(super) use other::{Watched, command};

/// A shell starts the program as its child, and checks four times a second whether the owner still
/// runs. It needs nothing of its owner for that: no pipe, which a child that the owner forks would hold
/// open, and no signal, which the owner may have ignored or blocked. It reads when the process with the
/// owner's number began; another process may get the same number.
///
/// The shell stays the program's parent, so that it reaps the program wherever the owner does not, and
/// reports how it ended. The owner ends the program itself.
#[cfg(unix)]
mod unix {
    use std::io;
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::path::Path;
    use std::process::{Child, Command, ExitStatus};
    use std::time::{Duration, Instant};

    use rustix::process::{
        Pid, Signal, WaitOptions, kill_process, kill_process_group, test_kill_process, waitpgid,
    };

    use crate::sync::in_background;
    use crate::traefik::output::Log;

    /// `$0` is the time to give the program, in tenths of a second. The arguments are the owner's number,
    /// when it began (empty if the system does not say), and the program's command line.
    ///
    /// The group is the shell's: while the shell runs, no other group has its number. The program begins
    /// with the signals as they were; the shell ignores those that are sent to the group.
    const SCRIPT: &str = r#"
tenths=$0 owner=$1 began=$2
shift 2
# What the owner was left by its own parent.
exec 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-
pause=0.25
sleep 0.01 2>/dev/null || pause=1
owner_runs() {
    [ "$began" ] || { kill -0 "$owner"; return; }
    line=
    read -r line <"/proc/$owner/stat"
    set -- ${line##*) }
    # A process whose first thread has ended, and another has not, is called a zombie, too.
    [ "${20-}" = "$began" ] && { [ "$1" != Z ] || [ "${18}" -gt 1 ]; }
}
"$@" &
program=$!
trap '' HUP INT QUIT TERM
echo "traefik-router: process $program" >&2
{
    while owner_runs; do
        sleep "$pause"
        kill -0 "$program" || exit
    done
    kill -TERM -$$
    while [ "$tenths" -gt 0 ] && kill -0 "$program"; do
        sleep 0.1 || sleep 1
        tenths=$((tenths - 1))
    done
    kill -0 "$program" && kill -KILL -$$
} </dev/null >/dev/null 2>&1 &
watcher=$!
# Some shells print that the program was killed.
wait "$program" 2>/dev/null
code=$?
echo "traefik-router: ended $code" >&2
# The readers of the program's log see its end now.
exec >/dev/null 2>&1
wait "$watcher"
# What a wrapper that was killed has started.
[ "$code" = 137 ] && kill -KILL -$$
exit "$code"
"#;

    /// How long the shell may take to report an end that we have seen.
    const REPORT_PATIENCE: Duration = Duration::from_millis(500);

    /// How long the shell may take to start the program.
    const START_PATIENCE: Duration = Duration::from_secs(5);

    pub(in crate::traefik) fn command(program: &Path, grace: Duration) -> Command {
        let own = std::process::id();
        let began = Stat::of(own).map_or_else(String::new, |stat| stat.began.to_string());
        let mut command = Command::new("/bin/sh");
        // A group of its own: Ctrl-C in a terminal is for the owner, who then ends the program.
        command
            .args(["-c", SCRIPT])
            .arg((grace.as_millis() / 100 + 1).to_string())
            .args([own.to_string(), began])
            .arg(program)
            .process_group(0);
        command
    }

    /// What the system says of a process.
    struct Stat {
        /// When it began, in the system's ticks.
        began: u64,
        is_zombie: bool,
    }

    impl Stat {
        /// `None` if the process is not there, or the system does not say.
        fn of(process: u32) -> Option<Self> {
            let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            // The second field is a name with any characters. The third is the state, and the 22nd the
            // time.
            let (_, rest) = text.rsplit_once(") ")?;
            let mut fields = rest.split_ascii_whitespace();
            Some(Self {
                is_zombie: fields.next()? == "Z",
                began: fields.nth(18)?.parse().ok()?,
            })
        }
    }

    #[derive(Debug)]
    pub(in crate::traefik) struct Watched {
        /// `None` once it is waited for.
        shell: Option<Child>,
        group: u32,
        program: u32,
        began: Option<u64>,
    }

    impl Watched {
        /// Waits until the shell has started the program.
        pub(in crate::traefik) fn new(mut shell: Child, log: &Log) -> io::Result<Self> {
            let deadline = Instant::now() + START_PATIENCE;
            loop {
                if let Some(program) = log.report().process {
                    return Ok(Self {
                        group: shell.id(),
                        shell: Some(shell),
                        program,
                        began: Stat::of(program).map(|stat| stat.began),
                    });
                }
                if Instant::now() >= deadline || !matches!(shell.try_wait(), Ok(None)) {
                    drop(shell.kill());
                    drop(shell.wait());
                    let why = format!("/bin/sh did not start it; {}", log.last_words());
                    return Err(io::Error::other(why));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }

        pub(in crate::traefik) fn id(&self) -> u32 {
            self.program
        }

        /// How the program ended, if it has.
        pub(in crate::traefik) fn end(&mut self, log: &Log) -> Option<String> {
            if let Some(shell) = &mut self.shell {
                // A shell that was killed would stay as a zombie for as long as the program runs.
                drop(shell.try_wait());
            }
            let code = || log.report().code;
            if code().is_none() && self.runs() {
                return None;
            }
            let deadline = Instant::now() + REPORT_PATIENCE;
            while code().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            let text = |code| ExitStatus::from_raw(wait_status(code)).to_string();
            Some(code().map_or_else(|| "its exit status is unknown".into(), text))
        }

        fn runs(&self) -> bool {
            match self.began {
                Some(began) => Stat::of(self.program)
                    .is_some_and(|stat| stat.began == began && !stat.is_zombie),
                None => Pid::from_raw(self.program.cast_signed())
                    .is_some_and(|pid| test_kill_process(pid).is_ok()),
            }
        }

        /// Asks the program, and what it has started, to end.
        pub(in crate::traefik) fn terminate(&self) -> io::Result<()> {
            match Pid::from_raw(self.group.cast_signed()).filter(|_| self.runs()) {
                Some(group) => Ok(kill_process_group(group, Signal::TERM)?),
                None => Ok(()),
            }
        }

        /// Ends the program; the shell ends what that has started.
        pub(in crate::traefik) fn kill(&self) -> io::Result<()> {
            match Pid::from_raw(self.program.cast_signed()).filter(|_| self.runs()) {
                Some(program) => Ok(kill_process(program, Signal::KILL)?),
                None => Ok(()),
            }
        }
    }

    impl Drop for Watched {
        fn drop(&mut self) {
            // The shell ends within a quarter of a second. Only a thread waits for that.
            if let Some(mut shell) = self.shell.take() {
                let group = Pid::from_raw(self.group.cast_signed());
                drop(in_background(move || {
                    drop(shell.wait());
                    // As the first process of a container this one is the parent of what the shell has left
                    // if it was killed. On other systems nothing is left to wait for.
                    while group.is_some_and(|group| waitpgid(group, WaitOptions::empty()).is_ok()) {
                    }
                }));
            }
        }
    }

    /// What `wait` says of a program for which a shell has this exit code.
    fn wait_status(code: u8) -> i32 {
        match code.checked_sub(128) {
            Some(signal) if signal > 0 => signal.into(),
            _ => i32::from(code) << 8,
        }
    }
}

#[cfg(not(unix))]
mod other {
    use std::io;
    use std::path::Path;
    use std::process::{Child, Command};
    use std::sync::Mutex;
    use std::time::Duration;

    use crate::sync::unpoisoned;
    use crate::traefik::output::Log;

    /// There is no watchdog: the program outlives an owner that is killed.
    pub(in crate::traefik) fn command(program: &Path, _grace: Duration) -> Command {
        Command::new(program)
    }

    #[derive(Debug)]
    pub(in crate::traefik) struct Watched {
        program: Mutex<Child>,
        id: u32,
    }

    impl Watched {
        pub(in crate::traefik) fn new(program: Child, _log: &Log) -> io::Result<Self> {
            Ok(Self {
                id: program.id(),
                program: Mutex::new(program),
            })
        }

        pub(in crate::traefik) fn id(&self) -> u32 {
            self.id
        }

        pub(in crate::traefik) fn end(&self, _log: &Log) -> Option<String> {
            let mut program = unpoisoned(self.program.lock());
            let status = program.try_wait().ok()?;
            status.map(|status| status.to_string())
        }

        pub(in crate::traefik) fn terminate(&self) -> io::Result<()> {
            self.kill()
        }

        pub(in crate::traefik) fn kill(&self) -> io::Result<()> {
            let mut program = unpoisoned(self.program.lock());
            program.kill()
        }
    }
}
