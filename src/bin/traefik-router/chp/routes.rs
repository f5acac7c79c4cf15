//! configurable-http-proxy's view of the routes: paths that are decoded, one JSON object each.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use traefik_router::{Applied, Change, ErrorKind, Result, Route, RouteSpec, Router, Table};

use super::activity::Activity;
use super::folder::Folder;
use super::relay::Relays;
use crate::url;

pub(super) struct Routes {
    pub(super) router: Router,
    pub(super) rules: Rules,
    pub(super) activity: Activity,
    /// The private folder of the started Traefik.
    pub(super) folder: Option<Arc<Folder>>,
    /// Whether a conflict is repaired. Where another program has taken over the table that we push, it would
    /// only be taken back and forth.
    pub(super) repairs: bool,
}

/// In the data of a route, the decoded path that it was posted with, where its routespec gives another one.
const POSTED: &str = "traefik-router-path";

/// How paths and targets are read.
pub(super) struct Rules {
    /// Whether the first part of a path is a host.
    pub(super) host_routing: bool,
    /// Whether a target's path is left away.
    pub(super) no_prepend_path: bool,
    /// Whether targets see requests without the path of the route.
    pub(super) no_include_prefix: bool,
    /// To Unix sockets. External Traefiks have no use for them.
    pub(super) relays: Option<Relays>,
}

impl Routes {
    /// All routes by their decoded paths, or only those that were last used before a time.
    pub(super) fn all(&self, unused_since: Option<Timestamp>) -> Result<Value> {
        let table = self.or_repaired(Router::get_all_routes)?;
        let used = self.activity.of(&self.router, &table);
        // A Traefik that does not send its counters may have any of them in use.
        let is_complete = self.activity.is_complete();
        let wanted = table.iter().filter_map(|route| {
            let last = used.get(&route.spec).copied();
            let is_idle = |since| is_complete && last.is_some_and(|last| last < since);
            let is_wanted = unused_since.is_none_or(is_idle);
            is_wanted.then(|| (self.rules.key(route), shown(route, last)))
        });
        Ok(wanted.collect::<Map<_, _>>().into())
    }

    /// The data of the route with this path.
    pub(super) fn get(&self, path: &str) -> Result<Option<Value>> {
        let table = self.or_repaired(Router::get_all_routes)?;
        let Some(route) = self.find(&table, path) else {
            return Ok(None);
        };
        let used = self.activity.of(&self.router, &table);
        Ok(Some(shown(&route, used.get(&route.spec).copied())))
    }

    /// Adds a route; returns when it is served.
    pub(super) fn add(
        &self,
        path: &str,
        data: Map<String, Value>,
        target: &str,
    ) -> Result<Applied> {
        let route = self.rules.route(path, data, target)?;
        let (spec, target) = (route.spec.clone(), route.target.clone());
        let change = Change::from(route);
        let applied = self.or_repaired(|router| router.apply([change.clone()]))?;
        self.activity.added(&spec, &target);
        Ok(applied)
    }

    /// Deletes a route, if it is there; returns when it is not served any more.
    pub(super) fn delete(&self, path: &str) -> Result<Option<Applied>> {
        match self.find(&self.or_repaired(Router::get_all_routes)?, path) {
            None => Ok(None),
            Some(route) => {
                let applied = self.or_repaired(|router| router.delete_route(&route.spec))?;
                Ok(Some(applied))
            }
        }
    }

    /// Makes the private folder anew if others have removed it.
    pub(super) fn restore_folder(&self) -> std::result::Result<(), String> {
        self.folder
            .as_ref()
            .map_or(Ok(()), |folder| folder.restore())
    }

    /// Does `job`, and if the store was put back to an earlier state, takes that over and does it again:
    /// JupyterHub compares the routes with what it wants by itself.
    pub(super) fn or_repaired<T>(&self, job: impl Fn(&Router) -> Result<T>) -> Result<T> {
        match job(&self.router) {
            Err(error) if error.kind() == ErrorKind::Conflict && self.repairs => {
                log::warn!("{error}");
                if let Err(error) = self.router.repair() {
                    log::warn!("{error}");
                }
                job(&self.router)
            }
            done => done,
        }
    }

    fn find(&self, table: &Table, path: &str) -> Option<Arc<Route>> {
        if let Ok(spec) = self.rules.spec(path) {
            if let Some(route) = table.get(&spec) {
                return Some(Arc::clone(route));
            }
        }
        // A slash inside a name is a slash like others once it is decoded.
        let key = format!("/{}", decode(path).trim_matches('/'));
        let mut with_slash = table
            .iter()
            .filter(|route| route.spec.path().contains("%2F"));
        with_slash
            .find(|route| self.rules.key(route) == key)
            .cloned()
    }
}

impl Rules {
    /// The route for what was posted.
    pub(super) fn route(
        &self,
        path: &str,
        mut data: Map<String, Value>,
        target: &str,
    ) -> Result<Route> {
        let spec = self.spec(path)?;
        data.remove(POSTED);
        if let (true, Some(host)) = (self.host_routing, spec.host()) {
            data.insert("host".into(), host.into());
            let posted = format!("/{}", decode(path.trim_matches('/')));
            if posted != self.key_of(&spec) {
                data.insert(POSTED.into(), posted.into());
            }
        }
        let route = Route::new(spec, self.target(target))?;
        if route.target.as_str() == target {
            data.remove("target");
        }
        let route = route.data(data);
        Ok(match self.no_include_prefix {
            true => route.strip_prefix(),
            false => route,
        })
    }

    /// The target for Traefik, which knows no Unix sockets.
    fn target<'a>(&self, target: &'a str) -> Cow<'a, str> {
        let target = match (socket_of(target), &self.relays) {
            (None, _) | (_, None) => Cow::from(target),
            (Some((socket, path)), Some(relays)) => match relays.to(socket) {
                Ok(address) => format!("http://{address}{path}").into(),
                Err(error) => {
                    log::error!("no relay to {}: {error}", without_query(target));
                    target.into()
                }
            },
        };
        if self.no_prepend_path {
            // A password may have a slash in it, and so be cut in two: this is refused for its '@'.
            if target.contains('@') {
                return "http://***@***".into();
            }
            let (_, _, path) = url::split(&target);
            if path.starts_with('/') {
                return target[..target.len() - path.len()].to_string().into();
            }
        }
        target
    }

    /// The routespec for an encoded path.
    fn spec(&self, path: &str) -> Result<RouteSpec> {
        let path = path.trim_matches('/');
        if !self.host_routing || path.is_empty() {
            return RouteSpec::new(format!("/{path}"));
        }
        match path.split_once('/') {
            // JupyterHub's users put a slash between a host and a path that begins with one.
            Some((host, path)) => {
                let path = path.strip_prefix('/').unwrap_or(path);
                RouteSpec::new(format!("{host}/{path}"))
            }
            None => RouteSpec::new(path),
        }
    }

    /// The decoded path of a route, as it was posted.
    fn key(&self, route: &Route) -> String {
        let posted = route.data.get(POSTED).and_then(Value::as_str);
        posted.map_or_else(|| self.key_of(&route.spec), Into::into)
    }

    /// The decoded path for a routespec.
    fn key_of(&self, spec: &RouteSpec) -> String {
        let slash = if self.host_routing && spec.host().is_some() {
            "/"
        } else {
            ""
        };
        let key = format!("{slash}{}", decode(spec.as_str()));
        match key.strip_suffix('/') {
            Some(bare) if !bare.is_empty() => bare.into(),
            _ => key,
        }
    }
}

/// The path of the Unix socket that a URL names, and the path behind it.
pub(super) fn socket_of(url: &str) -> Option<(PathBuf, &str)> {
    let (scheme, socket, path) = url::split(url);
    let is_socket = ["http+unix", "unix+http"].contains(&scheme?);
    is_socket.then(|| (decode(socket).into(), path))
}

/// A target without what may be a secret in it and leads nowhere.
pub(super) fn without_query(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or_default()
}

/// A route as the REST API shows it.
fn shown(route: &Route, last_used: Option<Timestamp>) -> Value {
    let mut data = match &route.data {
        Value::Object(data) => data.clone(),
        _ => Map::new(),
    };
    data.remove(POSTED);
    data.entry("target")
        .or_insert_with(|| route.target.as_str().into());
    if let Some(time) = last_used {
        data.insert("last_activity".into(), format!("{time:.3}").into());
    }
    data.into()
}

/// Undoes percent-encoding.
pub(super) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chp::server::threads;

    fn plain() -> Rules {
        Rules {
            host_routing: false,
            no_prepend_path: false,
            no_include_prefix: false,
            relays: Some(Relays::new(threads().unwrap())),
        }
    }

    #[test]
    fn paths_become_routespecs() {
        for (host_routing, path, spec, key) in [
            (false, "", "/", "/"),
            (false, "/", "/", "/"),
            (false, "/user/zoe", "/user/zoe/", "/user/zoe"),
            (false, "/user/zoe/", "/user/zoe/", "/user/zoe"),
            (false, "/user/a%40b%20c", "/user/a@b%20c/", "/user/a@b c"),
            (false, "/user/50%25%3F", "/user/50%25%3F/", "/user/50%?"),
            (false, "/user/%C3%A9", "/user/%C3%A9/", "/user/é"),
            (true, "/", "/", "/"),
            (
                true,
                "/Hub.Example.org",
                "hub.example.org/",
                "/hub.example.org",
            ),
            (
                true,
                "/u.example.org/user/u",
                "u.example.org/user/u/",
                "/u.example.org/user/u",
            ),
        ] {
            let rules = Rules {
                host_routing,
                ..plain()
            };
            let found = rules.spec(path).unwrap();
            assert_eq!(found.as_str(), spec, "{path}");
            assert_eq!(rules.key_of(&found), key, "{path}");
        }
    }

    #[test]
    fn posted_paths_are_kept() {
        let rules = Rules {
            host_routing: true,
            ..plain()
        };
        for (path, spec, key) in [
            ("/h.x//a%20b/c", "h.x/a%20b/c/", "/h.x//a b/c"),
            ("/h.x//@/", "h.x/@/", "/h.x//@"),
            ("/H.x/a", "h.x/a/", "/H.x/a"),
            ("/h.x/a%2F", "h.x/a%2F/", "/h.x/a/"),
            ("/h.x/user/zoe", "h.x/user/zoe/", "/h.x/user/zoe"),
        ] {
            let data = Map::from_iter([(POSTED.to_string(), "/forged".into())]);
            let route = rules.route(path, data, "http://h:1").unwrap();
            assert_eq!(route.spec.as_str(), spec, "{path}");
            assert_eq!(rules.key(&route), key, "{path}");
            assert_eq!(
                shown(&route, None),
                json!({"host": "h.x", "target": "http://h:1"})
            );
        }
        for path in ["/h.x///a", "/h.x/a//b"] {
            let refused = rules.route(path, Map::new(), "http://h:1").unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidRoute, "{path}");
        }
    }

    #[test]
    fn targets_are_converted_and_shown() {
        let rules = |no_prepend_path| Rules {
            no_prepend_path,
            ..plain()
        };
        for (no_prepend_path, given, target, kept) in [
            (false, "http://h:1", "http://h:1", false),
            (false, "http://h:1/", "http://h:1", true),
            (false, "http://h:1/base", "http://h:1/base", false),
            (true, "http://h:1/base", "http://h:1", true),
        ] {
            let data = Map::from_iter([("target".to_string(), given.into())]);
            let route = rules(no_prepend_path).route("/x", data, given).unwrap();
            assert_eq!(route.target.as_str(), target);
            assert_eq!(route.data.get("target").is_some(), kept, "{given}");
            assert_eq!(shown(&route, None)["target"], given);
            let time = "2026-03-01T10:20:30.45678Z".parse().unwrap();
            let answer = shown(&route, Some(time));
            assert_eq!(answer["last_activity"], "2026-03-01T10:20:30.456Z");
        }
        assert_eq!(
            socket_of("http+unix://%2Frun%2Fhub.sock/hub"),
            Some(("/run/hub.sock".into(), "/hub"))
        );
        assert_eq!(socket_of("http://run/hub"), None);
    }
}
