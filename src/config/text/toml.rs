//! TOML. The only module that names toml_edit.

use serde_json::{Map, Number, Value};
use toml_edit::{Array, Document, DocumentMut, InlineTable, Item, Table};

use super::json::is_plain;
use super::pieces::{Field, LINE, Piece};
use super::tree::{Foreign, Kind, Node, Place, line_number, whole_lines};

pub(super) fn parse(text: &str) -> Result<Node, String> {
    let document = Document::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_number(text, span.start));
        format!("line {line}: {}", error.message())
    })?;
    let mut root = table(document.as_table(), text);
    root.lines.clear();
    root.place = Place::End;
    Ok(root)
}

fn table(table: &Table, text: &str) -> Node {
    let entries = table.iter().map(|(name, item)| {
        let key = table.key(name).and_then(|key| key.span());
        (name.to_string(), self::item(item, key, text))
    });
    let header = match table.span() {
        Some(span) if !table.is_implicit() && !table.is_dotted() => Some(whole_lines(text, span)),
        _ => None,
    };
    let place = match &header {
        Some(header) => Place::Lines {
            at: header.end,
            indent: 0,
        },
        None if table.is_dotted() => Place::Nowhere,
        None => Place::End,
    };
    Node {
        kind: Kind::Map(entries.collect()),
        lines: header.into_iter().collect(),
        place,
        foreign: None,
    }
}

fn item(item: &Item, key: Option<std::ops::Range<usize>>, text: &str) -> Node {
    match item {
        Item::Table(inner) => table(inner, text),
        Item::ArrayOfTables(tables) => {
            let nodes: Vec<_> = tables.iter().map(|inner| table(inner, text)).collect();
            let value = nodes.iter().map(Node::to_value).collect();
            let foreign = nodes.iter().find_map(Node::foreign);
            let lines = nodes
                .into_iter()
                .flat_map(|node| all_lines(&node))
                .collect();
            Node {
                kind: Kind::Leaf(value),
                lines,
                place: Place::Nowhere,
                foreign,
            }
        }
        Item::Value(inner) => {
            let start = key.or(inner.span()).unwrap_or_default().start;
            let end = inner.span().map_or(start, |span| span.end);
            let lines = vec![whole_lines(text, start..end)];
            let kind = match inner.as_inline_table() {
                Some(map) => Kind::Map(
                    map.iter()
                        .map(|(key, value)| {
                            // A member of an inline table has no lines of its own.
                            let kind = Kind::Leaf(to_json(value));
                            let node = Node {
                                kind,
                                lines: Vec::new(),
                                place: Place::Nowhere,
                                foreign: foreign(value),
                            };
                            (key.to_string(), node)
                        })
                        .collect(),
                ),
                None => Kind::Leaf(to_json(inner)),
            };
            Node {
                kind,
                lines,
                place: Place::Nowhere,
                foreign: foreign(inner),
            }
        }
        Item::None => Node {
            kind: Kind::Leaf(Value::Null),
            lines: Vec::new(),
            place: Place::Nowhere,
            foreign: None,
        },
    }
}

fn all_lines(node: &Node) -> Vec<std::ops::Range<usize>> {
    let mut lines = node.lines.clone();
    if let Kind::Map(entries) = &node.kind {
        lines.extend(entries.iter().flat_map(|(_, child)| all_lines(child)));
    }
    lines
}

fn to_json(value: &toml_edit::Value) -> Value {
    use toml_edit::Value as Toml;
    match value {
        Toml::String(text) => text.value().as_str().into(),
        Toml::Integer(number) => (*number.value()).into(),
        Toml::Float(number) => Number::from_f64(*number.value()).map_or(Value::Null, Value::Number),
        Toml::Boolean(flag) => (*flag.value()).into(),
        Toml::Datetime(time) => time.value().to_string().into(),
        Toml::Array(items) => items.iter().map(to_json).collect(),
        Toml::InlineTable(map) => map
            .iter()
            .map(|(key, value)| (key.to_string(), to_json(value)))
            .collect(),
    }
}

/// The first value in this one that JSON can't hold.
fn foreign(value: &toml_edit::Value) -> Option<Foreign> {
    use toml_edit::Value as Toml;
    match value {
        Toml::Float(number) if !number.value().is_finite() => {
            Some(Foreign::new(number.value().to_string().to_lowercase()))
        }
        Toml::Datetime(time) => Some(Foreign::new(time.value())),
        Toml::Array(items) => items.iter().find_map(foreign),
        Toml::InlineTable(map) => map
            .iter()
            .find_map(|(key, value)| Some(foreign(value)?.below(key))),
        _ => None,
    }
}

/// TOML has no null: a key without a value is left out.
fn to_toml(value: &Value) -> Option<toml_edit::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => number.as_f64()?.into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().filter_map(to_toml).collect::<Array>().into(),
        Value::Object(map) => map
            .iter()
            .filter_map(|(key, value)| Some((key.as_str(), to_toml(value)?)))
            .collect::<InlineTable>()
            .into(),
    })
}

pub(super) fn document(value: &Value) -> String {
    let empty = Map::new();
    let mut document = DocumentMut::new();
    *document.as_table_mut() = to_table(value.as_object().unwrap_or(&empty));
    document.to_string()
}

fn to_table(map: &Map<String, Value>) -> Table {
    let mut table = Table::new();
    // A table that holds tables only needs no header of its own.
    table.set_implicit(!map.is_empty() && map.values().all(Value::is_object));
    for (key, value) in map {
        let item = match value {
            Value::Object(map) => Some(Item::Table(to_table(map))),
            value => to_toml(value).map(Item::Value),
        };
        if let Some(item) = item {
            table.insert(key, item);
        }
    }
    table
}

pub(super) fn entry(name: &str, value: &Value) -> String {
    let mut line = String::new();
    write_string(name, &mut line, true);
    line.push_str(" = ");
    write_value(value, &mut line);
    line.push('\n');
    line
}

pub(super) fn map_entry<'f>(
    name: &str,
    fields: impl Iterator<Item = (&'f str, Field<'f>)>,
) -> String {
    let mut line = String::with_capacity(LINE);
    write_string(name, &mut line, true);
    let mut mark = " = {";
    for (key, field) in fields {
        line.push_str(mark);
        mark = ", ";
        line.push_str(key);
        line.push_str(" = ");
        match field {
            Field::Text(text) => write_string(text, &mut line, false),
            Field::Number(number) => line.push_str(&number.to_string()),
            Field::List(first, others) => {
                line.push('[');
                write_string(first, &mut line, false);
                for text in others {
                    line.push_str(", ");
                    write_string(text, &mut line, false);
                }
                line.push(']');
            }
            Field::Value(value) => write_value(value, &mut line),
            Field::Defaults => line.push_str("{}"),
        }
    }
    line.push_str("}\n");
    line
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
        Value::String(text) => write_string(text, out, false),
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().filter(|item| !item.is_null()).enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (n, (key, value)) in map.iter().filter(|(_, value)| !value.is_null()).enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                write_string(key, out, true);
                out.push_str(" = ");
                write_value(value, out);
            }
            out.push('}');
        }
    }
}

/// Traefik runs the file as a template before it reads it, so no `{` stands for itself.
fn write_string(text: &str, out: &mut String, key: bool) {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if key && !text.is_empty() && text.bytes().all(is_bare) {
        out.push_str(text);
    } else if is_plain(text) {
        out.push('\'');
        out.push_str(text);
        out.push('\'');
    } else {
        out.push('"');
        for char in text.chars() {
            match char {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                ' '..='z' | '|' | '}' | '~' => out.push(char),
                _ => out.push_str(&format!("\\U{:08X}", u32::from(char))),
            }
        }
        out.push('"');
    }
}

/// Turns inline and dotted tables on the way to `paths` into tables with headers.
pub(super) fn opened(text: &str, paths: &[&[String]]) -> Result<String, String> {
    let parsed = text.parse::<DocumentMut>();
    let mut document = parsed.map_err(|error| error.message().to_string())?;
    for path in paths {
        let mut table = document.as_table_mut();
        for key in *path {
            let Some(item) = table.get_mut(key) else {
                break;
            };
            if let Some(inline) = item.as_inline_table() {
                let comment = inline.decor().suffix().cloned().unwrap_or_default();
                let mut opened = inline.clone().into_table();
                opened.decor_mut().set_suffix(comment);
                *item = Item::Table(opened);
            }
            let Some(inner) = item.as_table_mut() else {
                return Err(format!("{} is not a table", path.join(".")));
            };
            inner.set_dotted(false);
            inner.set_implicit(false);
            table = inner;
        }
    }
    let opened = document.to_string();
    let is_crlf = !text.replace("\r\n", "").contains('\n') && text.contains('\n');
    // What prints the document ends all lines with line feeds alone.
    Ok(match is_crlf {
        true => opened.replace("\r\n", "\n").replace('\n', "\r\n"),
        false => opened,
    })
}

pub(super) fn nested<P: Clone>(sections: &[(&[String], &[P])]) -> Vec<Piece<P>> {
    let mut pieces = Vec::new();
    for (path, parts) in sections {
        if !path.is_empty() {
            let mut header = String::from("[");
            for (n, key) in path.iter().enumerate() {
                header.push_str(if n > 0 { "." } else { "" });
                write_string(key, &mut header, true);
            }
            pieces.push(Piece::Text(header + "]\n"));
        }
        pieces.extend(parts.iter().map(|part| Piece::Part {
            part: part.clone(),
            indent: 0,
        }));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn entries_escape_toml_and_templates() {
        for (value, expected) in [
            (json!("plain"), "x = 'plain'\n"),
            (json!("it's"), "x = \"it's\"\n"),
            (
                json!("{{env \"HOME\"}}"),
                "x = \"\\U0000007B\\U0000007Benv \\\"HOME\\\"}}\"\n",
            ),
            (json!("a\nb\\é"), "x = \"a\\U0000000Ab\\\\\\U000000E9\"\n"),
            (
                json!({"a": null, "b b": [1, null, true, 1.5]}),
                "x = {'b b' = [1, true, 1.5]}\n",
            ),
        ] {
            let line = entry("x", &value);
            assert_eq!(line, expected);
            assert!(Document::parse(&*line).is_ok(), "{line}");
        }
    }

    #[test]
    fn document_has_table_headers() {
        let value = json!({"a": {"b": {"c": "x", "d": [1]}}, "e": {"f": "g"}, "h": true});
        let text = document(&value);
        assert_eq!(parse(&text).unwrap().to_value(), value);
        assert!(
            text.contains("[a.b]\n") && !text.contains("[a]\n"),
            "{text}"
        );
    }
}
