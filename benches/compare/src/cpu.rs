//! What Linux tells of CPUs.

use std::fmt::Display;
use std::fs;
use std::time::{Duration, Instant};

use crate::Result;

/// Linux counts in hundredths of a second.
const TICK_MS: f64 = 10.0;

/// The milliseconds that a process has used, dead threads included.
pub(super) fn of_process(process: impl Display) -> Result<f64> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // The name before the bracket may hold anything.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() * TICK_MS)
}

/// The CPU of a process from one sample to the next, so that work which goes on after a sample counts too.
pub(super) struct Meter {
    process: u32,
    last: f64,
}

impl Meter {
    pub(super) fn new(process: u32) -> Result<Self> {
        let last = of_process(process)?;
        Ok(Self { process, last })
    }

    /// The milliseconds that it has used since the last call. They come in steps of ten: only the mean of
    /// many says something.
    pub(super) fn lap(&mut self) -> Result<f64> {
        let now = of_process(self.process)?;
        Ok(now - std::mem::replace(&mut self.last, now))
    }

    /// Waits until the process has done nothing for a while, at most for two minutes.
    pub(super) fn until_idle(&self) -> Result {
        let (start, mut last) = (Instant::now(), f64::NEG_INFINITY);
        while start.elapsed() < Duration::from_secs(120) {
            let now = of_process(self.process)?;
            if now - last <= TICK_MS {
                break;
            }
            last = now;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}

/// The milliseconds that this core was at work, for whomever.
pub(super) fn of_core(core: usize) -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{core} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    let line = line.ok_or_else(|| format!("/proc/stat has no core {core}"))?;
    let fields: Vec<f64> = line
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let &[user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = fields.as_slice() else {
        return Err(format!("/proc/stat: {line}").into());
    };
    Ok((user + nice + system + irq + softirq + steal) * TICK_MS)
}

/// The cores that we may run on.
pub(super) fn cores() -> Result<Vec<usize>> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    parse_list(
        line.ok_or("/proc/self/status has no Cpus_allowed_list")?
            .trim(),
    )
}

/// Such as `0-2,5`.
fn parse_list(list: &str) -> Result<Vec<usize>> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>()?..=last.parse()?);
    }
    Ok(cores)
}

#[cfg(test)]
mod tests {
    use super::parse_list;

    #[test]
    fn lists_of_cores() {
        assert_eq!(parse_list("0-2,5").ok(), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_list("7").ok(), Some(vec![7]));
        assert!(parse_list("").is_err());
    }
}
