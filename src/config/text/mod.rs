//! Configuration files as text: TOML and YAML, read as trees that know which lines they stand on,
//! so that entries can be added and dropped while every other line stays as it is.

mod json;
mod marks;
mod pieces;
mod syntax;
mod toml;
mod tree;
mod weave;
#[cfg(feature = "yaml")]
mod yaml;

pub(crate) use json::{Json, json_line};
pub(crate) use marks::{cut, outside, unmarked};
pub(crate) use pieces::{Entries, Field, Piece, list, push_line};
pub(crate) use syntax::Syntax;
pub(crate) use tree::{Foreign, Kind, Node, filled};
pub(crate) use weave::Section;
