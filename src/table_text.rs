//! A table of routes as a text that people write and read.

mod json;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use self::json::Unique;
use crate::config::text::{Entries as _, Field, Foreign, Kind, Node, Syntax};
use crate::error::{Error, ErrorKind, Result};
use crate::route::{Change, Route, RouteSpec, Table, Target};

/// The syntax of a table that is written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableSyntax {
    /// TOML. It has no null: data that it can't hold stands in `data_json`.
    Toml,
    /// YAML.
    #[cfg(feature = "yaml")]
    Yaml,
    /// JSON, which has no comments.
    Json,
}

const HEADER: &str = "\
# Routes of traefik-router, by their routespecs: [host]/path/.
# target: the URL that requests go to. data: what is kept with the route. settings: what it asks of Traefik.
# `traefik-router routes apply FILE` adds and changes routes as they stand here; --delete deletes all others.
";

const KEYS: [&str; 4] = ["target", "data", "data_json", "settings"];

impl Table {
    /// Reads a table from a text: a map `routes`, in which each routespec leads to a map with a `target` and,
    /// if they are wanted, `data` and `settings`. `data_json` is data as JSON in a text.
    ///
    /// ```
    /// use traefik_router::{Table, TableSyntax};
    ///
    /// let text = "[routes]\n'/app/' = {target = 'http://blue', settings = {middlewares = ['strip']}}\n";
    /// let table = Table::from_text(text, TableSyntax::Toml)?;
    /// assert_eq!(table.len(), 1);
    /// # Ok::<(), traefik_router::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidRoute`](ErrorKind::InvalidRoute) with the line, the routespec and the key that is wrong. In JSON
    /// the line is where the route ends.
    pub fn from_text(text: &str, syntax: TableSyntax) -> Result<Self> {
        let routes = match syntax {
            TableSyntax::Toml => read(text, Syntax::Toml),
            #[cfg(feature = "yaml")]
            TableSyntax::Yaml => read(text, Syntax::Yaml),
            TableSyntax::Json => serde_json::from_str::<File>(text)
                .map(|file| file.routes.0)
                .map_err(|error| error.to_string()),
        };
        let routes = routes.map_err(|why| Error::new(ErrorKind::InvalidRoute, why))?;
        routes.check()?;
        Ok(routes)
    }

    /// The table as a text that [`from_text`](Self::from_text) reads, with comments where the syntax has them.
    pub fn to_text(&self, syntax: TableSyntax) -> String {
        let written = match syntax {
            TableSyntax::Toml => Syntax::Toml,
            #[cfg(feature = "yaml")]
            TableSyntax::Yaml => Syntax::Yaml,
            TableSyntax::Json => {
                let routes = self.iter().map(|route| {
                    let entry = entry_of(route, |_| true);
                    (route.spec.to_string(), Value::Object(entry))
                });
                let routes: Map<_, _> = routes.collect();
                return format!("{:#}\n", json!({ "routes": routes }));
            }
        };
        let mut text = String::from(HEADER);
        let (begin, indent) = match written {
            Syntax::Toml => ("[routes]\n", ""),
            #[cfg(feature = "yaml")]
            Syntax::Yaml => ("routes:\n", "  "),
        };
        text.push_str(begin);
        for route in self {
            let entry = entry_of(route, |data| holds(written, data));
            let known = KEYS.iter().filter_map(|key| Some((*key, entry.get(*key)?)));
            let fields = known.map(|(key, value)| (key, Field::Value(value)));
            text.push_str(indent);
            text.push_str(&written.map_entry(route.spec.as_str(), fields));
        }
        text
    }
}

/// What stands in the text for a route.
fn entry_of(route: &Route, holds: impl Fn(&Value) -> bool) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("target".into(), route.target.as_str().into());
    match &route.data {
        Value::Null => {}
        data if holds(data) => {
            entry.insert("data".into(), data.clone());
        }
        data => {
            entry.insert("data_json".into(), data.to_string().into());
        }
    }
    // A route is a map, which serde makes without an error.
    let stored = serde_json::to_value(route).unwrap_or_default();
    if let Some(settings) = stored.get("settings") {
        entry.insert("settings".into(), settings.clone());
    }
    entry
}

/// Whether data comes back as it was written.
fn holds(syntax: Syntax, data: &Value) -> bool {
    let fields = std::iter::once(("data", Field::Value(data)));
    let tree = syntax.parse(&syntax.map_entry("x", fields));
    tree.is_ok_and(|tree| tree.to_value()["x"]["data"] == *data)
}

/// The keys that lead to what is wrong with a route, and why it is.
struct Mistake(Vec<String>, String);

fn route_of(spec: &str, value: Value) -> Result<Route, Mistake> {
    let mistake = |key: Option<&str>, why: &str| {
        Mistake(key.map(Into::into).into_iter().collect(), why.into())
    };
    RouteSpec::new(spec).map_err(|error| mistake(None, &error.to_string()))?;
    let Value::Object(mut entry) = value else {
        return Err(mistake(None, "it must be a map with a \"target\""));
    };
    if let Some(key) = entry.keys().find(|key| !KEYS.contains(&&***key)) {
        let why = format!("it is no key of a route, which are {}", KEYS.join(", "));
        return Err(mistake(Some(key), &why));
    }
    match entry.get("target") {
        None => return Err(mistake(None, "\"target\" is missing")),
        Some(Value::String(url)) => {
            Target::new(url).map_err(|error| mistake(Some("target"), &error.to_string()))?;
        }
        Some(_) => return Err(mistake(Some("target"), "it must be a URL in quotes")),
    }
    let data = match (entry.remove("data"), entry.remove("data_json")) {
        (Some(_), Some(_)) => {
            return Err(mistake(Some("data_json"), "there is \"data\" as well"));
        }
        (None, Some(Value::String(text))) => serde_json::from_str(&text)
            .map(|Unique(value)| value)
            .map_err(|error| mistake(Some("data_json"), &format!("it is not JSON: {error}")))?,
        (None, Some(_)) => return Err(mistake(Some("data_json"), "it must be JSON in quotes")),
        (data, None) => data.unwrap_or_default(),
    };
    entry.insert("spec".into(), spec.into());
    entry.insert("data".into(), data);
    // What else may be wrong is in the settings, or how deep the data is.
    let route = Route::deserialize(&Value::Object(entry.clone())).map_err(|error| {
        let in_settings = mistake_in_settings(spec, &entry);
        in_settings.unwrap_or_else(|| mistake(Some("settings"), &error.to_string()))
    })?;
    route
        .check()
        .map_err(|error| mistake(None, &error.to_string()))?;
    Ok(route)
}

/// The first of a route's settings that is wrong by itself.
fn mistake_in_settings(spec: &str, entry: &Map<String, Value>) -> Option<Mistake> {
    let settings = entry.get("settings")?.as_object()?;
    settings.iter().find_map(|(key, value)| {
        let alone = json!({
            "spec": spec, "target": entry["target"], "data": null, "settings": {key: value},
        });
        let error = serde_json::from_value::<Route>(alone).err()?;
        Some(Mistake(
            vec!["settings".into(), key.clone()],
            error.to_string(),
        ))
    })
}

/// A table that is put together route by route.
#[derive(Default)]
struct Routes(Table);

impl Routes {
    fn add(&mut self, spec: &str, value: Value) -> Result<(), Mistake> {
        let change = Change::from(route_of(spec, value)?);
        if self.0.get(change.spec()).is_some() {
            return Err(Mistake(Vec::new(), "this routespec is there twice".into()));
        }
        self.0.apply(&change);
        Ok(())
    }
}

fn message(spec: &str, Mistake(path, why): &Mistake) -> String {
    match path.is_empty() {
        true => format!("{spec:?}: {why}"),
        false => format!("{spec:?}: {:?}: {why}", path.join(".")),
    }
}

fn read(text: &str, syntax: Syntax) -> Result<Table, String> {
    let tree = syntax.parse(text)?;
    let line = |node: &Node| node.line(text).map(|line| format!("line {line}: "));
    let line = |nodes: &[Option<&Node>]| {
        let found = nodes.iter().flatten().find_map(|node| line(node));
        found.unwrap_or_default()
    };
    if let Some((key, node)) = tree.entries().iter().find(|(key, _)| key != "routes") {
        let line = line(&[Some(node)]);
        return Err(format!("{line}unknown key {key:?}; there is \"routes\""));
    }
    let Some((_, node)) = tree.entries().first() else {
        return Err("the map \"routes\" is missing".into());
    };
    if !matches!(node.kind, Kind::Map(_) | Kind::Leaf(Value::Null)) {
        let line = line(&[Some(node)]);
        return Err(format!("{line}\"routes\" must be a map of routespecs"));
    }
    let mut routes = Routes::default();
    for (spec, route) in node.entries() {
        let added = match route.foreign() {
            Some(Foreign { path, text }) => {
                let why = format!("JSON has no {text}; write it in quotes");
                Err(Mistake(path, why))
            }
            None => routes.add(spec, route.to_value()),
        };
        added.map_err(|mistake| {
            let path: Vec<_> = mistake.0.iter().map(String::as_str).collect();
            let nodes = (0..=path.len()).rev().map(|keys| route.get(&path[..keys]));
            let nodes: Vec<_> = nodes.chain([Some(node)]).collect();
            format!("{}{}", line(&nodes), message(spec, &mistake))
        })?;
    }
    Ok(routes.0)
}

/// A table in JSON.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    routes: Routes,
}

impl<'de> Deserialize<'de> for Routes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Routes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of routespecs")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Routes, A::Error> {
                let mut routes = Routes::default();
                while let Some((spec, Unique(value))) = map.next_entry::<String, _>()? {
                    let added = routes.add(&spec, value);
                    added.map_err(|mistake| A::Error::custom(message(&spec, &mistake)))?;
                }
                Ok(routes)
            }
        }

        deserializer.deserialize_map(Reader)
    }
}
