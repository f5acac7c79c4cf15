//! What callers keep with a route comes back as it went in.

use kit::Echo;
use serde_json::{Value, json};
use traefik_router::{ErrorKind, Route};

use crate::support::{Kind, Rig, on_each_backend_and_push};

on_each_backend_and_push! {
    every_shape_round_trips,
    adding_again_replaces_data,
    too_deep_data_is_refused,
}

fn nested(levels: usize) -> Value {
    (1..levels).fold(json!([]), |inner, n| match n % 2 {
        0 => Value::Array(vec![inner]),
        _ => Value::Object([("in".to_string(), inner)].into_iter().collect()),
    })
}

fn shapes() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(""),
        json!([]),
        json!({}),
        json!({"": {"": [[], {}, null]}}),
        json!({"user": "zoe", "server_name": "", "jupyterhub": true, "last_activity": null}),
        json!([i64::MIN, i64::MAX, u64::MAX, 0, -1]),
        json!([
            0.1,
            -0.0,
            1e300,
            5e-324,
            f64::MAX,
            f64::MIN_POSITIVE,
            1.0,
            100000000000000000000.0
        ]),
        json!("C:\\users\\x"),
        json!("\x1b[31m \x7f \0 \u{80} \u{85} \u{feff} \u{2028} \u{2029} \u{fffe}"),
        json!("🦀 日本 \u{10ffff} é e\u{301}"),
        json!("{{env \"HOME\"}} {{ .x }} }} { {{"),
        json!("''' \"\"\" ' \" ` \\ \\u007b \\"),
        json!("line\nline\r\nline\ttab\u{b}"),
        json!("# traefik-router: end"),
        json!("# traefik-router: begin\n# traefik-router: end\n"),
        json!(" leading and trailing "),
        json!("~"),
        json!("null"),
        json!({"a.b": 1, "a": {"b": 2}, "key with 'quotes' \"and\" {{braces}}": 3, "<<": "*x", "!!t": "&x"}),
        json!("x".repeat(100_000)),
        nested(100),
    ]
}

fn every_shape_round_trips(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    let spec = |n: usize| format!("/shape/{n}/");
    let changes = shapes().into_iter().enumerate();
    let changes =
        changes.map(|(n, shape)| Route::new(spec(n), echo.url()).unwrap().data(shape).into());
    router.apply(changes).unwrap();
    assert_eq!(rig.landed("h", &spec(shapes().len() - 1)), Some(echo.port));
    let other = rig.builder_over(rig.backend()).offline().unwrap();
    for (n, shape) in shapes().into_iter().enumerate() {
        for router in [&router, &other] {
            let route = router.get_route(spec(n)).unwrap().unwrap();
            assert_eq!(route.data, shape);
            assert_eq!(route.data.to_string(), shape.to_string());
        }
    }
    // And after the other program has written the file itself.
    other.add_route("/more/", echo.url(), json!(1)).unwrap();
    let third = rig.backend().read().unwrap();
    for (route, shape) in shapes()
        .into_iter()
        .enumerate()
        .map(|(n, shape)| (spec(n), shape))
    {
        let spec = traefik_router::RouteSpec::new(route).unwrap();
        assert_eq!(third.get(&spec).unwrap().data, shape);
    }
}

fn adding_again_replaces_data(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    for data in [
        json!({"a": {"x": 1, "y": 2}, "b": [1, 2, 3]}),
        json!({"a": {"y": 3}, "b": [4]}),
        json!({}),
        json!([{"c": null}]),
        json!(null),
    ] {
        router
            .add_route("/again/", echo.url(), data.clone())
            .unwrap();
        for backend in [rig.backend(), rig.backend()] {
            let table = backend.read().unwrap();
            assert_eq!(table.iter().next().unwrap().data, data);
        }
    }
}

fn too_deep_data_is_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let (router, echo) = (rig.start(), Echo::start());
    let before = rig.rules_text();
    for levels in [101, 1_000] {
        let error = router
            .add_route("/deep/", echo.url(), nested(levels))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRoute);
        assert!(error.to_string().contains("/deep/"), "{error}");
        assert!(
            error.to_string().contains("more than 100 levels"),
            "{error}"
        );
    }
    assert_eq!(rig.rules_text(), before);
}
