//! What a figure comes from.

use std::process::Command;

use crate::tools::workspace;

/// The commit and the machine of a measurement, as a sentence.
pub fn provenance() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--exclude=*"]);
    let said = git.current_dir(workspace()).output();
    let commit = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    let commit = commit.ok().filter(|commit| !commit.is_empty());
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    format!(
        "Commit {} on {} cores of {}.",
        commit.as_deref().unwrap_or("unknown"),
        std::thread::available_parallelism().map_or(0, usize::from),
        model.as_deref().unwrap_or("an unknown processor"),
    )
}
