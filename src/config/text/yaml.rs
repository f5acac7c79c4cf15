//! YAML. The only module that names saphyr_parser.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde::Serialize;
use serde_json::{Map, Value};

use super::json::push_flow_line;
use super::pieces::{Field, LINE, Piece, list, push_line};
use super::tree::{Foreign, Kind, Node, Place, bom_len, line_number, whole_lines};

pub(super) fn parse(text: &str) -> Result<Node, String> {
    if text.replace("\r\n", "\n").contains('\r') {
        return Err("a carriage return ends a line by itself; end lines with line feeds".into());
    }
    // The parser would take a byte order mark for a column.
    let start = bom_len(text);
    let content = &text[start..];
    // No text within a mapping begins at the margin.
    let is_end =
        |line: &str| line == "..." || line.starts_with("... ") || line.starts_with("...\t");
    if let Some(above) = content.lines().position(is_end) {
        let why = "\"...\" ends the document here; remove it, so that routes can follow";
        return Err(format!("line {}: {why}", above + 1));
    }
    let offsets = || content.char_indices().map(|(at, _)| start + at).collect();
    let mut reader = Reader {
        text,
        start,
        offsets: (!content.is_ascii()).then(offsets),
        events: Parser::new_from_str(content),
        anchors: BTreeMap::new(),
        ends_in_block: false,
        depth: 0,
        copied: 0,
    };
    reader.document().map_err(|problem| match problem {
        Problem::Scan(error) => format!("line {}: {}", error.marker().line(), error.info()),
        Problem::Other(line, why) => format!("line {line}: {why}"),
    })
}

enum Problem {
    Scan(ScanError),
    Other(usize, String),
}

impl From<ScanError> for Problem {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

struct Reader<'t> {
    text: &'t str,
    /// Where the text begins behind a byte order mark.
    start: usize,
    /// The offset of each character, where they are not all bytes.
    offsets: Option<Vec<usize>>,
    events: Parser<'t, saphyr_parser::StrInput<'t>>,
    /// Values that an alias can stand for.
    anchors: BTreeMap<usize, Value>,
    /// Whether the last value is a block scalar (`|` or `>`).
    ends_in_block: bool,
    /// How many collections the current value is in.
    depth: usize,
    /// How many values all aliases so far stand for.
    copied: usize,
}

/// The stack has room for this depth, also in a thread of a debug build.
const MAX_DEPTH: usize = 128;
/// A few lines of aliases of aliases could stand for more values than there is memory for.
const MAX_COPIED: usize = 1_000_000;

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Problem> {
        match self.events.next_event() {
            Some(event) => Ok(event?),
            None => Err(Problem::Other(
                line_number(self.text, self.text.len()),
                "the file ends too early".into(),
            )),
        }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        let empty = |place| Node {
            kind: Kind::Map(Vec::new()),
            lines: Vec::new(),
            place,
            foreign: None,
        };
        let end = Place::Lines {
            at: self.text.len(),
            indent: 0,
        };
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root.unwrap_or_else(|| empty(end))),
                Event::StreamStart
                | Event::Nothing
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                _ if root.is_some() => {
                    let why = "Traefik reads the first document of a file only; remove the second";
                    return Err(Problem::Other(span.start.line(), why.into()));
                }
                event => {
                    let (mut node, _) = self.node(event, span, 0)?;
                    let is_open = matches!(node.place, Place::Lines { .. });
                    if is_open && matches!(node.kind, Kind::Leaf(Value::Null)) {
                        node = empty(end);
                    }
                    if !matches!(node.kind, Kind::Map(_)) {
                        let why = "the file must be a mapping";
                        return Err(Problem::Other(span.start.line(), why.into()));
                    }
                    // New sections go to the end of the file, as far indented as the lines above. But a line
                    // break that a block scalar's last line lacks would become a part of its value.
                    let is_open_ended = self.ends_in_block && !self.text.ends_with('\n');
                    if let Place::Lines { at, .. } = &mut node.place {
                        if !is_open_ended {
                            *at = self.text.len();
                        }
                    }
                    root = Some(node);
                }
            }
        }
    }

    /// A value, and the offset where its last line ends. `below` is where entries would go if the
    /// value were an empty map, and how far its key is indented.
    fn node(
        &mut self,
        event: Event<'t>,
        span: Span,
        key_indent: usize,
    ) -> Result<(Node, usize), Problem> {
        let leaf = |value| Node {
            kind: Kind::Leaf(value),
            lines: Vec::new(),
            place: Place::Nowhere,
            foreign: None,
        };
        let refuse = |why: &str| Err(Problem::Other(span.start.line(), why.into()));
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return refuse("it is nested too deeply");
        }
        self.ends_in_block = matches!(
            event,
            Event::Scalar(_, ScalarStyle::Literal | ScalarStyle::Folded, ..)
        );
        let (node, anchor, end) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let foreign = (plain && is_foreign(&text)).then(|| Foreign::new(&text));
                let value = if plain {
                    plain_scalar(&text)
                } else {
                    text.into_owned().into()
                };
                let end = self.content_end(span);
                let mut node = leaf(value);
                node.foreign = foreign;
                // A null that is written out can't be followed by entries.
                if plain && span.start.index() == span.end.index() && anchor == 0 {
                    let at = self.whole_lines(end..end).end;
                    node.place = Place::Lines {
                        at,
                        indent: key_indent + 2,
                    };
                }
                (node, anchor, end)
            }
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).unwrap_or(&Value::Null);
                self.copied += count(value);
                if self.copied > MAX_COPIED {
                    return refuse("the aliases up to here stand for too many values");
                }
                (leaf(value.clone()), 0, self.content_end(span))
            }
            Event::SequenceStart(anchor, _) => {
                let (items, foreign, end) = self.sequence(span)?;
                let mut node = leaf(items);
                node.foreign = foreign;
                (node, anchor, end)
            }
            Event::MappingStart(anchor, _) => {
                let (mut node, end) = self.mapping(span)?;
                if anchor != 0 {
                    // What is added would be wherever an alias is.
                    node.close();
                }
                (node, anchor, end)
            }
            _ => return refuse("this is no value"),
        };
        self.depth -= 1;
        if anchor != 0 {
            self.anchors.insert(anchor, node.to_value());
        }
        Ok((node, end))
    }

    fn sequence(&mut self, start: Span) -> Result<(Value, Option<Foreign>, usize), Problem> {
        let flow = self.is_flow(start, '[');
        let mut items = Vec::new();
        let mut foreign = None;
        let mut last = self.content_end(start);
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                // The end of a block sequence is where the next entry begins.
                let end = if flow { self.content_end(span) } else { last };
                return Ok((Value::Array(items), foreign, last.max(end)));
            }
            let (node, end) = self.node(event, span, 0)?;
            items.push(node.to_value());
            foreign = foreign.or_else(|| node.foreign());
            last = last.max(end);
        }
    }

    fn mapping(&mut self, start: Span) -> Result<(Node, usize), Problem> {
        let flow = self.is_flow(start, '{');
        let mut entries = Vec::new();
        let mut names = HashSet::new();
        let mut place = Place::Nowhere;
        let mut last = self.content_end(start);
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                // Our keys would hide those that a merge brings in.
                if entries.iter().any(|(key, _)| key == "<<") {
                    place = Place::Nowhere;
                }
                let end = if flow { self.content_end(span) } else { last };
                return Ok((
                    Node {
                        kind: Kind::Map(entries),
                        lines: Vec::new(),
                        place,
                        foreign: None,
                    },
                    last.max(end),
                ));
            }
            let key_at = self.offset(span.start);
            let key_line = self.whole_lines(key_at..key_at);
            let line = &self.text[key_line.start..key_at];
            // The key may have a tag or a "?" in front.
            let indent = line.len() - line.trim_start_matches(' ').len();
            let (key, _) = self.node(event, span, indent)?;
            let key = match key.to_value() {
                Value::String(key) => key,
                other => other.to_string(),
            };
            if !names.insert(key.clone()) {
                let why = format!("the key {key:?} is there twice, which Traefik refuses");
                return Err(Problem::Other(span.start.line(), why));
            }
            let (event, value_span) = self.next()?;
            let (mut node, end) = self.node(event, value_span, indent)?;
            let end = end.max(key_at);
            if flow {
                node.place = Place::Nowhere;
            } else {
                if entries.is_empty() {
                    let at = key_line.start;
                    place = Place::Lines { at, indent };
                }
                if let (Kind::Map(_), Place::Lines { at, .. }) = (&node.kind, &mut node.place) {
                    // Above comments, but not above a tag.
                    let between = self.text.get(key_line.end..*at).unwrap_or_default();
                    let mut lines = between.lines().map(str::trim_start);
                    if lines.all(|line| line.is_empty() || line.starts_with('#')) {
                        *at = key_line.end;
                    }
                }
                node.lines = self.lines_of(&node, key_at, end);
            }
            entries.push((key, node));
            last = last.max(end);
        }
    }

    /// The lines of an entry; those of a nested block mapping belong to its own entries.
    fn lines_of(&self, node: &Node, key_at: usize, end: usize) -> Vec<Range<usize>> {
        let children_have_lines = match &node.kind {
            Kind::Map(entries) => entries.iter().any(|(_, child)| !child.lines.is_empty()),
            Kind::Leaf(_) => false,
        };
        let last = if children_have_lines { key_at } else { end };
        vec![self.whole_lines(key_at..last)]
    }

    fn whole_lines(&self, range: Range<usize>) -> Range<usize> {
        let lines = whole_lines(self.text, range);
        lines.start.max(self.start)..lines.end
    }

    /// The offset of a marker, which counts characters.
    fn offset(&self, marker: saphyr_parser::Marker) -> usize {
        match &self.offsets {
            None => (self.start + marker.index()).min(self.text.len()),
            Some(offsets) => offsets
                .get(marker.index())
                .copied()
                .unwrap_or(self.text.len()),
        }
    }

    /// Whether a collection begins with this bracket, behind its anchor and tag.
    fn is_flow(&self, start: Span, bracket: char) -> bool {
        let mut rest = &self.text[self.offset(start.start)..];
        while rest.starts_with(['&', '!']) {
            rest = rest
                .trim_start_matches(|c: char| !c.is_whitespace())
                .trim_start();
        }
        rest.starts_with(bracket)
    }

    /// Where a span's text ends, without the line breaks and blanks behind it.
    fn content_end(&self, span: Span) -> usize {
        let (start, end) = (self.offset(span.start), self.offset(span.end));
        let trimmed = self.text[start..end.max(start)].trim_end_matches([' ', '\n', '\r']);
        start + trimmed.len()
    }
}

/// How many values there are in this one, with it.
fn count(value: &Value) -> usize {
    let inner: usize = match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    };
    1 + inner
}

/// A plain scalar as YAML 1.2's core schema reads it.
fn plain_scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => match serde_json::from_str(text) {
            Ok(number @ Value::Number(_)) => number,
            _ => text.into(),
        },
    }
}

/// Whether a plain scalar is a number for YAML, and not for JSON: `.inf`, `0x1f`, `007`.
fn is_foreign(text: &str) -> bool {
    let number = text
        .strip_prefix(['-', '+'])
        .unwrap_or(text)
        .to_ascii_lowercase();
    let is_decimal = number.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let is_hex = |digits: &str| u128::from_str_radix(digits, 16).is_ok();
    let is_number = [".inf", ".nan"].contains(&&*number)
        || number
            .strip_prefix("0x")
            .or(number.strip_prefix("0o"))
            .is_some_and(is_hex)
        || is_decimal && number.parse::<f64>().is_ok();
    is_number && plain_scalar(text).is_string()
}

/// Flow mappings can't take lines; rewriting one would lose its comments.
pub(super) fn opened(_text: &str, paths: &[&[String]]) -> Result<String, String> {
    let path = paths.first().map(|path| path.join(".")).unwrap_or_default();
    Err(format!(
        "{path} is not a block mapping; write it (and what holds it) with indented lines instead \
         of {{braces}}, anchors or aliases, so that routes can be added"
    ))
}

pub(super) fn entry(name: &str, value: &Value) -> String {
    format!("{}: {}\n", flow_line(name), flow_line(value))
}

pub(super) fn map_entry<'f>(
    name: &str,
    fields: impl Iterator<Item = (&'f str, Field<'f>)>,
) -> String {
    let mut line = String::with_capacity(LINE);
    push_flow_line(name, &mut line);
    let mut mark = ": {";
    for (key, field) in fields {
        line.push_str(mark);
        mark = ",";
        line.push('"');
        line.push_str(key);
        line.push_str("\":");
        match field {
            Field::Text(text) => push_flow_line(text, &mut line),
            Field::Number(number) => line.push_str(&number.to_string()),
            Field::List(first, others) => push_flow_line(&list(first, others), &mut line),
            Field::Value(value) => push_flow_line(value, &mut line),
            Field::Defaults => line.push_str("{}"),
        }
    }
    line.push_str("}\n");
    line
}

fn flow_line(value: &(impl Serialize + ?Sized)) -> String {
    let mut line = String::new();
    push_flow_line(value, &mut line);
    line
}

/// The size of the maps that entries are written into. Traefik compares each key of a map with all others: with
/// 10,000 routes in one map, that took two thirds of the time of a reload.
const MAP: usize = 128;

/// Writes entries as one map. Twice [`MAP`] or more become a merge of maps, which Traefik reads as one. The
/// remainder goes into the first map. A map of one entry would become null if its line were deleted by hand,
/// and Traefik refuses to merge null.
pub(super) fn push_entries<'a>(
    lines: impl Iterator<Item = &'a str> + Clone,
    indent: usize,
    out: &mut String,
) {
    let count = lines.clone().count();
    let (is_merge, left) = (count >= 2 * MAP, count % MAP);
    if is_merge {
        push_line("<<:\n", indent, out);
    }
    let entry_indent = if is_merge { indent + 2 } else { indent };
    for (n, line) in lines.enumerate() {
        if is_merge && (n == 0 || n > left && (n - left) % MAP == 0) {
            // On a line of its own, so that an entry is a line that an edit by hand can delete.
            push_line("-\n", indent, out);
        }
        push_line(line, entry_indent, out);
    }
}

pub(super) fn document(value: &Value) -> String {
    let mut out = String::new();
    write_block(value, 0, &mut out);
    out
}

fn write_block(value: &Value, indent: usize, out: &mut String) {
    let empty = Map::new();
    for (key, value) in value.as_object().unwrap_or(&empty) {
        out.push_str(&" ".repeat(indent));
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push_str(&format!("{}:\n", plain_or_quoted(key)));
                write_block(value, indent + 2, out);
            }
            value => out.push_str(&format!("{}: {}\n", plain_or_quoted(key), flow_line(value))),
        }
    }
}

fn plain_or_quoted(key: &str) -> String {
    let is_word = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b'-';
    if key.bytes().all(is_word) && key.starts_with(|c: char| c.is_ascii_alphabetic()) {
        key.into()
    } else {
        flow_line(key)
    }
}

pub(super) fn nested<P: Clone>(sections: &[(&[String], &[P])], indent: usize) -> Vec<Piece<P>> {
    let mut pieces = Vec::new();
    let mut open: &[String] = &[];
    for (path, parts) in sections {
        let shared = open.iter().zip(*path).take_while(|(a, b)| a == b).count();
        for (depth, key) in path.iter().enumerate().skip(shared) {
            let blanks = " ".repeat(indent + 2 * depth);
            pieces.push(Piece::Text(format!("{blanks}{}:\n", plain_or_quoted(key))));
        }
        let indent = indent + 2 * path.len();
        pieces.extend(parts.iter().map(|part| Piece::Part {
            part: part.clone(),
            indent,
        }));
        open = path;
    }
    pieces
}
