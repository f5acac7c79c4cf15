//! Faults that are provoked: those of `docs/reliability.md`.

pub(crate) mod disk;
pub(crate) mod etcd;
pub(crate) mod flush;
pub(crate) mod kill;
pub(crate) mod many;
pub(crate) mod pushed;
mod traefik;

use std::path::Path;

/// The text of all Rust files below a folder.
fn sources(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let text = entries.map(|entry| match entry.path() {
        path if path.is_dir() => sources(&path),
        path if path.extension().is_some_and(|ending| ending == "rs") => {
            std::fs::read_to_string(path).unwrap()
        }
        _ => String::new(),
    });
    text.collect()
}

#[test]
fn documented_faults_have_tests() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["src", "tests"]
        .map(|folder| sources(&home.join(folder)))
        .concat();
    let is_rule = |row: &&str| row.starts_with("|---");
    let document = include_str!("../../docs/reliability.md");
    let rows: Vec<_> = document
        .lines()
        .filter(|line| line.starts_with('|'))
        .collect();
    let heads = rows.iter().filter(|row| is_rule(row)).count();
    let mut with_test = 0;
    for row in rows.iter().filter(|row| !is_rule(row)) {
        let test = row.split('|').nth(3).unwrap();
        // What is in backticks, but for files and folders.
        let quoted = test
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| !name.contains('/'));
        let names: Vec<_> = quoted.filter_map(|path| path.rsplit("::").next()).collect();
        for name in &names {
            assert!(
                sources.contains(&format!("fn {name}(")),
                "there is no test {name}: {row}"
            );
        }
        with_test += usize::from(!names.is_empty());
    }
    assert_eq!(with_test, rows.len() - 2 * heads, "a row without a test");
    assert!(with_test > 40, "{with_test}");
}
