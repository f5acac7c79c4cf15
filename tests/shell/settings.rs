//! The configuration file, the environment, and what stays secret.

use crate::support::{PASSWORD, Place};

#[test]
fn options_come_from_a_file_and_the_command_line_wins() {
    let place = Place::new();
    std::fs::create_dir(place.path("etc")).unwrap();
    place.write(
        "etc/mine.toml",
        "backend = \"toml:rules.toml\"\nentrypoint = \"web\"\n",
    );
    let named = "routes add /a/ http://t --config etc/mine.toml";
    place.run(named).done();
    assert!(
        place.text("etc/rules.toml").contains("'web'"),
        "beside the configuration"
    );
    let by_variable = [("TRAEFIK_ROUTER_CONFIG", "etc/mine.toml")];
    let listed = place.run_with(&["routes", "list"], &by_variable).done();
    assert!(listed.contains("/a/"), "{listed}");
    place.write("traefik-router.toml", "backend = \"toml:etc/rules.toml\"\n");
    assert_eq!(place.run("routes list").done(), listed);
    place
        .run("routes list --backend toml:other.toml")
        .failed(1, "other.toml");
    place
        .run("routes list --config etc/none.toml")
        .failed(2, "etc/none.toml");
}

#[test]
fn a_bad_configuration_file_is_refused_by_key_and_line() {
    let place = Place::new();
    for (text, says) in [
        (
            "backend = \"toml:r.toml\"\n\nbakcend = 1\n",
            "line 3: unknown field `bakcend`",
        ),
        (
            "api-password = \"marked-secret\"\n",
            "line 1: unknown field `api-password`",
        ),
        ("\nmarked-secret\n", "line 2: "),
        ("timeout = -3\n", "line 1: -3 is no number of seconds"),
        ("api-url = \"http://127.0.0.1:1\"\n", "line 1: "),
        ("backend = \"json:x\"\n", "it does not begin with toml:"),
        (
            "backend = \"toml:r.toml\"\napi-cert-file = \"c\"\n",
            "go together",
        ),
        (
            "backend = \"toml:r.toml\"\napi-password-file = \"none\"\n",
            "can't read none",
        ),
        (
            "backend = \"etcd:http://127.0.0.1:1\"\netcd-user = \"me\"\n",
            "ETCD_PASSWORD",
        ),
    ] {
        place.write("traefik-router.toml", text);
        let said = place.run("status");
        said.failed(2, says);
    }
}

#[test]
fn secrets_in_the_wrong_place_are_not_repeated() {
    let place = Place::new();
    for arguments in [
        format!("status --backend etcd:http://me:{PASSWORD}@127.0.0.1:1"),
        format!("status --backend toml:r.toml --api-url http://me:{PASSWORD}@127.0.0.1:1"),
    ] {
        place.run(&arguments).failed(2, "user name and");
    }
    let away =
        "doctor --backend etcd:http://127.0.0.1:1 --etcd-user me --api-url http://127.0.0.1:1";
    let env = [
        ("ETCD_PASSWORD", PASSWORD),
        ("TRAEFIK_API_PASSWORD", PASSWORD),
    ];
    let said = place.run_with(&away.split(' ').collect::<Vec<_>>(), &env);
    assert!(said.code == 1 && said.out.contains("problem"), "{said:?}");
}

#[test]
fn the_static_configuration_keeps_secrets_unless_asked() {
    let place = Place::new();
    let etcd = "config static --backend etcd:http://127.0.0.1:1 --etcd-user me";
    let env = [("ETCD_PASSWORD", "made-up")];
    let run = |arguments: &str| {
        place
            .run_with(&arguments.split(' ').collect::<Vec<_>>(), &env)
            .done()
    };
    let text = run(etcd);
    assert!(
        text.contains("REDACTED") && !text.contains("made-up"),
        "{text}"
    );
    assert!(text.contains("[providers.etcd]"), "{text}");
    assert!(run(&format!("{etcd} --with-secrets")).contains("made-up"));
    for yaml in ["--syntax yaml", "some/traefik.yml"] {
        let text = run(&format!("{etcd} {yaml}"));
        assert!(text.contains("providers:"), "{text}");
    }
    assert_eq!(place.files(), Vec::<String>::new());
    place
        .run("config static x.json --backend toml:r.toml")
        .failed(2, ".toml, .yaml or .yml");
    place
        .run("config static --backend toml:r.toml --log-level LOUD")
        .failed(2, "LOUD");
}
