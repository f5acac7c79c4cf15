//! The configuration file, the environment, and what stays secret.

use crate::support::{PASSWORD, Place};

#[test]
fn command_line_overrides_file() {
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
fn every_option_overrides_its_key() {
    let place = Place::new();
    place.write(
        "traefik-router.toml",
        "backend = \"toml:r.toml\"\napi-url = [\"http://127.0.0.1:1\", \"http://127.0.0.1:2\"]\n\
         log-level = \"WARN\"\nentrypoint = \"web\"\n",
    );
    let text = place
        .run("config static --api-url http://127.0.0.1:3 --log-level=INFO")
        .done();
    for (shown, is_there) in [
        ("127.0.0.1:3", true),
        ("127.0.0.1:1", false),
        ("INFO", true),
        ("WARN", false),
        ("entryPoints.web", true),
    ] {
        assert_eq!(text.contains(shown), is_there, "{shown}: {text}");
    }
}

#[test]
fn bad_file_names_its_line() {
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
            "line 2: `api-cert-file` needs --api-url <URL> and --api-key-file <FILE> beside it",
        ),
        (
            "backend = \"toml:r.toml\"\napi-url = [\"http://a\"]\napi-password-file = \"none\"\n",
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

/// On the command line.
#[test]
fn ineffective_option_is_refused() {
    let place = Place::new();
    place
        .run("routes add /a/ http://t --backend toml:r.toml")
        .done();
    let before = place.text("r.toml");
    let refused = |command: &str, option: &str| {
        let said = place.run(&format!("{command} --backend toml:r.toml {option}"));
        let option = option.split(' ').next().unwrap();
        said.failed(2, option);
    };
    let of_traefik = ["--api-url http://t", "--api-user u", "--api-timeout 1"];
    let of_changes = [
        "--quorum 1",
        "--timeout 1",
        "--lock-timeout 1",
        "--nested-routers never",
        "--entrypoint e",
        "--public-url http://t",
    ];
    let of_traefiks_start = ["--api-entrypoint e", "--throttle 1", "--log-level INFO"];
    for option in of_traefik
        .iter()
        .chain(&of_changes)
        .chain(&of_traefiks_start)
    {
        for command in ["routes list", "routes get /a/", "routes resolve /a/"] {
            refused(command, option);
        }
    }
    for option in of_changes.iter().chain(&of_traefiks_start) {
        refused("status", option);
    }
    for option in of_changes[..5].iter().chain(&of_traefiks_start) {
        refused("doctor", option);
    }
    for option in of_traefiks_start.iter().chain(&["--traefik-bin x"]) {
        refused("routes add /b/ http://t", option);
        refused("routes delete /a/", option);
    }
    for option in [
        "--api-user u",
        "--quorum 1",
        "--nested-routers never",
        "--lock-timeout 1",
    ] {
        refused("config static", option);
    }
    let of_static = ["--public-url http://t", "--throttle 1", "--log-level INFO"];
    for option in of_static.iter().chain(&["--entrypoint e"]) {
        refused("config dynamic", option);
    }
    place
        .run("config static a.toml --syntax yaml --backend toml:r.toml")
        .failed(2, "--syntax");
    // What they belong to is missing.
    for option in [
        "--quorum 1",
        "--timeout 1",
        "--api-timeout 1",
        "--api-ca-file x",
        "--public-url https://t",
    ] {
        let add = format!("routes add /b/ http://t --backend toml:r.toml {option}");
        place.run(&add).failed(2, "--api-url");
    }
    place
        .run("config static --backend toml:r.toml --timeout 1")
        .failed(2, "--throttle");
    place
        .run("doctor --backend toml:r.toml --public-url http://t")
        .failed(2, "--api-url");
    let user = "status --backend toml:r.toml --api-url http://t --api-user u";
    place.run(user).failed(2, "TRAEFIK_API_PASSWORD");
    for option in ["--etcd-user u", "--etcd-ca-file x", "--traefik-prefix /t/"] {
        let list = format!("routes list --backend toml:r.toml {option}");
        place
            .run(&list)
            .failed(2, "no effect without --backend etcd:URL");
    }
    for key in ["--etcd-cert-file x", "--etcd-password-file x"] {
        let list = format!("routes list --backend etcd:http://127.0.0.1:1 {key}");
        place.run(&list).failed(2, "required");
    }
    let add = "routes add /b/ http://t --backend etcd:http://127.0.0.1:1 --lock-timeout 1";
    place
        .run(add)
        .failed(2, "no effect without --backend toml:FILE");
    let no_wait = "routes add /b/ http://t --backend toml:r.toml --no-wait --api-url http://t";
    place.run(no_wait).failed(2, "--no-wait");
    let no_wait = "routes delete /a/ --backend toml:r.toml --no-wait --public-url https://t";
    place.run(no_wait).failed(2, "--no-wait");
    assert_eq!(place.text("r.toml"), before);
}

/// In the file that all commands share.
#[test]
fn other_commands_keys_are_ignored() {
    let place = Place::new();
    let all = "backend = \"toml:r.toml\"\napi-url = [\"http://127.0.0.1:1\"]\napi-timeout = 1\n\
               quorum = 1\ntimeout = 5\nlock-timeout = 2\nnested-routers = \"never\"\n\
               entrypoint = \"web\"\npublic-url = \"http://127.0.0.1:2\"\napi-entrypoint = \"a\"\n\
               throttle = 1\nlog-level = \"INFO\"\ntraefik-bin = \"none\"\n";
    place.write("traefik-router.toml", all);
    // It knows that the store has only to be written.
    place.run("routes add /a/ http://t --no-wait").done();
    place.run("routes list").done();
    place.run("config static").done();
    place
        .run("routes add /b/ http://t")
        .failed(1, "127.0.0.1:1");
    for (keys, says) in [
        ("api-user = \"u\"\n", "--api-url"),
        ("quorum = 1\n", "--api-url"),
    ] {
        place.write(
            "traefik-router.toml",
            &format!("backend = \"toml:r.toml\"\n{keys}"),
        );
        let said = place.run("routes add /b/ http://t");
        said.failed(2, says);
        let key = keys.split(' ').next().unwrap();
        let refusal =
            format!("traefik-router.toml: line 2: `{key}` needs --api-url <URL> beside it");
        said.failed(2, &refusal);
        place.run("routes list").done();
    }
    // A later key needs an earlier one, and one of the file's needs one that is given nowhere.
    place.write(
        "traefik-router.toml",
        "backend = \"toml:r.toml\"\nnested-routers = \"never\"\napi-key-file = \"k\"\n\
         api-cert-file = \"c\"\n",
    );
    place
        .run("routes add /b/ http://t")
        .failed(2, "` needs --api-url <URL> beside it");
    // No command uses it: `config static` needs the one, and the others need the other.
    place.write(
        "traefik-router.toml",
        "backend = \"toml:r.toml\"\ntimeout = 3\n",
    );
    for command in ["routes add /b/ http://t", "config static"] {
        place.run(command).failed(
            2,
            "traefik-router.toml: line 2: `timeout` has no effect without `api-url` or `throttle`",
        );
    }
    place
        .run("routes add /b/ http://t --api-url http://127.0.0.1:1")
        .failed(1, "127.0.0.1:1");
    place.run("config static --throttle 1").done();
    // `doctor` and `config static` use these without an API.
    place.write(
        "traefik-router.toml",
        "backend = \"toml:r.toml\"\napi-timeout = 1\ntimeout = 5\nthrottle = 1\n\
         public-url = \"https://t\"\n",
    );
    place.run("routes add /b/ http://t").done();
    for key in ["etcd-user = \"u\"\n", "traefik-prefix = \"/t/\"\n"] {
        place.write(
            "traefik-router.toml",
            &format!("backend = \"toml:r.toml\"\n{key}"),
        );
        place.run("routes list").failed(2, "line 2: ");
    }
    // The command line names another store than the one that a key is for.
    place.write(
        "traefik-router.toml",
        "backend = \"etcd:http://127.0.0.1:1\"\netcd-user = \"u\"\n",
    );
    place.run("routes list --backend toml:r.toml").done();
}

#[test]
fn environment_may_name_etcd_user() {
    let place = Place::new();
    let args = ["routes", "list", "--backend", "etcd:http://127.0.0.1:1"];
    let user = ("ETCD_USERNAME", "hub");
    place
        .run_with(&args, &[user])
        .failed(2, "ETCD_USERNAME needs ETCD_PASSWORD beside it");
    place
        .run_with(&args, &[user, ("ETCD_PASSWORD", PASSWORD)])
        .failed(1, "127.0.0.1:1");
    // It is there for other programs as well.
    place
        .run("routes add /a/ http://t --backend toml:r.toml")
        .done();
    place
        .run_with(&["routes", "list", "--backend", "toml:r.toml"], &[user])
        .done();
}

#[test]
fn misplaced_secrets_are_not_repeated() {
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
fn static_configuration_keeps_the_entrypoint() {
    let place = Place::new();
    let store = "--backend toml:rules.toml";
    let config = |options: &str| place.run(&format!("config static {store}{options}")).done();
    assert!(config("").contains("[entryPoints.http]"));
    place
        .run(&format!("routes add /a/ http://t {store} --entrypoint web"))
        .done();
    for options in ["", " --chp"] {
        let text = config(options);
        assert!(
            text.contains("entryPoints.web") && !text.contains("entryPoints.http]"),
            "{text}"
        );
    }
    assert!(config(" --entrypoint other").contains("entryPoints.other"));
    let urls = "--api-url http://:8000 --public-url http://10.0.0.1:8000";
    let said = place.run(&format!("config static {store} {urls}"));
    said.failed(2, "--public-url and --api-url both have port 8000");
    // A store that is not to be reached from here does not keep anybody from printing.
    let said = place.run("config static --backend etcd:http://127.0.0.1:1");
    assert!(said.out.contains("entryPoints.http"), "{said:?}");
    assert!(said.err.starts_with("warning: the entrypoint"), "{said:?}");
}

#[test]
fn static_configuration_hides_secrets() {
    let place = Place::new();
    let etcd = "config static --backend etcd:http://127.0.0.1:1 --etcd-user me --entrypoint http";
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
