//! The links of the documents: each leads to a file and a heading that exist, also in rustdoc.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

/// Where a link leads, and the label by which the text refers to it, if it does.
struct Link {
    label: Option<String>,
    target: String,
}

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let paths = read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "md"))
}

/// The lines that are not in a block of code.
fn prose(document: &Path) -> Vec<String> {
    let text = read_to_string(document).unwrap();
    let blocks: Vec<_> = text.split("```").collect();
    assert!(blocks.len() % 2 == 1, "{document:?}: an open block of code");
    let lines = blocks.iter().step_by(2).flat_map(|block| block.lines());
    lines.map(String::from).collect()
}

/// The links to files of the repository and to headings.
fn links(document: &Path) -> Vec<Link> {
    let lines = prose(document).join("\n");
    let text: String = lines.split('`').step_by(2).collect();
    let inline = text.split("](").skip(1).map(|rest| Link {
        label: None,
        target: rest.split(')').next().unwrap().into(),
    });
    let definitions = text.lines().filter_map(|line| {
        let (label, target) = line.strip_prefix('[')?.split_once("]: ")?;
        Some(Link {
            label: Some(label.into()),
            target: target.into(),
        })
    });
    let links = inline.chain(definitions);
    links.filter(|link| !link.target.contains(':')).collect()
}

/// The anchors that GitHub and rustdoc make of the headings.
fn anchors(document: &Path) -> Vec<String> {
    let kept = |letter: &char| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter);
    let headings = prose(document).into_iter();
    let headings = headings.filter(|line| line.starts_with('#'));
    let anchor = |line: String| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let heading: String = heading.chars().filter(kept).collect();
        heading.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn linked_files_and_headings_exist() {
    let mut followed = 0;
    for document in documents_in(home()).chain(documents_in(&home().join("docs"))) {
        for Link { target, .. } in links(&document) {
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = match path {
                "" => document.clone(),
                path => document.with_file_name(path),
            };
            assert!(file.is_file(), "{document:?}: no file {target}");
            let found = anchor.is_empty() || anchors(&file).iter().any(|one| one == anchor);
            assert!(found, "{document:?}: no heading {target}");
            followed += 1;
        }
    }
    assert!(followed > 20, "{followed}");
}

#[test]
fn guide_links_work_in_rustdoc() {
    let guides = read_to_string(home().join("src/guide.rs")).unwrap();
    for document in documents_in(&home().join("docs")) {
        let name = document.file_name().unwrap().to_str().unwrap();
        if name == "README.md" {
            continue;
        }
        let mut modules = guides.split(" {}");
        let module = modules.find(|module| module.contains(&format!("docs/{name}")));
        let module = module.unwrap_or_else(|| panic!("src/guide.rs leaves out docs/{name}"));
        for Link { label, target } in links(&document) {
            // Pictures are for those who read the repository; rustdoc shows what they say.
            let is_picture = target.ends_with(".svg") || target.ends_with(".png");
            // rustdoc has elements of these names on each page, and gives such a heading another one.
            let is_taken = ["#help", "#search", "#settings"].contains(&&*target);
            assert!(!is_taken, "{name}: rename the heading of {target}");
            if target.starts_with('#') || is_picture {
                continue;
            }
            let label = label.unwrap_or_else(|| {
                panic!("{name}: give {target} a label that src/guide.rs can define")
            });
            let guide = target.strip_suffix(".md").unwrap();
            let definition = format!("[{label}]: crate::guide::{guide}\\n");
            assert!(
                module.contains(&definition),
                "src/guide.rs: docs/{name} needs {definition}"
            );
        }
    }
}
