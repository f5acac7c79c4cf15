//! Any changes of the table, and what the file holds after them.

use proptest::prelude::*;

use super::{holds, parse, route, samples, value, with_routes};
use crate::backend::Setup;
use crate::config::text::Syntax;
use crate::route::{Change, Nested, Route, asking, service_name};

proptest! {
    /// The file holds exactly the routes that were added and not deleted, and the rest of it stays.
    #[test]
    fn any_changes_are_held_exactly(
        sample in 0..samples().len(),
        steps in prop::collection::vec((0..6_u8, 0..3_u8, any::<bool>(), any::<bool>()), 0..12),
    ) {
        let (syntax, text) = samples()[sample];
        let mut file = with_routes(syntax, text);
        for (spec, target, delete, reparse) in steps {
            let spec = format!("/r{spec}/");
            let change = if delete {
                Change::delete(spec).unwrap()
            } else {
                route(&spec, &format!("http://t{target}"))
            };
            file.apply(&[change]).unwrap();
            let written = file.render().unwrap().to_string();
            if reparse {
                let again = parse(syntax, &written, "other").unwrap();
                prop_assert_eq!(again.routes(), file.routes());
                file = again;
            }
            let now = value(syntax, &written);
            prop_assert!(holds(&now, &value(syntax, text)));
            for route in file.routes() {
                let router = &now["http"]["routers"][crate::route::router_name(&file.header.namespace, &route.spec)];
                let service = &now["http"]["services"][router["service"].as_str().unwrap()];
                let url = &service["loadBalancer"]["servers"][0]["url"];
                prop_assert_eq!(url.as_str(), Some(route.target.as_str()));
            }
        }
    }

    #[test]
    fn stepwise_changes_equal_one_write(
        sample in 0..samples().len(),
        steps in prop::collection::vec((any::<bool>(), prop::collection::vec(any_change(), 1..4)), 0..20),
    ) {
        let (syntax, text) = samples()[sample];
        let setup = Setup {
            nested: Some(Nested::Always),
            ..Setup::new("web")
        };
        let fresh = || {
            let mut file = parse(syntax, text, "marker").unwrap();
            file.set_up(&setup, "/c.pem", false).unwrap();
            file
        };
        let mut file = fresh();
        for (reparse, changes) in steps {
            if reparse {
                let written = file.render().unwrap().to_string();
                file = parse(syntax, &written, "other").unwrap();
            }
            file.apply(&changes).unwrap();
            let mut anew = fresh();
            let all: Vec<_> = file.routes().iter().cloned().map(Change::Set).collect();
            anew.apply(&all).unwrap();
            prop_assert_eq!(file.render().unwrap(), anew.render().unwrap());
        }
    }
}

#[test]
fn new_target_reaches_all_parents() {
    let file = |target: &str| {
        let mut file = parse(Syntax::Toml, "", "marker").unwrap();
        let setup = Setup {
            nested: Some(Nested::Always),
            ..Setup::new("web")
        };
        file.set_up(&setup, "/c.pem", false).unwrap();
        let others = "/b/ /c/ /d/ /a/aa/ /a/ab/ /a/aba/ /a/b/".split(' ');
        let others: Vec<_> = others.map(|spec| route(spec, "http://t")).collect();
        file.apply(&others).unwrap();
        file.apply(&[route("/a/", target)]).unwrap();
        file
    };
    let (mut file, mut expected) = (file("http://old"), file("http://new"));
    let old = service_name("marker", &Route::new("/a/", "http://old").unwrap());
    let led = file.render().unwrap().matches(&old).count();
    // The service, the router, and what at least two parents leave.
    assert!(led >= 4, "{led}");
    let changes = [
        route("/a/", "http://between"),
        Change::delete("/nobody/").unwrap(),
        route("/a/", "http://new"),
    ];
    file.apply(&changes).unwrap();
    assert_eq!(file.render().unwrap(), expected.render().unwrap());
}

fn any_change() -> impl Strategy<Value = Change> {
    let host = prop::sample::select(vec!["", "", "h.x"]);
    let path = prop::collection::vec(prop::sample::select(vec!["a", "ab", "b", "é@"]), 0..4);
    let target = prop::option::weighted(0.8, (1..4_u8, 0..2_u8, 0..14_u8));
    (host, path, target).prop_map(|(host, path, target)| {
        let spec = format!("{host}/{}", path.join("/"));
        match target {
            Some((target, data, way)) => {
                let route = Route::new(spec, format!("http://t{target}")).unwrap();
                // Half of them ask for nothing.
                asking(way.saturating_sub(7), route.data(data)).into()
            }
            None => Change::delete(spec).unwrap(),
        }
    })
}
