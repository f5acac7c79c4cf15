//! Any text as a routespec, and any request, of bytes that need not be UTF-8: the rule is made of
//! quoted literals alone, the route is for nothing but what is below its own prefix, and `resolve`
//! says the same as the rule.

#![no_main]

#[path = "../../src/route/tests/evaluate.rs"]
mod evaluate;

use libfuzzer_sys::fuzz_target;
use traefik_router::{Route, RouteSpec, Table, Target, priority, rule};

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (text, host, path) = input;
    // Any text is a target or an error, too.
    if let Ok(target) = Target::new(text) {
        assert_eq!(Target::new(target.as_str()).ok().as_ref(), Some(&target));
    }
    let Ok(spec) = RouteSpec::new(text) else {
        return;
    };
    assert_eq!(RouteSpec::new(spec.as_str()).ok().as_ref(), Some(&spec));
    assert!(priority(&spec) > 0);
    let rule = rule(&spec);
    assert!(
        rule.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{rule}"
    );
    assert!(!rule.contains(['`', '{', '\'']), "{rule}");
    check_frame(&rule);

    let table: Table = [Route::new(&spec, "http://t").expect("a good route")]
        .into_iter()
        .collect();
    // What Traefik cleans before it looks at its rules has another path than it seems.
    let path = path
        .split(|byte| b"?#".contains(byte))
        .next()
        .unwrap_or_default();
    let is_clean = !path.windows(2).any(|two| two == b"//")
        && !decoded(path).split(|&byte| byte == b'/').any(is_dots);
    if !is_clean || !path.starts_with(b"/") || !is_encoded(path) {
        return;
    }
    let own_host = spec.host().unwrap_or_default().trim_matches(['[', ']']);
    let takes = evaluate::matches(&rule, own_host, path);
    if takes {
        check_below(&spec, path);
    }
    let Ok(path) = std::str::from_utf8(path) else {
        return;
    };
    let resolved = table.resolve(spec.host().unwrap_or("h"), path);
    assert_eq!(matches!(resolved, Ok(Some(_))), takes, "{rule} {path:?}");
    // A host that is not ASCII comes as punycode, or Traefik refuses the request.
    if host.is_ascii() && matches!(table.resolve(host, path), Ok(Some(_))) {
        assert!(spec.host().is_none_or(|own| is_host(host, own)), "{host:?}");
        check_below(&spec, path.as_bytes());
    }
});

/// A path that a route takes is below its own.
fn check_below(spec: &RouteSpec, path: &[u8]) {
    let (own, asked) = (decoded(spec.path().as_bytes()), decoded(path));
    let below = asked.strip_prefix(own.strip_suffix(b"/").unwrap_or(&own));
    let is_below = below.is_some_and(|rest| rest.first().is_none_or(|&byte| byte == b'/'));
    assert!(is_below, "{spec:?} got {}", path.escape_ascii());
}

/// Whether two hexadecimal digits follow each `%`: Traefik refuses other requests.
fn is_encoded(path: &[u8]) -> bool {
    let mut after = path.split(|&byte| byte == b'%').skip(1);
    after.all(|part| {
        part.get(..2)
            .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Outside its literals a rule has only the matchers, parentheses and operators that we write.
fn check_frame(rule: &str) {
    let mut frame = String::new();
    let mut chars = rule.chars();
    while let Some(char) = chars.next() {
        if char != '"' {
            frame.push(char);
            continue;
        }
        loop {
            match chars.next().expect("every literal ends") {
                '"' => break,
                '\\' => drop(chars.next()),
                _ => {}
            }
        }
    }
    for matcher in ["Host()", "PathPrefix()", "PathRegexp()", "Path()"] {
        frame = frame.replace(matcher, "m");
    }
    let frame = frame.replace(" || m", "");
    assert!(matches!(&*frame, "m" | "m && (m)"), "{rule}");
}

fn is_dots(segment: &[u8]) -> bool {
    matches!(segment, b"." | b"..")
}

fn is_host(header: &str, own: &str) -> bool {
    let header = header.to_ascii_lowercase();
    // To Traefik, all after the last colon is the port.
    let name = header.rsplit_once(':').map_or(&*header, |(name, _)| name);
    let bare = |name: &str| {
        name.trim_matches(['[', ']'])
            .trim_end_matches('.')
            .to_string()
    };
    // A wildcard stands for one label, which may be anything.
    let is_own = |name: &str| match own.strip_prefix("*.") {
        Some(domain) => (bare(name).split_once('.')).is_some_and(|(_, rest)| rest == bare(domain)),
        None => bare(name) == bare(own),
    };
    [&*header, name].into_iter().any(is_own)
}

fn decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        let triple = tail
            .get(..2)
            .filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let triple = triple.and_then(|hex| std::str::from_utf8(hex).ok());
        let value = triple.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        (rest, _) = match value.filter(|_| byte == b'%') {
            Some(value) => (&tail[2..], out.push(value)),
            None => (tail, out.push(byte)),
        };
    }
    out
}
