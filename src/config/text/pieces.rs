//! What is written into a file.

/// Room for most lines.
pub(super) const LINE: usize = 256;

/// A value in a map that is written: thousands of them at once must not cost much.
#[derive(Clone, Copy)]
pub(crate) enum Field<'a> {
    Text(&'a str),
    Number(u64),
    /// A list of this text alone.
    List(&'a str),
    /// A map that is there and has nothing but defaults.
    Defaults,
}

/// A piece of a file that has our sections in it.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece<P> {
    Text(String),
    Part { part: P, indent: usize },
}
