//! This test program once more, in a process of its own, to play a part in another test.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use kit::process::Watchdog;
use serde_json::Value;

const PART: &str = "TRAEFIK_ROUTER_TEST_PART";
const SAYS: &str = "says: ";

/// Killed when it is dropped.
pub(crate) struct Actor {
    pub(crate) process: Child,
    _watchdog: Watchdog,
    output: BufReader<ChildStdout>,
}

/// Tells the parent something. Libtest may have begun the line.
pub(crate) fn say(what: impl std::fmt::Display) {
    println!("\n{SAYS}{what}");
}

/// Waits until the parent tells this process to go on, or has ended.
pub(crate) fn wait_to_be_told() {
    drop(std::io::stdin().read_line(&mut String::new()));
}

impl Actor {
    /// Starts the program to play `part` with these arguments.
    pub(crate) fn start(part: &str, arguments: &Value) -> Self {
        Self::start_by(
            Command::new(std::env::current_exe().unwrap()),
            part,
            arguments,
        )
    }

    /// The same by a command that ends with this program's path.
    pub(crate) fn start_by(mut command: Command, part: &str, arguments: &Value) -> Self {
        let process = command
            .args(["--exact", "support::child::play_a_part", "--ignored"])
            .args(["--nocapture", "--test-threads=1"])
            .env(PART, format!("{part} {arguments}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = process.unwrap_or_else(|error| {
            panic!(
                "can't run {:?}: {error}; on Debian unshare and setpriv are in util-linux, env in \
                 coreutils",
                command.get_program()
            )
        });
        let output = BufReader::new(process.stdout.take().unwrap());
        Self {
            _watchdog: Watchdog::over(&mut process),
            process,
            output,
        }
    }

    /// The next thing that it says; `None` once it has ended.
    pub(crate) fn hear(&mut self) -> Option<String> {
        let lines = self.output.by_ref().lines().map_while(Result::ok);
        let mut said = lines.filter_map(|line| line.strip_prefix(SAYS).map(str::to_string));
        said.next()
    }

    /// Lets it go on.
    pub(crate) fn tell(&mut self) {
        drop(self.process.stdin.take());
    }

    /// Waits until it has ended; says whether it ended well.
    pub(crate) fn finish(mut self) -> bool {
        while self.hear().is_some() {}
        self.process.wait().unwrap().success()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
#[ignore = "the part that other tests give to a process of their own"]
fn play_a_part() {
    let Ok(text) = std::env::var(PART) else {
        return;
    };
    let (part, arguments) = text.split_once(' ').unwrap();
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    match part {
        "owner" => crate::life::own_a_traefik(&arguments),
        "host" => crate::guests::be_a_host(&arguments),
        "owner_of_one" => crate::guests::own(&arguments),
        "adder" => crate::processes::add_many(&arguments),
        "scribbler" => crate::processes::scribble(&arguments),
        "disk" => crate::faults::disk::play(&arguments),
        "nobody" => crate::faults::disk::may_not_touch_it(&arguments),
        "committer" => crate::faults::flush::commit(&arguments),
        "mixer" => crate::faults::many::mix(&arguments),
        "churner" => crate::faults::kill::churn(&arguments),
        #[cfg(feature = "tls")]
        "blabber" => crate::secrets::blab(),
        "pusher" => crate::faults::pushed::push(&arguments),
        "network" => crate::faults::etcd::cut_nodes_off(),
        "locker" => crate::files::hold_the_lock(&arguments),
        "writer" => crate::files::write_to_a_full_disk(&arguments),
        _ => panic!("no such part: {part}"),
    }
}
