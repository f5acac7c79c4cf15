//! What is written into a file.

use serde_json::Value;

/// Bytes reserved for a line. Most are shorter.
pub(super) const LINE: usize = 256;

/// A value in a map that is written. Borrowed, since a commit may write thousands.
#[derive(Clone, Copy)]
pub(crate) enum Field<'a> {
    Text(&'a str),
    Number(u64),
    /// A list of texts: the first, and the others.
    List(&'a str, &'a [String]),
    Value(&'a Value),
    /// An empty map, which stands for defaults.
    Defaults,
}

/// The texts of a [`Field::List`].
pub(crate) fn list<'a>(first: &'a str, others: &'a [String]) -> Vec<&'a str> {
    let others = others.iter().map(String::as_str);
    std::iter::once(first).chain(others).collect()
}

/// How entries of a map are written, each as a text of its own.
pub(crate) trait Entries {
    /// Whether Traefik fills in defaults where it reads them.
    const HAS_DEFAULTS: bool;

    /// A name and its value. In TOML and YAML it is a line, with its line break.
    fn entry(&self, name: &str, value: &Value) -> String;

    /// [`entry`](Self::entry) for a map of these fields, whose keys are plain words.
    fn map_entry<'f>(
        &self,
        name: &str,
        fields: impl Iterator<Item = (&'f str, Field<'f>)>,
    ) -> String;

    /// One of the lines of JSON that we keep for ourselves, as the text has it.
    fn record(&self, line: String) -> String;
}

/// Adds a text behind this many spaces.
pub(crate) fn push_line(line: &str, indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
    out.push_str(line);
}

/// A piece of a file: text that others wrote, or a part that we write.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece<P> {
    Text(String),
    Part { part: P, indent: usize },
}
