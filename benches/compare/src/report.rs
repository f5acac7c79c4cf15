//! What was measured: as JSON, as a table, as a plot, and against the targets.

use std::fs;

use kit::{provenance, tools};
use serde_json::{Value, json};

use crate::ours::PUSH;
use crate::plot::{self, Line, Panel};
use crate::stats::quantile;
use crate::{Result, Row};

pub(super) fn at(samples: &[f64], share: f64) -> Option<f64> {
    let value = quantile(&mut samples.to_vec(), share);
    value.is_finite().then_some(value)
}

impl Row {
    fn median(samples: &[f64]) -> Option<f64> {
        at(samples, 0.5)
    }

    /// Samples come in steps that are longer than most of them.
    fn mean(samples: &[f64]) -> Option<f64> {
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        mean.is_finite().then_some(mean)
    }

    /// The floor that waits for the disk if ours does.
    fn fair_floor(&self) -> &[f64] {
        match &*self.flushed {
            [] => &self.floor,
            flushed => flushed,
        }
    }

    /// The floor of a file that waits for nothing.
    fn bare_rename(&self) -> &[f64] {
        match (&*self.file, &*self.flushed) {
            ([], []) => &[],
            ([], _) => &self.floor,
            (file, _) => file,
        }
    }

    fn ratio(&self) -> Option<f64> {
        Some(Self::median(&self.ours)? / Self::median(self.fair_floor())?)
    }

    /// Ours, pushed, to the floor of a file.
    fn ratio_to_file(&self) -> Option<f64> {
        Some(Self::median(&self.ours)? / Self::median(&self.file)?)
    }

    fn cpu_ratio_to_file(&self) -> Option<f64> {
        Some(Self::mean(&self.traefik_cpu)? / Self::mean(&self.file_cpu)?)
    }

    /// How many times longer the other side takes.
    fn times(&self, other: &[f64]) -> Option<f64> {
        Some(Self::median(other)? / Self::median(&self.ours)?)
    }

    fn more(&self, key: &str) -> Option<f64> {
        self.more.get(key)?.as_f64()
    }

    fn to_json(&self) -> Value {
        let mut row = json!({
            "case": self.case,
            "backend": self.backend,
            "routes": self.routes,
            "floor_ms": Self::median(&self.floor),
            "floor_p95_ms": at(&self.floor, 0.95),
            "floor_flushed_ms": Self::median(&self.flushed),
            "floor_flushed_p95_ms": at(&self.flushed, 0.95),
            "file_floor_ms": Self::median(&self.file),
            "ours_ms": Self::median(&self.ours),
            "ours_p95_ms": at(&self.ours, 0.95),
            "ours_stored_ms": Self::median(&self.stored),
            "ratio": self.ratio(),
            "peer_ms": Self::median(&self.peer),
            "peer_cheap_hash_ms": Self::median(&self.cheap),
            "ours_cpu_ms": Self::median(&self.cpu),
            "traefik_cpu_ms": Self::mean(&self.traefik_cpu),
            "floor_traefik_cpu_ms": Self::mean(&self.floor_cpu),
            "file_floor_traefik_cpu_ms": Self::mean(&self.file_cpu),
            "floor_samples": self.floor.len(),
            "ours_samples": self.ours.len(),
            "peer_samples": self.peer.len(),
            "peer_cheap_hash_samples": self.cheap.len(),
        });
        if let Some(row) = row.as_object_mut() {
            row.extend(self.more.clone());
        }
        row
    }
}

/// Writes the three files.
pub(super) fn save(rows: &[Row]) -> Result {
    let target = tools::workspace().join("target");
    let lines: Vec<String> = rows.iter().map(|row| row.to_json().to_string()).collect();
    fs::write(
        target.join("compare.json"),
        format!("[\n{}\n]\n", lines.join(",\n")),
    )?;
    let text = format!("{}\n{}", markdown(rows), targets(rows));
    fs::write(target.join("compare.md"), text)?;
    fs::write(target.join("compare.svg"), plot(rows))?;
    Ok(())
}

pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| case | backend | routes | floor, ms (p95) | ours, ms (p95) | ours / floor | bare rename, ms \
         | our CPU, ms | Traefik's CPU, ms | peer, ms | cheap hash, ms | peer / ours | cheap / ours |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let both = |samples: &[f64]| match (at(samples, 0.5), at(samples, 0.95)) {
            (Some(median), Some(p95)) if samples.len() > 1 => {
                format!("{} ({})", short(median), short(p95))
            }
            (Some(median), _) => short(median),
            _ => String::new(),
        };
        let one = |value: Option<f64>| value.map(short).unwrap_or_default();
        let ratio = |value: Option<f64>| value.map(|v| format!("{v:.2}")).unwrap_or_default();
        let times = |value: Option<f64>| value.map(|v| format!("{v:.0} ×")).unwrap_or_default();
        let cells = [
            row.case.clone(),
            row.backend.clone(),
            row.routes.to_string(),
            both(row.fair_floor()),
            both(&row.ours),
            ratio(row.ratio()),
            one(Row::median(row.bare_rename())),
            one(Row::median(&row.cpu)),
            one(Row::mean(&row.traefik_cpu)),
            one(Row::median(&row.peer)),
            one(Row::median(&row.cheap)),
            times(row.times(&row.peer)),
            times(row.times(&row.cheap)),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text.push_str(
        "\nMedians; of Traefik's CPU the mean. The floor is Traefik itself: a rename that waits for the \
         disk as ours does, the bare transaction or the bare PUT, until its API shows it. Bare rename: one \
         that waits for nothing, of TOML where ours is pushed. Reads from etcd are as old as \
         `max_age` allows; those that are uncached ask it each time. The peer is jupyterhub-traefik-proxy 2.1.0, as it comes and with a cheap \
         password hash; its change and its delete return without waiting for Traefik. The peer's \
         routes of `apply` and `concurrent` are added 10 at a time. The floor of `concurrent` is \
         one reload with all routes.\n",
    );
    text + &provenance() + "\n"
}

/// Three digits that count.
pub(super) fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 0.1 => format!("{v:.2}"),
        v => format!("{v:.4}"),
    }
}

/// Whether one thing is as it must be, as a line.
pub(super) fn verdict(what: &str, value: f64, bound: f64, at_least: bool, unit: &str) -> String {
    let met = if at_least {
        value >= bound
    } else {
        value <= bound
    };
    let (word, sign) = (
        if met { "ok    " } else { "MISSED" },
        if at_least { "≥" } else { "≤" },
    );
    let (value, bound) = (short(value), short(bound));
    format!("{word} {what}: {value}{unit} ({sign} {bound}{unit})\n")
}

/// A line for each thing that must be true.
pub(super) fn targets(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut check = |what: String, value: Option<f64>, bound: f64, at_least: bool, unit: &str| {
        if let Some(value) = value {
            text.push_str(&verdict(&what, value, bound, at_least, unit));
        }
    };
    for row in rows {
        let name = format!("{} {} at {}", row.backend, row.case, row.routes);
        let is_single = super::SINGLE.contains(&&*row.case);
        let is_push = row.backend == PUSH;
        if is_single || row.case.starts_with("apply") {
            let bound = if is_push && row.routes == 0 && is_single {
                1.35
            } else {
                1.2
            };
            check(
                format!("{name}, ours / floor"),
                row.ratio(),
                bound,
                false,
                " ×",
            );
        }
        if is_single {
            let p95 = at(&row.ours, 0.95).zip(at(row.fair_floor(), 0.95));
            let p95 = p95.map(|(ours, floor)| ours / floor);
            check(format!("{name}, ours / floor, p95"), p95, 2.0, false, " ×");
            let bound = match row.routes {
                1_000 => 2.0,
                10_000 => 20.0,
                _ => f64::INFINITY,
            };
            if !["etcd", PUSH].contains(&&*row.backend) && bound.is_finite() {
                check(
                    format!("{name}, our CPU"),
                    Row::median(&row.cpu),
                    bound,
                    false,
                    " ms",
                );
                let process = row.more("ours_process_cpu_ms");
                check(
                    format!("{name}, our process's CPU"),
                    process,
                    bound,
                    false,
                    " ms",
                );
            }
            if row.case == "add" && row.routes == 10_000 {
                check(
                    format!("{name}, our memory"),
                    row.more("ours_rss_mb"),
                    if is_push { 80.0 } else { 60.0 },
                    false,
                    " MB",
                );
            }
        }
        if is_push && is_single {
            let (bound, cpu_bound) = match row.routes {
                100 => (0.70, None),
                1_000 => (0.57, Some(0.57)),
                10_000 => (0.55, Some(0.57)),
                _ => continue,
            };
            let file = row.ratio_to_file();
            check(
                format!("{name}, ours / bare rename"),
                file,
                bound,
                false,
                " ×",
            );
            if let Some(bound) = cpu_bound {
                check(
                    format!("{name}, Traefik's CPU, ours / bare rename"),
                    row.cpu_ratio_to_file(),
                    bound,
                    false,
                    " ×",
                );
            }
            if row.routes == 10_000 {
                let etcd = rows.iter().find(|other| {
                    (&*other.backend, &other.case, other.routes) == ("etcd", &row.case, row.routes)
                });
                let etcd = etcd.and_then(|etcd| Row::median(&etcd.floor));
                let ratio = Row::median(&row.ours)
                    .zip(etcd)
                    .map(|(ours, etcd)| ours / etcd);
                check(
                    format!("{name}, ours / etcd's floor"),
                    ratio,
                    0.3,
                    false,
                    " ×",
                );
            }
        }
        let (peer, cheap) = (row.times(&row.peer), row.times(&row.cheap));
        let bounds = match row.case.split(' ').next() {
            Some("add") if row.routes == 100 => Some((50.0, 12.0)),
            Some("concurrent") => Some((40.0, 10.0)),
            Some("apply") => Some((100.0, 100.0)),
            _ => None,
        };
        if let Some((as_it_comes, with_cheap)) = bounds {
            check(
                format!("{name}, peer / ours"),
                peer,
                as_it_comes,
                true,
                " ×",
            );
            check(
                format!("{name}, peer with cheap hash / ours"),
                cheap,
                with_cheap,
                true,
                " ×",
            );
        }
        if row.case == "concurrent 1000" {
            let reload = Row::median(&row.floor);
            // 3 s where a reload takes 65 ms.
            let total = row.ratio();
            check(
                format!("{name}, total / reload"),
                total,
                3_000.0 / 65.0,
                false,
                "",
            );
            let p99 = row
                .more("p99_ms")
                .zip(reload)
                .map(|(p99, reload)| p99 / reload);
            check(
                format!("{name}, p99 of a call / reload"),
                p99,
                4.0,
                false,
                "",
            );
        }
        let bound = match &*row.case {
            "get" | "resolve" => 0.01,
            "get_all" => 5.0,
            _ => continue,
        };
        check(name, Row::median(&row.ours), bound, false, " ms");
    }
    text
}

/// Time of an add against the size of the table, a panel for each backend, both axes logarithmic.
fn plot(rows: &[Row]) -> String {
    let panels = ["toml", "yaml", "etcd", PUSH].map(|backend| {
        let mut rows: Vec<&Row> = rows
            .iter()
            .filter(|row| row.backend == backend && row.case == "add" && row.routes <= 10_000)
            .collect();
        rows.sort_by_key(|row| row.routes);
        panel(backend, &rows)
    });
    plot::svg(&panels)
}

fn panel(backend: &str, rows: &[&Row]) -> Panel {
    // A table without routes stands where one route would.
    let x = |routes: usize| (routes.max(1) as f64).log10() / 4.0;
    // From 1 ms to 10 s.
    let y = |ms: f64| ms.clamp(1.0, 1e4).log10() / 4.0;
    type Side = (&'static str, &'static str, fn(&Row) -> &[f64]);
    let sides: [Side; 5] = [
        ("floor", "#888888", Row::fair_floor),
        ("traefik-router", "#1f77b4", |row| &row.ours),
        ("floor of a TOML file", "#2ca02c", |row| &row.file),
        ("proxy 2.1", "#d62728", |row| &row.peer),
        ("2.1, cheap hash", "#ff9f4a", |row| &row.cheap),
    ];
    let line = |(name, colour, samples): Side| Line {
        name,
        colour,
        points: rows
            .iter()
            .filter_map(|row| Some((x(row.routes), y(Row::median(samples(row))?))))
            .collect(),
    };
    let sizes = [(1, "0"), (100, "100"), (1_000, "1,000"), (10_000, "10,000")];
    let times = [
        (1.0, "1 ms"),
        (1e1, "10 ms"),
        (1e2, "100 ms"),
        (1e3, "1 s"),
        (1e4, "10 s"),
    ];
    Panel {
        title: format!("add, {backend}"),
        x: sizes
            .map(|(routes, label)| (x(routes), label.into()))
            .into(),
        y: times.map(|(ms, label)| (y(ms), label.into())).into(),
        lines: sides
            .map(line)
            .into_iter()
            .filter(|line| !line.points.is_empty())
            .collect(),
    }
}
