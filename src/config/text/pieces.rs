//! What is written into a file.

/// Bytes reserved for a line. Most are shorter.
pub(super) const LINE: usize = 256;

/// A value in a map that is written. Borrowed, since a commit may write thousands.
#[derive(Clone, Copy)]
pub(crate) enum Field<'a> {
    Text(&'a str),
    Number(u64),
    /// A list of one text.
    List(&'a str),
    /// An empty map, which stands for defaults.
    Defaults,
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
