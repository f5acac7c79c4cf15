//! What people wrote in a file stays, or is refused.

use serde_json::json;

use super::{OURS, holds, parse, samples, value, with_routes, without_record};
use crate::backend::Setup;
use crate::config::text::Syntax;
use crate::error::ErrorKind;
use crate::route::Change;

#[test]
fn foreign_content_stays() {
    for (syntax, text) in samples() {
        let mut file = with_routes(syntax, text);
        let written = file.render().unwrap().to_string();
        let now = value(syntax, &written);
        assert!(holds(&now, &value(syntax, text)), "{text}\n---\n{written}");
        assert!(!written.contains("{{"), "{written}");
        let routers = now["http"]["routers"].as_object().unwrap();
        assert!(
            routers
                .values()
                .filter(|router| router["entryPoints"][0] == "web")
                .count()
                == OURS
        );
        assert_eq!(
            now["http"]["services"]
                .as_object()
                .unwrap()
                .values()
                .filter(|s| s["loadBalancer"]["servers"][0]["url"]
                    .as_str()
                    .unwrap()
                    .starts_with("http://127"))
                .count(),
            2
        );

        let mut again = parse(syntax, &written, "other").unwrap();
        assert_eq!(
            (again.routes(), &again.header),
            (file.routes(), &file.header)
        );
        assert_eq!(again.render().unwrap().to_string(), written);

        let deletions: Vec<_> = again
            .routes()
            .iter()
            .map(|route| Change::Delete(route.spec.clone()))
            .collect();
        again.apply(&deletions).unwrap();
        again.tear_down();
        let emptied = again.render().unwrap().to_string();
        let (rest, _) = crate::config::text::cut(&emptied).unwrap();
        assert_eq!(rest, text);
        assert_eq!(again.foreign(), rest);
    }
}

#[test]
fn handwritten_replacement_of_extra_stays() {
    let mut file = with_routes(Syntax::Toml, "");
    let written = file.render().unwrap().to_string();
    let lines = written.split_inclusive('\n');
    let without: String = lines.filter(|line| !line.starts_with("extra = ")).collect();
    let theirs = "[http.middlewares.extra.compress]\nminResponseBodyBytes = 7\n";
    let edited = format!("{without}{theirs}# by hand\n");
    let mut again = parse(Syntax::Toml, &without_record(&edited), "other").unwrap();
    assert_eq!(again.foreign(), format!("{theirs}# by hand\n"));
    let now = value(Syntax::Toml, again.render().unwrap());
    let extra = &now["http"]["middlewares"]["extra"];
    assert_eq!(extra, &json!({"compress": {"minResponseBodyBytes": 7}}));
}

#[cfg(feature = "yaml")]
#[test]
fn deleted_entry_spares_the_next() {
    let route = "jupyterhub:\n  routes:\n    a: {routespec: /a, target: 'http://h', router: r, service: s}\n";
    let mine = "    mine: {loadBalancer: {}}\n";
    for servers in [
        "\n        - url: http://h\n",
        "\n          - url: http://h\n            weight: 1\n          # last\n",
        "\n        -\n          url: http://h\n",
        "\n        -\n",
        " [{url: 'http://h'}]\n",
        " [\n          {url: 'http://h'},\n        ]\n",
        " &all [\n          {url: 'http://h'},\n        ]\n",
        " !!seq [\n          {url: 'http://h'},\n        ]\n",
        "\n        - &one {\n          url: 'http://h'\n        }\n",
    ] {
        let service = format!("    s:\n      loadBalancer:\n        servers:{servers}");
        let text = format!("http:\n  services:\n{service}{mine}{route}");
        let file = parse(Syntax::Yaml, &text, "marker").unwrap();
        let left = file.foreign().replace("          # last\n", "");
        assert_eq!(left, format!("http:\n  services:\n{mine}"), "{text}");
    }
}

#[test]
fn inline_tables_are_opened() {
    for text in [
        "http = {routers = {mine = {rule = 'x'}}}\n",
        "http.routers.mine.rule = 'x'\n",
        "[http]\nrouters.mine.rule = 'x'\nservices = {s = {weighted = {}}}\n",
        "[http]\nrouters = {mine = {rule = 'x'}}\n",
    ] {
        let written = with_routes(Syntax::Toml, text)
            .render()
            .unwrap()
            .to_string();
        let now = value(Syntax::Toml, &written);
        assert!(holds(&now, &value(Syntax::Toml, text)), "{written}");
        assert_eq!(
            now["http"]["routers"].as_object().unwrap().len(),
            // And the API's.
            1 + OURS + 1,
            "{written}"
        );
    }
}

#[test]
fn opened_tables_keep_comments() {
    for text in [
        "# a\nx = 1\n# b\nhttp = {routers = {mine = {rule = 'x'}}} # c\n# d\n",
        "[tls]\n# a\n[http] # b\nrouters = {mine = {rule = 'x'}} # c\n# d\n",
        "# a\nhttp.routers.mine.rule = 'x' # b\n# c\nhttp.routers.mine.service = 's' # d\n",
        "# a\n# b\nhttp = {} # c\n# d\n[tls]\n",
        "# a\nhttp = {routers = {}, services = {}} # b\n[tls] # c\n# d",
    ] {
        for text in [text.to_string(), text.replace('\n', "\r\n")] {
            let mut file = with_routes(Syntax::Toml, &text);
            let written = file.render().unwrap();
            let comments = ["# a", "# b", "# c", "# d"].map(|comment| {
                let is_it = |line: &str| line.trim_end().ends_with(comment);
                written.split('\n').filter(|line| is_it(line)).count()
            });
            assert_eq!(comments, [1; 4], "{written}");
            let crlf = text.contains("\r\n");
            assert!(written.contains("# a\r\n") == crlf, "{written:?}");
        }
    }
}

#[cfg(feature = "yaml")]
#[test]
fn unextendable_maps_are_refused() {
    for text in [
        "http: {routers: {mine: {rule: x}}}\n",
        "http:\n  routers: {mine: {rule: x}}\n",
        "a: &x\n  routers:\nhttp: *x\n",
        "http: ~\n",
        "http:\n  routers: null # none yet\n",
        "? http\n: middlewares:\n    a: {}\n",
        "http:\n  !!map\n",
        "http:\n  services: !!map\n",
        "b: &b\n  x: 1\nhttp:\n  <<: *b\n",
        "http:\r  routers:\r",
        "~\n",
        "&x\n",
    ] {
        let file = parse(Syntax::Yaml, text, "m");
        let written = file.and_then(|mut file| file.set_up(&Setup::new("web"), "/c.pem", false));
        let error = written.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}");
    }
}

#[test]
fn refusals_name_the_line() {
    let bad = vec![
        (Syntax::Toml, "a = 1\nb = {\n", "line 2"),
        (Syntax::Toml, "a = 1\na = 2\n", "line 2"),
        (
            Syntax::Toml,
            "[traefik_router]\nroutes = '''\n{\"generation\": x}\n'''\n",
            "damaged",
        ),
        (
            Syntax::Toml,
            "[jupyterhub.routes.x]\nroutespec = '/'\ntarget = 'ftp://x'\n",
            "jupyterhub.routes.x",
        ),
    ];
    #[cfg(feature = "yaml")]
    let bad = [
        bad,
        vec![
            (Syntax::Yaml, "a: 1\nb: [\n", "line "),
            (Syntax::Yaml, "- a\n- b\n", "line 1"),
            (Syntax::Yaml, "a: 1\n---\nb: 2\n", "second"),
            (Syntax::Yaml, "a: 1\n...\n", "line 2"),
            (Syntax::Yaml, "a:\n  b: 1\n  c: 1\n  \"b\": 2\n", "line 4"),
        ],
    ]
    .concat();
    for (syntax, text, why) in bad {
        let error = parse(syntax, text, "m").err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}");
        assert!(error.to_string().contains(why), "{text}: {error}");
    }
}

#[test]
fn handwritten_configuration_overrides_extra() {
    let text = "[http.middlewares.extra]\ncompress = {}\n";
    let mut file = parse(Syntax::Toml, text, "m").unwrap();
    let extra = json!({"http": {"middlewares": {"extra": {"retry": {"attempts": 2}}}}});
    let setup = Setup {
        extra: Some(extra),
        ..Setup::new("web")
    };
    let error = file
        .set_up(&setup, "/c.pem", false)
        .and_then(|()| file.render())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(
        error.to_string().contains("http.middlewares.extra"),
        "{error}"
    );
}
