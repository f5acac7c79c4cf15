//! What the tests are made of: free ports, backends that echo, a raw HTTP client, Traefik.

pub(crate) mod child;
pub(crate) mod client;
pub(crate) mod echo;
pub(crate) mod external;
pub(crate) mod network;
pub(crate) mod pem;
pub(crate) mod ports;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod rig;
pub(crate) mod shared_etcd;
mod wait;

pub(crate) use client::Request;
pub(crate) use echo::Echo;
pub(crate) use external::External;
pub(crate) use proxy::{Mood, Proxy};
pub(crate) use random::Random;
pub(crate) use rig::{Kind, Rig, on_each_backend, on_each_file, on_push};
pub(crate) use wait::eventually;

/// The processes that have `text` in their command line.
pub(crate) fn processes_naming(text: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(text)).collect()
}

/// Sends a signal, such as `STOP`, to a process that a test has started.
#[track_caller]
pub(crate) fn send_signal(process: u32, signal: &str) {
    let mut kill = std::process::Command::new("kill");
    let kill = kill.args([&format!("-{signal}"), &process.to_string()]);
    assert!(kill.status().unwrap().success(), "{kill:?}");
    if signal == "STOP" {
        eventually("all of its threads stand still", || {
            let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
            let stat =
                |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat"));
            let stats: Vec<_> = threads.flatten().flat_map(stat).collect();
            stats.iter().all(|stat| stat.contains(") T "))
        });
    }
}
