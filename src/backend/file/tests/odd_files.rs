//! Hundreds of odd files of each syntax, put together from fragments: only what is ours may differ.

use serde_json::Value;

use super::{parse, route};
use crate::backend::Setup;
use crate::backend::file::table_file::TableFile;
use crate::config::text::Syntax;
use crate::error::ErrorKind;
use crate::route::{Change, RouteSpec, router_name, service_name};

/// Fragments of a file: one of each is a file.
struct Fragments {
    heads: &'static [&'static str],
    bodies: &'static [&'static str],
    /// Those in which our table has to go where the file has an inline or a dotted one: it is
    /// written anew, and so the bytes may differ.
    rewritten: &'static [&'static str],
    /// Those that routes can't be added to.
    refused: &'static [&'static str],
    ends: &'static [&'static str],
}

const TOML: Fragments = Fragments {
    heads: &[
        "",
        "\u{feff}",
        "\n\n  \n",
        "# only a comment\n",
        "title = 'x'\n",
        "a.b.c = 1\n\"quoted key\" = 2\n'http ' = 3\n",
        "when = 1979-05-27T07:32:00Z\ninline = {a = 1, b = [1,\n 2]}\n",
        "x = '''\n# traefik-router: begin\n'''\n",
        "x = \"\"\"\n# traefik-router: end\n\\\"\\n\"\"\"\n",
        "x = '''\n# traefik-router: begin\nb\n# traefik-router: end\nc'''\n",
        "x = [\"\"\"\n  # traefik-router: end\n\"\"\", '''\n# traefik-router: begin''']\n",
        "[[arr]]\nx = 1\n[[arr]]\nx = '''\n# traefik-router: begin\n'''\n",
        "[a.b]\nx = 1\n[a]\ny = 2\n",
        "  # odd indent\n\tx = 1\t# tab\n\t[ a ]\t\n",
        "[traefik_router]\nmine = 1\n",
        "[tls.stores.default.defaultCertificate]\ncertFile = 'x'\n",
    ],
    bodies: &[
        "",
        "[http]\n",
        "[http.routers]\n",
        "[http] # here\n  [http.routers] # there\n    # inside\n",
        "[http.routers.mine]\nrule = 'x'\n[http]\n",
        "[http.routers.mine]\nrule = 'x'\n[http.routers]\nother = {rule = 'y'}\n",
        "[ \"http\" . 'routers' ] # c\nmine = {rule = 'x'}\n",
        "[http.services]\n[http.services.s]\n[[http.services.s.loadBalancer.servers]]\nurl = 'u'\n",
        "[http]\n  [http.middlewares]\n    [http.middlewares.m]\n      compress = {x = 1}\n",
        "[http.routers.mine]\nrule = '''\n[http.services]\n# traefik-router: end\n'''\n",
        "[http.middlewares.m.headers]\ncustomRequestHeaders.X = 'y'\n",
    ],
    rewritten: &[
        "[http]\nrouters.mine.rule = 'x'\n",
        "[http]\nservices = {s = {weighted = {x = 1}}} # c\n",
        "[http]\nmiddlewares = {}\nrouters.\"mine\".rule = '''\n# traefik-router: begin\n'''\n",
    ],
    refused: &[
        "[[http.routers]]\nx = 1\n",
        "[[http]]\nx = 1\n",
        "[http]\nservices = 1\n",
        "[http]\nservices = ['a']\n",
        "[http.middlewares]\n[http.middlewares]\n",
        "[http.routers]\nmine.rule = 'x'\nmine = 1\n",
    ],
    ends: &[
        "",
        "# end",
        "\n\n\n",
        "[z]",
        "[z]\nx = 1",
        "[z]\nx = 1\n",
        "[z]\nx = '''\n# traefik-router: begin\n# traefik-router: end'''",
        "[z]\nx = '''a\n\n'''",
        "[z]\nx = \"\"\"\\\n  a \\\n  b\"\"\"",
        "[[zz]]\nx = [\n1, # c\n]",
        "[z.'http'.routers]\nmine = 1\t",
    ],
};

#[cfg(feature = "yaml")]
const YAML: Fragments = Fragments {
    heads: &[
        "",
        "\u{feff}",
        "\u{feff}---\n",
        "---\n",
        "--- # c\n",
        "--- !!map\n",
        "%YAML 1.2\n---\n",
        "# c\n\n",
        "\n\n",
        "a: |\n  # traefik-router: begin\n  x\n  # traefik-router: end\n",
        "a: >+\n\n   # traefik-router: end\n\n",
        "a: \"x\n  # traefik-router: begin\n  y\"\n",
        "a: 'x\n\n  # traefik-router: end\n\n  y'\n",
        "list:\n- a\n- b: |\n    # traefik-router: end\n",
        "a: &a {x: 1}\nb: *a\nc: {<<: *a}\n",
        "a: b # c\n\n   # odd indent\n# none\n",
        "? x\n: y\n",
        "é漢: ü # 😀\n",
        "traefik_router:\n  mine: 1\n",
    ],
    bodies: &[
        "",
        "http:\n",
        "http: # c\n  # nothing yet\n",
        "http:\n  routers:\n",
        "http:\n  routers:\n  services:\n  middlewares:\n",
        "http:\n    routers:\n        mine: {rule: x}\n",
        "http:\n  routers:\n    !!map\n    mine: {rule: x}\n",
        "http:\n  !!map\n  routers:\n    # c\n    !!map\n    # d\n    mine: {rule: x}\n",
        "http: !!map\n  services: !!map\n    mine: {loadBalancer: {x: 1}}\n",
        "http:\n\n      # deep\n  middlewares:\n # shallow\n    m: {compress: {x: 1}}\n",
        "\"http\":\n  'routers' :\n    mine: {rule: x}\n",
        "http:\n  services:\n    s:\n      loadBalancer:\n        servers:\n        - url: a\n",
        "http:\n  routers:\n    a: &a {rule: x}\n    b: *a\n    c:\n      <<: *a\n",
        "http:\t\n  routers:\t# tab\n    mine: {rule: x}\n",
        "http:\n  routers:\n    mine:\n      rule: |\n        # traefik-router: begin\n",
    ],
    rewritten: &[],
    refused: &[
        "http: {routers: {mine: {rule: x}}}\n",
        "http:\n  routers: {}\n",
        "http:\n  services: {mine: {x: 1}}\n",
        "http:\n  services: {\n    mine: {x: 1}\n  }\n",
        "http:\n  services: &s\n    mine: {x: 1}\n",
        "http: &h\n  services:\n    mine: {x: 1}\n",
        "http: &h\n  routers:\n  services:\n  middlewares:\nother: *h\n",
        "http:\n  services: {mine: }\n",
        "b: &b\n  mine: {x: 1}\nhttp:\n  services: *b\n",
        "b: &b\n  mine: {x: 1}\nhttp:\n  services:\n    <<: *b\n",
        "http:\n  services: ~\n",
        "http:\n  services: !!map\n",
        "http:\n  services:\n    !!map\n",
        "http:\n  services: !!null\n",
        "http:\n  services: |\n",
        "http:\n  services: ''\n",
        "http:\n  services: []\n",
        "http:\n  services:\n  - a\n",
        "http:\n  ? services\n  : mine: {x: 1}\n",
        "? http\n: services:\n    mine: {x: 1}\n",
        "http:\n  x: 1\nhttp:\n  y: 1\n",
        "http:\n  services:\n    a: {x: 1}\n    \"a\": {x: 2}\n",
        "http:\n\tservices:\n",
        "...\n",
        "x: 1\n---\ny: 1\n",
    ],
    ends: &[
        "",
        "# end",
        "z: 1",
        "z: 1\n\n\n",
        "tls:",
        "tls: # c",
        "note: |\n  text",
        "note: |\n  text\n",
        "note: |\n  text\n # end",
        "note: |+\n  text",
        "note: |+\n  text\n\n\n",
        "note: |+\n  text\n  ",
        "note: >-\n  text",
        "note: >\n  a\n\n  b",
        "note: |2\n    text",
        "note: |",
        "note: |+\n\n",
        "deep:\n  list:\n  - note: |+\n      text",
        "q: 'a\n\n  b'",
        "q: a\n  b",
        "note: |\n  # traefik-router: begin\n  # traefik-router: end",
    ],
};

/// Every fragment together with many of the others.
fn files(bodies: &[&str], fragments: &Fragments) -> Vec<String> {
    let (heads, ends) = (fragments.heads, fragments.ends);
    let mut files = Vec::new();
    for (b, body) in bodies.iter().enumerate() {
        for n in 0..heads.len().max(ends.len()) {
            let head = heads[n % heads.len()];
            let end = ends[(n + 5 * b) % ends.len()];
            let text = format!("{head}{body}{end}");
            if n % 4 == b % 4 {
                files.push(text.replace('\n', "\r\n"));
            }
            files.push(text);
        }
    }
    files
}

/// What a parser that is not ours reads, as far as it can.
fn oracle(syntax: Syntax, text: &str) -> Option<Value> {
    match syntax {
        Syntax::Toml => syntax.parse(text).ok().map(|tree| tree.to_value()),
        #[cfg(feature = "yaml")]
        // To it, though to no other parser, a byte order mark is a column.
        Syntax::Yaml => yaml_serde::from_str(text.trim_start_matches('\u{feff}')).ok(),
    }
}

/// A value without empty maps, which are as good as none.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let map = map.into_iter().map(|(key, value)| (key, pruned(value)));
            let map: serde_json::Map<_, _> = map.filter(|(_, value)| !value.is_null()).collect();
            if map.is_empty() {
                Value::Null
            } else {
                map.into()
            }
        }
        other => other,
    }
}

/// A value without our entries.
fn without_ours(mut value: Value, file: &TableFile) -> Value {
    let namespace = &file.header.namespace;
    let mut names = vec![file.header.marker.clone()];
    for route in file.routes() {
        names.push(router_name(namespace, &route.spec));
        names.push(service_name(namespace, route));
    }
    for part in ["routers", "services", "middlewares"] {
        let part = value.pointer_mut(&format!("/http/{part}"));
        if let Some(part) = part.and_then(Value::as_object_mut) {
            part.retain(|name, _| !names.contains(name));
        }
    }
    if let Some(ours) = value
        .get_mut("traefik_router")
        .and_then(Value::as_object_mut)
    {
        ours.remove("routes");
    }
    pruned(value)
}

/// Whether the file that is written is the one that was, with our table in it; returns it.
#[track_caller]
fn check(syntax: Syntax, file: &mut TableFile, text: &str, same_bytes: bool) -> TableFile {
    let written = file.render().unwrap().to_string();
    let about = format!("{text:?}\n--- became\n{written}");
    let now = oracle(syntax, &written).unwrap_or_else(|| panic!("{about}"));
    let before = oracle(syntax, text).unwrap_or_else(|| panic!("{text:?}"));
    assert_eq!(
        without_ours(now.clone(), file),
        pruned(before.clone()),
        "{about}"
    );
    let namespace = &file.header.namespace;
    for route in file.routes() {
        let router = &now["http"]["routers"][router_name(namespace, &route.spec)];
        let service = &now["http"]["services"][router["service"].as_str().expect(&about)];
        let url = &service["loadBalancer"]["servers"][0]["url"];
        assert_eq!(url.as_str(), Some(route.target.as_str()), "{about}");
    }
    let again = parse(syntax, &written, "other").unwrap_or_else(|error| panic!("{error}\n{about}"));
    assert!(again.is_written, "{about}");
    assert_eq!(
        (again.routes(), &again.header),
        (file.routes(), &file.header),
        "{about}"
    );
    if same_bytes {
        assert_eq!(again.foreign(), text, "{about}");
    } else {
        let left = oracle(syntax, again.foreign()).unwrap();
        assert_eq!(pruned(left), pruned(before), "{about}");
    }
    again
}

/// Opens a file and has routes come, change and go; says whether it was opened.
fn is_opened(syntax: Syntax, text: &str, same_bytes: bool) -> bool {
    let opened = parse(syntax, text, "marker").and_then(|mut file| {
        file.set_up(&Setup::new("web"), "/c.pem", false)?;
        Ok(file)
    });
    let mut file = match opened {
        Ok(file) => file,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{text:?}: {error}");
            return false;
        }
    };
    check(syntax, &mut file, text, same_bytes);
    let delete = |spec| Change::Delete(RouteSpec::new(spec).unwrap());
    for (reread, change) in [
        (false, route("/user/a@b/", "http://t1")),
        (true, route("/user/a@b/", "http://t2/base")),
        (true, route("h.x/", "http://t1")),
        (false, delete("/user/a@b/")),
        (true, delete("h.x/")),
    ] {
        file.apply(&[change])
            .unwrap_or_else(|error| panic!("{error}\n{text:?}"));
        let again = check(syntax, &mut file, text, same_bytes);
        if reread {
            file = again;
        }
    }
    file.tear_down();
    check(syntax, &mut file, text, same_bytes);
    true
}

fn check_all(syntax: Syntax, fragments: &Fragments) -> usize {
    let mut count = 0;
    for (bodies, same_bytes, is_good) in [
        (fragments.bodies, true, true),
        (fragments.rewritten, false, true),
        (fragments.refused, true, false),
    ] {
        for text in files(bodies, fragments) {
            assert_eq!(is_opened(syntax, &text, same_bytes), is_good, "{text:?}");
            count += 1;
        }
    }
    count
}

#[test]
fn toml_differs_only_in_ours() {
    assert!(check_all(Syntax::Toml, &TOML) > 300);
}

#[cfg(feature = "yaml")]
#[test]
fn yaml_differs_only_in_ours() {
    assert!(check_all(Syntax::Yaml, &YAML) > 600);
}

/// They overflowed the stack, and took all memory.
#[cfg(feature = "yaml")]
#[test]
fn yaml_bombs_are_refused() {
    let nested = format!("x:\n {}1\n", "- ".repeat(20_000));
    let mut aliases = String::from("a0: &a0 [x, x]\n");
    for n in 1..40 {
        aliases += &format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1);
    }
    for (text, why) in [(nested, "line 2: it is nested"), (aliases, "aliases")] {
        let error = Syntax::Yaml.parse(&text).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let (open, close) = ("[".repeat(120), "]".repeat(120));
    assert!(Syntax::Yaml.parse(&format!("x: {open}{close}\n")).is_ok());
}
