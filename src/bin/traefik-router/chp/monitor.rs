//! What those who supervise the program ask: whether it is alive, whether it is ready, and its metrics.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::metrics::{Metrics, Site};
use super::routes::Routes;
use super::server::{Request, Response};
use crate::sync::in_background;

/// How long Traefik's answers are waited for. Kubernetes gives a probe a second.
const PATIENCE: Duration = Duration::from_millis(800);

#[derive(Default)]
pub(super) struct Monitor {
    pub(super) metrics: Arc<Metrics>,
    /// Empty until the program serves.
    pub(super) routes: OnceLock<Arc<Routes>>,
}

impl Monitor {
    pub(super) fn answer(&self, request: &Request) -> Response {
        match request.path() {
            "/livez" => Response::text(200, "alive"),
            "/readyz" => match self.ready() {
                Ok(()) => Response::text(200, "ready"),
                Err(why) => Response::text(503, why),
            },
            "/metrics" => {
                let text = self.metrics_text();
                Response::of(200, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            _ => Response::text(404, "Not Found"),
        }
    }

    /// Whether all Traefiks, or a quorum, serve the table.
    fn ready(&self) -> Result<(), String> {
        let routes = self.routes.get().ok_or("it is starting")?;
        let served = routes.router.wait_until_served(PATIENCE);
        served.map_err(|error| error.to_string())
    }

    fn metrics_text(&self) -> String {
        let Some(routes) = self.routes.get() else {
            return self.metrics.render(None);
        };
        let begun = Instant::now();
        let shared = Arc::clone(routes);
        let table = in_background(move || shared.router.get_all_routes());
        let traefiks = routes.router.lag(PATIENCE);
        let left = PATIENCE.saturating_sub(begun.elapsed());
        let table = table.recv_timeout(left).ok().and_then(Result::ok);
        let routes = table.map(|table| table.len());
        self.metrics.render(Some(&Site { routes, traefiks }))
    }
}
