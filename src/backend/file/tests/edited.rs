//! Files in which people have edited the table's own lines, or the marks around them.

use serde_json::json;

use super::{holds, parse, routes, samples, value, with_routes, without_record};
use crate::config::text::{Entries as _, Syntax, unmarked};
use crate::route::Change;

#[test]
fn entries_are_found_without_marks() {
    for (syntax, text) in samples() {
        let mut file = with_routes(syntax, text);
        let unmarked = unmarked(syntax, file.render().unwrap());
        let mut again = parse(syntax, &unmarked, "other").unwrap();
        assert_eq!(
            (again.routes(), &again.header),
            (file.routes(), &file.header),
            "{unmarked}"
        );
        let written = again.render().unwrap().to_string();
        assert!(
            holds(&value(syntax, &written), &value(syntax, text)),
            "{written}"
        );
        let names = |text: &str| {
            let tree = value(syntax, text);
            ["routers", "services", "middlewares"].map(|part| tree["http"][part].clone())
        };
        assert_eq!(
            names(&written),
            names(&unmarked),
            "an entry is there twice or lost\n{written}"
        );
    }
}

#[test]
fn moved_mark_duplicates_no_name() {
    let mut read = 0;
    for (syntax, text) in samples() {
        let mut file = with_routes(syntax, text);
        let written = file.render().unwrap().to_string();
        let names = |text: &str| {
            let tree = value(syntax, text);
            ["routers", "services", "middlewares"].map(|part| tree["http"][part].clone())
        };
        let lines: Vec<_> = written.split_inclusive('\n').collect();
        let is_end = |line: &&str| line.trim() == "# traefik-router: end";
        let end = lines.iter().position(is_end).unwrap();
        for at in 0..end {
            let mut moved = lines.clone();
            let mark = moved.remove(end);
            moved.insert(at, mark);
            let moved = moved.concat();
            let Ok(mut again) = parse(syntax, &moved, "other") else {
                continue;
            };
            let header = (again.routes(), &again.header);
            assert_eq!(header, (file.routes(), &file.header), "{moved}");
            let whole = again.render().unwrap();
            assert_eq!(names(whole), names(&moved), "{moved}");
            assert_eq!(names(whole), names(&written), "{moved}");
            read += 1;
        }
    }
    assert!(read > 100, "{read}");
}

#[test]
fn content_between_marks_is_replaced() {
    for (syntax, text) in samples() {
        let mut file = with_routes(syntax, text);
        let written = file.render().unwrap().to_string();
        let (begin, end) = ("# traefik-router: begin", "# traefik-router: end");
        let commented = written.replace(end, &format!("  # by hand\n\n{end}"));
        let above = commented.replace(begin, &format!("# above\n{begin}"));
        let mut cases = vec![(without_record(&written), 2), (commented, 3), (above, 3)];
        let header = "[http.routers]\n";
        if syntax == Syntax::Toml && !text.contains(header) {
            let entry = syntax.entry("leftover", &json!({"rule": "x"}));
            let edited = written.replacen(header, &format!("{header}{entry}"), 1);
            cases.push((edited, 3));
        }
        for (edited, routes) in cases {
            let mut again = parse(syntax, &edited, "other").unwrap();
            assert_eq!((again.routes().len(), again.is_written), (routes, false));
            let left = again.foreign().replace("# above\n", "");
            let left = left.replace("# above", "");
            assert_eq!(left.trim_end(), text.trim_end(), "{edited}");
            let routes: Vec<_> = file.routes().iter().cloned().map(Change::Set).collect();
            again.apply(&routes).unwrap();
            let whole = again.render().unwrap();
            assert_eq!(value(syntax, whole), value(syntax, &written), "{edited}");
        }
    }
}

#[cfg(feature = "yaml")]
#[test]
fn text_above_marks_keeps_newline() {
    let written = with_routes(Syntax::Yaml, "x: 1")
        .render()
        .unwrap()
        .to_string();
    let note = "\nnote: |\n  text\n";
    let edited = written.replace("x: 1\n", &format!("x: 1{note}"));
    let again = parse(Syntax::Yaml, &edited, "other").unwrap();
    assert_eq!(again.foreign(), format!("x: 1{note}"));
    let edited = written.replace("x: 1\n", "x: 1\ny: 2\n");
    let again = parse(Syntax::Yaml, &edited, "other").unwrap();
    assert_eq!(again.foreign(), "x: 1\ny: 2");
}

#[test]
fn text_below_marks_keeps_table() {
    let mut file = with_routes(Syntax::Toml, "");
    let written = file.render().unwrap().to_string();
    let appended = format!("{}mine = 1\n", without_record(&written));
    let again = parse(Syntax::Toml, &appended, "other").unwrap();
    assert_eq!(again.foreign(), "[traefik_router]\nmine = 1\n");

    let appended = format!("{written}mine = 1\n[http.routers.mine]\nrule = 'x'\n");
    let mut again = parse(Syntax::Toml, &appended, "other").unwrap();
    assert_eq!(*again.routes(), *file.routes());
    let now = value(Syntax::Toml, again.render().unwrap());
    assert_eq!(
        (
            &now["http"]["routers"]["mine"]["rule"],
            &now["traefik_router"]["mine"]
        ),
        (&json!("x"), &json!(1))
    );
}

#[test]
fn marks_inside_strings_are_text() {
    let begin_to_end = "a\n# traefik-router: begin\n{\"b\":\n# traefik-router: end\nc\n";
    let end_to_begin = "a\n# traefik-router: end\n\n# traefik-router: begin\nc\n";
    let begin = "# traefik-router: begin\n";
    let mut texts = Vec::new();
    for lines in [begin_to_end, end_to_begin, begin] {
        texts.push((Syntax::Toml, format!("x = '''\n{lines}'''\n")));
        let escaped = lines.replace('"', "\\\"");
        texts.push((Syntax::Toml, format!("x = [\"\"\"\n{escaped}\"\"\"]\n")));
        #[cfg(feature = "yaml")]
        for (open, close) in [("|\n", ""), (">-\n", ""), ("'\n", "  '\n")] {
            let indented = lines.replace('\n', "\n  ");
            let text = format!("x: {open}  {}\n{close}", indented.trim_end());
            texts.push((Syntax::Yaml, text));
        }
    }
    for (syntax, text) in texts {
        let mut file = with_routes(syntax, &text);
        let written = file.render().unwrap().to_string();
        let again = parse(syntax, &written, "other").unwrap();
        assert_eq!((again.foreign(), again.is_written), (&*text, true));
        let edited = format!("{written}# by hand\n");
        for (edited, routes) in [(without_record(&edited), 2), (edited, 3)] {
            let mut again = parse(syntax, &edited, "other").unwrap();
            assert_eq!(again.routes().len(), routes, "{edited}");
            assert_eq!(again.foreign(), format!("{text}# by hand\n"), "{edited}");
            let whole = again.render().unwrap().to_string();
            let again = parse(syntax, &whole, "other").unwrap();
            assert_eq!((again.routes().len(), again.is_written), (routes, true));
        }
    }
}

#[test]
fn same_name_entry_is_replaced() {
    let mut file = with_routes(Syntax::Toml, "");
    let written = file.render().unwrap().to_string();
    // A record that was deleted by hand leaves its router behind.
    let orphaned: String = written
        .split_inclusive('\n')
        .filter(|line| !line.contains("\"spec\":\"/user/a@b/\""))
        .collect();
    let mut again = parse(Syntax::Toml, &orphaned, "other").unwrap();
    assert_eq!(again.routes().len(), 2);
    again.apply(&routes()).unwrap();
    assert_eq!(
        value(Syntax::Toml, again.render().unwrap())["http"],
        value(Syntax::Toml, &written)["http"]
    );
}
