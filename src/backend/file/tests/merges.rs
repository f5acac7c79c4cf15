//! The merges with which a large table in YAML is written.

use super::{holds, parse, route, routes, value, with_routes, without_record};
use crate::config::text::{Syntax, unmarked};

#[test]
fn large_yaml_merges_small_maps() {
    for text in ["", "http:\n  routers:\n    mine: {rule: x}\n"] {
        let mut file = with_routes(Syntax::Yaml, text);
        let many = (0..300).map(|n| route(&format!("/user/{n}/"), &format!("http://h{n}")));
        file.apply(&many.collect::<Vec<_>>()).unwrap();
        let written = file.render().unwrap().to_string();
        let http = |text: &str| {
            let mut value: yaml_serde::Value = yaml_serde::from_str(text).unwrap();
            value.apply_merge().unwrap();
            serde_json::to_value(value).unwrap()["http"].clone()
        };
        let now = http(&written);
        for route in file.routes() {
            let router =
                &now["routers"][crate::route::router_name(&file.header.namespace, &route.spec)];
            let service = &now["services"][router["service"].as_str().unwrap()];
            let url = &service["loadBalancer"]["servers"][0]["url"];
            assert_eq!(url, route.target.as_str(), "{written}");
        }
        assert!(holds(&now, &value(Syntax::Yaml, text)["http"]), "{written}");
        let again = parse(Syntax::Yaml, &written, "other").unwrap();
        assert_eq!((again.foreign(), again.is_written), (text, true));

        let edited = [
            unmarked(Syntax::Yaml, &written),
            without_record(&format!("{written}# by hand\n")),
        ];
        for edited in edited {
            let mut again = parse(Syntax::Yaml, &edited, "other").unwrap();
            assert!(!again.is_written && !again.foreign().contains("<<"));
            again.apply(&routes()).unwrap();
            assert_eq!(http(again.render().unwrap()), now, "{edited}");
        }
    }
}

/// Somebody deletes a line of a merge by hand.
#[test]
fn deleted_line_empties_no_map() {
    for count in [255, 256, 257, 384, 385] {
        let mut file = parse(Syntax::Yaml, "", "marker").unwrap();
        let route = |n| route(&format!("/user/{n}/"), "http://h");
        let routes: Vec<_> = (0..count).map(route).collect();
        file.apply(&routes).unwrap();
        let written = file.render().unwrap();
        let lines: Vec<&str> = written.lines().collect();
        let maps = || {
            lines
                .iter()
                .enumerate()
                .filter(|(_, line)| line.trim() == "-")
        };
        assert_eq!(maps().count() > 0, count >= 256, "{written}");
        for (at, _) in maps() {
            let second = lines[at + 2];
            assert!(second.starts_with("      "), "{second}");
        }
    }
}
