//! Attaching to external Traefiks: ask first, write second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Builder, check_routes, probe};
use crate::backend::{Commit, Contents, Pushed, Setup};
use crate::config::dynamic::{API_ROUTER, ApiAccess, api_part};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::http::is_refused;
use crate::router::listen::Listen;
use crate::router::verify::{Others, PublicUrl, Serving, Verifier, in_time};
use crate::router::{NotAsked, Router, Verified};
use crate::threads::at_once;
use crate::traefik::version::{check_version, has_parents, numbers};
use crate::traefik::{Api, EntryPoint, RestContent};

/// For how long an API may answer 404 where something may yet serve it: a Traefik does that until it
/// has loaded its first configuration.
const NOT_FOUND_PATIENCE: Duration = Duration::from_secs(3);
/// The same where we are to set up the API ourselves.
const SET_UP_AFTER: Duration = Duration::from_secs(1);
/// A reload that takes longer has waited for a throttle.
const UNTHROTTLED: Duration = Duration::from_millis(300);
const UNTHROTTLED_PER_ROUTE: Duration = Duration::from_micros(100);
/// How often to ask meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What a Traefik says of itself.
struct Answer {
    url: String,
    version: String,
    entrypoints: Vec<EntryPoint>,
}

impl Builder {
    /// Uses the external Traefiks at [`traefik_api_urls`](Self::traefik_api_urls), which this Router does not start.
    /// Returns when they serve the routes in the store.
    ///
    /// Before it stores anything, it asks them for their versions, their entrypoints, and whether
    /// they accept the password. If an API answers 404 and the store has no router for it,
    /// it stores one, guarded by [`traefik_api_password`](Self::traefik_api_password)
    /// ([`enable_setup_dynamic_config`](Self::enable_setup_dynamic_config) turns that off). It stores
    /// no certificate.
    ///
    /// With a store that is pushed ([`MemoryBackend`](crate::MemoryBackend)) it stores no API router. It
    /// checks that each Traefik takes a table with the password, and only with it. Then it asks them for the table of
    /// this name, takes the latest one, and sends it to all of them. If some Traefiks do not answer and the others
    /// may lack the latest table, it waits for them first, for at most
    /// [`check_route_timeout`](Self::check_route_timeout). If no Traefik has a table, the table begins empty. Later a
    /// thread sends the table to Traefiks that have lost it, see [`keeper_interval`](Self::keeper_interval).
    ///
    /// # Errors
    /// - [`InvalidConfig`](ErrorKind::InvalidConfig) if
    ///   - options are not acceptable, or contradict each other;
    ///   - a Traefik does not have the entrypoint;
    ///   - a Traefik is too old for the table;
    ///   - the store is pushed, and a Traefik has no REST provider, or none on the entrypoint of its API, or one with
    ///     `insecure`.
    /// - [`InUse`](ErrorKind::InUse) if another program has pushed something to a Traefik, see
    ///   [`replace_pushed_table`](Self::replace_pushed_table), or another Router pushes this table.
    /// - [`Unavailable`](ErrorKind::Unavailable), [`Unauthorized`](ErrorKind::Unauthorized),
    ///   [`Protocol`](ErrorKind::Protocol) if too few APIs can be asked.
    /// - As [`Backend::open`](crate::Backend::open), and as [`Router::add_route`] if a Traefik does
    ///   not load the store.
    ///
    /// After an error the store is as it was, unless another program has written to it meanwhile;
    /// [`Error::stored`] says so.
    pub fn attach(self) -> Result<Router> {
        if self.api_urls.is_empty() {
            return Err(Error::invalid(
                "`traefik_api_urls` names no Traefik to attach to",
            ));
        }
        self.check_options()?;
        if self.ssl.0.is_some() || self.initial_routes.is_some() {
            return Err(Error::invalid(
                "`ssl` and `initial_routes` are for a Traefik that is started; an external one has its \
                 certificates from its own configuration, and keeps the routes that are stored",
            ));
        }
        let public = self.public()?;
        let stored = self.backend.inspect()?.unwrap_or_default();
        let host = self.confined()?;
        host.check(&stored.routes)?;
        let entrypoint = self.entrypoint_over(&stored, &public)?;
        let asked = match (&self.public_url, &*self.api_urls) {
            (_, [_, _, ..]) => PublicUrl::Not(NotAsked::SeveralTraefiks),
            (None, _) => PublicUrl::Not(NotAsked::DefaultUrl),
            (Some(_), _) => probe(&public),
        };
        let verifier = self.verifier(self.apis(self.api_password.as_deref())?, asked);
        let answers = self.answers(&verifier, &stored)?;
        let served = self.backend.is_served()?;
        let pushed = self.backend.pushed();
        let (mut opened, sets_up) = (pushed.is_some(), answers.is_none());
        let attached = (|| {
            let (stored, entrypoint) = match pushed {
                Some(store) => {
                    self.take_back(store, &verifier)?;
                    let stored = self.backend.inspect()?.unwrap_or_default();
                    host.check(&stored.routes)?;
                    let entrypoint = self.entrypoint_over(&stored, &public)?;
                    (stored, entrypoint)
                }
                None => (stored, entrypoint),
            };
            let answers = match answers {
                Some(answers) => answers,
                None => {
                    opened = true;
                    self.set_up_api(&verifier, &entrypoint)?
                }
            };
            let versions = answers.iter().map(|answer| numbers(&answer.version));
            let oldest = versions.flatten().min();
            check_routes(&stored.routes, oldest)?;
            let mut setup = self.attach_setup(&answers, &public, &entrypoint)?;
            setup.tls = tls_over(&stored, setup.tls, served)?;
            setup.api = self.metrics_beside(&stored)?;
            opened = true;
            let commit = self.backend.open(&setup, &mut |_, _| Ok(Vec::new()))?;
            let serving = Serving {
                store: &*self.backend,
                managed: None,
            };
            verifier.confirm_setup(&commit, Instant::now(), serving)?;
            let commit = match pushed {
                Some(store) => measure_throttle(store, &verifier, serving, stored.routes.len())?,
                None => commit,
            };
            let verified = verifier.confirm_public(&commit, serving)?;
            match (setup.tls, verified) {
                // Routes would be served without TLS, and nothing would show that.
                (Some(_), Verified::NotAsked(NotAsked::Unreachable { reason }))
                    if served || !stored.routes.is_empty() =>
                {
                    Err(unseen(&public.url(), &reason))
                }
                _ => Ok((commit, oldest)),
            }
        })();
        match attached {
            Ok((commit, oldest)) => {
                let router = Router::new(self.backend, verifier, self.commit_wait, host);
                let router = router.opened(commit);
                router.since(oldest).keeping(self.keeper_interval)
            }
            Err(error) => {
                let error = if opened { self.undo(error) } else { error };
                if sets_up && *error.stored() == Stored::Nothing {
                    // The next attach must not meet the API router that was taken back.
                    at_once(verifier.apis(), wait_until_gone);
                }
                Err(error)
            }
        }
    }

    /// Takes the table back that the Traefiks still have, if they would take one from us.
    fn take_back(&self, store: &dyn Pushed, verifier: &Verifier) -> Result<()> {
        let deadline = Instant::now() + self.check_route_timeout;
        let all = verifier.apis().count();
        let mut has_said = false;
        let found = loop {
            verifier.check_cancelled()?;
            let left = time_until(deadline);
            let ask = |api: &Api| {
                let api = in_time(api, left);
                match api.check_rest().and_then(|()| api.rest_content()) {
                    Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
                    // It is there, and would be sent the table.
                    found => Ok(found),
                }
            };
            let found =
                verifier.ask_quorum("take a table", |traefik, others| others.ask(traefik, ask))?;
            let has_table = |found: &Result<_>| !matches!(found, Ok(RestContent::Nothing));
            let tables = found.iter().filter(|(_, found)| has_table(found)).count();
            // One that has restarted is empty, and says nothing about what was acknowledged.
            if found.len() == all
                || self.quorum.is_some_and(|quorum| tables >= quorum)
                || time_until(deadline).is_zero()
            {
                break found;
            }
            if !has_said {
                log::warn!(
                    "Traefiks that answer: {} of {all}; that have a table: {tables}. One that does not answer may have \
                     a later table, and is awaited for {:?}",
                    found.len(),
                    self.check_route_timeout
                );
            }
            has_said = true;
            std::thread::sleep(ASK_AGAIN);
        };
        let checked: Vec<_> = found.iter().map(|(traefik, _)| traefik.url()).collect();
        let mut tables = Vec::new();
        for (traefik, found) in found {
            match found? {
                RestContent::Table(records) => tables.push(records),
                RestContent::Other if !self.replace_pushed => {
                    let message = format!(
                        "another program pushes configuration to Traefik at {}, which this table would \
                         replace; set `replace_pushed_table` if it is to",
                        traefik.url()
                    );
                    return Err(Error::new(ErrorKind::InUse, message));
                }
                RestContent::Other | RestContent::Nothing => {}
            }
        }
        store.resume(&tables, self.replace_pushed)?;
        if let Some(delivery) = verifier.delivery() {
            delivery.trust(&checked);
            if self.replace_pushed {
                // Also where one comes up later.
                delivery.replace_others();
            }
        }
        Ok(())
    }

    /// What the Traefiks say of themselves; `None` if too few have an API, and we may set one up.
    fn answers(&self, verifier: &Verifier, stored: &Contents) -> Result<Option<Vec<Answer>>> {
        let has_api = api_part(&stored.config) != serde_json::json!({});
        // What is pushed comes through the API.
        let sets_up = self.setup_dynamic_config
            && self.api_password.is_some()
            && self.backend.pushed().is_none();
        let patience = match (has_api, sets_up) {
            (true, _) => self.check_route_timeout,
            (false, true) => SET_UP_AFTER,
            (false, false) => NOT_FOUND_PATIENCE,
        };
        let patience = patience.min(self.check_route_timeout);
        let replaces = sets_up && self.replace_api && has_api;
        let ours = format!("{API_ROUTER}@{}", self.backend.provider());
        let refused = AtomicBool::new(false);
        let deadline = Instant::now() + self.check_route_timeout;
        let asked = verifier.ask_quorum("can be asked", |traefik, others| {
            let ask = || ask(verifier, traefik, others, patience, deadline);
            let mut asked = ask();
            if sets_up && !has_api && may_be_ours(traefik, &asked, &ours, deadline)? {
                // Its router was just taken out of the store, and Traefik's throttle holds that back.
                wait_until_gone(traefik);
                asked = ask();
            }
            match asked {
                Err(error) if replaces && error.kind() == ErrorKind::Unauthorized => {
                    refused.store(true, Ordering::Relaxed);
                    Ok(Some(None))
                }
                Ok(None) if !sets_up => Err(self.not_found(traefik)),
                asked => asked.map(Some),
            }
        })?;
        let needed = self.quorum.unwrap_or(asked.len());
        let answers: Vec<_> = asked.into_iter().filter_map(|(_, answer)| answer).collect();
        // A Traefik that has an API keeps it: its own router comes before the one that is stored.
        let enough = answers.len() >= needed && !refused.into_inner();
        Ok(enough.then_some(answers))
    }

    /// Stores a router for the API, and asks for what the Traefiks say through it.
    fn set_up_api(&self, verifier: &Verifier, entrypoint: &str) -> Result<Vec<Answer>> {
        let api = self.api_password.as_deref();
        let api = api.map(|password| self.api_access(password)).transpose()?;
        let setup = Setup {
            default_entrypoint: entrypoint.into(),
            api,
            replace_api: self.replace_api,
            serves: true,
            ..Setup::default()
        };
        self.backend.open(&setup, &mut |_, _| Ok(Vec::new()))?;
        let deadline = Instant::now() + self.check_route_timeout;
        let answers = verifier.ask_quorum("can be asked", |traefik, others| {
            let left = || time_until(deadline);
            loop {
                match ask(verifier, traefik, others, left(), deadline) {
                    // The password before it may still be in force.
                    Err(error)
                        if self.replace_api
                            && error.kind() == ErrorKind::Unauthorized
                            && !left().is_zero() =>
                    {
                        std::thread::sleep(ASK_AGAIN);
                    }
                    Ok(None) => {
                        return Err(self.not_found(traefik).context(format!(
                            "a router for the API was stored for the entrypoint {:?} \
                             (`traefik_api_entrypoint`), and taken back",
                            self.api_entrypoint
                        )));
                    }
                    asked => return asked.map(|answer| answer.map(Some)),
                }
            }
        })?;
        let answers = answers.into_iter().filter_map(|(_, answer)| answer);
        Ok(answers.collect())
    }

    fn not_found(&self, api: &Api) -> Error {
        let pushes = self.backend.pushed().is_some();
        let way = match (self.setup_dynamic_config, &self.api_password) {
            _ if pushes => "",
            (false, _) => ", or have one stored (`enable_setup_dynamic_config`)",
            (true, None) => ", or a password with which one is set up (`traefik_api_password`)",
            (true, Some(_)) => "",
        };
        let message = format!(
            "{}/api/version answers 404: Traefik's API is somewhere else (`traefik_api_url`), or \
             nothing serves it there; give it a router{way}",
            api.url()
        );
        Error::new(ErrorKind::Protocol, message)
    }

    /// How the API is guarded, if its router is ours, and one for the metrics may be stored beside it.
    fn metrics_beside(&self, stored: &Contents) -> Result<Option<ApiAccess>> {
        let password = self.api_password.as_deref();
        let password = password.filter(|_| {
            self.metrics_router
                && self.setup_dynamic_config
                && self.backend.pushed().is_none()
                && stored.has_api_router
        });
        let access = password.map(|password| self.api_access(password));
        let access = access.transpose()?;
        Ok(access.filter(|access| access.is_let_in_by(&stored.config)))
    }

    /// What to store for Traefiks that have answered so.
    fn attach_setup(&self, answers: &[Answer], public: &Listen, entrypoint: &str) -> Result<Setup> {
        let mut tls = None;
        for answer in answers {
            if !has_parents(&answer.version) {
                self.check_nested(&answer.version)?;
            }
            let known = answer.entrypoints.iter();
            let Some(ours) = known.clone().find(|known| known.name == entrypoint) else {
                let names: Vec<_> = known.map(|known| &*known.name).collect();
                return Err(Error::invalid(format!(
                    "Traefik at {} has no entrypoint {entrypoint:?} (`traefik_entrypoint`); it has {}",
                    answer.url,
                    names.join(", ")
                )));
            };
            if self.public_url.is_none() {
                continue;
            }
            if ours.redirects() {
                return Err(Error::invalid(format!(
                    "the entrypoint {entrypoint:?} of Traefik at {} answers every request with a \
                     redirect, so that nothing would be served at `public_url`; choose the entrypoint \
                     that it redirects to (`traefik_entrypoint`)",
                    answer.url
                )));
            }
            if ours.has_tls() && !public.tls {
                return Err(Error::invalid(format!(
                    "the entrypoint {entrypoint:?} of Traefik at {} serves TLS alone, and `public_url` \
                     begins with http://",
                    answer.url
                )));
            }
            let needed = public.tls && !ours.has_tls();
            if tls.replace(needed).is_some_and(|before| before != needed) {
                return Err(Error::invalid(format!(
                    "the entrypoint {entrypoint:?} has TLS of its own in some Traefiks \
                     (`traefik_api_urls`) and not in others; the routers of one table serve only \
                     one kind"
                )));
            }
        }
        Ok(Setup {
            tls,
            knows_parents: Some(answers.iter().all(|answer| has_parents(&answer.version))),
            extra: self
                .extra_dynamic_config
                .clone()
                .filter(|_| self.setup_dynamic_config),
            serves: true,
            ..self.setup(entrypoint)
        })
    }
}

/// Sends the table once more, and warns if that takes as long as Traefik's own
/// `providersThrottleDuration`, which its API does not show.
fn measure_throttle(
    store: &dyn Pushed,
    verifier: &Verifier,
    serving: Serving<'_>,
    routes: usize,
) -> Result<Commit> {
    let commit = store.renew(&[])?;
    let took = verifier.confirm_setup(&commit, Instant::now(), serving)?;
    if took > UNTHROTTLED + UNTHROTTLED_PER_ROUTE * routes as u32 {
        log::warn!(
            "Traefik took {} ms to load a table that it had already: set `providersThrottleDuration` to \
             0s in its static configuration, or every change may wait that long",
            took.as_millis()
        );
    }
    Ok(commit)
}

/// What to store of whether routers carry `tls`, given what a Traefik needs.
fn tls_over(stored: &Contents, needed: Option<bool>, served: bool) -> Result<Option<bool>> {
    match needed {
        Some(needed) if needed == stored.tls => Ok(None),
        // An entrypoint with TLS of its own does not mind, and others may need it.
        Some(false) if served => Ok(None),
        Some(true) if served && !stored.routes.is_empty() => Err(Error::new(
            ErrorKind::InUse,
            "`public_url` begins with https, and this entrypoint has no TLS of its own; another program \
             serves the table over HTTP, and routers serve only one of the two",
        )),
        needed => Ok(needed),
    }
}

fn unseen(url: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "`public_url` {url} has the routers of the table change between HTTP and HTTPS, and whether \
             they are served there can't be seen: {why}"
        ),
    )
}

/// What a Traefik says of itself, by `deadline`; `None` if its API answers 404 for as long as that is allowed.
fn ask(
    verifier: &Verifier,
    api: &Api,
    others: &Others,
    patience: Duration,
    deadline: Instant,
) -> Result<Option<Answer>> {
    let begun = Instant::now();
    let is_over = || begun.elapsed() >= patience || time_until(deadline).is_zero();
    let in_time = || in_time(api, time_until(deadline)).at_most(others.patience(begun.elapsed()));
    loop {
        verifier.check_cancelled()?;
        match in_time().version_if_there() {
            Ok(Some(version)) => {
                check_version(&version.version)
                    .map_err(|error| error.context(format!("Traefik at {}", api.url())))?;
                return Ok(Some(Answer {
                    url: api.url().into(),
                    version: version.version,
                    entrypoints: in_time().entrypoints()?,
                }));
            }
            Ok(None) if is_over() => return Ok(None),
            // One that was just started may not speak TLS yet.
            Err(error)
                if is_over()
                    || others.are_certain()
                    || error.kind() != ErrorKind::Unavailable
                    || is_refused(&error) =>
            {
                return Err(unasked(api, error));
            }
            _ => std::thread::sleep(ASK_AGAIN),
        }
    }
}

/// Whether an API that has answered so may be served by the router of this name. One with another password does
/// not say.
fn may_be_ours(
    api: &Api,
    asked: &Result<Option<Answer>>,
    router: &str,
    deadline: Instant,
) -> Result<bool> {
    match asked {
        Ok(Some(_)) => {
            let api = in_time(api, time_until(deadline));
            Ok(api.router(router)?.is_some())
        }
        Ok(None) => Ok(false),
        Err(error) => Ok(error.kind() == ErrorKind::Unauthorized),
    }
}

/// Waits until an API does not answer any more whose router was taken back. It may refuse our password until then.
fn wait_until_gone(api: &Api) {
    let deadline = Instant::now() + NOT_FOUND_PATIENCE;
    let is_there = || match in_time(api, time_until(deadline)).version_if_there() {
        Ok(version) => version.is_some(),
        Err(error) => error.kind() == ErrorKind::Unauthorized,
    };
    while is_there() && Instant::now() < deadline {
        std::thread::sleep(ASK_AGAIN);
    }
}

fn time_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn unasked(api: &Api, error: Error) -> Error {
    let url = api.url();
    match error.kind() {
        ErrorKind::Unavailable => error.context(format!(
            "Traefik's API does not answer at {url} (`traefik_api_url`): check the URL, and start \
             Traefik before attaching to it"
        )),
        _ => error,
    }
}
