//! JSON: on one line of plain ASCII, fit to stand in other files, and as entries of a map.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter};

use super::pieces::{Entries, Field, LINE};

/// JSON without non-ASCII characters, control characters, `'`, or a `{` inside of a string: it
/// stands unchanged in TOML and YAML literals, and never runs as a template in Traefik's file
/// provider.
pub(crate) fn json_line(value: &(impl Serialize + ?Sized)) -> String {
    let mut line = String::with_capacity(LINE / 2);
    let escape = |char: char| {
        char.encode_utf16(&mut [0; 2])
            .iter()
            .map(|unit| format!("\\u{unit:04x}"))
            .collect()
    };
    write(value, &mut line, Ascii(escape));
    line
}

/// The same for YAML's double-quoted strings, which have no pairs of surrogates.
#[cfg(feature = "yaml")]
pub(super) fn push_flow_line(value: &(impl Serialize + ?Sized), out: &mut String) {
    let escape = |char| match u32::from(char) {
        short @ ..=0xffff => format!("\\u{short:04x}"),
        long => format!("\\U{long:08x}"),
    };
    write(value, out, Ascii(escape));
}

fn write(value: &(impl Serialize + ?Sized), out: &mut String, format: impl Formatter) {
    let begin = out.len();
    let mut serializer = serde_json::Serializer::with_formatter(Text(out), format);
    // Writing to memory can't fail, and none of our types has keys that are not strings.
    if value.serialize(&mut serializer).is_err() {
        out.truncate(begin);
    }
}

/// Takes what comes in whole characters.
struct Text<'a>(&'a mut String);

impl io::Write for Text<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .push_str(std::str::from_utf8(bytes).map_err(io::Error::other)?);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
        let mut entry = String::with_capacity(LINE);
        push(name, &mut entry);
        entry.push(':');
        push(value, &mut entry);
        entry
    }

    fn map_entry<'f>(
        &self,
        name: &str,
        fields: impl Iterator<Item = (&'f str, Field<'f>)>,
    ) -> String {
        let mut entry = String::with_capacity(LINE);
        push(name, &mut entry);
        let mut mark = ":{";
        for (key, field) in fields {
            entry.push_str(mark);
            mark = ",";
            push(key, &mut entry);
            entry.push(':');
            match field {
                Field::Text(text) => push(text, &mut entry),
                Field::Number(number) => entry.push_str(&number.to_string()),
                Field::List(text) => push(&[text], &mut entry),
                Field::Texts(texts) => push(texts, &mut entry),
                Field::Value(value) => push(value, &mut entry),
                Field::Defaults => entry.push_str("{}"),
            }
        }
        entry.push('}');
        entry
    }

    fn record(&self, line: String) -> String {
        let mut text = String::with_capacity(2 * line.len());
        push(&line, &mut text);
        text
    }
}

fn push(value: &(impl Serialize + ?Sized), out: &mut String) {
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
