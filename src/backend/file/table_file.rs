//! The text of a file with our table in it: read, changed, and written again with everything else
//! in its place. Does no I/O.

mod legacy;
mod setup;

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use self::legacy::{LEGACY, LegacyRoutes};
use crate::backend::Contents;
use crate::backend::lines::Lines;
use crate::backend::record::{Header, parse};
use crate::config::dynamic::{entries, marker};
use crate::config::merge;
use crate::config::text::{
    Entries as _, Field, Node, Piece, Section, Syntax, cut, filled, json_line, outside, push_line,
    unmarked,
};
use crate::error::{Error, ErrorKind, Result};
use crate::route::{Change, Table, router_name};

/// The map that holds what we keep for ourselves; Traefik ignores keys it does not know at the
/// top of a file.
const OURS: &str = "traefik_router";

/// A file's content, taken apart.
pub(super) struct TableFile {
    syntax: Syntax,
    pub(super) header: Header,
    /// Whether the header is one that the file itself has lost.
    pub(super) inherited: bool,
    /// Whether the file's text is the one that we would write.
    pub(super) is_written: bool,
    pub(super) table: Lines<Syntax>,
    /// How many of its routes jupyterhub-traefik-proxy had written into the text that was parsed.
    legacy_routes: usize,
    /// The file without what is ours.
    foreign: String,
    /// What `foreign` was read to.
    tree: Node,
    /// Whether another file of the same folder sets the default certificate.
    pub(super) has_neighbours_certificate: bool,
    /// The ending of our API router's name. It is empty unless Traefik also reads other tables of this program.
    pub(super) ending: String,
    /// How the file is put together without routes and with some, with holes for what each commit
    /// changes.
    frames: [Option<Vec<Piece<Part>>>; 2],
    /// Output buffer, reused between commits.
    text: String,
}

/// What stands in our sections.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Line(String),
    Marker,
    Routers,
    Services,
    Records,
}

impl TableFile {
    /// A file with what others wrote into it, and with this header.
    pub(super) fn new(syntax: Syntax, header: Header, foreign: String) -> Result<Self> {
        let tree = syntax.parse(&foreign).map_err(corrupt)?;
        Ok(Self {
            syntax,
            header,
            inherited: false,
            is_written: false,
            table: Lines::new(syntax),
            legacy_routes: 0,
            has_neighbours_certificate: false,
            foreign,
            tree,
            ending: String::new(),
            frames: [None, None],
            text: String::new(),
        })
    }

    /// Takes a file apart; `fresh` is the header to use where it has none yet.
    pub(super) fn parse(syntax: Syntax, text: &str, fresh: &Header) -> Result<Self> {
        if let Some(file) = Self::parse_marked(syntax, text) {
            return Ok(file);
        }
        let tree = syntax.parse(text).map_err(|why| match text.contains("{{") {
            true => corrupt(format!(
                "it holds Go templates, and can be read only by Traefik; keep them in another file, \
                 and have Traefik watch the folder of both ({why})"
            )),
            false => corrupt(why),
        })?;
        let record = tree
            .get(&[OURS, "routes"])
            .map(Node::to_value)
            .unwrap_or_default();
        let stored = parse(record.as_str().unwrap_or_default().lines())?;
        let has_header = stored.is_some();
        let (header, routes) = stored.unwrap_or_else(|| (fresh.clone(), Table::new()));
        // Where the marks pair up, all between them is ours. Where they do not, our configuration is
        // known by name.
        let (foreign, config) = match outside(syntax, text, &tree) {
            Some(foreign) => (foreign, Value::Null),
            None => (unmarked(syntax, text), header.config()),
        };
        let mut file = Self::new(syntax, header, foreign)?;
        file.table.set_routes(routes, &file.header);
        let namespace = &file.header.namespace;
        let specs = file.routes().iter().map(|route| &route.spec);
        let routers = specs.map(|spec| router_name(namespace, spec)).collect();
        file.drop_named(routers, &config)?;
        let legacy = LegacyRoutes::in_file(&tree)?;
        let without_legacy = |path: &[&str]| legacy.owns(path);
        file.set_foreign(file.tree.text_without(&file.foreign, &without_legacy))?;
        file.legacy_routes = legacy.routes.len();
        let new = legacy.routes.into_iter();
        let new = new.filter(|route| file.routes().get(&route.spec).is_none());
        let new: Vec<_> = new.map(Change::from).collect();
        file.table.apply(&new, &file.header);
        // A text of another program may look like our marks.
        file.is_written =
            has_header && file.legacy_routes == 0 && file.render().is_ok_and(|ours| ours == text);
        Ok(file)
    }

    /// The quick way: a file is what we would write for what its marked parts hold. `None` if it
    /// is not.
    fn parse_marked(syntax: Syntax, text: &str) -> Option<Self> {
        let (foreign, parts) = cut(text)?;
        let records = parts.iter().flat_map(|part| part.lines());
        let records = records.filter(|line| line.trim_start().starts_with("{\""));
        let (header, routes) = parse(records).ok()??;
        let mut file = Self::new(syntax, header, foreign).ok()?;
        if file.tree.get(&[LEGACY, "routes"]).is_some() {
            return None;
        }
        file.table.set_routes(routes, &file.header);
        file.is_written = file.render().is_ok_and(|ours| ours == text);
        file.is_written.then_some(file)
    }

    /// What the file holds.
    pub(super) fn contents(&self) -> Result<Contents> {
        let mut config = json!({});
        for path in [&["http", "middlewares"][..], &["tls", "stores"]] {
            if let Some(theirs) = self.tree.get(path).map(Node::to_value) {
                merge(&mut config, &json!({path[0]: {path[1]: theirs}}));
            }
        }
        merge(&mut config, &self.header.config());
        Ok(Contents {
            legacy_routes: self.legacy_routes,
            config,
            ..self.header.contents(self.routes().clone())
        })
    }

    /// The file without what is ours.
    pub(super) fn foreign(&self) -> &str {
        &self.foreign
    }

    pub(super) fn apply(&mut self, changes: &[Change]) -> Result<()> {
        self.table.apply(changes, &self.header);
        if self.tree.get(&["http"]).is_none() {
            return Ok(());
        }
        let namespace = &self.header.namespace;
        let set = changes.iter().filter_map(|change| match change {
            Change::Set(route) => Some(router_name(namespace, &route.spec)),
            Change::Delete(_) => None,
        });
        self.drop_named(set.collect(), &Value::Null)
    }

    /// The text of the file.
    pub(super) fn render(&mut self) -> Result<&str> {
        let has_routes = !self.routes().is_empty();
        let slot = usize::from(has_routes);
        let pieces = match self.frames[slot].take() {
            Some(pieces) => pieces,
            None => self.weave(has_routes)?,
        };
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        self.write(&pieces, None, &mut text);
        self.text = text;
        self.frames[slot] = Some(pieces);
        Ok(&self.text)
    }

    /// Writes the text; with a `sample`, a router and a service of this name stand for all routes.
    fn write(&self, pieces: &[Piece<Part>], sample: Option<&str>, out: &mut String) {
        let limit = if sample.is_some() { 0 } else { usize::MAX };
        let syntax = self.syntax;
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Part { part, indent } => match part {
                    Part::Line(text) => push_line(text, *indent, out),
                    Part::Marker => {
                        let value = marker(self.header.generation);
                        push_line(&syntax.entry(&self.header.marker, &value), *indent, out);
                        let middlewares = self.table.middlewares().take(limit);
                        syntax.push_entries(middlewares, *indent, out);
                    }
                    Part::Routers => {
                        if let Some(name) = sample {
                            let fields = [("rule", Field::Text("x"))];
                            push_line(&syntax.map_entry(name, fields.into_iter()), *indent, out);
                        }
                        let routers = self.table.routers().take(limit);
                        syntax.push_entries(routers, *indent, out);
                    }
                    Part::Services => {
                        if let Some(name) = sample {
                            push_line(&syntax.entry(name, &json!({"x": {"y": 1}})), *indent, out);
                        }
                        let services = self.table.services().take(limit);
                        syntax.push_entries(services, *indent, out);
                    }
                    Part::Records => {
                        let (open, close) = syntax.long_text("routes");
                        push_line(&open, *indent, out);
                        push_line(&json_line(&self.header), indent + 2, out);
                        out.push('\n');
                        for record in self.table.records().take(limit) {
                            push_line(record, indent + 2, out);
                            out.push('\n');
                        }
                        out.push_str(close);
                    }
                },
            }
        }
    }

    /// Lays our sections out among what is in the file.
    fn weave(&self, has_routes: bool) -> Result<Vec<Piece<Part>>> {
        let mut sections: BTreeMap<Vec<String>, Vec<Part>> = BTreeMap::new();
        let mut added = Vec::new();
        let mut add = |path: &[&str], name: &str, part| {
            let path: Vec<_> = path.iter().map(ToString::to_string).collect();
            added.push([&*path, &[name.to_string()]].concat());
            sections.entry(path).or_default().push(part);
        };
        let config = self.header.config();
        for entry in entries(&config)? {
            // What was written by hand since then comes first.
            if self
                .tree
                .get(&[&*entry.section, &[entry.name]].concat())
                .is_none()
            {
                let line = self.syntax.entry(entry.name, entry.value);
                add(&entry.section, entry.name, Part::Line(line));
            }
        }
        add(&["http", "middlewares"], &self.header.marker, Part::Marker);
        let sample = format!("{}-sample", self.header.marker);
        if has_routes {
            add(&["http", "routers"], &sample, Part::Routers);
            add(&["http", "services"], &sample, Part::Services);
        }
        add(&[OURS], "routes", Part::Records);
        let sections: Vec<_> = sections
            .into_iter()
            .map(|(path, parts)| Section { path, parts })
            .collect();
        let pieces = self
            .syntax
            .weave(&self.foreign, &sections)
            .map_err(corrupt)?;
        self.check(&pieces, &sample, &added)?;
        Ok(pieces)
    }

    /// Whether a file that is put together like this can be read again: with what is `added` where it
    /// belongs, a route called `sample` included, and all else as it was.
    fn check(&self, pieces: &[Piece<Part>], sample: &str, added: &[Vec<String>]) -> Result<()> {
        let mut text = String::new();
        self.write(pieces, Some(sample), &mut text);
        let tree = self.syntax.parse(&text).map_err(|why| {
            corrupt(format!(
                "routes can't be added to it as it is written: {why}"
            ))
        })?;
        let mut whole = tree.to_value();
        let are_there = added.iter().all(|path| take(&mut whole, path));
        if !are_there || filled(whole) != filled(self.tree.to_value()) {
            let why = "routes can't be added to it: what is added would not stand where it belongs";
            return Err(corrupt(why.into()));
        }
        Ok(())
    }

    pub(super) fn routes(&self) -> &Table {
        self.table.routes()
    }

    fn write_table_anew(&mut self) {
        let routes = self.routes().clone();
        self.table.set_routes(routes, &self.header);
    }

    /// Drops entries outside of our marks that have the name of one that we write. They are left where an
    /// edit by hand has torn or moved a mark, or deleted a record. Traefik refuses a file that has a name
    /// twice. `routers` are those of routes, and `config` is our configuration beside the table, where that
    /// is known by name.
    fn drop_named(&mut self, mut routers: HashSet<String>, config: &Value) -> Result<()> {
        routers.extend(self.table.parent_names().map(String::from));
        let is_named = |section: &str, name: &str| match section {
            "routers" => routers.contains(name) || name == self.header.marker,
            "services" => self.table.has_service(name),
            "middlewares" => routers.contains(name) || name == self.header.marker,
            _ => false,
        };
        let is_merge_of_ours = |section: &str| {
            let maps = self.tree.get(&["http", section, "<<"]).map(Node::to_value);
            let maps = maps.iter().filter_map(Value::as_array).flatten();
            let mut names = maps.filter_map(Value::as_object).flat_map(|map| map.keys());
            names.any(|name| is_named(section, name))
        };
        let is_ours = |path: &[&str]| match *path {
            [OURS, "routes"] => true,
            ["http", section, "<<"] => is_merge_of_ours(section),
            ["http", section, name] if is_named(section, name) => true,
            [top, name] => config[top]
                .get(name)
                .is_some_and(|value| !value.is_object()),
            [top, part, name] => config[top][part].get(name).is_some(),
            _ => false,
        };
        self.set_foreign(self.tree.text_without(&self.foreign, &is_ours))
    }

    fn set_foreign(&mut self, foreign: String) -> Result<()> {
        if foreign != self.foreign {
            self.tree = self.syntax.parse(&foreign).map_err(corrupt)?;
            self.foreign = foreign;
            self.frames = [None, None];
        }
        Ok(())
    }
}

/// Takes the entry with these keys out of a value; says whether it was there.
fn take(value: &mut Value, path: &[String]) -> bool {
    let Some((name, section)) = path.split_last() else {
        return false;
    };
    let map = section
        .iter()
        .try_fold(value, |value, key| value.get_mut(key));
    map.and_then(Value::as_object_mut)
        .is_some_and(|map| map.remove(name).is_some())
}

fn corrupt(why: String) -> Error {
    Error::new(ErrorKind::Corrupt, why)
}
