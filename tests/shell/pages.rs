//! The pages name options that exist.

use std::collections::BTreeSet;
use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

use crate::COMMANDS;
use crate::support::Place;

/// Options of other programs that the pages name, and those of configurable-http-proxy that are refused.
const OTHERS: [&str; 41] = [
    "--all-features",
    "--auth-token-ttl",
    "--auto-rewrite",
    "--env",
    "--etcd",
    "--example",
    "--fail",
    "--features",
    "--file",
    "--from-literal",
    "--ignored",
    "--initial-advertise-peer-urls",
    "--max-request-bytes",
    "--max-txn-ops",
    "--minutes",
    "--moving",
    "--no-include-prefix",
    "--no-peer",
    "--no-x-forward",
    "--nocapture",
    "--now",
    "--only",
    "--open",
    "--path",
    "--posts",
    "--protocol-rewrite",
    "--publish",
    "--quick",
    "--read-only",
    "--release",
    "--routes",
    "--serving",
    "--show",
    "--ssl-allow-rc4",
    "--ssl-ciphers",
    "--ssl-dhparam",
    "--ssl-protocol",
    "--storage-backend",
    "--tag",
    "--test",
    "--tmpfs",
];

/// The pages for users.
fn pages() -> Vec<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["docs", "packaging/container", "packaging/python"];
    let entries = folders.map(|folder| read_dir(home.join(folder)).unwrap());
    let paths = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    pages.chain([home.join("README.md")]).collect()
}

/// What looks like an option: `--name`. `--name-…` stands for all that begin so.
fn options(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("--") {
        let is_part =
            |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
        let option = text[at..].split(|char| !is_part(char)).next().unwrap();
        let begins = !text[..at].ends_with(|char: char| char.is_alphanumeric() || char == '-');
        if begins && option[2..].starts_with(|char: char| char.is_ascii_lowercase()) {
            found.insert(option);
        }
    }
    found
}

#[test]
fn options_of_pages_exist() {
    let place = Place::new();
    let commands = COMMANDS.iter().chain(&["chp"]);
    let helps = commands.map(|command| place.run(&format!("{command} --help")).done());
    let helps: Vec<_> = helps.chain([place.run("--help").done()]).collect();
    let known: BTreeSet<_> = helps.iter().flat_map(|help| options(help)).collect();
    let exists = |option: &&str| match option.ends_with('-') {
        true => known.iter().any(|known| known.starts_with(option)),
        false => known.contains(option) || OTHERS.contains(option),
    };
    let mut named = 0;
    let mut missing = Vec::new();
    for page in pages() {
        let text = read_to_string(&page).unwrap();
        let options = options(&text);
        named += options.len();
        let wrong = options.into_iter().filter(|option| !exists(option));
        missing.extend(wrong.map(|option| format!("{}: {option}", page.display())));
    }
    assert!(missing.is_empty(), "no such options: {missing:#?}");
    assert!(named > 100, "{named}");
}
