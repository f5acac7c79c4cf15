//! Routes for tests of several files, and settings that a route refuses.

pub(crate) mod evaluate;

use super::*;

/// A route that asks for more, in one of seven ways; in the first one for nothing.
pub(crate) fn asking(way: u8, route: Route) -> Route {
    match way % 7 {
        0 => route,
        1 => route.middleware("m@file").unwrap(),
        2 => route.cert_resolver("le").unwrap(),
        3 => route.own_service(),
        4 => route
            .own_service()
            .weight(3)
            .server("http://two", 1)
            .unwrap(),
        5 => route
            .server("http://two", 1)
            .unwrap()
            .sticky_cookie("c")
            .unwrap(),
        _ => (route
            .observability(false, true, true)
            .pass_host_header(false))
        .middleware("m")
        .unwrap(),
    }
}

#[test]
fn wrong_settings_are_refused() {
    let route = || Route::new("/a/", "http://one").unwrap();
    let refused = [
        route().server("ftp://two", 1).err(),
        route().server("http://ONE", 1).err(),
        route().health_check("/h", Duration::from_micros(999)).err(),
        route().middleware("").err(),
        route().middleware("a b").err(),
        route().middleware("a@b@c").err(),
        route().middleware("a,b").err(),
        route().sticky_cookie("").err(),
        route().service_config(json!({"servers": []})).err(),
        route().service_config(json!(1)).err(),
        route().router_config(json!({"priority": 1})).err(),
        route().weight(0).check().err(),
        (route()
            .router_config(json!({"tls": {"options": "o@file"}}))
            .unwrap()
            .check())
        .err(),
        route()
            .weight(0)
            .server("http://two", 0)
            .unwrap()
            .check()
            .err(),
    ];
    for (n, error) in refused.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("{n} is not refused"));
        assert_eq!(error.kind(), ErrorKind::InvalidRoute, "{error}");
    }
    route()
        .weight(0)
        .server("http://two", 1)
        .unwrap()
        .check()
        .unwrap();
}
