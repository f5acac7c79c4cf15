//! What Traefik has no page for: the health check and the error pages.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;

use super::routes::decode;
use super::server::{Request, Response, reason, tls};
use crate::settings::ChpOptions;
use crate::{client_tls, url};

pub(super) const HEALTH: &str = "/_chp_healthz";
/// How long the server of error pages may take.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_PAGE: u64 = 16 << 20;

/// Where error pages come from.
pub(super) enum Source {
    /// From this program.
    BuiltIn,
    /// A folder with `404.html`, `503.html`, `error.html`.
    Folder(PathBuf),
    /// A server, whose URL ends in a slash.
    Server {
        url: String,
        agent: ureq::Agent,
        /// The pages that are asked of it at a time are few, so that a slow one holds up nothing else:
        /// others are plain meanwhile.
        fetches: Semaphore,
    },
}

pub(super) struct Pages {
    pub(super) source: Source,
    /// The first part of the path that Traefik asks for the page of a failed request by; nobody
    /// else knows it.
    pub(super) secret: String,
}

impl Pages {
    /// Answers what no route is for, and what a route's target has failed to answer.
    pub(super) fn answer(&self, request: &Request) -> Response {
        if request.path() == HEALTH {
            return Response::json(200, &json!({"status": "OK"}));
        }
        let failed = request
            .path()
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(&*self.secret));
        match failed.and_then(|path| path.strip_prefix('/')?.parse().ok()) {
            Some(status) => {
                let query = request.query();
                let url = decode(query.strip_prefix("url=").unwrap_or(query));
                self.page(status, path_of(&url))
            }
            None => self.page(404, &request.url()),
        }
    }

    /// The page for a status and the path and query that were asked for.
    fn page(&self, status: u16, url: &str) -> Response {
        let plain = || Response::text(status, reason(status));
        match &self.source {
            Source::BuiltIn => Response::of(status, "text/html", built_in(status)),
            Source::Folder(folder) => {
                let names = [format!("{status}.html"), "error.html".into()];
                let mut found = names.iter().map(|name| fs::read(folder.join(name)));
                match found.find_map(Result::ok) {
                    Some(page) => Response::of(status, "text/html", page),
                    None => {
                        log::error!(
                            "--error-path: {} has neither {status}.html nor error.html that can be read: a \
                             plain error page is sent instead",
                            folder.display()
                        );
                        plain()
                    }
                }
            }
            Source::Server {
                url: server,
                agent,
                fetches,
            } => {
                let Ok(_fetch) = fetches.try_acquire() else {
                    log::error!("--error-target is slow: a plain error page is sent instead");
                    return plain();
                };
                let asked = format!("{server}{status}?url={}", url::encode(url));
                fetch(agent, &asked, status).unwrap_or_else(|error| {
                    log::error!("Failed to get custom error page (--error-target): {error}");
                    plain()
                })
            }
        }
    }
}

fn built_in(status: u16) -> String {
    let title = format!("{status}: {}", reason(status));
    let why = match status {
        404 => "No service is registered at this URL.",
        _ => "The service at this URL does not answer.",
    };
    format!(
        "<!doctype html>\n<html>\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body>\n<h1>{title}</h1>\n<p>{why}</p>\n</body>\n</html>\n"
    )
}

fn fetch(agent: &ureq::Agent, url: &str, status: u16) -> Result<Response, ureq::Error> {
    let mut answer = agent.get(url).call()?;
    let content_type = answer.headers().get("content-type");
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .map(str::to_string);
    let body = answer
        .body_mut()
        .with_config()
        .limit(MAX_PAGE)
        .read_to_vec()?;
    Ok(Response {
        status,
        content_type,
        body,
    })
}

/// The client for the server of error pages at `url`; it shows the certificate that targets are shown.
///
/// # Errors
/// Says which file is wrong.
pub(super) fn agent(url: &str, options: &ChpOptions) -> Result<ureq::Agent, String> {
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(TIMEOUT));
    if !url.starts_with("http://") {
        let roots = options.client_ssl_ca.as_deref().map(tls::certificates);
        let own = match (&options.client_ssl_cert, &options.client_ssl_key) {
            (Some(cert), Some(key)) => {
                let files = tls::Files {
                    cert,
                    key,
                    client_ca: None,
                };
                // ureq panics at the first page where this fails.
                tls::config(&files)?;
                let pem = fs::read(key).map_err(|error| format!("{}: {error}", key.display()))?;
                Some((tls::certificates(cert)?, pem))
            }
            _ => None,
        };
        let tls = client_tls::config(roots.transpose()?, own, options.insecure);
        config = config.tls_config(tls.map_err(|error| error.to_string())?);
    }
    Ok(config.build().new_agent())
}

/// The path and the query of a URL, which Traefik tells as a whole.
fn path_of(url: &str) -> &str {
    match url::split(url) {
        (None, ..) => url,
        (Some(_), _, path) if path.starts_with('/') => path,
        _ => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn url_is_cut_to_path() {
        for (url, path) in [
            ("http://h:1/a?b=c://d", "/a?b=c://d"),
            ("https://h", "/"),
            ("/a?b=http://c/d", "/a?b=http://c/d"),
        ] {
            assert_eq!(path_of(url), path);
        }
    }
}
