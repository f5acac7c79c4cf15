//! One etcd for all tests of this process; each of them has prefixes of its own.

use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use traefik_router::etcd::{Client, MAX_OPS, Op, Txn};

use super::{eventually, ports};
use crate::etcd_server::{binaries, listen};

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

/// The newest etcd that there is, by its URL.
pub(crate) fn url() -> &'static str {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    &SHARED.get_or_init(start).url
}

fn start() -> Shared {
    let folder = tempfile::tempdir().unwrap().keep();
    let [url, peer] = [(); 2].map(|()| format!("http://127.0.0.1:{}", ports::free()));
    let binary = binaries().pop().unwrap();
    let mut command = leashed(&folder, &binary);
    command.arg("--data-dir").arg(folder.join("data"));
    listen(&mut command, &url, &peer, &format!("default={peer}"));
    let mut shell = command.stdin(Stdio::piped()).spawn().unwrap();
    let leash = shell.stdin.take().unwrap();
    // It is waited for by whoever inherits it: it ends after this process.
    drop(shell);
    eventually("etcd serves", || client(&url).status().is_ok());
    Shared { url, _leash: leash }
}

fn leashed(folder: &Path, program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", LEASHED]).arg(folder).arg(program);
    command
}

pub(crate) fn client(url: &str) -> Client {
    Client::new([url]).unwrap()
}

/// All keys below these prefixes, one a line, each with its value as JSON.
pub(crate) fn text(url: &str, prefixes: &[String]) -> String {
    let trees = prefixes
        .iter()
        .map(|prefix| client(url).get_prefix(prefix).unwrap());
    let line = |pair: traefik_router::etcd::KeyValue| {
        let [key, value] = [pair.key, pair.value].map(|bytes| String::from_utf8(bytes).unwrap());
        format!("{key} {}\n", serde_json::Value::from(value))
    };
    trees.flat_map(|tree| tree.kvs).map(line).collect()
}

/// Makes the keys below these prefixes be what the text says, in one step.
pub(crate) fn write(url: &str, prefixes: &[String], new: &str) {
    let old = text(url, prefixes);
    let keys = |text: &str| -> Vec<(String, String)> {
        let pair = |line: &str| {
            let (key, value) = line.split_once(' ').unwrap();
            (key.to_string(), serde_json::from_str(value).unwrap())
        };
        text.lines().map(pair).collect()
    };
    let (old, new) = (keys(&old), keys(new));
    let gone = old
        .iter()
        .filter(|(key, _)| !new.iter().any(|(n, _)| n == key));
    let set = new.iter().filter(|pair| !old.contains(pair));
    let ops =
        (gone.map(|(key, _)| Op::delete(key))).chain(set.map(|(key, value)| Op::put(key, value)));
    client(url).txn(&Txn::pack(ops, MAX_OPS).unwrap()).unwrap();
}
