//! `traefik-router routes …`

use std::process::ExitCode;
use std::time::Duration;
use std::{io, thread};

use clap::{Args, Subcommand, ValueHint};
use serde_json::{Value, json};
use traefik_router::backend::Contents;
use traefik_router::{Backend as _, Change, Route, RouteSpec, Table};

use super::apply::{self, ApplyOptions, check_after, difference};
use super::change::{self, how, make, millis, open, warn_if_unseen};
use super::confined::{shown, shown_table, stored_spec};
use super::display::{as_json, change_json, change_line, settings};
use super::output::{Output, Progress, counted, end_with_reader, safe_json, warn};
use super::syntax::Syntax;
use crate::failure::Failure;
use crate::settings::Resolved;
use crate::url;

/// How long one wait for a change of the table lasts.
const WATCH_INTERVAL: Duration = Duration::from_secs(60);
/// How long `watch` waits before it asks a store again that could not be read.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Subcommand)]
pub(crate) enum RoutesCommand {
    /// List all routes.
    #[command(after_help = "\
Examples:
  traefik-router routes list --backend toml:rules.toml
  traefik-router routes list --json | jq -r '.[].target'")]
    List,
    /// Show one route, by its exact routespec.
    #[command(after_help = "\
Examples:
  traefik-router routes get /user/zoe/
  traefik-router routes get docs.example.org/ --json

Exits with 3 if there is none.")]
    Get {
        /// `[host]/path/`: a path such as /user/zoe/, or a host and a path such as docs.example.org/. Without a
        /// leading slash the first part is a host.
        #[arg(value_hint = ValueHint::Url)]
        routespec: String,
    },
    /// Add a route, or replace the one that has the same routespec. With --api-url it returns when
    /// Traefik serves it.
    #[command(after_help = "\
Examples:
  traefik-router routes add /user/zoe/ http://127.0.0.1:9001
  traefik-router routes add docs.example.org/ http://docs:80 --data '{\"owner\": \"zoe\"}'
  traefik-router routes add /app/ http://blue:80 --weight 9 --server http://green:80 --middleware strip@file
  traefik-router routes add /app/ http://app:80 --service '{\"sticky\": {\"cookie\": {\"name\": \"app\"}}}'

Exits with 4 if it is stored, but not confirmed as served.")]
    Add {
        /// `[host]/path/`: a path such as /user/zoe/, or a host and a path such as docs.example.org/. Without a
        /// leading slash the first part is a host.
        #[arg(value_hint = ValueHint::Url)]
        routespec: String,
        /// The URL of the server that requests go to.
        target: String,
        /// JSON to keep with the route.
        #[arg(long, value_name = "JSON")]
        data: Option<String>,
        #[command(flatten)]
        more: More,
    },
    /// Delete a route. With --api-url it returns when Traefik no longer serves it.
    #[command(after_help = "\
Example:
  traefik-router routes delete /user/zoe/

Exits with 3 if there is no such route, and with 4 if it is no longer stored, but Traefik may still serve it.")]
    Delete {
        /// `[host]/path/`: a path such as /user/zoe/, or a host and a path such as docs.example.org/. Without a
        /// leading slash the first part is a host.
        #[arg(value_hint = ValueHint::Url)]
        routespec: String,
    },
    /// Delete all routes, and remove all else that this program has stored with them. With --api-url it returns when
    /// Traefik no longer serves them.
    #[command(after_help = "\
Example:
  traefik-router routes clear --backend etcd:http://etcd:2379

Hand-written entries and those of other programs stay. Refused while another program serves the routes. Exits with 4 if the routes are no longer
stored, but Traefik may still serve them. The rest of the table is then still stored.")]
    Clear,
    /// Show the route that a request for this URL takes.
    #[command(after_help = "\
Examples:
  traefik-router routes resolve https://hub.example.org/user/zoe/lab
  traefik-router routes resolve /user/zoe/lab

Asks the store, not Traefik. Exits with 3 if no route matches.")]
    Resolve {
        /// A URL, or the path of one.
        #[arg(value_hint = ValueHint::Url)]
        url: String,
    },
    /// Add and change the routes of a file, all at once, and print the difference. With --api-url it returns
    /// when Traefik serves them.
    #[command(after_help = apply::HELP)]
    Apply(ApplyOptions),
    /// Print all routes as a file that `routes apply` reads.
    #[command(after_help = "\
Examples:
  traefik-router routes export > table.toml
  traefik-router routes export --format yaml --backend etcd:http://etcd:2379")]
    Export {
        /// The syntax [default: toml, with --json json].
        #[arg(long, value_name = "SYNTAX", conflicts_with = "json")]
        format: Option<Syntax>,
    },
    /// Print each change of the table, one line each, until you stop it.
    #[command(after_help = "\
Examples:
  traefik-router routes watch --backend etcd:http://etcd:2379
  traefik-router routes watch --json | jq -r .routespec

Follows the store, not Traefik. Of several changes of a route at about the same time only the last is printed. While
the store can't be read it waits, and then prints what has changed meanwhile.")]
    Watch,
}

/// What a route asks of Traefik beside its target.
#[derive(Args)]
pub(crate) struct More {
    /// The target's share of the requests among --server [default: 1].
    #[arg(long, value_name = "NUMBER")]
    weight: Option<u32>,
    /// One more server, and its share of the requests, which defaults to 1. May be given several times.
    #[arg(long = "server", value_name = "URL[,WEIGHT]")]
    servers: Vec<String>,
    /// The name of a middleware that requests pass through. A middleware of another provider needs the provider in
    /// its name: `strip@file`. May be given several times.
    #[arg(long = "middleware", value_name = "NAME")]
    middlewares: Vec<String>,
    /// Settings of the service, as Traefik documents `loadBalancer`.
    #[arg(long, value_name = "JSON")]
    service: Option<String>,
    /// Settings of the router, as Traefik documents them: `tls`, `observability`.
    #[arg(long, value_name = "JSON")]
    router: Option<String>,
    /// Give the route a service of its own. Its name, that of the router, stays the same when the servers change.
    #[arg(long)]
    own_service: bool,
    /// Remove the path of the route from requests to the servers.
    #[arg(long)]
    strip_prefix: bool,
}

impl More {
    fn of(self, mut route: Route) -> Result<Route, Failure> {
        route = route.weight(self.weight.unwrap_or(1));
        for server in &self.servers {
            let weighted = server.rsplit_once(',');
            let weighted = weighted.and_then(|(url, weight)| Some((url, weight.parse().ok()?)));
            let (url, weight) = weighted.unwrap_or((server, 1));
            route = route.server(url, weight)?;
        }
        for name in self.middlewares {
            route = route.middleware(name)?;
        }
        if let Some(text) = self.service {
            route = route.service_config(parse("--service", &text)?)?;
        }
        if let Some(text) = self.router {
            route = route.router_config(parse("--router", &text)?)?;
        }
        if self.own_service {
            route = route.own_service();
        }
        Ok(match self.strip_prefix {
            true => route.strip_prefix(),
            false => route,
        })
    }
}

pub(super) fn run(command: RoutesCommand, resolved: &Resolved) -> Result<ExitCode, Failure> {
    match command {
        RoutesCommand::List => list(resolved)?,
        RoutesCommand::Get { routespec } => {
            let spec = stored_spec(resolved, RouteSpec::new(routespec)?)?;
            let contents = stored(resolved)?;
            let route = contents.routes.get(&spec);
            show(resolved, route, || format!("there is no route {spec}"))?;
        }
        RoutesCommand::Resolve { url } => {
            let (host, path) = request(&url);
            let contents = stored(resolved)?;
            let route = contents.routes.resolve(host, path)?;
            show(resolved, route, || format!("no route is for {host}{path}"))?;
        }
        RoutesCommand::Add {
            routespec,
            target,
            data,
            more,
        } => {
            let data = data.map(|text| parse("--data", &text)).transpose()?;
            let route = Route::new(routespec, target)?.data(data);
            let route = more.of(route)?;
            if let Some(mistake) = route.spec.likely_mistake() {
                warn(&mistake);
            }
            if !resolved.settings.api_url.is_empty() {
                // A Router that attaches would first store the table's options.
                let contents = change::stored(resolved)?.unwrap_or_default();
                let stored = shown_table(resolved, &contents.routes)?;
                check_after(&stored, &[route.clone()].into_iter().collect(), false)?;
            }
            make(resolved, |router| router.apply([route.into()]))?;
        }
        RoutesCommand::Apply(options) => apply::run(&options, resolved)?,
        RoutesCommand::Export { format } => {
            let default = if resolved.json {
                Syntax::Json
            } else {
                Syntax::Toml
            };
            let syntax = format.unwrap_or(default);
            let table = shown_table(resolved, &stored(resolved)?.routes)?;
            let text = table.to_text(syntax.into());
            match syntax {
                Syntax::Json => Output::plain().text(&safe_json(&text))?,
                Syntax::Toml | Syntax::Yaml => Output::plain().text(&text)?,
            }
        }
        RoutesCommand::Watch => watch(resolved)?,
        RoutesCommand::Clear => clear(resolved)?,
        RoutesCommand::Delete { routespec } => {
            let spec = stored_spec(resolved, RouteSpec::new(routespec)?)?;
            let stored = of_table(resolved, change::stored(resolved)?)?;
            if stored.routes.get(&spec).is_none() {
                return Err(Failure::no_route(format!("there is no route {spec}")));
            }
            make(resolved, |router| router.apply([Change::Delete(spec)]))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(resolved: &Resolved) -> Result<(), Failure> {
    let routes = shown_table(resolved, &stored(resolved)?.routes)?;
    let output = Output::new();
    if resolved.json {
        let routes: Vec<_> = routes.iter().map(|route| as_json(route)).collect();
        output.json(&routes)?;
        return Ok(());
    }
    table(&output, routes.iter().map(|route| &**route))
}

/// Prints changes of the table until the process is ended, or nobody reads them.
fn watch(resolved: &Resolved) -> Result<(), Failure> {
    // The Router would wait for a store that is not there.
    stored(resolved)?;
    end_with_reader();
    let mut followed = Followed::default();
    loop {
        let failure = match followed.print(resolved) {
            Ok(ended) => return Err(ended.into()),
            Err(failure) if followed.table.is_none() => return Err(failure),
            Err(failure) => failure.message.unwrap_or_default(),
        };
        if !std::mem::replace(&mut followed.is_lost, true) {
            warn(&format!(
                "{failure}. Changes are printed once the routes can be read again"
            ));
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

/// What `watch` has printed.
#[derive(Default)]
struct Followed {
    /// The table with all changes that are printed. `None` before the first reading.
    table: Option<Table>,
    /// Whether the store could not be read last time.
    is_lost: bool,
}

impl Followed {
    /// Prints changes until the store can't be read, or the output can't be written, which it returns. A Router of
    /// its own takes the store as it is, even if it was put back to an earlier state.
    fn print(&mut self, resolved: &Resolved) -> Result<io::Error, Failure> {
        let output = Output::new();
        let router = resolved.builder()?.offline()?;
        let mut watch = router.watch()?;
        if std::mem::take(&mut self.is_lost) {
            warn("the routes can be read again");
        }
        let known = self.table.get_or_insert_with(|| watch.table().clone());
        let mut events = difference(known, watch.table(), true);
        loop {
            for event in &events {
                let printed = match resolved.json {
                    true => output.json_line(&change_json(event)),
                    false => output.line(&change_line(&output, event)),
                };
                if let Err(error) = printed {
                    return Ok(error);
                }
            }
            known.clone_from(watch.table());
            events = watch.next(WATCH_INTERVAL)?;
        }
    }
}

/// What is stored, without a change to it.
fn stored(resolved: &Resolved) -> Result<Contents, Failure> {
    of_table(resolved, resolved.store.open()?.inspect()?)
}

/// What a store holds that has a table.
fn of_table(resolved: &Resolved, contents: Option<Contents>) -> Result<Contents, Failure> {
    let contents = contents.ok_or_else(|| {
        let store = &resolved.store;
        Failure::failed(format!(
            "there are no routes in {store}: check --backend; `routes add` begins a new table"
        ))
    })?;
    if resolved.settings.host.is_some() {
        // Refuses a table with routes of other hosts.
        drop(resolved.builder()?.offline()?);
    }
    Ok(contents)
}

fn show(
    resolved: &Resolved,
    route: Option<&std::sync::Arc<Route>>,
    none: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let output = Output::new();
    let route = route.map(|route| shown(resolved, route)).transpose()?;
    match route {
        Some(route) if resolved.json => output.json(&as_json(&route))?,
        Some(route) => table(&output, std::iter::once(&*route))?,
        None => return Err(Failure::no_route(none())),
    }
    Ok(())
}

fn table<'a>(output: &Output, routes: impl Iterator<Item = &'a Route>) -> Result<(), Failure> {
    let data = |route: &Route| match &route.data {
        Value::Null => String::new(),
        data => data.to_string(),
    };
    let more = |route: &Route| match settings(route) {
        set if set.is_empty() => String::new(),
        set => Value::from(set).to_string(),
    };
    let row = |route: &'a Route| {
        [
            route.spec.to_string(),
            route.target.to_string(),
            more(route),
            data(route),
        ]
    };
    let rows: Vec<_> = routes.map(row).collect();
    if rows.iter().any(|[_, _, more, _]| !more.is_empty()) {
        output.table(["ROUTE", "TARGET", "SETTINGS", "DATA"], &rows)?;
    } else {
        let rows: Vec<_> = (rows.into_iter())
            .map(|[spec, target, _, data]| [spec, target, data])
            .collect();
        output.table(["ROUTE", "TARGET", "DATA"], &rows)?;
    }
    Ok(())
}

fn parse(option: &str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("{option} is not JSON: {error}")))
}

/// The `Host` header and the path of a request for this URL.
fn request(url: &str) -> (&str, &str) {
    let (_, authority, path) = url::split(url);
    let host = authority.rsplit('@').next().unwrap_or_default();
    (host, if path.starts_with('/') { path } else { "/" })
}

/// Removes the table. Traefik is seen to stop serving its routes before the generation goes that shows it.
fn clear(resolved: &Resolved) -> Result<(), Failure> {
    let stored = of_table(resolved, change::stored(resolved)?)?;
    if stored.commit.is_none() {
        let message = format!("there is no table of routes in {}", resolved.store);
        return Err(Failure::failed(message));
    }
    let routes = stored.routes;
    let is_served = resolved.store.open().and_then(|store| store.is_served());
    if is_served.map_err(|error| Failure::before_change(&error))? {
        // This says why.
        let refused = resolved.builder()?.remove_table();
        refused.map_err(|error| Failure::before_change(&error))?;
    }
    let waits = !resolved.settings.api_url.is_empty();
    let served = match waits {
        true => {
            let _progress = Progress::show("waiting for Traefik");
            let router = open(resolved, waits)?;
            let specs = routes.iter().map(|route| route.spec.clone());
            let applied = router.apply(specs.map(Change::Delete));
            let applied = applied.map_err(|error| Failure::of_change(&error))?;
            warn_if_unseen(&applied);
            applied.served_after
        }
        false => None,
    };
    let removed = resolved.builder()?.remove_table();
    removed.map_err(|error| match waits {
        true => Failure::failed(format!("all routes were deleted, and then: {error}")),
        false => Failure::before_change(&error),
    })?;
    let output = Output::new();
    if resolved.json {
        output.json(&json!({"routes": routes.len(), "served_ms": served.map(millis)}))?;
        return Ok(());
    }
    let (routes, how) = (counted(routes.len(), "route"), how(served));
    output.report(&format!("removed the table of {routes}: {how}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_host_and_path() {
        for (url, expected) in [
            ("/user/zoe?x=/", ("", "/user/zoe?x=/")),
            ("http://h.x:8000/a/b", ("h.x:8000", "/a/b")),
            ("wss://u:p@h.x", ("h.x", "/")),
            ("h.x/a", ("h.x", "/a")),
            ("h.x/a?next=http://b/", ("h.x", "/a?next=http://b/")),
            ("https://h.x?q=/a", ("h.x", "/")),
        ] {
            assert_eq!(request(url), expected, "{url}");
        }
    }
}
