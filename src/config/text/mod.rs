//! Configuration files as text: TOML and YAML, read as trees that know which lines they stand on,
//! so that entries can be added and dropped while every other line stays as it is.

mod json;
mod marks;
mod toml;
#[cfg(feature = "yaml")]
mod yaml;

use std::ops::Range;
use std::path::Path;

use serde_json::Value;

pub(crate) use json::json_line;
pub(crate) use marks::{cut, outside, unmarked};

use self::marks::{END_LINE, begun};
use crate::error::{Error, ErrorKind, Result};

/// The syntax of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    Toml,
    #[cfg(feature = "yaml")]
    Yaml,
}

/// Room for most lines.
const LINE: usize = 256;

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

/// A value of a configuration file and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// The whole lines that stand for this value and its key, without those of its children.
    lines: Vec<Range<usize>>,
    place: Place,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Map(Vec<(String, Node)>),
    Leaf(Value),
}

/// Whether entries can be added to a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// As lines at this offset, indented by so many spaces.
    Lines { at: usize, indent: usize },
    /// In a table of its own at the end of the file (TOML).
    End,
    /// Not as it is written now.
    Nowhere,
}

/// Entries that we add to one map of a file.
pub(crate) struct Section<P> {
    /// The keys that lead to the map.
    pub(crate) path: Vec<String>,
    /// What goes there; the caller writes it once it knows how far to indent.
    pub(crate) parts: Vec<P>,
}

/// A piece of a file that has our sections in it.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece<P> {
    Text(String),
    Part { part: P, indent: usize },
}

impl Syntax {
    /// The syntax that the file's ending names.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default();
        let problem = match ending {
            "toml" => return Ok(Self::Toml),
            #[cfg(feature = "yaml")]
            "yaml" | "yml" => return Ok(Self::Yaml),
            #[cfg(not(feature = "yaml"))]
            "yaml" | "yml" => "YAML needs the feature \"yaml\", which this build lacks",
            _ => "the name must end in .toml, .yaml or .yml",
        };
        Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("{}: {problem}", path.display()),
        ))
    }

    /// Reads a file. The error is what is wrong and in which line.
    pub(crate) fn parse(self, text: &str) -> Result<Node, String> {
        match self {
            Self::Toml => toml::parse(text),
            #[cfg(feature = "yaml")]
            Self::Yaml => yaml::parse(text),
        }
    }

    /// A whole document of this value.
    pub(crate) fn document(self, value: &Value) -> String {
        match self {
            Self::Toml => toml::document(value),
            #[cfg(feature = "yaml")]
            Self::Yaml => yaml::document(value),
        }
    }

    /// `name: value` on one line, with its line break.
    pub(crate) fn entry(self, name: &str, value: &Value) -> String {
        match self {
            Self::Toml => toml::entry(name, value),
            #[cfg(feature = "yaml")]
            Self::Yaml => yaml::entry(name, value),
        }
    }

    /// [`entry`](Self::entry) for a map of these fields, whose keys are plain words.
    pub(crate) fn map_entry<'f>(
        self,
        name: &str,
        fields: impl Iterator<Item = (&'static str, Field<'f>)>,
    ) -> String {
        match self {
            Self::Toml => toml::map_entry(name, fields),
            #[cfg(feature = "yaml")]
            Self::Yaml => yaml::map_entry(name, fields),
        }
    }

    /// What opens and closes a text of many lines under `name`. The lines must be ASCII, without
    /// `'`; they are indented by two spaces more than `indent`.
    pub(crate) fn long_text(self, name: &str) -> (String, &'static str) {
        match self {
            Self::Toml => (format!("{name} = '''\n"), "'''\n"),
            #[cfg(feature = "yaml")]
            Self::Yaml => (format!("{name}: |\n"), ""),
        }
    }

    /// The same configuration, rewritten so that entries can be added to the map at each of
    /// `paths`.
    fn opened(self, text: &str, paths: &[&[String]]) -> Result<String, String> {
        match self {
            Self::Toml => toml::opened(text, paths),
            #[cfg(feature = "yaml")]
            Self::Yaml => yaml::opened(text, paths),
        }
    }

    /// Puts sections into a file, each between two comment lines that mark it as ours.
    pub(crate) fn weave<P: Clone>(
        self,
        text: &str,
        sections: &[Section<P>],
    ) -> Result<Vec<Piece<P>>, String> {
        let tree = self.parse(text)?;
        let paths: Vec<_> = sections
            .iter()
            .map(|section| &*section.path)
            .filter(|path| tree.place_of(path) == Place::Nowhere)
            .collect();
        if paths.is_empty() {
            return Ok(self.weave_into(text, &tree, sections));
        }
        let text = self.opened(text, &paths)?;
        let tree = self.parse(&text)?;
        Ok(self.weave_into(&text, &tree, sections))
    }

    fn weave_into<P: Clone>(
        self,
        text: &str,
        tree: &Node,
        sections: &[Section<P>],
    ) -> Vec<Piece<P>> {
        let mut inserts = Vec::new();
        let mut at_end = Vec::new();
        for group in self.groups(tree, sections) {
            match group.place {
                Place::Lines { at, indent } => {
                    inserts.push((at, indent, self.nested(&group.sections, indent)));
                }
                Place::End | Place::Nowhere => at_end.extend(self.nested(&group.sections, 0)),
            }
        }
        // An empty map at the end of a file takes its entries before the root takes its own.
        inserts.sort_by_key(|(at, indent, _)| (*at, std::cmp::Reverse(*indent)));
        let mut pieces = Vec::new();
        let mut done = 0;
        for (at, _, block) in inserts {
            pieces.push(Piece::Text(begun(text, done..at)));
            pieces.extend(block);
            pieces.push(Piece::Text(END_LINE.into()));
            done = at;
        }
        let mut rest = text[done..].to_string();
        if !at_end.is_empty() {
            pieces.push(Piece::Text(begun(text, done..text.len())));
            pieces.extend(at_end);
            rest = END_LINE.into();
        }
        pieces.push(Piece::Text(rest));
        pieces
    }

    /// Sections that go to the same place, with the path that is left to write from there.
    fn groups<'a, P>(self, tree: &Node, sections: &'a [Section<P>]) -> Vec<Group<'a, P>> {
        let mut groups: Vec<Group<'a, P>> = Vec::new();
        for section in sections {
            let (place, depth) = match self {
                Self::Toml => match tree.place_of(&section.path) {
                    place @ Place::Lines { .. } => (place, section.path.len()),
                    _ => (Place::End, 0),
                },
                #[cfg(feature = "yaml")]
                Self::Yaml => tree.deepest_place(&section.path),
            };
            let rest = (&section.path[depth..], &*section.parts);
            match groups.iter_mut().find(|group| group.place == place) {
                Some(group) => group.sections.push(rest),
                None => groups.push(Group {
                    place,
                    sections: vec![rest],
                }),
            }
        }
        groups
    }

    /// Sections with the keys that lead to them.
    #[cfg_attr(
        not(feature = "yaml"),
        expect(unused_variables, reason = "TOML is not indented")
    )]
    fn nested<P: Clone>(self, sections: &[(&[String], &[P])], indent: usize) -> Vec<Piece<P>> {
        match self {
            Self::Toml => toml::nested(sections),
            #[cfg(feature = "yaml")]
            Self::Yaml => yaml::nested(sections, indent),
        }
    }
}

struct Group<'a, P> {
    place: Place,
    sections: Vec<(&'a [String], &'a [P])>,
}

impl Node {
    /// The value under these keys.
    pub(crate) fn get(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.child(key))
    }

    fn child(&self, key: &str) -> Option<&Self> {
        let Kind::Map(entries) = &self.kind else {
            return None;
        };
        entries
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, node)| node)
    }

    /// The keys of a map, none for anything else.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let entries: &[_] = match &self.kind {
            Kind::Map(entries) => entries,
            Kind::Leaf(_) => &[],
        };
        entries.iter().map(|(key, _)| &**key)
    }

    pub(crate) fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Map(entries) => entries
                .iter()
                .map(|(key, node)| (key.clone(), node.to_value()))
                .collect(),
            Kind::Leaf(value) => value.clone(),
        }
    }

    /// `text` without the entries that `ours` picks by their paths, and without the maps that are
    /// empty for lack of them (Traefik rejects a file that has an empty one).
    pub(crate) fn text_without(&self, text: &str, ours: &dyn Fn(&[&str]) -> bool) -> String {
        let mut lines = Vec::new();
        self.collect(&mut Vec::new(), ours, &mut lines);
        without_lines(text, lines)
    }

    /// The value without entries whose lines are in these ranges, and without maps that are empty.
    fn value_outside(&self, ranges: &[Range<usize>]) -> Option<Value> {
        match &self.kind {
            _ if self.is_inside(ranges) => None,
            Kind::Leaf(value) => filled(value.clone()),
            Kind::Map(entries) => {
                let entries = entries.iter();
                let left = entries.filter_map(|(key, node)| {
                    let value = node.value_outside(ranges)?;
                    Some((key.clone(), value))
                });
                let left: serde_json::Map<_, _> = left.collect();
                (!left.is_empty()).then_some(left.into())
            }
        }
    }

    /// Collects the lines of entries that are in these ranges; says whether nothing of this node is
    /// left. A table's header stays for as long as an entry outside needs it.
    fn collect_inside(&self, ranges: &[Range<usize>], lines: &mut Vec<Range<usize>>) -> bool {
        let mut gone = self.is_inside(ranges);
        if let Kind::Map(entries) = &self.kind {
            let left = entries
                .iter()
                .filter(|(_, node)| !node.collect_inside(ranges, lines));
            gone |= left.count() == 0 && self.are_lines_inside(ranges);
        }
        if gone {
            lines.extend(self.lines.iter().cloned());
        }
        gone
    }

    /// Whether this is an entry in these ranges, and no entry below it has lines of its own.
    fn is_inside(&self, ranges: &[Range<usize>]) -> bool {
        let has_lines = |(_, node): &(String, Self)| !node.lines.is_empty();
        let stands_alone = match &self.kind {
            Kind::Map(entries) => !entries.iter().any(has_lines),
            Kind::Leaf(_) => true,
        };
        stands_alone && self.are_lines_inside(ranges)
    }

    fn are_lines_inside(&self, ranges: &[Range<usize>]) -> bool {
        let is_inside = |line: &Range<usize>| {
            let mut ranges = ranges.iter();
            ranges.any(|range| range.start <= line.start && line.end <= range.end)
        };
        !self.lines.is_empty() && self.lines.iter().all(is_inside)
    }

    /// Collects the lines to drop; says whether nothing of this node is left.
    fn collect<'a>(
        &'a self,
        path: &mut Vec<&'a str>,
        ours: &dyn Fn(&[&str]) -> bool,
        lines: &mut Vec<Range<usize>>,
    ) -> bool {
        let mut gone = !path.is_empty() && ours(path);
        if let Kind::Map(entries) = &self.kind {
            let everything = |_: &[&str]| true;
            let ours = if gone { &everything } else { ours };
            let mut left = 0;
            for (key, node) in entries {
                path.push(key);
                left += usize::from(!node.collect(path, ours, lines));
                path.pop();
            }
            gone |= left == 0 && !entries.is_empty() && !path.is_empty();
        }
        if gone {
            lines.extend(self.lines.iter().cloned());
        }
        gone
    }

    /// Forbids adding entries anywhere below this node.
    #[cfg(feature = "yaml")]
    fn close(&mut self) {
        self.place = Place::Nowhere;
        if let Kind::Map(entries) = &mut self.kind {
            entries.iter_mut().for_each(|(_, node)| node.close());
        }
    }

    /// Whether a line break behind `text`, which this was read from, would be a part of a value.
    fn is_open_ended(&self, text: &str) -> bool {
        matches!(self.place, Place::Lines { at, .. } if at < text.len())
    }

    fn place_of(&self, path: &[String]) -> Place {
        let mut node = self;
        for key in path {
            match node.child(key) {
                Some(child) => node = child,
                None if node.place == Place::Nowhere => return Place::Nowhere,
                None => return Place::End,
            }
        }
        node.place
    }

    /// The place of the deepest map on this path that exists, and how many keys lead to it.
    #[cfg(feature = "yaml")]
    fn deepest_place(&self, path: &[String]) -> (Place, usize) {
        let mut node = self;
        for (depth, key) in path.iter().enumerate() {
            match node.child(key) {
                Some(child) => node = child,
                None => return (node.place, depth),
            }
        }
        (node.place, path.len())
    }
}

/// `text` without these lines.
fn without_lines(text: &str, mut lines: Vec<Range<usize>>) -> String {
    lines.sort_by_key(|range| range.start);
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for range in lines {
        if range.start >= done {
            out.push_str(&text[done..range.start]);
        }
        done = done.max(range.end);
    }
    out.push_str(&text[done..]);
    out
}

/// A value without empty maps, which stand for nothing. `None` if nothing is left.
pub(crate) fn filled(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) => {
            let map = map.into_iter();
            let map = map.filter_map(|(key, value)| Some((key, filled(value)?)));
            let map: serde_json::Map<_, _> = map.collect();
            (!map.is_empty()).then_some(map.into())
        }
        other => Some(other),
    }
}

/// How long the byte order mark is that a text begins with.
fn bom_len(text: &str) -> usize {
    let bom = '\u{feff}';
    if text.starts_with(bom) {
        bom.len_utf8()
    } else {
        0
    }
}

/// The whole lines that `range` touches.
fn whole_lines(text: &str, range: Range<usize>) -> Range<usize> {
    let start = text[..range.start]
        .rfind('\n')
        .map_or(0, |newline| newline + 1);
    let end = text[range.end..]
        .find('\n')
        .map_or(text.len(), |newline| range.end + newline + 1);
    start..end
}

/// The number of the line that holds this offset, from 1.
fn line_number(text: &str, at: usize) -> usize {
    1 + text[..at.min(text.len())].matches('\n').count()
}
