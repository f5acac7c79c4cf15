//! What was measured: as JSON, as a table, as a plot, and against the targets.

use std::fs;

use kit::{provenance, tools};
use serde_json::{Value, json};

use super::load::Sample;
use super::sides::{CHP, FLAT, TREE};
use super::{DIRECT, Reload, Row};
use crate::Result;
use crate::plot::{self, Line, Panel};
use crate::report::{at, short, verdict};

const POSITIONS: [&str; 3] = ["first", "middle", "last"];

impl Row {
    /// A quantile of one of a sample's figures.
    fn at(&self, share: f64, figure: fn(&Sample) -> f64) -> Option<f64> {
        let figures: Vec<f64> = self.samples.iter().map(figure).collect();
        at(&figures, share)
    }

    fn rate(&self) -> Option<f64> {
        self.at(0.5, |sample| sample.rate)
    }

    fn cpu_us(&self) -> Option<f64> {
        self.at(0.5, |sample| sample.cpu_us)
    }

    fn to_json(&self) -> Value {
        json!({
            "proxy": self.side,
            "routes": self.routes,
            "position": self.position,
            "requests_per_s": self.rate(),
            "least_requests_per_s": self.at(0.0, |sample| sample.rate),
            "most_requests_per_s": self.at(1.0, |sample| sample.rate),
            "cpu_us_per_request": self.cpu_us(),
            "proxy_busy": self.at(0.5, |sample| sample.proxy_busy),
            "load_core_busy": self.at(0.5, |sample| sample.load_busy),
            "samples": self.samples.len(),
        })
    }
}

impl Reload {
    fn median(&self) -> Option<f64> {
        at(&self.ms, 0.5)
    }

    fn cpu_ms(&self) -> Option<f64> {
        at(&self.cpu, 0.5)
    }

    fn to_json(&self) -> Value {
        json!({
            "reload": self.layout,
            "routes": self.routes,
            "ms": self.median(),
            "p95_ms": at(&self.ms, 0.95),
            "cpu_ms": self.cpu_ms(),
            "samples": self.ms.len(),
        })
    }
}

/// Writes the three files.
pub(super) fn save(rows: &[Row], reloads: &[Reload]) -> Result {
    let target = tools::workspace().join("target");
    let rows_json = rows.iter().map(Row::to_json);
    let lines: Vec<String> = rows_json
        .chain(reloads.iter().map(Reload::to_json))
        .map(|line| line.to_string())
        .collect();
    fs::write(
        target.join("serving.json"),
        format!("[\n{}\n]\n", lines.join(",\n")),
    )?;
    let text = format!("{}\n{}", markdown(rows, reloads), targets(rows, reloads));
    fs::write(target.join("serving.md"), text)?;
    fs::write(target.join("serving.svg"), plot(rows))?;
    Ok(())
}

/// A table of one route has only a first one.
fn find<'a>(rows: &'a [Row], side: &str, routes: usize, position: &str) -> Option<&'a Row> {
    let position = if routes == 1 { "first" } else { position };
    rows.iter()
        .find(|row| (row.side, row.routes, row.position) == (side, routes, position))
}

fn ratio(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? / other?)
}

pub(super) fn markdown(rows: &[Row], reloads: &[Reload]) -> String {
    let mut text = String::from(
        "| routes | route | flat, req/s (µs) | tree, req/s (µs) | configurable-http-proxy, req/s \
         (µs) | tree / flat | tree / configurable-http-proxy | tree / tree at 1 |\n\
         |--:|---|--:|--:|--:|--:|--:|--:|\n",
    );
    let times = |value: Option<f64>| value.map(|v| format!("{v:.2} ×")).unwrap_or_default();
    for tree in rows.iter().filter(|row| row.side == TREE) {
        let of = |side| find(rows, side, tree.routes, tree.position);
        let figures = |row: Option<&Row>| {
            let figures = row.and_then(|row| Some((row.rate()?, row.cpu_us()?)));
            let text = figures.map(|(rate, cpu)| format!("{rate:.0} ({cpu:.0})"));
            text.unwrap_or_default()
        };
        let against = |row: Option<&Row>| times(ratio(tree.rate(), row.and_then(Row::rate)));
        let cells = [
            tree.routes.to_string(),
            tree.position.to_string(),
            figures(of(FLAT)),
            figures(Some(tree)),
            figures(of(CHP)),
            against(of(FLAT)),
            against(of(CHP)),
            against(find(rows, TREE, 1, tree.position)),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text.push_str(
        "\nMedians of wrk with 32 connections and tiny answers; in brackets the proxy's CPU for a \
         request. The proxy has one core, wrk and the target have another one. All proxies with \
         all tables run at once and take turns. The first, the middle and the last route are so in \
         the order in which Traefik tries a flat table.\n",
    );
    text.push_str(&bounds(rows));
    if !reloads.is_empty() {
        text.push_str(
            "\n| layout | routes | reload, ms (p95) | Traefik's CPU, ms |\n|---|--:|--:|--:|\n",
        );
    }
    for reload in reloads {
        let figure = |value: Option<f64>| value.map(short).unwrap_or_default();
        text.push_str(&format!(
            "| {} | {} | {} ({}) | {} |\n",
            reload.layout,
            reload.routes,
            figure(reload.median()),
            figure(at(&reload.ms, 0.95)),
            figure(reload.cpu_ms()),
        ));
    }
    text + "\n" + &provenance() + "\n"
}

/// What kept the figures from being larger.
fn bounds(rows: &[Row]) -> String {
    let mut text = String::new();
    let (direct, proxies): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.side == DIRECT);
    if let Some(rate) = direct.first().and_then(|row| row.rate()) {
        text.push_str(&format!("Without a proxy: {rate:.0} req/s.\n"));
    }
    let busy = |row: &Row| row.at(0.5, |sample| sample.proxy_busy);
    let idle: Vec<&&Row> = proxies
        .iter()
        .filter(|row| busy(row).is_some_and(|busy| busy < 0.9))
        .collect();
    match idle.as_slice() {
        [] => text.push_str("Every proxy used its core for at least 90 % of the time.\n"),
        idle => {
            text.push_str("NOT bound by the proxy, which used less than 90 % of its core:");
            for row in idle {
                let share = busy(row).unwrap_or_default() * 100.0;
                let (side, routes, position) = (row.side, row.routes, row.position);
                text.push_str(&format!(" {side} at {routes}, {position} ({share:.0} %);"));
            }
            text.push('\n');
        }
    }
    text
}

/// A line for each thing that must be true.
pub(super) fn targets(rows: &[Row], reloads: &[Reload]) -> String {
    let mut text = String::new();
    let mut check = |what: String, value: Option<f64>, bound: f64, at_least: bool| {
        if let Some(value) = value {
            text.push_str(&verdict(&what, value, bound, at_least, " ×"));
        }
    };
    for row in rows.iter().filter(|row| row.side == TREE) {
        let (routes, position) = (row.routes, row.position);
        let against = |side, routes| {
            let other = find(rows, side, routes, position);
            ratio(row.rate(), other.and_then(Row::rate))
        };
        let name = format!("{routes} routes, {position}");
        if routes == 5_000 {
            check(
                format!("{name}, tree / tree at 1"),
                against(TREE, 1),
                0.7,
                true,
            );
        }
        let name = format!("{name}, tree / configurable-http-proxy");
        check(name, against(CHP, routes), 1.5, true);
    }
    let of = |layout| reloads.iter().find(|reload| reload.layout == layout);
    if let (Some(flat), Some(tree)) = (of(FLAT), of(TREE)) {
        let name = format!("{} routes, reload, tree / flat", tree.routes);
        check(name, ratio(tree.median(), flat.median()), 1.1, false);
    }
    text
}

/// Requests per second against the number of routes (logarithmic), a panel for each position.
fn plot(rows: &[Row]) -> String {
    let proxies = rows.iter().filter(|row| row.side != DIRECT);
    let most = proxies.filter_map(Row::rate).fold(1.0, f64::max);
    // The next round figure.
    let step = 5_000.0;
    let top = (most / step).ceil() * step;
    plot::svg(&POSITIONS.map(|position| panel(rows, position, top, step)))
}

fn panel(rows: &[Row], position: &str, top: f64, step: f64) -> Panel {
    let mut sizes: Vec<usize> = rows.iter().map(|row| row.routes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let x = |routes: usize| (routes as f64).log10() / 4.0;
    let sides = [
        (FLAT, "side by side", "#888888"),
        (TREE, "nested", "#1f77b4"),
        (CHP, "configurable-http-proxy", "#d62728"),
    ];
    let line = |(side, name, colour)| Line {
        name,
        colour,
        points: sizes
            .iter()
            .filter_map(|&routes| {
                let rate = find(rows, side, routes, position)?.rate()?;
                Some((x(routes), rate / top))
            })
            .collect(),
    };
    let labels = [
        (1, "1"),
        (10, "10"),
        (100, "100"),
        (1_000, "1,000"),
        (10_000, "10,000"),
    ];
    let ticks = (0..=(top / step) as usize).map(|n| n as f64 * step);
    Panel {
        title: format!("req/s, {position} route"),
        x: labels
            .map(|(routes, label)| (x(routes), label.into()))
            .into(),
        y: ticks
            .map(|rate| (rate / top, format!("{rate:.0}")))
            .collect(),
        lines: sides.map(line).into(),
    }
}
