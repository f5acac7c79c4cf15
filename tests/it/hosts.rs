//! Tables that are confined to one host each, behind one Traefik.

use std::fs;
use std::time::Duration;

use kit::Echo;
use serde_json::{Value, json};
use traefik_router::{
    Backend, Builder, Change, ErrorKind, FileBackend, Nested, Route, RouteEvent, Router,
};

use crate::support::{External, Kind, Rig, on_each_backend, on_push};

on_each_backend! {
    tables_leave_each_other_alone,
    confined_table_hides_its_host,
    other_routes_are_refused,
    started_table_begins_confined,
    doctor_finds_overlaps,
    doctor_finds_interleaved_tables,
    doctor_finds_shared_api,
}

on_push! {
    started_table_begins_confined,
}

/// The stores of two tables that one Traefik reads, and that Traefik.
struct Shared {
    rig: Rig,
    _traefik: External,
}

impl Shared {
    fn new(kind: Kind) -> Self {
        Self::configured(kind, External::open_config)
    }

    fn configured(kind: Kind, config: fn(&Rig, &Value) -> Value) -> Self {
        let rig = Rig::new(kind);
        let providers = match kind.is_file() {
            true => json!({"file": {"directory": rig.path("dynamic"), "watch": true}}),
            false => rig.backend().static_config().unwrap()["providers"].take(),
        };
        if kind.is_file() {
            fs::create_dir(rig.path("dynamic")).unwrap();
        }
        let config = config(&rig, &providers);
        let traefik = External::start_with(&rig, "external", &config);
        Self {
            rig,
            _traefik: traefik,
        }
    }

    fn store(&self, name: &str) -> Box<dyn Backend> {
        if self.rig.kind.is_file() {
            let file = format!("dynamic/{name}.{}", self.rig.kind.ending());
            return Box::new(FileBackend::new(self.rig.path(file)));
        }
        let [_, own] = self.rig.prefixes();
        Box::new(self.rig.etcd().jupyterhub_prefix(format!("{own}-{name}")))
    }

    fn table(&self, name: &str) -> Builder {
        Router::builder(self.store(name))
            .public_url(self.rig.web_url())
            .traefik_api_url(self.rig.api_url())
            .check_route_timeout(Duration::from_secs(20))
    }

    fn hub(&self, name: &str) -> Router {
        let builder = self.table(name).host(format!("{name}.example.org"));
        builder.attach().unwrap()
    }
}

fn tables_leave_each_other_alone(kind: Kind) {
    let shared = Shared::new(kind);
    let rig = &shared.rig;
    let names = ["hub1", "hub2"];
    let hosts = names.map(|name| format!("{name}.example.org"));
    let [root, user, moved] = [(); 3].map(|()| [Echo::start(), Echo::start()]);
    let mut hubs = names.map(|name| shared.hub(name));
    let agree = |hubs: &[Router; 2], expected: [[Option<u16>; 2]; 2]| {
        for ((hub, host), expected) in hubs.iter().zip(&hosts).zip(expected) {
            for (path, port) in ["/x", "/user/a/x"].into_iter().zip(expected) {
                assert_eq!(rig.landed(host, path), port, "{host}{path}");
                let route = hub.resolve(host, path).unwrap();
                let target = route.map(|route| route.target.to_string());
                let named = port.map(|port| format!("http://127.0.0.1:{port}"));
                assert_eq!(target, named, "{host}{path}");
            }
        }
        for path in ["/x", "/user/a/x"] {
            assert_eq!(rig.landed("other.example.org", path), None);
            assert_eq!(hubs[0].resolve("other.example.org", path).unwrap(), None);
        }
    };
    for (n, hub) in hubs.iter().enumerate() {
        hub.add_route("/", root[n].url(), ()).unwrap();
        hub.add_route("/user/a/", user[n].url(), json!(n)).unwrap();
    }
    let ports = |n: usize| [Some(root[n].port), Some(user[n].port)];
    agree(&hubs, [ports(0), ports(1)]);

    // From here on nothing touches the second one.
    let second = hubs[1].get_all_routes().unwrap();
    hubs[0].add_route("/user/a/", moved[0].url(), ()).unwrap();
    agree(&hubs, [[Some(root[0].port), Some(moved[0].port)], ports(1)]);
    hubs[0].reconcile([]).unwrap();
    agree(&hubs, [[None; 2], ports(1)]);
    let many = (0..250).map(|n| Route::new(format!("/user/n{n}/"), root[0].url()).unwrap());
    hubs[0].reconcile(many).unwrap();
    assert_eq!(rig.landed(&hosts[0], "/user/n249/"), Some(root[0].port));
    agree(&hubs, [[None; 2], ports(1)]);
    assert_eq!(hubs[1].get_all_routes().unwrap(), second);

    // Another program takes the first one's place, and then the table is removed.
    let [first, other] = hubs;
    drop(first);
    hubs = [shared.hub("hub1"), other];
    assert_eq!(hubs[0].get_all_routes().unwrap().len(), 250);
    hubs[0].reconcile([]).unwrap();
    hubs[0].add_route("/", root[0].url(), ()).unwrap();
    agree(&hubs, [[Some(root[0].port); 2], ports(1)]);
    let [first, other] = hubs;
    drop(first);
    assert!(shared.table("hub1").remove_table().unwrap());
    other.add_route("/user/b/", user[1].url(), ()).unwrap();
    assert_eq!(rig.landed(&hosts[0], "/x"), None);
    for (path, echo) in [("/x", &root[1]), ("/user/a/x", &user[1])] {
        assert_eq!(rig.landed(&hosts[1], path), Some(echo.port));
    }
    assert!(other.repair().unwrap().added.is_empty());
}

fn confined_table_hides_its_host(kind: Kind) {
    let rig = Rig::new(kind);
    let confined = || rig.builder().host("Hub.example.org").offline().unwrap();
    let (hub, open) = (confined(), rig.builder().offline().unwrap());
    let mut watch = hub.watch().unwrap();
    let applied = hub.add_route("/user/zoë/", "http://t", json!(1)).unwrap();
    assert_eq!(applied.added[0].as_str(), "/user/zo%C3%AB/");
    // Both ways to write it are one.
    let same = hub.add_route("hub.EXAMPLE.org/user/zoë", "http://t", json!(1));
    assert_eq!(same.unwrap().added, []);
    let route = Route::new("/user/zoë/", "http://t").unwrap().data(1);
    assert_eq!(*hub.get_route("/user/zoë").unwrap().unwrap(), route);
    assert_eq!(
        hub.get_all_routes().unwrap(),
        [route.clone()].into_iter().collect()
    );
    match &*watch.next(Duration::from_secs(10)).unwrap() {
        [RouteEvent::Added(added)] => assert_eq!(**added, route),
        other => panic!("{other:?}"),
    }
    let stored = open.get_all_routes().unwrap();
    let specs: Vec<_> = stored.iter().map(|route| route.spec.as_str()).collect();
    assert_eq!(specs, ["hub.example.org/user/zo%C3%AB/"]);
    assert_eq!(
        hub.router_name(&route.spec),
        hub.router_name(&stored.iter().next().unwrap().spec)
    );
    let applied = hub
        .reconcile([Route::new("/", "http://t").unwrap()])
        .unwrap();
    assert_eq!(applied.added[0].as_str(), "/");
    assert_eq!(applied.deleted[0].as_str(), "/user/zo%C3%AB/");
    let applied = confined().delete_route("/").unwrap();
    assert_eq!(applied.deleted[0].as_str(), "/");
    assert!(open.get_all_routes().unwrap().is_empty());
}

fn other_routes_are_refused(kind: Kind) {
    let rig = Rig::new(kind);
    let hub = rig.builder().host("hub.example.org").offline().unwrap();
    hub.add_route("/a/", "http://t", ()).unwrap();
    let stored = rig.rules_text();
    let other = Change::set("other.example.org/a/", "http://t").unwrap();
    let refused = [
        hub.apply([Change::set("/b/", "http://t").unwrap(), other])
            .err(),
        hub.delete_route("*.example.org/").err(),
        hub.reconcile([Route::new("user/zoe", "http://t").unwrap()])
            .err(),
        hub.get_route("other.example.org/").err(),
    ];
    for (n, error) in refused.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("{n} is not refused"));
        assert_eq!(error.kind(), ErrorKind::InvalidRoute, "{error}");
        assert!(error.to_string().contains("hub.example.org"), "{error}");
    }
    assert_eq!(rig.rules_text(), stored);

    let open = rig.builder().offline().unwrap();
    open.add_route("/any/", "http://t", ()).unwrap();
    let stored = rig.rules_text();
    let confined = || rig.builder().host("hub.example.org");
    let refused = [
        hub.add_route("/b/", "http://t", ()).err(),
        hub.delete_route("/a/").err(),
        hub.reconcile([]).err(),
        hub.get_route("/a/").err(),
        hub.get_all_routes().err(),
        hub.resolve("hub.example.org", "/a/").err(),
        confined().offline().err(),
        confined().start().err(),
        confined().initial_routes([]).start().err(),
        confined().attach().err(),
        confined().remove_table().err(),
    ];
    for (n, error) in refused.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("{n} is not refused"));
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains("the route /any/"), "{error}");
        assert_eq!(rig.rules_text(), stored, "{n}");
    }
    let findings = confined().diagnose();
    let found = findings.iter().find(|finding| finding.check == "host");
    assert!(found.unwrap().message.contains("the route /any/"));
    open.delete_route("/any/").unwrap();
    hub.add_route("/b/", "http://t", ()).unwrap();
}

fn started_table_begins_confined(kind: Kind) {
    let rig = Rig::new(kind);
    let [hub, user] = [(); 2].map(|()| Echo::start());
    let start = || rig.builder().host("hub.example.org");
    let initial = [Route::new("/", hub.url()).unwrap()];
    let router = start().initial_routes(initial.clone()).start().unwrap();
    router.add_route("/user/a/", user.url(), ()).unwrap();
    assert!(router.get_route("/").unwrap().is_some());
    for (path, echo) in [("/x", &hub), ("/user/a/x", &user)] {
        assert_eq!(rig.landed("hub.example.org", path), Some(echo.port));
        assert_eq!(rig.landed("other.example.org", path), None);
    }
    drop(router);
    // One that asks for other hosts is refused before it changes anything.
    let stored = rig.rules_text();
    let other = initial
        .into_iter()
        .chain([Route::new("other/", hub.url()).unwrap()]);
    let error = start().initial_routes(other).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRoute, "{error}");
    assert_eq!(
        (rig.rules_text(), rig.path("traefik.toml").exists()),
        (stored, false)
    );
}

fn doctor_finds_overlaps(kind: Kind) {
    let shared = Shared::new(kind);
    let open = |name| shared.table(name).attach().unwrap();
    let (one, echo) = (open("one"), Echo::start());
    let overlap = |name: &str| -> Option<String> {
        let findings = shared.table(name).diagnose();
        let mut found = findings.into_iter().filter(|one| one.check == "overlap");
        found.next().map(|one| one.message)
    };
    for spec in ["/", "/user/a@b/", "hub2.example.org/x/"] {
        one.add_route(spec, echo.url(), ()).unwrap();
    }
    let hub2 = shared.hub("hub2");
    hub2.add_route("/", echo.url(), ()).unwrap();
    hub2.add_route("/user/a@b/", echo.url(), ()).unwrap();
    assert_eq!((overlap("one"), overlap("hub2")), (None, None));
    hub2.add_route("/x/", echo.url(), ()).unwrap();
    for name in ["one", "hub2"] {
        let message = overlap(name).unwrap();
        assert!(message.contains("a router of others"), "{message}");
        assert!(message.contains("for hub2.example.org/x/)"), "{message}");
    }
    hub2.delete_route("/x/").unwrap();
    let two = open("two");
    two.add_route("/user/a@b/", echo.url(), ()).unwrap();
    let message = overlap("one").unwrap();
    assert!(message.contains("for /user/a@b/)"), "{message}");
    two.delete_route("/user/a@b/").unwrap();
    assert_eq!(overlap("one"), None);
    // Nor does it go unseen below others.
    let nested = shared.table("two").nested_routers(Nested::Always);
    let nested = nested.attach().unwrap();
    let users = |n| Change::set(format!("/user/n{n}/"), echo.url()).unwrap();
    nested.apply((0..20).map(users)).unwrap();
    one.add_route("/user/n7/", echo.url(), ()).unwrap();
    let routers = shared.rig.api().routers().unwrap();
    let mut found = routers
        .iter()
        .filter(|router| router.rule.contains("\"/user/n7/\""));
    assert!(found.any(|router| !router.parent_refs.is_empty()));
    let message = overlap("one").unwrap();
    assert!(message.contains("a router of others"), "{message}");
    assert!(message.contains("for /user/n7/)"), "{message}");
    drop(nested);

    let by_hand = json!({"http": {"routers": {"by-hand": {
        "rule": "Host(`hub2.example.org`) && PathPrefix(`/user/b`)",
        "priority": 20_000,
        "service": "noop@internal",
    }}}});
    drop(two);
    let two = shared
        .table("two")
        .extra_dynamic_config(by_hand)
        .attach()
        .unwrap();
    two.add_route("two.example.org/", echo.url(), ()).unwrap();
    assert_eq!(overlap("hub2"), None);
    hub2.add_route("/user/b/", echo.url(), ()).unwrap();
    let message = overlap("hub2").unwrap();
    assert!(message.contains("by-hand@"), "{message}");
}

fn doctor_finds_interleaved_tables(kind: Kind) {
    let shared = Shared::new(kind);
    let [one, two] = ["one", "two"].map(|name| shared.table(name).attach().unwrap());
    let overlap = |name: &str| -> Option<String> {
        let findings = shared.table(name).diagnose();
        let mut found = findings.into_iter().filter(|one| one.check == "overlap");
        found.next().map(|one| one.message)
    };
    let add = |router: &Router, spec| drop(router.add_route(spec, "http://t", ()).unwrap());
    add(&one, "/");
    add(&one, "h.x/user/zoe/");
    add(&two, "/user/");
    assert_eq!(
        (overlap("one"), overlap("two")),
        (None, None),
        "one is within the other"
    );
    add(&one, "/user/zoe/");
    for (name, says) in [
        (
            "one",
            "its /user/ is within /, and /user/zoe/ is within its /user/",
        ),
        (
            "two",
            "its /user/zoe/ is within /user/, and /user/ is within its /",
        ),
    ] {
        let message = overlap(name).unwrap();
        assert!(message.contains(says), "{message}");
    }
}

fn doctor_finds_shared_api(kind: Kind) {
    let shared = Shared::configured(kind, External::config_with);
    let table = |name: &str| shared.table(name).traefik_api_password("made-up");
    let said = |name: &str| -> Option<String> {
        let findings = table(name).diagnose();
        let mut found = findings.into_iter().filter(|one| one.check == "shared-api");
        found.next().map(|one| one.message)
    };
    let _one = table("one").attach().unwrap();
    assert_eq!(said("one"), None, "it is alone");
    let _two = table("two").attach().unwrap();
    let message = said("one").unwrap();
    assert!(
        message.contains("this table has the router of the API"),
        "{message}"
    );
    let message = said("two").unwrap();
    assert!(
        message.contains("another table has the router of the API"),
        "{message}"
    );
}
