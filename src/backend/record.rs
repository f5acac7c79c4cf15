//! What we keep in a store for ourselves, as lines of JSON: a header, and a line a route.
//!
//! The lines are what [`json_line`](crate::config::text::json_line) writes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Commit, Contents, Setup};
use crate::config::dynamic::{
    Entrance, add_metrics, api_part, generation_router, without_api, without_certificate,
    without_empty_maps,
};
use crate::config::merge;
use crate::error::{Error, ErrorKind, Result};
use crate::route::{Layout, Nested, Route, Table};

/// What belongs to the table as a whole.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Grows with each commit; Traefik shows it once it has loaded the commit.
    pub(crate) generation: u64,
    /// The name of the middleware that carries the generation.
    pub(crate) marker: String,
    pub(crate) entrypoint: String,
    /// Whether routers at the entrypoint carry `tls`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) tls: bool,
    /// The middleware of the routers at the entrypoint; an empty name is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) middleware: String,
    /// Dynamic configuration that belongs to the table beside its routes.
    pub(crate) base: Value,
    /// What Traefiks that were started need of this store, because they can't read it elsewhere. It
    /// goes with the last of them.
    #[serde(default = "no_config", skip_serializing_if = "is_no_config")]
    pub(crate) own: Value,
    /// What every service has beside its server.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) service: Value,
    /// Whether routers stand below others; `None` until a Router has asked its Traefiks whether
    /// they know how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nested: Option<Nested>,
    /// In which way routers were laid out, in a key-value store; 0 for side by side, or unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) layout: u8,
    /// What keeps the names of this table apart from those of others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) namespace: String,
    /// The prefix of the keys that Traefik reads, in a key-value store.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) root: String,
    /// Whether the store was made for this table, and goes with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) created: bool,
    /// The writer that has reserved the next commit, where writers kept committing first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) turn: Option<String>,
    /// The last commits, each as its writer names it: a writer that lost the answer to a commit
    /// finds out here whether it was made. For stores that are asked over a network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) recent: Vec<String>,
    /// Whether a start has begun the table, and nobody has set anything else: it goes with the last
    /// Router that serves it, if it has no routes then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) temporary: bool,
    /// Which version of this crate wrote it, see [`FORMAT`].
    #[serde(default)]
    pub(crate) format: u8,
}

/// Since format 1 the router of the generation belongs to the table, and what started Traefiks need
/// is in `own`. Before, both were in `base`, and the router was not always there.
pub(crate) const FORMAT: u8 = 1;

/// What any version can read of a header.
#[derive(Deserialize)]
struct Format {
    #[serde(default)]
    format: u64,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The base holds a password's hash, and may hold a private key.
        f.debug_struct("Header")
            .field("generation", &self.generation)
            .field("marker", &self.marker)
            .finish_non_exhaustive()
    }
}

impl Header {
    pub(crate) fn new(namespace: &str, marker: String) -> Self {
        Self {
            generation: 0,
            marker,
            namespace: namespace.into(),
            root: String::new(),
            created: false,
            entrypoint: String::new(),
            tls: false,
            middleware: String::new(),
            base: no_config(),
            own: no_config(),
            service: Value::Null,
            nested: None,
            layout: 0,
            turn: None,
            recent: Vec::new(),
            temporary: false,
            format: FORMAT,
        }
    }

    /// Reads the line of a header.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt), also for a table of a later version, which may mean what this one would lose.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        let Format { format } = parse_line(line)?;
        if format > FORMAT.into() {
            let message = format!(
                "a later version of traefik-router has written this table (format {format}, and this version knows \
                 {FORMAT}): use that version, or a later one"
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        let mut header: Self = parse_line(line)?;
        let routers = header.base.pointer_mut("/http/routers");
        if let Some(routers) = routers.and_then(Value::as_object_mut) {
            if routers.remove(&header.marker).is_some() {
                without_empty_maps(&mut header.base);
            }
        }
        Ok(header)
    }

    /// An older version of this crate stored `Auto` where no Traefik had been asked. Where routers do
    /// stand below others it is an answer all the same.
    pub(crate) fn forget_unasked(&mut self, routes: &Table) {
        let parents = || !Layout::of(routes, Nested::Auto).parents().is_empty();
        if self.format < FORMAT && self.nested == Some(Nested::Auto) && !parents() {
            self.nested = None;
        }
    }

    pub(crate) fn entrance(&self) -> Entrance<'_> {
        Entrance {
            entrypoint: &self.entrypoint,
            tls: self.tls,
            middleware: &self.middleware,
        }
    }

    /// Whether routers stand below others: not before a Traefik was asked whether it knows how.
    pub(crate) fn nested(&self) -> Nested {
        self.nested.unwrap_or(Nested::Never)
    }

    /// The dynamic configuration beside the routes and the marker.
    pub(crate) fn config(&self) -> Value {
        let mut config = self.base.clone();
        self.entrance().place(&mut config);
        merge(&mut config, &self.own);
        let router = generation_router(&self.marker, self.entrance());
        merge(
            &mut config,
            &json!({"http": {"routers": {&self.marker: router}}}),
        );
        config
    }

    /// Takes over what a setup sets. `has_parents` says whether some of the table's routers stand
    /// below others as it is.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if a Traefik does not know `parentRefs`, and the
    /// table needs them.
    pub(crate) fn set_up(&mut self, setup: &Setup, has_parents: bool) -> Result<()> {
        let before = self.clone();
        self.clean_up_older(setup);
        self.nested = match (setup.nested, self.nested, setup.knows_parents) {
            (Some(explicit), _, _) => Some(explicit),
            (None, None, Some(true)) => Some(Nested::Auto),
            (None, None, Some(false)) => Some(Nested::Never),
            (None, Some(Nested::Auto | Nested::Always), Some(false)) if has_parents => {
                return Err(Error::new(
                    ErrorKind::InvalidConfig,
                    "the table's routers stand below others (parentRefs), which Traefik knows since \
                     3.6, and this one is older: it would reject the whole table. Set \
                     `nested_routers` to never, which has them stand side by side for all \
                     Traefiks of this table, or use Traefik 3.6 or later",
                ));
            }
            (None, Some(_), Some(false)) => Some(Nested::Never),
            (None, stored, _) => stored,
        };
        match &setup.entrypoint {
            Some(explicit) => self.entrypoint.clone_from(explicit),
            None if self.entrypoint.is_empty() => {
                self.entrypoint.clone_from(&setup.default_entrypoint);
            }
            None => {}
        }
        self.tls = setup.tls.unwrap_or(self.tls);
        if let Some(middleware) = &setup.middleware {
            self.middleware.clone_from(middleware);
        }
        if let Some(service) = &setup.service {
            self.service.clone_from(service);
        }
        if let Some(extra) = &setup.extra {
            let mut base = api_part(&self.base);
            if let Some(store) = self.base.pointer("/tls/stores/default") {
                merge(&mut base, &json!({"tls": {"stores": {"default": store}}}));
            }
            merge(&mut base, extra);
            let has = |base: &Value| !base["http"]["middlewares"][&self.middleware].is_null();
            if setup.middleware.is_none() && has(&self.base) && !has(&base) {
                // Without it Traefik would disable all routers at the entrypoint.
                self.middleware.clear();
            }
            self.base = base;
        }
        if setup.remove_api {
            without_api(&mut self.base);
        }
        if let Some(api) = &setup.api {
            if !api.is_let_in_by(&self.base) {
                without_api(&mut self.base);
                merge(&mut self.base, &api.config_for_others());
            } else if api.metrics {
                add_metrics(&mut self.base);
            }
        }
        if self.generation == 0 {
            self.temporary = setup.started;
        } else if !setup.started && *self != before {
            self.temporary = false;
        }
        self.temporary |= setup.remove_table;
        Ok(())
    }

    /// Takes out of `base` what an older version of this crate had there for one Traefik alone. What
    /// else is there an attach may have stored, for Traefiks that others run.
    fn clean_up_older(&mut self, setup: &Setup) {
        if self.format == FORMAT || !setup.serves {
            return;
        }
        self.format = FORMAT;
        let text = |pointer: &str| self.base.pointer(pointer).and_then(Value::as_str);
        // A certificate that was made up stood there as it is; one that was given, as a file.
        let made_up = text("/tls/stores/default/defaultCertificate/certFile")
            .is_some_and(|cert| cert.contains("BEGIN CERTIFICATE"));
        // `traefik-router chp` starts its Traefik.
        if setup.started && self.base.pointer("/http/routers/chp-health").is_some() {
            self.base = no_config();
        } else if made_up && (!setup.started || setup.own.is_some() || setup.certificate_elsewhere)
        {
            without_certificate(&mut self.base);
        }
    }

    /// Undoes what a setup has `made` of the header as it was `before`, except for values that have changed
    /// again since.
    pub(crate) fn take_back(&mut self, before: &Self, made: &Self) {
        fn back<T: PartialEq + Clone>(now: &mut T, before: &T, made: &T) {
            if now == made {
                now.clone_from(before);
            }
        }
        back(&mut self.base, &before.base, &made.base);
        back(&mut self.own, &before.own, &made.own);
        back(&mut self.middleware, &before.middleware, &made.middleware);
        back(&mut self.service, &before.service, &made.service);
        back(&mut self.format, &before.format, &made.format);
        back(&mut self.temporary, &before.temporary, &made.temporary);
        if before.generation > 0 {
            back(&mut self.entrypoint, &before.entrypoint, &made.entrypoint);
            back(&mut self.tls, &before.tls, &made.tls);
            back(&mut self.nested, &before.nested, &made.nested);
        }
    }

    /// What to look for in Traefik.
    pub(crate) fn commit(&self) -> Commit {
        Commit {
            namespace: self.namespace.clone(),
            entrypoint: self.entrypoint.clone(),
            ..Commit::new(self.marker.clone(), self.generation)
        }
    }

    /// What a store with this header and these routes holds.
    pub(crate) fn contents(&self, routes: Table) -> Contents {
        let mut extra = self.base.clone();
        without_api(&mut extra);
        without_certificate(&mut extra);
        Contents {
            routes,
            legacy_routes: 0,
            commit: (self.generation > 0).then(|| self.commit()),
            entrypoint: self.entrypoint.clone(),
            tls: self.tls,
            nested: self.nested(),
            service: self.service.clone(),
            middleware: self.middleware.clone(),
            extra,
            config: self.config(),
            has_api_router: api_part(&self.base) != no_config(),
        }
    }

    /// Whether the clock is past this generation, so that the next one is greater than it even on a
    /// table that is put back to an earlier one. Waits for that if it is a matter of milliseconds.
    pub(crate) fn is_past(&self) -> bool {
        loop {
            match self.generation.checked_sub(now()) {
                None => return true,
                Some(ahead) if ahead > 100 => return false,
                Some(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Starts the next commit. Generations follow the clock, so that a store which is restored
    /// from an old copy does not come back to a generation that Traefik has already shown.
    pub(crate) fn advance(&mut self) {
        self.generation = self.generation.saturating_add(1).max(now());
    }
}

impl Commit {
    /// How long ago it was made. A generation is the time of its commit, in milliseconds since 1970.
    pub fn age(&self) -> Duration {
        Duration::from_millis(now().saturating_sub(self.generation))
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

/// The options that were set on a Router and belong to the table as a whole. Another program may have
/// others.
#[derive(Default)]
pub(crate) struct Explicit {
    entrypoint: Option<String>,
    service: Option<Value>,
}

impl Explicit {
    /// Remembers what a setup sets.
    pub(crate) fn add(&mut self, setup: &Setup) {
        let entrypoint = setup.entrypoint.as_ref().or(self.entrypoint.as_ref());
        let service = setup.service.as_ref().or(self.service.as_ref());
        (self.entrypoint, self.service) = (entrypoint.cloned(), service.cloned());
    }

    /// Fails if another program has set something else since.
    ///
    /// # Errors
    /// [`InUse`](ErrorKind::InUse), which names the option.
    pub(crate) fn check(&self, header: &Header) -> Result<()> {
        let refuse = |what: String| {
            let message = format!(
                "another program has {what}. Changes are refused until this program is given the same \
                 value, or none, and is started again"
            );
            Err(Error::new(ErrorKind::InUse, message))
        };
        match &self.entrypoint {
            Some(given) if *given != header.entrypoint => {
                return refuse(format!(
                    "moved the table to the entrypoint {:?}, and this one was given {given:?} \
                     (`traefik_entrypoint`)",
                    header.entrypoint
                ));
            }
            _ => {}
        }
        match &self.service {
            Some(given) if *given != header.service => {
                refuse("set another `extra_service_config` for the table".into())
            }
            _ => Ok(()),
        }
    }
}

fn no_config() -> Value {
    Value::Object(serde_json::Map::new())
}

fn is_no_config(config: &Value) -> bool {
    *config == no_config()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// Reads the header and the routes; `None` if there is not even a header.
pub(crate) fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Option<(Header, Table)>> {
    let mut lines = lines.map(str::trim).filter(|line| !line.is_empty());
    let Some(first) = lines.next() else {
        return Ok(None);
    };
    let mut header = Header::parse(first)?;
    let routes = lines.map(|line| parse_line::<Route>(line).map(Arc::new));
    let routes = routes.collect::<Result<Table>>()?;
    header.forget_unasked(&routes);
    Ok(Some((header, routes)))
}

/// Reads one line that `json_line` wrote.
pub(crate) fn parse_line<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T> {
    serde_json::from_str(line).map_err(|error| {
        let message = "a line that traefik-router keeps for itself is damaged";
        Error::new(ErrorKind::Corrupt, message).with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text::json_line as line;
    use proptest::prelude::*;
    use serde_json::json;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_data_round_trips_harmlessly(data in any_json()) {
            let route = Route::new("/x/", "http://t").unwrap().data(data);
            let text = line(&route);
            prop_assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text}");
            let harmful = ["{{", "}{", "'"].map(|part| text.contains(part));
            prop_assert_eq!(harmful, [false; 3], "{}", text);
            prop_assert_eq!(parse_line::<Route>(&text).unwrap(), route);
        }
    }

    #[test]
    fn header_precedes_routes() {
        let mut header = Header::new("", "m".into());
        header.advance();
        let first = header.generation;
        header.advance();
        assert!(header.generation > first);
        let route = Route::new("/a/", "http://t").unwrap().data(json!({"x": 1}));
        let text = format!("{}\n\n  {}\n", line(&header), line(&route));
        let (read, table) = parse(text.lines()).unwrap().unwrap();
        assert_eq!(read, header);
        assert_eq!(**table.iter().next().unwrap(), route);
        assert_eq!(parse("\n\n".lines()).unwrap(), None);
        let error = parse("{\"generation\":1".lines()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn later_format_is_refused() {
        let text = line(&Header::new("", "m".into()));
        assert!(Header::parse(&text).is_ok());
        // A later version may have other fields, too.
        for later in [
            text.replace("\"format\":1", "\"format\":2"),
            "{\"format\":300}".into(),
        ] {
            let error = Header::parse(&later).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains("a later version"), "{error}");
        }
    }

    #[test]
    fn newly_refused_route_is_named() {
        for spec in ["/user/a@b:c!%EF%BF%BD/", "/a?b/"] {
            let header = line(&Header::new("", "m".into()));
            let text =
                format!("{header}\n{{\"spec\":{spec:?},\"target\":\"http://t\",\"data\":null}}");
            let error = parse(text.lines()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let shown = spec.split_inclusive('?').next().unwrap();
            assert!(
                error.to_string().contains(&format!("routespec \"{shown}")),
                "{error}"
            );
        }
    }

    #[test]
    fn older_formats_are_told_apart() {
        let old = |base: Value| Header {
            base,
            format: 0,
            generation: 1,
            nested: Some(Nested::Auto),
            ..Header::new("", "m".into())
        };
        let setup = |serves, started| Setup {
            serves,
            started,
            ..Setup::default()
        };
        let certificate = |file: &str| {
            let one = json!({"certFile": file, "keyFile": file});
            json!({"tls": {"stores": {"default": {"defaultCertificate": one}}}})
        };
        let made_up = certificate("-----BEGIN CERTIFICATE-----");
        let api = json!({"http": {"routers": {"route_api": {"rule": "x"}}}});
        let with_api = |other: &Value| {
            let mut base = api.clone();
            merge(&mut base, other);
            base
        };
        let chp = json!({"http": {"routers": {"chp-health": {"rule": "x"}}}});
        for (base, serves, started, left) in [
            // An attach of an older version may have put it there.
            (with_api(&made_up), true, false, api.clone()),
            // On etcd a Traefik that is started without one uses it.
            (with_api(&made_up), true, true, with_api(&made_up)),
            (
                certificate("/given.pem"),
                true,
                true,
                certificate("/given.pem"),
            ),
            (with_api(&chp), true, true, json!({})),
            (with_api(&chp), true, false, with_api(&chp)),
            // Who only changes routes leaves it to the next.
            (with_api(&made_up), false, false, with_api(&made_up)),
        ] {
            let mut header = old(base);
            header.set_up(&setup(serves, started), false).unwrap();
            assert_eq!(header.base, left, "{serves} {started}");
        }
        let mut header = old(json!({}));
        header.forget_unasked(&Table::new());
        assert_eq!(header.nested, None);
        let many = |n: usize| Route::new(format!("/u/{n}/"), "http://t").unwrap();
        let mut header = old(json!({}));
        header.forget_unasked(&(0..300).map(many).collect());
        assert_eq!(
            header.nested,
            Some(Nested::Auto),
            "routers stand below others"
        );
    }
}
