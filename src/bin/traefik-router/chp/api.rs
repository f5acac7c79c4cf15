//! The REST API.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use traefik_router::{Applied, Error, ErrorKind};

use super::metrics::Metrics;
use super::routes::{Routes, decode, without_query};
use super::server::{Request, Response};
use crate::wording::for_chp;

/// A longer body is refused; JupyterHub's have some hundred bytes.
pub(super) const MAX_BODY: usize = 1 << 20;

pub(super) struct Api {
    pub(super) routes: Arc<Routes>,
    pub(super) metrics: Arc<Metrics>,
    /// Without one, everybody may change routes.
    pub(super) token: Option<String>,
}

impl Api {
    /// Refuses what nobody may ask, or not without the token.
    pub(super) fn refuse(&self, request: &Request) -> Option<Response> {
        let refusal = if routes_path(request).is_none() {
            Response::text(404, "Not Found")
        } else if !["GET", "POST", "DELETE"].contains(&request.method()) {
            Response::text(405, "Method not supported")
        } else if !self.is_authorized(request) {
            Response::empty(403)
        } else {
            return None;
        };
        Some(self.report(request, refusal))
    }

    /// Answers what was not refused.
    pub(super) fn answer(&self, request: &Request, body: &[u8]) -> Response {
        let path = routes_path(request).unwrap_or_default();
        if request.method() != "GET" {
            if let Err(error) = self.routes.restore_folder() {
                return self.report(request, Response::text(503, error));
            }
        }
        let answer = match request.method() {
            "GET" => self.get(path, request.query()),
            "POST" => self.post(path, body),
            _ => self.delete(path),
        };
        let failed = |error: Error| Response::text(status(&error), for_chp(&error.to_string()));
        self.report(request, answer.unwrap_or_else(failed))
    }

    /// The answer, once it stands in the log and the metrics.
    fn report(&self, request: &Request, answer: Response) -> Response {
        self.metrics.answered(request.method(), answer.status);
        let level = match answer.status {
            ..400 => log::Level::Info,
            400..500 => log::Level::Warn,
            _ => log::Level::Error,
        };
        let why = if answer.status < 400 {
            "".into()
        } else {
            String::from_utf8_lossy(&answer.body)
        };
        log::log!(
            level,
            "{} {} {} {why}",
            answer.status,
            request.method(),
            request.path()
        );
        answer
    }

    fn get(&self, path: &str, query: &str) -> Result<Response, Error> {
        if !path.trim_matches('/').is_empty() {
            let data = self.routes.get(path)?;
            return Ok(data.map_or(Response::empty(404), |data| Response::json(200, &data)));
        }
        let parameters = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut since =
            parameters.filter(|(name, _)| ["inactive_since", "inactiveSince"].contains(name));
        let routes = match since.find(|(_, time)| !time.is_empty()) {
            None => self.routes.all(None)?,
            Some((_, time)) => {
                let time = decode(time);
                let Ok(since) = timestamp(&time) else {
                    let why = format!("Invalid datestamp '{time}' must be ISO8601.");
                    return Ok(Response::text(400, why));
                };
                self.routes.all(Some(since))?
            }
        };
        Ok(Response::json(200, &routes))
    }

    fn post(&self, path: &str, body: &[u8]) -> Result<Response, Error> {
        let data: Map<String, Value> = match serde_json::from_slice(body) {
            Ok(Value::Object(data)) => data,
            Ok(_) => Map::new(),
            Err(error) => {
                return Ok(Response::text(400, format!("Body not valid JSON: {error}")));
            }
        };
        let Some(target) = data
            .get("target")
            .and_then(Value::as_str)
            .map(str::to_string)
        else {
            return Ok(Response::text(400, "Must specify 'target' as string"));
        };
        let applied = self.routes.add(path, data, &target)?;
        self.note(&applied);
        log::info!("Route added {} -> {}", shown(path), without_query(&target));
        Ok(Response::empty(201))
    }

    fn delete(&self, path: &str) -> Result<Response, Error> {
        let Some(applied) = self.routes.delete(path)? else {
            return Ok(Response::empty(404));
        };
        self.note(&applied);
        log::info!("Route removed {}", shown(path));
        Ok(Response::empty(204))
    }

    fn note(&self, applied: &Applied) {
        self.metrics.applied(applied);
    }

    fn is_authorized(&self, request: &Request) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let given = request.header("authorization").and_then(token_in);
        given.is_some_and(|given| given.as_bytes().ct_eq(token.as_bytes()).into())
    }
}

/// What follows `/api/routes`, where that is asked for.
fn routes_path(request: &Request) -> Option<&str> {
    let path = request.path().strip_prefix("/api/routes")?;
    (path.is_empty() || path.starts_with('/')).then_some(path)
}

/// The path as answers show it.
fn shown(path: &str) -> String {
    format!("/{}", decode(path).trim_matches('/'))
}

/// The first word that follows `token` and white space, wherever that is.
fn token_in(header: &str) -> Option<&str> {
    let mut after = header
        .match_indices("token")
        .map(|(at, word)| &header[at + word.len()..]);
    after.find_map(|rest| {
        let word = rest.trim_start();
        (word.len() < rest.len() && !word.is_empty()).then(|| word.split_whitespace().next())?
    })
}

/// JupyterHub tries again for half a minute what was answered with 500 or more.
fn status(error: &Error) -> u16 {
    match error.kind() {
        ErrorKind::InvalidRoute => 400,
        ErrorKind::Refused
        | ErrorKind::Corrupt
        | ErrorKind::InvalidConfig
        | ErrorKind::Internal => 500,
        _ => 503,
    }
}

/// A time in ISO 8601; without an offset it is meant to be UTC.
fn timestamp(time: &str) -> Result<Timestamp, jiff::Error> {
    time.parse().or_else(|_| {
        let time: jiff::civil::DateTime = time.parse()?;
        Ok(time.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_read_from_header() {
        for (header, token) in [
            ("token secret", Some("secret")),
            ("token \t secret", Some("secret")),
            ("Bearer x, token secret more", Some("secret")),
            ("mytoken secret", Some("secret")),
            ("tokentoken secret", Some("secret")),
            ("Token secret", None),
            ("token", None),
            ("token ", None),
            ("tokensecret", None),
            ("secret", None),
        ] {
            assert_eq!(token_in(header), token, "{header:?}");
        }
    }
}
