//! What the proxy counts, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use traefik_router::{Applied, Lag};

use crate::sync::unpoisoned;

/// The upper bounds of the histograms' buckets, in seconds.
const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

#[derive(Debug, Default)]
pub(super) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    stored: Mutex<Histogram>,
    loaded: Mutex<Histogram>,
    served: Mutex<Histogram>,
    /// Each change counts its share of its commit.
    commits: Mutex<f64>,
    restarts: AtomicU64,
}

/// What was asked of the store and the Traefiks.
pub(super) struct Site {
    /// How many routes are stored, if the store has said so.
    pub(super) routes: Option<usize>,
    pub(super) traefiks: Vec<Lag>,
}

#[derive(Debug, Default, Clone)]
struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Metrics {
    /// Counts an answer of the REST API.
    pub(super) fn answered(&self, method: &str, status: u16) {
        // Any other method would make as many series as a client likes.
        let known = ["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH"];
        let method = known.into_iter().find(|known| *known == method);
        let mut requests = unpoisoned(self.requests.lock());
        *requests
            .entry((method.unwrap_or("other"), status))
            .or_default() += 1;
    }

    /// Counts a change of the routes.
    pub(super) fn applied(&self, applied: &Applied) {
        for (histogram, took) in [
            (&self.stored, Some(applied.stored_after)),
            (&self.loaded, applied.loaded_after),
            (&self.served, applied.served_after),
        ] {
            if let Some(took) = took {
                let mut histogram = unpoisoned(histogram.lock());
                histogram.observe(took);
            }
        }
        if applied.callers > 0 {
            *unpoisoned(self.commits.lock()) += 1.0 / applied.callers as f64;
        }
    }

    /// Counts a Traefik that was started again.
    pub(super) fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// All of it; without a `site` while the program starts.
    pub(super) fn render(&self, site: Option<&Site>) -> String {
        let mut out = String::new();
        let mut line = |text: &str| {
            out.push_str(text);
            out.push('\n');
        };
        line("# HELP traefik_router_chp_api_requests_total Requests to the REST API.");
        line("# TYPE traefik_router_chp_api_requests_total counter");
        let requests = unpoisoned(self.requests.lock()).clone();
        for ((method, code), count) in requests {
            line(&format!(
                "traefik_router_chp_api_requests_total{{method=\"{method}\",code=\"{code}\"}} {count}"
            ));
        }
        if let Some(site) = site {
            let up = u8::from(site.routes.is_some());
            line("# HELP traefik_router_chp_store_up Whether the store answers.");
            line("# TYPE traefik_router_chp_store_up gauge");
            line(&format!("traefik_router_chp_store_up {up}"));
        }
        if let Some(routes) = site.and_then(|site| site.routes) {
            line("# HELP traefik_router_chp_routes Routes in the table.");
            line("# TYPE traefik_router_chp_routes gauge");
            line(&format!("traefik_router_chp_routes {routes}"));
        }
        line(
            "# HELP traefik_router_chp_change_seconds Time from the start of a change's commit to a stage.",
        );
        line("# TYPE traefik_router_chp_change_seconds histogram");
        let stages = [
            ("stored", &self.stored),
            ("loaded", &self.loaded),
            ("served", &self.served),
        ];
        for (stage, histogram) in stages {
            let histogram = unpoisoned(histogram.lock()).clone();
            line(histogram.render(stage).trim_end());
        }
        line(
            "# HELP traefik_router_chp_commits_total Commits that were served; changes that come together share one.",
        );
        line("# TYPE traefik_router_chp_commits_total counter");
        let commits = unpoisoned(self.commits.lock()).round();
        line(&format!("traefik_router_chp_commits_total {commits}"));
        line(
            "# HELP traefik_router_chp_traefik_restarts_total How often Traefik was started again.",
        );
        line("# TYPE traefik_router_chp_traefik_restarts_total counter");
        let restarts = self.restarts.load(Ordering::Relaxed);
        line(&format!(
            "traefik_router_chp_traefik_restarts_total {restarts}"
        ));
        let traefiks = site.map(|site| &*site.traefiks).unwrap_or_default();
        line("# HELP traefik_router_chp_traefik_up Whether Traefik's API answers.");
        line("# TYPE traefik_router_chp_traefik_up gauge");
        for one in traefiks {
            let (url, up) = (&one.url, u8::from(one.behind.is_ok()));
            line(&format!(
                "traefik_router_chp_traefik_up{{traefik=\"{url}\"}} {up}"
            ));
        }
        line(
            "# HELP traefik_router_chp_traefik_lag_seconds Age of the first commit that Traefik does not serve.",
        );
        line("# TYPE traefik_router_chp_traefik_lag_seconds gauge");
        for one in traefiks {
            if let (url, Ok(Some(behind))) = (&one.url, &one.behind) {
                let seconds = behind.as_secs_f64();
                line(&format!(
                    "traefik_router_chp_traefik_lag_seconds{{traefik=\"{url}\"}} {seconds}"
                ));
            }
        }
        out
    }
}

impl Histogram {
    fn observe(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.count += 1;
        self.sum += took;
        for (count, bound) in self.counts.iter_mut().zip(BUCKETS) {
            *count += u64::from(took <= bound);
        }
    }

    fn render(&self, stage: &str) -> String {
        let name = "traefik_router_chp_change_seconds";
        let mut out = String::new();
        let bounds = BUCKETS.iter().map(ToString::to_string);
        let buckets = bounds.zip(self.counts).chain([("+Inf".into(), self.count)]);
        for (bound, count) in buckets {
            // Writing to a String can't fail.
            writeln!(
                out,
                "{name}_bucket{{stage=\"{stage}\",le=\"{bound}\"}} {count}"
            )
            .ok();
        }
        writeln!(out, "{name}_sum{{stage=\"{stage}\"}} {}", self.sum).ok();
        writeln!(out, "{name}_count{{stage=\"{stage}\"}} {}", self.count).ok();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_follow_prometheus_format() {
        let metrics = Metrics::default();
        metrics.answered("POST", 201);
        metrics.answered("POST", 201);
        metrics.answered("BREW", 405);
        metrics.restarted();
        let mut applied = Applied::default();
        applied.stored_after = Duration::from_millis(3);
        applied.loaded_after = Some(Duration::from_millis(40));
        applied.served_after = Some(Duration::from_secs(20));
        applied.callers = 3;
        for _ in 0..3 {
            metrics.applied(&applied);
        }
        let text = metrics.render(Some(&Site {
            routes: Some(7),
            traefiks: Vec::new(),
        }));
        for line in [
            "traefik_router_chp_api_requests_total{method=\"POST\",code=\"201\"} 2",
            "traefik_router_chp_api_requests_total{method=\"other\",code=\"405\"} 1",
            "traefik_router_chp_store_up 1",
            "traefik_router_chp_routes 7",
            "traefik_router_chp_change_seconds_bucket{stage=\"stored\",le=\"0.0025\"} 0",
            "traefik_router_chp_change_seconds_bucket{stage=\"stored\",le=\"0.005\"} 3",
            "traefik_router_chp_change_seconds_bucket{stage=\"served\",le=\"10\"} 0",
            "traefik_router_chp_change_seconds_bucket{stage=\"served\",le=\"+Inf\"} 3",
            "traefik_router_chp_change_seconds_sum{stage=\"served\"} 60",
            "traefik_router_chp_change_seconds_count{stage=\"stored\"} 3",
            "traefik_router_chp_change_seconds_count{stage=\"loaded\"} 3",
            "traefik_router_chp_commits_total 1",
            "traefik_router_chp_traefik_restarts_total 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
