//! A configuration file as a tree that knows which lines each value stands on.

use std::ops::Range;

use serde_json::Value;

/// A value of a configuration file, and its place there.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// The whole lines of this value and its key, without those of its children.
    pub(super) lines: Vec<Range<usize>>,
    pub(super) place: Place,
    /// Set on a leaf that holds such a value.
    pub(super) foreign: Option<Foreign>,
}

/// A value that JSON can't hold: a date, or a number such as `nan`.
#[derive(Debug, Clone)]
pub(crate) struct Foreign {
    /// The keys that lead to it.
    pub(crate) path: Vec<String>,
    /// As it is written in the file.
    pub(crate) text: String,
}

impl Foreign {
    pub(super) fn new(text: impl ToString) -> Self {
        Self {
            path: Vec::new(),
            text: text.to_string().trim().into(),
        }
    }

    pub(super) fn below(mut self, key: &str) -> Self {
        self.path.insert(0, key.into());
        self
    }
}

#[derive(Debug)]
pub(crate) enum Kind {
    Map(Vec<(String, Node)>),
    Leaf(Value),
}

/// Whether entries can be added to a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// As lines at this offset, indented by so many spaces.
    Lines { at: usize, indent: usize },
    /// In a table of its own at the end of the file (TOML).
    End,
    /// Nowhere, unless the file is written in another way.
    Nowhere,
}

impl Node {
    /// The value under these keys.
    pub(crate) fn get(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.child(key))
    }

    pub(super) fn child(&self, key: &str) -> Option<&Self> {
        let Kind::Map(entries) = &self.kind else {
            return None;
        };
        entries
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, node)| node)
    }

    /// The entries of a map; none of another value.
    pub(crate) fn entries(&self) -> &[(String, Self)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            Kind::Leaf(_) => &[],
        }
    }

    /// The number of the line of `text` on which it begins. `None` if neither it nor an entry of it has lines of
    /// its own.
    pub(crate) fn line(&self, text: &str) -> Option<usize> {
        let own = self.lines.first();
        let own = own.map(|lines| line_number(text, lines.start));
        own.or_else(|| self.entries().iter().find_map(|(_, node)| node.line(text)))
    }

    /// The first value in it that JSON can't hold.
    pub(crate) fn foreign(&self) -> Option<Foreign> {
        match &self.kind {
            Kind::Map(entries) => entries
                .iter()
                .find_map(|(key, node)| Some(node.foreign()?.below(key))),
            Kind::Leaf(_) => self.foreign.clone(),
        }
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
    pub(super) fn value_outside(&self, ranges: &[Range<usize>]) -> Option<Value> {
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
    pub(super) fn collect_inside(
        &self,
        ranges: &[Range<usize>],
        lines: &mut Vec<Range<usize>>,
    ) -> bool {
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
    pub(super) fn close(&mut self) {
        self.place = Place::Nowhere;
        if let Kind::Map(entries) = &mut self.kind {
            entries.iter_mut().for_each(|(_, node)| node.close());
        }
    }

    /// Whether a line break behind `text`, which this was read from, would be a part of a value.
    pub(super) fn is_open_ended(&self, text: &str) -> bool {
        matches!(self.place, Place::Lines { at, .. } if at < text.len())
    }

    pub(super) fn place_of(&self, path: &[String]) -> Place {
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
    pub(super) fn deepest_place(&self, path: &[String]) -> (Place, usize) {
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
pub(super) fn without_lines(text: &str, mut lines: Vec<Range<usize>>) -> String {
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

/// A value without its empty maps. `None` if nothing is left.
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

/// The length of the byte order mark at the start of a text.
pub(super) fn bom_len(text: &str) -> usize {
    let bom = '\u{feff}';
    if text.starts_with(bom) {
        bom.len_utf8()
    } else {
        0
    }
}

/// The whole lines that `range` touches.
pub(super) fn whole_lines(text: &str, range: Range<usize>) -> Range<usize> {
    let start = text[..range.start]
        .rfind('\n')
        .map_or(0, |newline| newline + 1);
    let end = text[range.end..]
        .find('\n')
        .map_or(text.len(), |newline| range.end + newline + 1);
    start..end
}

/// The number of the line that holds this offset, from 1.
pub(super) fn line_number(text: &str, at: usize) -> usize {
    1 + text[..at.min(text.len())].matches('\n').count()
}
