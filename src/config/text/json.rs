//! JSON on one line of plain ASCII, fit to stand in other files.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

/// JSON without non-ASCII characters, control characters, `'`, or a `{` inside of a string: it
/// stands unchanged in TOML and YAML literals, and never runs as a template in Traefik's file
/// provider.
pub(crate) fn json_line(value: &(impl Serialize + ?Sized)) -> String {
    write(value, |char| {
        char.encode_utf16(&mut [0; 2])
            .iter()
            .map(|unit| format!("\\u{unit:04x}"))
            .collect()
    })
}

/// The same for YAML's double-quoted strings, which have no pairs of surrogates.
#[cfg(feature = "yaml")]
pub(crate) fn flow_line(value: &(impl Serialize + ?Sized)) -> String {
    write(value, |char| match u32::from(char) {
        short @ ..=0xffff => format!("\\u{short:04x}"),
        long => format!("\\U{long:08x}"),
    })
}

fn write(value: &(impl Serialize + ?Sized), escape: fn(char) -> String) -> String {
    let mut out = Vec::with_capacity(128);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Ascii(escape));
    // Writing to memory can't fail, and none of our types has keys that are not strings.
    match value.serialize(&mut serializer) {
        Ok(()) => String::from_utf8(out).unwrap_or_default(),
        Err(_) => String::new(),
    }
}

struct Ascii(fn(char) -> String);

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
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

/// Whether a text stands for itself in a literal of TOML or YAML, and for Traefik's templates.
pub(super) fn is_plain(text: &str) -> bool {
    // Looking at all of it, whatever comes first, is several times as fast.
    text.bytes()
        .fold(true, |all, byte| all & is_plain_byte(byte))
}

fn is_plain_byte(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') & !matches!(byte, b'{' | b'\'')
}
