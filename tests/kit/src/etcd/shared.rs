//! One etcd for all tests of a process.

use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use super::{is_healthy, listen};
use crate::tools::ETCD;
use crate::{eventually, ports};

/// Ends etcd when the other end of its input is closed: however this process ends.
const LEASHED: &str = r#"
"$@" >"$0/log" 2>&1 &
read -r _
kill -KILL $!
wait
rm -rf "$0"
"#;

struct Shared {
    url: String,
    _leash: ChildStdin,
}

/// The URL of an etcd that all tests of this process share. It ends with the process.
pub fn shared_url() -> &'static str {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    &SHARED.get_or_init(start).url
}

fn start() -> Shared {
    let folder = tempfile::tempdir().unwrap().keep();
    let [url, peer] = [(); 2].map(|()| format!("http://127.0.0.1:{}", ports::free()));
    let mut command = leashed(&folder, &ETCD.path());
    command
        .arg("--data-dir")
        .arg(folder.join("data"))
        .arg("--unsafe-no-fsync");
    let cluster = format!("default={peer}");
    listen(&mut command, &url, &peer, &peer, &cluster);
    let mut shell = command.stdin(Stdio::piped()).spawn().unwrap();
    let leash = shell.stdin.take().unwrap();
    // It is waited for by whoever inherits it: it ends after this process.
    drop(shell);
    eventually("etcd serves", || is_healthy(&url));
    Shared { url, _leash: leash }
}

fn leashed(folder: &Path, program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", LEASHED]).arg(folder).arg(program);
    command
}
