//! Who works on which core, and what wrk counts.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::{Result, cpu};

/// Connections that wrk keeps open, with one request under way on each.
const CONNECTIONS: usize = 32;

/// The proxy under load has one core; wrk and the target have another one.
pub(super) struct Cores {
    pub(super) proxy: usize,
    pub(super) load: usize,
}

impl Cores {
    pub(super) fn choose() -> Result<Self> {
        match cpu::cores()?.as_slice() {
            &[proxy, load, ..] => Ok(Self { proxy, load }),
            _ => Err("two cores are needed: one for the proxy, one for the load".into()),
        }
    }
}

/// `taskset` becomes the program.
pub(super) fn on_core(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &core.to_string()]).arg(program);
    command
}

/// What one run of wrk came to.
pub(super) struct Sample {
    /// Requests per second.
    pub(super) rate: f64,
    /// The proxy's CPU for a request, in microseconds.
    pub(super) cpu_us: f64,
    /// How much of the time the proxy was at work, and the core of the load.
    pub(super) proxy_busy: f64,
    pub(super) load_busy: f64,
}

/// Lets wrk ask for this path, through the process that listens on this port.
pub(super) fn sample(
    wrk: &Path,
    cores: &Cores,
    (process, port): (u32, u16),
    path: &str,
    seconds: usize,
) -> Result<Sample> {
    let usage = || -> Result<_> { Ok((cpu::of_process(process)?, cpu::of_core(cores.load)?)) };
    let (before, start) = (usage()?, Instant::now());
    let output = on_core(cores.load, wrk)
        .args(["--threads=1", "--timeout=10s"])
        .arg(format!("--connections={CONNECTIONS}"))
        .arg(format!("--duration={seconds}s"))
        .arg(format!("http://127.0.0.1:{port}{path}"))
        .output()
        .map_err(|error| format!("can't run wrk through taskset: {error}"))?;
    let (after, ms) = (usage()?, start.elapsed().as_secs_f64() * 1e3);
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || said.contains("Socket errors") || said.contains("Non-2xx") {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{path}: wrk has failed:\n{said}{errors}").into());
    }
    let (requests, rate) = counted(&said).ok_or_else(|| format!("wrk said:\n{said}"))?;
    let cpu = after.0 - before.0;
    Ok(Sample {
        rate,
        cpu_us: cpu * 1e3 / requests,
        proxy_busy: cpu / ms,
        load_busy: (after.1 - before.1) / ms,
    })
}

/// The requests, and how many a second.
fn counted(said: &str) -> Option<(f64, f64)> {
    let requests = said
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "));
    let rate = said
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"));
    Some((requests?.0.parse().ok()?, rate?.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn what_wrk_says() {
        let said = "Running 2s test @ http://127.0.0.1:1/\n  33610 requests in 2.00s, 4.07MB read\n\
                    Requests/sec:  16792.31\nTransfer/sec:      2.03MB\n";
        assert_eq!(counted(said), Some((33610.0, 16792.31)));
        assert_eq!(counted("unable to connect"), None);
    }
}
