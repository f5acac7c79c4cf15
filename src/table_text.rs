//! A table of routes as a text that people write and read.

mod json;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::route::asking;

    const SYNTAXES: &[TableSyntax] = &[
        TableSyntax::Toml,
        #[cfg(feature = "yaml")]
        TableSyntax::Yaml,
        TableSyntax::Json,
    ];

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn any_route() -> impl Strategy<Value = Route> {
        let host = prop::sample::select(vec!["", "h.x", "*.h.x"]);
        let path =
            prop::collection::vec(prop::sample::select(vec!["a", "b c", "é@", "'\"{{"]), 0..3);
        (host, path, any_json(), 0..7_u8).prop_map(|(host, path, data, way)| {
            let route = Route::new(format!("{host}/{}", path.join("/")), "http://one").unwrap();
            asking(way, route.data(data))
        })
    }

    proptest! {
        #[test]
        fn any_table_comes_back(routes in prop::collection::vec(any_route(), 0..8)) {
            let table: Table = routes.into_iter().collect();
            for syntax in SYNTAXES {
                let text = table.to_text(*syntax);
                let back = Table::from_text(&text, *syntax);
                let back = back.map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert_eq!(&back, &table, "{}", text);
            }
        }
    }

    #[test]
    fn deep_data_comes_back() {
        let data = (0..95).fold(json!(1), |inner, _| json!([inner]));
        let route = Route::new("/a/", "http://t").unwrap().data(data);
        let table: Table = [route].into_iter().collect();
        for syntax in SYNTAXES {
            let text = table.to_text(*syntax);
            assert_eq!(Table::from_text(&text, *syntax).unwrap(), table, "{text}");
        }
    }

    #[test]
    fn mistakes_in_settings_name_their_line() {
        let text = "[routes.'/a/']\ntarget = 'http://t'\n[routes.'/a/'.settings]\nweight = 2\nweigth = 2\n";
        let error = Table::from_text(text, TableSyntax::Toml).unwrap_err();
        let says = "line 5: \"/a/\": \"settings.weigth\": unknown field";
        assert!(error.to_string().contains(says), "{error}");
    }

    #[test]
    fn values_unlike_json_are_refused() {
        let cases = [
            ("data = nan", "line 3: \"/a/\": \"data\": JSON has no nan;"),
            (
                "data = [1, -inf]",
                "line 3: \"/a/\": \"data\": JSON has no -inf;",
            ),
            (
                "[routes.'/a/'.data]\nx = {y = [{z = inf}]}",
                "line 4: \"/a/\": \"data.x.y.z\": JSON has no inf;",
            ),
            (
                "[routes.'/a/'.data]\nx = 1\nsince = 2026-01-01",
                "line 5: \"/a/\": \"data.since\": JSON has no 2026-01-01;",
            ),
            (
                "[[routes.'/a/'.data]]\nx = 1\n[[routes.'/a/'.data]]\nx = 10:00:00",
                "\"/a/\": \"data.x\": JSON has no 10:00:00;",
            ),
            (
                "settings = {weight = nan}",
                "\"settings.weight\": JSON has no nan;",
            ),
        ];
        for (rest, why) in cases {
            let text = format!("[routes.'/a/']\ntarget = 'http://t'\n{rest}\n");
            let error = Table::from_text(&text, TableSyntax::Toml).unwrap_err();
            assert!(error.to_string().starts_with("line "), "{error}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[cfg(feature = "yaml")]
    #[test]
    fn odd_yaml_numbers_are_refused() {
        let read = |value: &str| {
            let text =
                format!("routes:\n  /a/:\n    target: http://t\n    data:\n      x: {value}\n");
            Table::from_text(&text, TableSyntax::Yaml)
        };
        for value in [
            ".nan",
            "-.Inf",
            "0x1f",
            "0o17",
            "007",
            "+1",
            ".5",
            "1e999",
            "[1, .inf]",
            "{y: .inf}",
        ] {
            let error = read(value).unwrap_err().to_string();
            assert!(error.starts_with("line 5: \"/a/\": \"data.x"), "{error}");
        }
        for value in [
            "'.nan'",
            "nan",
            "1.2.3",
            "0xyz",
            "2026-01-01",
            "-1.5e3",
            ".",
        ] {
            assert!(read(value).is_ok(), "{value}");
        }
    }

    #[test]
    fn mistakes_name_line_and_key() {
        let cases = [
            ("target = 1", "\"target\": it must be a URL"),
            ("target = 'ftp://t'", "\"target\": "),
            (
                "target = 'http://t', tarjet = 1",
                "\"tarjet\": it is no key",
            ),
            ("data = 1", "\"target\" is missing"),
            (
                "target = 'http://t', data_json = '{'",
                "\"data_json\": it is not JSON",
            ),
            (
                "target = 'http://t', data = 1, data_json = '1'",
                "\"data_json\": there is",
            ),
            (
                "target = 'http://t', settings = {weight = -1}",
                "\"settings.weight\": ",
            ),
            (
                "target = 'http://t', settings = {service = {x = 1}}",
                "\"x\" is no setting",
            ),
        ];
        for (route, why) in cases {
            let toml = format!("[routes]\n'/a/' = {{target = 'http://t'}}\n'/b/' = {{{route}}}\n");
            let tree = Syntax::Toml.parse(&toml).unwrap().to_value();
            let json = format!("{tree:#}");
            #[cfg(feature = "yaml")]
            let yaml = Syntax::Yaml.document(&tree);
            for (text, syntax) in [
                (&toml, TableSyntax::Toml),
                #[cfg(feature = "yaml")]
                (&yaml, TableSyntax::Yaml),
                (&json, TableSyntax::Json),
            ] {
                let error = Table::from_text(text, syntax).unwrap_err().to_string();
                let says_all = ["\"/b/\": ", why, "line "]
                    .iter()
                    .all(|part| error.contains(part));
                assert!(says_all, "{syntax:?}: {error}");
            }
            let error = Table::from_text(&toml, TableSyntax::Toml).unwrap_err();
            assert!(error.to_string().starts_with("line 3: "), "{error}");
        }
        for (text, syntax, why) in [
            ("", TableSyntax::Toml, "\"routes\" is missing"),
            (
                "[routes]\n[rules]\n",
                TableSyntax::Toml,
                "line 2: unknown key \"rules\"",
            ),
            (
                "routes = 1\n",
                TableSyntax::Toml,
                "line 1: \"routes\" must be a map",
            ),
            (
                "[routes]\n\n'/a' = 1\n",
                TableSyntax::Toml,
                "line 3: \"/a\": it must be a map",
            ),
            (
                "[routes.'/a']\ntarget = 'http://t'\n[routes.'/a/']\ntarget = 'http://t'\n",
                TableSyntax::Toml,
                "line 3: \"/a/\": this routespec is there twice",
            ),
            (
                "[routes.'/a']\ntarget = 'x'\n",
                TableSyntax::Toml,
                "line 2: \"/a\": \"target\": ",
            ),
            ("[routes\n", TableSyntax::Toml, "line 1: "),
            (
                "{\"routes\": 1}",
                TableSyntax::Json,
                "a map of routespecs at line 1",
            ),
            (
                "{\"routes\": {\"/a/\": {\n\"target\": \"http://t\",\n\"data\": {\"x\": 1, \"x\": 2}}}}",
                TableSyntax::Json,
                "the key \"x\" is there twice at line 3",
            ),
            (
                "{\"routes\": {\"/a/\": {\n\"target\": \"http://t\",\n\"target\": \"http://u\"}}}",
                TableSyntax::Json,
                "the key \"target\" is there twice at line 3",
            ),
            (
                "{\"routes\": {\"/a/\": {\"target\": \"http://t\"},\n\"/a/\": {\"target\": \"http://t\"}}}",
                TableSyntax::Json,
                "\"/a/\": this routespec is there twice at line 2",
            ),
            (
                "{\"routes\": {},\n\"routes\": {}}",
                TableSyntax::Json,
                "duplicate field `routes` at line 2",
            ),
            (
                "[routes.'/a']\ntarget = 'http://t'\ndata_json = '{\"x\": 1, \"x\": 2}'\n",
                TableSyntax::Toml,
                "line 3: \"/a\": \"data_json\": it is not JSON: the key \"x\" is there twice",
            ),
            (
                "{\"routes\": {}, \"x\": {}}",
                TableSyntax::Json,
                "unknown field `x`",
            ),
        ] {
            let error = Table::from_text(text, syntax).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
