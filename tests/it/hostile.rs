//! What callers hand in is data: it changes no rule, runs as no template, reaches no other route.

use kit::Echo;
use serde_json::json;

use crate::support::{Kind, Rig, on_each_backend_and_push};

on_each_backend_and_push! {
    text_is_harmless_everywhere,
    user_name_is_no_template,
}

const SECRET: &str = "leaked-from-the-environment";

const TEXTS: [&str; 12] = [
    "`",
    "`) || PathPrefix(`/victim/`) || Path(`",
    "\"",
    "\") || PathPrefix(\"/victim/",
    "'",
    "{{env \"SECRET\"}}",
    "{{`{{`}}",
    "}}{{",
    "line\nbreak\r\n[http.routers.x]\nrule = 'PathPrefix(`/`)'",
    "'''\n\"\"\"\n# traefik-router: end\n",
    "\\x60 \\ \\\\",
    "\0\x1b\x7f\u{85}\u{2028}║,",
];

fn text_is_harmless_everywhere(kind: Kind) {
    let rig = Rig::new(kind);
    let router = rig.builder().traefik_env("SECRET", SECRET).start().unwrap();
    let [victim, echo] = [(); 2].map(|()| Echo::start());
    router
        .add_route("/victim/", victim.url(), json!("mine"))
        .unwrap();
    for text in TEXTS {
        // A slash would divide it into segments, of which some would be empty; "#" begins a fragment.
        let segment = text.replace('/', "%2F").replace('#', "%23");
        let data = json!({text: [text, {text: text}]});
        let spec = format!("/user/{segment}/");
        router.add_route(&spec, echo.url(), data.clone()).unwrap();
        let route = router.get_route(&spec).unwrap().unwrap();
        assert_eq!(route.data, data);
        assert_eq!(
            rig.landed("h", route.spec.path()),
            Some(echo.port),
            "{text:?}"
        );
        assert_eq!(rig.landed("h", "/victim/x"), Some(victim.port), "{text:?}");
        assert_eq!(rig.landed("h", "/elsewhere"), None, "{text:?}");
        for (spec, target) in [
            (format!("{text}/x/"), echo.url()),
            ("/t/".into(), format!("http://{text}")),
            ("/t/".into(), format!("{}/{text}", echo.url())),
            ("/t/".into(), format!("{text}://h")),
        ] {
            // Most is refused; what is not must be harmless.
            if let Err(error) = router.add_route(spec, target, json!(null)) {
                assert!(error.is_invalid_input(), "{error}");
            }
            assert_eq!(rig.landed("h", "/victim/x"), Some(victim.port), "{text:?}");
        }
    }
    // What is pushed runs as no template.
    assert!(kind == Kind::Push || !rig.rules_text().contains("{{"));
    let seen = format!(
        "{:?} {:?}",
        rig.api().routers().unwrap(),
        rig.api().services().unwrap()
    );
    assert!(!seen.contains(SECRET), "{seen}");
    assert_eq!(rig.api().refused_routers().unwrap(), []);
}

fn user_name_is_no_template(kind: Kind) {
    let rig = Rig::new(kind);
    let name = "{{env \"SECRET\"}} ' \" ` \\";
    let router = rig
        .builder()
        .traefik_env("SECRET", SECRET)
        .traefik_api_username(name);
    let router = router
        .traefik_api_password("p {{env \"SECRET\"}} é:")
        .start()
        .unwrap();
    let middlewares = rig.api().middlewares().unwrap_err();
    assert_eq!(middlewares.kind(), traefik_router::ErrorKind::Unauthorized);
    router
        .add_route("/x/", "http://127.0.0.1:1", json!(null))
        .unwrap();
    assert!(router.status().is_healthy());
}
