//! Tables that come back from their text, and mistakes in a text.

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
    let path = prop::collection::vec(prop::sample::select(vec!["a", "b c", "é@", "'\"{{"]), 0..3);
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
    let text =
        "[routes.'/a/']\ntarget = 'http://t'\n[routes.'/a/'.settings]\nweight = 2\nweigth = 2\n";
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
        let text = format!("routes:\n  /a/:\n    target: http://t\n    data:\n      x: {value}\n");
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
