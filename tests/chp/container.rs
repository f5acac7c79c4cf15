//! The program as the first process of a container: a user of no rights, and a disk that is read-only but for a
//! temporary folder.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use kit::process::is_alive;
use kit::{Echo, client, eventually, ports};
use tempfile::TempDir;

use crate::support::Proxy;
use crate::support::proxy::ours;

/// `$0` is the temporary folder; the arguments are the program's. The shell leaves a process that has lost its
/// parent, as those do that look into a container.
const CONTAINER: &str = r#"
mount -t tmpfs -o mode=1777 tmpfs "$0" || exit 9
mount -o remount,bind,ro / || exit 9
(sleep 1 &)
exec "$@"
"#;

/// Runs the program, and says which process of ours is the first one there.
fn contained(temporary: &TempDir, arguments: &[&str]) -> (Proxy, u32) {
    let program = ours();
    let mut command = Command::new("unshare");
    let environment = program
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    command.envs(environment).env("TMPDIR", temporary.path());
    // Nothing is forbidden to root, and others have no rights outside.
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        command.arg("--map-root-user");
    }
    command
        .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(["sh", "-c", CONTAINER])
        .arg(temporary.path());
    if is_root {
        command
            .args(["setpriv", "--reuid=65534", "--regid=65534"])
            .args(["--clear-groups", "--no-new-privs", "--bounding-set=-all"]);
    }
    command.arg(program.get_program()).arg("chp");
    let proxy = Proxy::spawn(command, arguments);
    proxy.wait_until_ready();
    let first = children(proxy.child.id());
    assert_eq!(first.len(), 1, "{}", proxy.log());
    (proxy, first[0])
}

/// The processes with this parent, zombies among them.
fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest);
        let field = fields.and_then(|rest| rest.split(' ').nth(1));
        field == Some(&*parent.to_string())
    };
    numbers.filter(is_child).collect()
}

fn command_of(process: u32) -> String {
    fs::read_to_string(Path::new("/proc").join(format!("{process}/comm"))).unwrap_or_default()
}

#[test]
fn first_process_serves_and_reaps() {
    let (echo, temporary) = (Echo::start(), tempfile::tempdir().unwrap());
    let metrics = ports::free();
    let (mut proxy, first) = contained(
        &temporary,
        &[
            "--metrics-ip",
            "127.0.0.1",
            "--metrics-port",
            &metrics.to_string(),
        ],
    );
    let probe = |path| client::get(metrics, "h", path).status;
    assert_eq!((probe("/livez"), probe("/readyz")), (200, 200));
    eventually("it says which Traefik there is", || {
        let log = proxy.log();
        let is_version = |line: &str| line.contains("Traefik at http://") && line.contains(": 3.");
        log.contains("traefik-router 0.") && log.lines().any(is_version)
    });
    proxy.add("/x", &echo.url());
    assert_eq!(proxy.through("/x").landed(), Some(echo.port));
    eventually("the orphan is reaped", || {
        children(first)
            .into_iter()
            .all(|child| command_of(child).trim() != "sleep")
    });
    // The program itself, and nothing that has ended.
    let only = children(first);
    assert!(only.len() == 1 && is_alive(only[0]), "{only:?}");
    let guardians = children(only[0]);
    assert_eq!(guardians.len(), 1, "the shell that watches over Traefik");
    kit::process::send_signal(guardians[0], "KILL");
    eventually("the shell is reaped", || children(only[0]).is_empty());
    assert_eq!(proxy.through("/x").landed(), Some(echo.port));
    kit::process::send_signal(first, "TERM");
    assert!(proxy.wait_for_end().success(), "{}", proxy.log());
}

#[test]
fn first_process_ends_as_program_does() {
    let temporary = tempfile::tempdir().unwrap();
    let (mut proxy, first) = contained(&temporary, &[]);
    let mut program = children(first).into_iter();
    let program = program.find(|child| command_of(*child).trim() != "sleep");
    kit::process::send_signal(program.unwrap(), "KILL");
    assert_eq!(
        proxy.wait_for_end().code(),
        Some(128 + 9),
        "{}",
        proxy.log()
    );
}
