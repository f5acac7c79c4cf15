//! Traefik's reading of our rules, for the tests and for the fuzz target, which includes this file.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::bytes::Regex;

/// Runs a rule of ours as Traefik does.
pub(crate) fn matches(rule: &str, host: &str, path: &[u8]) -> bool {
    let path = routing_path(path);
    let (found, rest) = run(rule, host, &path);
    assert_eq!(rest, "", "{rule}");
    found
}

/// A path as Traefik's rules see it: reserved characters stay as the request had them.
fn routing_path(path: &[u8]) -> Vec<u8> {
    let hex = |digit: u8| char::from(digit).to_digit(16);
    let mut out = Vec::new();
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        let triple = match (byte, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        rest = if triple.is_some() { &tail[2..] } else { tail };
        match triple.map(|(high, low)| (high * 16 + low) as u8) {
            None => out.push(byte),
            Some(byte) if b":/?#[]@!$&'()*+,;=%".contains(&byte) => {
                out.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
            Some(byte) => out.push(byte),
        }
    }
    out
}

/// What Go's `strconv.Unquote` makes of the literal at the start of `text`, and the rest.
fn unquote(text: &str) -> (Vec<u8>, &str) {
    let mut out = Vec::new();
    let mut chars = text.strip_prefix('"').unwrap().char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (out, &text[at + 2..]),
            '\\' => match chars.next().unwrap().1 {
                'x' => {
                    let hex = &text[at + 3..at + 5];
                    chars.nth(1);
                    out.push(u8::from_str_radix(hex, 16).unwrap());
                }
                '\\' => out.push(b'\\'),
                other => panic!("\\{other} in {text}"),
            },
            plain => out.push(u8::try_from(plain).unwrap()),
        }
    }
    panic!("no end in {text}")
}

/// What the expression at the start of `rule` comes to, and the rest.
fn run<'r>(rule: &'r str, host: &str, path: &[u8]) -> (bool, &'r str) {
    let (mut found, mut rest) = term(rule, host, path);
    loop {
        if let Some(more) = rest.strip_prefix(" && ") {
            let (next, after) = term(more, host, path);
            (found, rest) = (found && next, after);
        } else if let Some(more) = rest.strip_prefix(" || ") {
            let (next, after) = term(more, host, path);
            (found, rest) = (found || next, after);
        } else {
            return (found, rest);
        }
    }
}

fn term<'r>(rule: &'r str, host: &str, path: &[u8]) -> (bool, &'r str) {
    if let Some(inner) = rule.strip_prefix('(') {
        let (found, rest) = run(inner, host, path);
        return (found, rest.strip_prefix(')').unwrap());
    }
    let (matcher, after) = rule.split_once('(').unwrap();
    let (wanted, after) = unquote(after);
    let found = match matcher {
        "Host" => {
            let domain = host.split_once('.').map(|(_, domain)| domain.as_bytes());
            host.as_bytes() == wanted
                || wanted
                    .strip_prefix(b"*.")
                    .is_some_and(|one| domain == Some(one))
        }
        "PathPrefix" => path.starts_with(&wanted),
        "Path" => path == wanted,
        // Go reads each byte that is not UTF-8 as U+FFFD.
        "PathRegexp" => expression(std::str::from_utf8(&wanted).unwrap()).is_match(&go_text(path)),
        other => panic!("{other} in {rule}"),
    };
    (found, after.strip_prefix(')').unwrap())
}

/// A text as Go's regular expressions see it.
fn go_text(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        let unknown = "\u{fffd}".repeat(chunk.invalid().len());
        text.extend_from_slice(unknown.as_bytes());
    }
    text
}

/// A regular expression, made once: most of the time of a test would go into it.
fn expression(text: &str) -> Regex {
    thread_local! {
        static KNOWN: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| match known.get(text) {
        Some(known) => known.clone(),
        None => {
            let new = Regex::new(text).unwrap();
            known.insert(text.into(), new.clone());
            new
        }
    })
}
