//! JSON: on one line of plain ASCII, fit to stand in other files, and as entries of a map.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter};

use super::pieces::{Entries, Field, LINE, list};

/// JSON without non-ASCII characters, control characters, `'`, or a `{` inside of a string: it
/// stands unchanged in TOML and YAML literals, and never runs as a template in Traefik's file
/// provider.
pub(crate) fn json_line(value: &(impl Serialize + ?Sized)) -> String {
    let escape = |char: char| {
        char.encode_utf16(&mut [0; 2])
            .iter()
            .map(|unit| format!("\\u{unit:04x}"))
            .collect()
    };
    let mut line = Vec::with_capacity(LINE / 2);
    write(value, &mut line, Ascii(escape));
    text(line)
}

/// The same for YAML's double-quoted strings, which have no pairs of surrogates.
#[cfg(feature = "yaml")]
pub(super) fn push_flow_line(value: &(impl Serialize + ?Sized), out: &mut String) {
    let escape = |char| match u32::from(char) {
        short @ ..=0xffff => format!("\\u{short:04x}"),
        long => format!("\\U{long:08x}"),
    };
    let mut line = Vec::with_capacity(LINE / 2);
    write(value, &mut line, Ascii(escape));
    out.push_str(&text(line));
}

/// Writing to memory can't fail, and none of our types has keys that are not strings.
fn write(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>, format: impl Formatter) {
    let begin = out.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, format);
    if value.serialize(&mut serializer).is_err() {
        out.truncate(begin);
    }
}

/// What was written is UTF-8.
fn text(written: Vec<u8>) -> String {
    String::from_utf8(written).unwrap_or_default()
}

struct Ascii(fn(char) -> String);

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Most are, and to look at all of one is quick.
        if is_plain(fragment) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut plain = 0;
        for (at, char) in fragment.char_indices() {
            if u8::try_from(char).is_ok_and(is_plain_byte) {
                continue;
            }
            writer.write_all(&fragment.as_bytes()[plain..at])?;
            writer.write_all((self.0)(char).as_bytes())?;
            plain = at + char.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[plain..])
    }
}

/// Entries of a map in JSON, without the commas between them.
#[derive(Clone, Copy)]
pub(crate) struct Json;

impl Entries for Json {
    /// Only the REST provider takes these.
    const HAS_DEFAULTS: bool = false;

    fn entry(&self, name: &str, value: &Value) -> String {
        let mut entry = Vec::with_capacity(LINE);
        push(name, &mut entry);
        entry.push(b':');
        push(value, &mut entry);
        text(entry)
    }

    fn map_entry<'f>(
        &self,
        name: &str,
        fields: impl Iterator<Item = (&'f str, Field<'f>)>,
    ) -> String {
        let mut entry = Vec::with_capacity(LINE);
        push(name, &mut entry);
        let mut mark: &[u8] = b":{";
        for (key, field) in fields {
            entry.extend(mark);
            mark = b",";
            push(key, &mut entry);
            entry.push(b':');
            match field {
                Field::Text(text) => push(text, &mut entry),
                Field::Number(number) => push(&number, &mut entry),
                Field::List(first, others) => push(&list(first, others), &mut entry),
                Field::Value(value) => push(value, &mut entry),
                Field::Defaults => entry.extend(b"{}"),
            }
        }
        entry.push(b'}');
        text(entry)
    }

    /// A part of a text, in which `'` stands for `"`: what Traefik need not unescape is loaded faster.
    fn record(&self, line: String) -> String {
        line.replace('\\', "\\\\").replace('"', "'")
    }
}

fn push(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    write(value, out, CompactFormatter);
}

/// Whether a text stands for itself between `'`, with nothing in it that begins a template.
pub(super) fn is_plain(text: &str) -> bool {
    // To stop at the first byte that is not would be slower: this looks at many at once.
    text.bytes()
        .fold(true, |all, byte| all & is_plain_byte(byte))
}

fn is_plain_byte(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') & !matches!(byte, b'{' | b'\'')
}
