//! `traefik-router routes apply`

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use traefik_router::{Change, Route, RouteEvent, Table};

use super::change::{self, make};
use super::confined::shown_table;
use super::display::{change_json, change_line};
use super::output::{Output, YELLOW, shown, warn};
use super::syntax::Syntax;
use crate::failure::Failure;
use crate::settings::Resolved;

pub(super) const HELP: &str = "\
Examples:
  traefik-router routes apply table.toml --dry-run
  traefik-router routes apply table.yaml --delete
  traefik-router routes export --backend toml:rules.toml | traefik-router routes apply - --backend etcd:http://etcd:2379

A file with a mistake changes nothing. Exits with 4 if the routes are stored, but not confirmed as served.";

#[derive(Args)]
pub(crate) struct ApplyOptions {
    /// A file such as `routes export` prints; - for standard input.
    file: PathBuf,
    /// The syntax. Defaults to the ending of FILE; on standard input to json if it begins with a brace, else to
    /// toml.
    #[arg(long, value_name = "SYNTAX")]
    format: Option<Syntax>,
    /// Print the difference, and change nothing. A last line says whether --entrypoint would move all routes.
    #[arg(long)]
    dry_run: bool,
    /// Delete the routes that are not in the file.
    #[arg(long)]
    delete: bool,
}

pub(super) fn run(options: &ApplyOptions, resolved: &Resolved) -> Result<(), Failure> {
    let read = options.read()?;
    let wanted = shown_table(resolved, &read)?;
    if let Some(host) = &resolved.settings.host {
        if wanted.len() < read.len() {
            let message = format!("a route is given twice: with the host {host} and without it");
            return Err(Failure::usage(message));
        }
        if let Some(other) = wanted.iter().find(|route| route.spec.host().is_some()) {
            let message = format!("{}: --host allows routes for {host} alone", other.spec);
            return Err(Failure::usage(message));
        }
    }
    let contents = change::stored(resolved)?.unwrap_or_default();
    let stored = shown_table(resolved, &contents.routes)?;
    check_after(&stored, &wanted, options.delete)?;
    let events = difference(&stored, &wanted, options.delete);
    let output = Output::new();
    let mut printed = Ok(());
    for event in &events {
        if let RouteEvent::Added(route) | RouteEvent::Changed { to: route, .. } = event {
            if let Some(mistake) = route.spec.likely_mistake() {
                warn(&mistake);
            }
        }
        let line = || change_line(&output, event);
        match (resolved.json, options.dry_run) {
            (true, _) => {}
            (false, true) => output.line(&line())?,
            // Nobody may read it any more; the change is made all the same.
            (false, false) => printed = printed.and_then(|()| output.report(&line())),
        }
    }
    if options.dry_run {
        let (from, to) = (&contents.entrypoint, resolved.settings.entrypoint.as_ref());
        let moved = to.filter(|to| !stored.is_empty() && !from.is_empty() && *to != from);
        if resolved.json {
            let moved = moved.map(|to| {
                json!({
                    "change": "changed", "routespec": null,
                    "from": {"entrypoint": from}, "to": {"entrypoint": to},
                })
            });
            let all = events.iter().map(change_json).chain(moved);
            output.json(&all.collect::<Vec<_>>())?;
        } else if let Some(to) = moved {
            let line = shown(&format!("~ all routes  entrypoint {from} → {to}"));
            output.line(&output.styled(&line, YELLOW))?;
        } else if events.is_empty() {
            output.line("nothing to change")?;
        }
        return Ok(());
    }
    if options.delete {
        // Also routes that others have added since.
        let wanted = wanted.iter().map(|route| Route::clone(route));
        make(resolved, |router| router.reconcile(wanted))?;
    } else {
        let set = wanted.iter().map(|route| Change::Set(Arc::clone(route)));
        make(resolved, |router| router.apply(set))?;
    }
    Ok(printed?)
}

impl ApplyOptions {
    fn read(&self) -> Result<Table, Failure> {
        let (name, text) = match self.file == Path::new("-") {
            true => ("standard input".into(), io::read_to_string(io::stdin())),
            false => (
                self.file.display().to_string(),
                fs::read_to_string(&self.file),
            ),
        };
        let text = text.map_err(|error| Failure::usage(format!("can't read {name}: {error}")))?;
        // An editor may have put a byte order mark at the beginning.
        let text = text.trim_start_matches('\u{feff}');
        let syntax = match (self.format, self.file == Path::new("-")) {
            (Some(syntax), _) => syntax,
            (None, true) if text.trim_start().starts_with('{') => Syntax::Json,
            (None, true) => Syntax::Toml,
            (None, false) => Syntax::of(&self.file).ok_or_else(|| {
                Failure::usage(format!(
                    "{name} does not end in .toml, .yaml, .yml or .json: give --format"
                ))
            })?,
        };
        Table::from_text(text, syntax.into())
            .map_err(|error| Failure::usage(format!("{name}: {error}")))
    }
}

/// Refuses changes after which Traefik would not serve each route as it asks. Routes that are only stored are deleted if
/// `deletes` says so.
pub(super) fn check_after(stored: &Table, wanted: &Table, deletes: bool) -> Result<(), Failure> {
    let is_kept = |route: &&Arc<Route>| !deletes && wanted.get(&route.spec).is_none();
    let kept = stored.iter().filter(is_kept);
    let after: Table = wanted.iter().chain(kept).cloned().collect();
    Ok(after.check()?)
}

/// What turns one table into another one. Routes that are only in the first are deleted if `deletes` says so.
pub(super) fn difference(from: &Table, to: &Table, deletes: bool) -> Vec<RouteEvent> {
    let set = to.iter().filter_map(|route| match from.get(&route.spec) {
        None => Some(RouteEvent::Added(Arc::clone(route))),
        Some(old) if old == route => None,
        Some(old) => Some(RouteEvent::Changed {
            from: Arc::clone(old),
            to: Arc::clone(route),
        }),
    });
    let gone = from
        .iter()
        .filter(|route| deletes && to.get(&route.spec).is_none());
    let gone = gone.map(|route| RouteEvent::Deleted(Arc::clone(route)));
    set.chain(gone).collect()
}
