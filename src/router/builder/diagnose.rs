//! What is right and what is wrong with a set-up, found out without changing anything.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Builder, overlap};
use crate::backend::{Backend, Commit, Contents, Document};
use crate::config::dynamic::{has_default_certificate, password_hashes};
use crate::config::static_config::READ_TIMEOUT;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, Level};
use crate::route::{Group, Layout, priority};
use crate::router::certificate::CertificateFiles;
use crate::router::status::RELOAD_PATIENCE;
use crate::router::unknown;
use crate::router::verify::{has_loaded, providers, unheard, unread};
use crate::traefik::version::{has_parents, numbers};
use crate::traefik::{Api, RestContent, RouterInfo, Version, process};

/// With bcrypt from this cost on, a request to the API takes Traefik more than about 5 ms.
const EXPENSIVE_BCRYPT_COST: u32 = 7;

impl Builder {
    /// Checks what has to be right for routes to be served: the Traefik binary, the store, and each
    /// Traefik at [`traefik_api_urls`](Self::traefik_api_urls). It changes no routes. It runs `traefik version`, and
    /// on Redis sets and deletes one key, to see whether Redis notifies of changes.
    ///
    /// A Traefik that stops answering costs at most about
    /// 3 × [`traefik_api_timeout`](Self::traefik_api_timeout) + 3 s. The bounds of the store come on top.
    pub fn diagnose(&self) -> Vec<Finding> {
        let mut findings = vec![self.program()];
        if let (Some(cert), Some(key)) = &self.ssl {
            findings.push(given_certificate(cert, key));
        }
        findings.extend(self.backend.diagnose());
        let contents = match self.backend.inspect() {
            Ok(contents) => contents,
            Err(error) => {
                let advice = "nothing can be served or changed before it can be read";
                findings.push(Finding::problem("store", error.to_string()).advice(advice));
                return findings;
            }
        };
        // Only its Traefiks have the table of a program that pushes it.
        let is_theirs =
            |contents: &Contents| self.backend.pushed().is_some() && contents.commit.is_none();
        let contents = contents.filter(|contents| !is_theirs(contents));
        match &contents {
            Some(contents) => {
                findings.extend(stored(contents));
                let checked = self
                    .confined()
                    .and_then(|host| host.check(&contents.routes));
                let problem = |error: Error| Finding::problem("host", error.to_string());
                findings.extend(checked.err().map(problem));
                let problem = |error: Error| Finding::problem("tls-options", error.to_string());
                findings.extend(contents.routes.check().err().map(problem));
            }
            None if self.backend.pushed().is_some() => {}
            None => findings.push(
                Finding::problem("store", "there is no table of routes there").advice(
                    "check the name; if it is right, add a route, or start a Router: a Traefik \
                     that starts before the store is there may never look at it again",
                ),
            ),
        }
        match self.apis(self.api_password.as_deref()) {
            Ok(apis) => {
                for api in &apis {
                    findings.extend(self.traefik(api, contents.as_ref()));
                }
            }
            Err(error) => findings.push(Finding::problem("options", error.to_string())),
        }
        findings
    }

    fn program(&self) -> Finding {
        match process::version_of(&self.traefik_bin, self.api_timeout) {
            Ok(version) => supported(
                "traefik",
                &version,
                format!("Traefik {version} is installed"),
            ),
            Err(error) => Finding::warning("traefik", error.to_string())
                .advice("needed on this machine only where Traefik is to be started from here"),
        }
    }

    /// What the Traefik behind one API says.
    fn traefik(&self, api: &Api, contents: Option<&Contents>) -> Vec<Finding> {
        let Version {
            version,
            start_date,
            ..
        } = match api.version() {
            Ok(version) => version,
            Err(error) => return vec![self.unanswered(&error)],
        };
        let message = format!(
            "Traefik {version} answers at {}, since {start_date}",
            api.url()
        );
        let mut findings = vec![supported("api", &version, message)];
        findings.extend(contents.and_then(|contents| too_old(contents, &version, api.url())));
        let asked = self.guard(api).and_then(|guard| {
            findings.push(guard);
            self.loaded(api, contents, &mut findings)
        });
        if let Err(error) = asked {
            findings.push(self.unanswered(&error));
        }
        findings
    }

    fn unanswered(&self, error: &crate::Error) -> Finding {
        let finding = Finding::problem("api", error.to_string());
        match error.kind() {
            ErrorKind::Unauthorized => finding,
            ErrorKind::Protocol => {
                let how = match self.backend.pushed() {
                    Some(_) => "`traefik-router config dynamic` prints one",
                    None => "`traefik-router setup` stores one",
                };
                finding.advice(format!(
                    "check the URL, and that Traefik has a router for its API there ({how})"
                ))
            }
            _ => finding.advice("check the URL, and that Traefik runs and its API listens there"),
        }
    }

    /// Whether the API asks for a password. That ours is right is known by now.
    fn guard(&self, api: &Api) -> Result<Finding> {
        let stranger = Api::with_tls(api.url(), &self.api_tls)?.timeout(self.api_timeout);
        match stranger.version() {
            Ok(_) => Ok(Finding::warning(
                "password",
                format!("the API at {} answers without a password", api.url()),
            )
            .advice(
                "anybody who reaches it sees all routes and targets: guard it by basicAuth, or let \
                 nobody else reach it",
            )),
            Err(error) if error.kind() == ErrorKind::Unauthorized => Ok(Finding::ok(
                "password",
                format!(
                    "the API at {} asks for a password, and the given one is right",
                    api.url()
                ),
            )),
            Err(error) => Err(error),
        }
    }

    /// Whether Traefik serves what is stored.
    fn loaded(
        &self,
        api: &Api,
        contents: Option<&Contents>,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let url = api.url();
        let provider = self.backend.provider();
        let running = providers(api)?;
        let runs = running.contains(&provider.to_lowercase());
        let all = running.join(", ");
        findings.push(if runs {
            Finding::ok("provider", format!("{url} runs the provider {provider:?}"))
        } else {
            let message = format!("{url} does not run the provider {provider:?}, but: {all}");
            Finding::problem("provider", message).advice(
                "set it up in its static configuration; restart it if the store was not there \
                 when it started",
            )
        });
        let taken = match contents {
            None if runs && self.backend.pushed().is_some() => Some(self.taken(api, findings)?),
            _ => None,
        };
        let Some(contents) = contents.or(taken.as_ref()) else {
            return Ok(());
        };
        if !contents.entrypoint.is_empty() {
            findings.extend(self.entrypoint(api, contents)?);
        }
        match &contents.commit {
            Some(commit) if runs => findings.push(generation(api, commit, &*self.backend)?),
            _ => {}
        }
        let ours = Ours::of(contents, provider);
        findings.extend(refused(api, &ours)?);
        let routers = api.routers()?;
        let by_name = routers.iter().map(|router| (&*router.name, router));
        let by_name: HashMap<_, _> = by_name.collect();
        let theirs = routers.iter().filter(|router| {
            let listens = &top(router, &by_name).entry_points;
            listens.contains(&contents.entrypoint) && !ours.names.contains_key(&router.name)
        });
        let theirs: Vec<_> = theirs.collect();
        findings.extend(between(&theirs, contents, &ours));
        let equal = overlap::overlapping(&theirs, contents, url);
        findings.extend(equal.or_else(|| overlap::interleaved(&theirs, contents, url)));
        findings.extend(overlap::shared_api(&routers, contents, provider, url));
        let message = format!("the providersThrottleDuration of {url} can't be seen from outside");
        findings.push(Finding::new(Level::Note, "throttle", message).advice(
            "if changes take about two seconds, set providers.providersThrottleDuration = \"0s\" \
             in its static configuration",
        ));
        Ok(())
    }
}

impl Builder {
    /// Whether Traefik takes a table from us, and the one that a program has pushed to it.
    fn taken(&self, api: &Api, findings: &mut Vec<Finding>) -> Result<Contents> {
        const CHECK: &str = "table";
        let url = api.url();
        let none = Contents {
            entrypoint: self.default_entrypoint(&self.public()?)?,
            ..Contents::default()
        };
        if let Err(error) = api.check_rest() {
            findings.push(match error.kind() {
                ErrorKind::InvalidConfig => Finding::problem(CHECK, error.to_string()),
                _ => return Err(error),
            });
            return Ok(none);
        }
        Ok(match api.rest_content()? {
            RestContent::Nothing => {
                let message =
                    format!("{url} takes a table with the given password, and has none yet");
                findings.push(Finding::ok(CHECK, message));
                none
            }
            RestContent::Other => {
                let message = format!("a program of another kind pushes configuration to {url}");
                findings.push(
                    Finding::problem(CHECK, message)
                        .advice("stop that program: a table would replace what it has pushed"),
                );
                none
            }
            RestContent::Table(records) => match Document::contents(&records) {
                Ok(contents) => {
                    findings.push(self.table(url, &contents)?);
                    contents
                }
                Err(error) => {
                    let message = format!("{url} has a table that can't be read: {error}");
                    findings.push(Finding::problem(CHECK, message).advice(
                        "a later version of the program may have pushed it: use that version, or set \
                         `replace_pushed_table`",
                    ));
                    none
                }
            },
        })
    }

    /// What `attach` would do about the table that a Traefik has. A program that only looks has no name.
    fn table(&self, url: &str, contents: &Contents) -> Result<Finding> {
        const CHECK: &str = "table";
        let name = |commit: &Option<Commit>| commit.as_ref().map(|one| one.namespace.clone());
        let theirs = name(&contents.commit).unwrap_or_default();
        let ours = name(&self.backend.last_commit()?).unwrap_or_default();
        if ours != theirs && !ours.is_empty() && !self.replace_pushed {
            let message =
                format!("{url} has the table {theirs:?}, and this program's table is {ours:?}");
            return Ok(Finding::problem(CHECK, message)
                .advice("use the name of that table, another Traefik, or `replace_pushed_table`"));
        }
        let message = format!(
            "{url} takes a table with the given password, and has the table {theirs:?} with {}",
            count(contents)
        );
        Ok(Finding::ok(CHECK, message))
    }

    /// Whether Traefik has the entrypoint that the routes are for, and whether requests to
    /// `public_url` can meet them there.
    fn entrypoint(&self, api: &Api, contents: &Contents) -> Result<Vec<Finding>> {
        const CHECK: &str = "entrypoint";
        let url = api.url();
        let name = self.entrypoint.as_ref().unwrap_or(&contents.entrypoint);
        let known = api.entrypoints()?;
        let Some(ours) = known.iter().find(|known| known.name == *name) else {
            let names: Vec<_> = known.iter().map(|known| &*known.name).collect();
            let message = format!(
                "{url} has no entrypoint {name:?}, which the routes are for; it has {}",
                names.join(", ")
            );
            return Ok(vec![Finding::problem(CHECK, message).advice(
                "add it to its static configuration, or choose another one for the routes",
            )]);
        };
        let mut findings = vec![Finding::ok(
            CHECK,
            format!("{url} has the entrypoint {name:?}"),
        )];
        if ours.redirects() {
            let message = format!(
                "the entrypoint {name:?} of {url} answers every request with a redirect, so that no \
                 route is served there"
            );
            findings.push(
                Finding::problem(CHECK, message)
                    .advice("have the routes served on the entrypoint that it redirects to"),
            );
        }
        if let Some(bound) = ours.read_timeout() {
            let message = format!(
                "the entrypoint {name:?} of {url} cuts uploads that take longer than {bound}"
            );
            findings.push(Finding::warning("timeout", message).advice(format!(
                "set entryPoints.{name}.transport.respondingTimeouts.readTimeout = {READ_TIMEOUT:?} in its \
                 static configuration"
            )));
        }
        let public = self.public_url.as_deref();
        let is_https = public.map(|public| public.starts_with("https://"));
        let wrong = match (is_https, ours.has_tls(), contents.tls) {
            (Some(true), false, false) => Some((
                format!(
                    "`public_url` begins with https, and neither the entrypoint {name:?} of {url} nor the routers have \
                     TLS: HTTPS answers 404"
                ),
                "use this `public_url` for a change once: the routers then carry tls",
            )),
            (Some(false), true, _) => Some((
                format!(
                    "`public_url` begins with http://, and the entrypoint {name:?} of {url} serves TLS alone"
                ),
                "begin `public_url` with https://",
            )),
            (Some(false), false, true) => Some((
                "`public_url` begins with http://, and the routers serve TLS alone: HTTP answers 404".into(),
                "begin `public_url` with https://; or use this one for a change once: the routers then carry no tls",
            )),
            _ => None,
        };
        findings
            .extend(wrong.map(|(message, advice)| Finding::problem(CHECK, message).advice(advice)));
        Ok(findings)
    }
}

/// Whether a Traefik is one that this crate knows how to serve.
fn supported(check: &'static str, version: &str, message: String) -> Finding {
    let major = version.trim_start_matches('v').split('.').next();
    match major.and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major < 3 => {
            Finding::problem(check, message).advice("it is too old: install Traefik 3")
        }
        _ => Finding::ok(check, message),
    }
}

/// What is in the store, and what is missing there.
fn stored(contents: &Contents) -> Vec<Finding> {
    let count = count(contents);
    let mut findings = vec![match &contents.commit {
        Some(_) => Finding::ok("store", count),
        None => Finding::warning(
            "store",
            format!("{count}, and no Router has opened the store yet"),
        )
        .advice("add a route, or start a Router; that makes it ready"),
    }];
    if contents.legacy_routes > 0 {
        let message = format!(
            "{} of jupyterhub-traefik-proxy",
            counted(contents.legacy_routes)
        );
        findings.push(Finding::warning("legacy", message).advice(
            "the next change takes them over; see that jupyterhub-traefik-proxy no longer runs",
        ));
    }
    findings.push(if has_default_certificate(&contents.config) {
        Finding::ok("certificate", "a default certificate is set")
    } else {
        let message = "no default certificate is stored: where Traefik has none from elsewhere \
                       either, it makes an RSA key at every change, which takes it some 40 ms";
        Finding::warning("certificate", message).advice(
            "set tls.stores.default.defaultCertificate in Traefik's own configuration; a Traefik that \
             a Router starts has one",
        )
    });
    findings.extend(password_hashes(&contents.config).into_iter().map(hash));
    findings
}

/// How many routes there are, where and since which commit.
fn count(contents: &Contents) -> String {
    let count = counted(contents.routes.len());
    match &contents.commit {
        Some(commit) => format!(
            "{count} on the entrypoint {:?}, generation {}",
            contents.entrypoint, commit.generation
        ),
        None => count,
    }
}

fn counted(routes: usize) -> String {
    match routes {
        1 => "1 route".to_string(),
        count => format!("{count} routes"),
    }
}

fn hash(hash: &str) -> Finding {
    const CHECK: &str = "password-hash";
    let kind = hash.split('$').nth(1).unwrap_or_default();
    let cost = hash
        .split('$')
        .nth(2)
        .and_then(|cost| cost.parse::<u32>().ok());
    match (kind, cost) {
        ("2a" | "2b" | "2y", Some(cost)) if cost >= EXPENSIVE_BCRYPT_COST => {
            // 265 ms at cost 12, and twice as much with each step.
            let millis = 265.0 * f64::from(cost.min(31)).exp2() / 12_f64.exp2();
            let message = format!(
                "the API's password is kept as bcrypt of cost {cost}: each request to the API, and \
                 each change takes at least one, costs Traefik about {millis:.0} ms"
            );
            Finding::warning(CHECK, message)
                .advice("choose a random password and keep it as {SHA}, or bcrypt with a cost of 5")
        }
        ("2a" | "2b" | "2y", Some(cost)) => Finding::ok(
            CHECK,
            format!("the API's password is kept as bcrypt of cost {cost}"),
        ),
        ("apr1", _) => Finding::ok(CHECK, "the API's password is kept as $apr1$"),
        _ if hash.starts_with("{SHA}") => Finding::ok(
            CHECK,
            "the API's password is kept as {SHA}: right for a random one",
        ),
        _ => Finding::problem(
            CHECK,
            "the API's password is kept in no way that Traefik knows",
        )
        .advice("keep it as {SHA}, $apr1$ or bcrypt"),
    }
}

/// What an older Traefik would make of the table.
fn too_old(contents: &Contents, version: &str, url: &str) -> Option<Finding> {
    let routes = contents.routes.iter();
    let mut unknown = routes.filter_map(|route| unknown(route, numbers(version)));
    if let Some(why) = unknown.next() {
        let message = format!("{why}: Traefik at {url} rejects the whole table, or ignores this");
        let advice = "install a later Traefik, or add the route without that";
        return Some(Finding::problem("settings", message).advice(advice));
    }
    let layout = Layout::of(&contents.routes, contents.nested);
    if has_parents(version) || layout.parents().is_empty() {
        return None;
    }
    let message = format!(
        "routers of the table are nested (parentRefs), and Traefik {version} at {url}, which \
         is older than 3.6, rejects the whole table"
    );
    Some(Finding::problem("parents", message).advice(
        "set `nested_routers` to never, which changes the table for all Traefiks, or install Traefik 3.6 or later",
    ))
}

/// What is wrong with the files of a certificate and its key.
fn given_certificate(cert: &Path, key: &Path) -> Finding {
    const CHECK: &str = "ssl";
    match CertificateFiles::inspect(cert, key) {
        Ok(false) => Finding::ok(CHECK, format!("{} fits its private key", cert.display())),
        Ok(true) => Finding::problem(CHECK, format!("{} has expired", cert.display()))
            .advice("renew it; a Traefik that runs gets it with the next change"),
        Err(error) => Finding::problem(CHECK, error.to_string())
            .advice("give the certificate with its chain, the server's own first, and its key"),
    }
}

/// Whether Traefik reads the store that we read: it shows what was last written there.
fn generation(api: &Api, commit: &Commit, store: &dyn Backend) -> Result<Finding> {
    const CHECK: &str = "generation";
    let url = api.url();
    let marker = commit.marker_at(store.provider());
    let deadline = Instant::now() + RELOAD_PATIENCE;
    loop {
        let loaded = api.generation(&marker)?;
        let is_loaded = loaded.map_or(Ok(false), |loaded| has_loaded(store, commit, loaded))?;
        if is_loaded {
            let message = format!("{url} has loaded generation {}", commit.generation);
            return Ok(Finding::ok(CHECK, message));
        }
        if Instant::now() >= deadline {
            let stored = commit.generation;
            return Ok(match loaded {
                Some(loaded) if loaded > stored => Finding::problem(
                    CHECK,
                    format!(
                        "{url} shows generation {loaded}, which is later than the one stored, \
                         {stored}: the store was put back to an earlier state"
                    ),
                )
                .advice("set all routes anew, or restart this Traefik"),
                Some(loaded) => Finding::problem(
                    CHECK,
                    format!("{url} still has generation {loaded}, and {stored} is stored"),
                )
                .advice(unheard(store.provider())),
                None => Finding::problem(CHECK, format!("{url} has loaded nothing of this store"))
                    .advice(unread(store.provider())),
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What our routers are called in Traefik, and what they are for.
struct Ours {
    names: HashMap<String, String>,
    layout: Layout,
}

impl Ours {
    fn of(contents: &Contents, provider: &str) -> Self {
        Self {
            names: contents.router_names(provider),
            layout: Layout::of(&contents.routes, contents.nested),
        }
    }
}

/// The routers that Traefik refuses, with its own words.
fn refused(api: &Api, ours: &Ours) -> Result<Vec<Finding>> {
    const CHECK: &str = "routers";
    let url = api.url();
    let routers = api.refused_routers()?;
    if routers.is_empty() {
        return Ok(vec![Finding::ok(CHECK, format!("{url} refuses no router"))]);
    }
    let finding = |router: RouterInfo| {
        let words = router.error.join("; ");
        match ours.names.get(&router.name) {
            Some(what) => Finding::problem(CHECK, format!("{url} refuses {what}: {words}"))
                .advice("mend what it says, or delete the route"),
            None => Finding::warning(
                CHECK,
                format!(
                    "{url} refuses the router {}, which is not of this table: {words}",
                    router.name
                ),
            )
            .advice("mend it where it was written"),
        }
    };
    Ok(routers.into_iter().map(finding).collect())
}

/// The router at an entrypoint that a router stands below, or is.
fn top<'a>(router: &'a RouterInfo, all: &HashMap<&str, &'a RouterInfo>) -> &'a RouterInfo {
    let parent = |router: &&'a RouterInfo| all.get(&**router.parent_refs.first()?).copied();
    // Others may have made a circle.
    let above = std::iter::successors(Some(router), parent).take(100);
    above.last().unwrap_or(router)
}

/// Routers of others that come before some routes only because these are behind one gate with
/// others.
fn between(theirs: &[&RouterInfo], contents: &Contents, ours: &Ours) -> Option<Finding> {
    let mut gates: HashMap<&Group, (u64, u64)> = HashMap::new();
    for route in &contents.routes {
        if let Some(gate) = ours.layout.gate(&route.spec) {
            let own = priority(&route.spec);
            let (low, high) = gates.entry(gate).or_insert((own, own));
            (*low, *high) = ((*low).min(own), (*high).max(own));
        }
    }
    let place = |router: &RouterInfo| {
        let own = u64::try_from(router.priority).ok()?;
        let mut gates = gates.iter();
        let (gate, _) = gates.find(|(_, (low, high))| *low < own && own < *high)?;
        let name = &router.name;
        Some(format!("{name} (priority {own}, among the routes {gate}…)"))
    };
    let theirs = theirs.iter().filter(|router| router.parent_refs.is_empty());
    let places: Vec<_> = theirs.filter_map(|router| place(router)).collect();
    let first = places.first()?;
    let message = format!(
        "the priority of {} of others is between those of the routes behind one parent: {first}",
        match places.len() {
            1 => "a router".into(),
            count => format!("{count} routers"),
        }
    );
    Some(Finding::new(Level::Note, "between", message).advice(
        "of requests that both match such a router takes those of all these routes: give it \
         another priority, or have routers side by side (`nested_routers`)",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hashes_are_judged_by_cost() {
        for (text, level, says) in [
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", Level::Ok, "{SHA}"),
            ("$apr1$x$y", Level::Ok, "$apr1$"),
            ("$2y$05$secret", Level::Ok, "cost 5"),
            ("$2b$12$secret", Level::Warning, "about 265 ms"),
            ("$2a$10$secret", Level::Warning, "about 66 ms"),
            ("$6$secret", Level::Problem, "no way that Traefik knows"),
            ("secret", Level::Problem, "no way that Traefik knows"),
        ] {
            let found = hash(text);
            assert_eq!(found.level, level, "{text}");
            assert!(found.message.contains(says), "{}", found.message);
            assert!(!found.message.contains("secret"), "{}", found.message);
        }
    }

    #[test]
    fn versions_are_judged() {
        for (version, level) in [
            ("3.7.15", Level::Ok),
            ("v3.0.0", Level::Ok),
            ("dev", Level::Ok),
            ("2.11.0", Level::Problem),
        ] {
            assert_eq!(supported("api", version, String::new()).level, level);
        }
    }

    #[test]
    fn store_problems_are_found() {
        let levels = |contents: &Contents| -> Vec<_> {
            let found = stored(contents);
            found.iter().map(|one| (one.check, one.level)).collect()
        };
        let mut contents = Contents {
            legacy_routes: 2,
            ..Contents::default()
        };
        assert_eq!(
            levels(&contents),
            [
                ("store", Level::Warning),
                ("legacy", Level::Warning),
                ("certificate", Level::Warning)
            ]
        );
        contents = Contents {
            commit: Some(Commit::new("m", 1)),
            config: json!({"tls": {"stores": {"default": {"defaultCertificate": {}}}}}),
            ..Contents::default()
        };
        assert_eq!(
            levels(&contents),
            [("store", Level::Ok), ("certificate", Level::Ok)]
        );
    }
}
