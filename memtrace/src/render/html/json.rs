//! JSON that can stand in a `<script>` element of a page.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Writes the value on one line.
///
/// # Errors
/// Those of the writer.
pub(super) fn write(value: &impl Serialize, out: &mut impl io::Write) -> io::Result<()> {
    Ok(value.serialize(&mut Serializer::with_formatter(out, ForScript))?)
}

/// Writes as escapes what could end the element or begin another (`<`, `>`, `&`), what JavaScript
/// takes for the end of a line and JSON does not (U+2028, U+2029), and what editors and viewers
/// obey: DEL, and what turns the direction of writing.
struct ForScript;

impl Formatter for ForScript {
    fn write_string_fragment<W>(&mut self, out: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_escaped) {
            let (plain, from) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut chars = from.chars();
            if let Some(escaped) = chars.next() {
                // All of them are in the basic plane: one escape each.
                write!(out, "\\u{:04x}", u32::from(escaped))?;
            }
            rest = chars.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

fn is_escaped(c: char) -> bool {
    matches!(c, '<' | '>' | '&' | '\u{7f}'..='\u{9f}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        write(&text, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_that_a_page_obeys_is_left() {
        let hostile = "</script><!--<script>&amp;\u{2028}\u{2029}\u{202e}\0\x1b[2J\"\\\u{85}";
        let json = written(hostile);
        assert_eq!(
            json,
            "\"\\u003c/script\\u003e\\u003c!--\\u003cscript\\u003e\\u0026amp;\
             \\u2028\\u2029\\u202e\\u0000\\u001b[2J\\\"\\\\\\u0085\""
        );
    }

    proptest! {
        #[test]
        fn a_reader_gets_back_what_was_written(text in "\\PC*|[<>&/!\u{2028}\u{202e}\"\\\\\0-\u{9f}]*") {
            let json = written(&text);
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            let is_harmless = !json.contains(is_escaped);
            prop_assert!(is_harmless);
        }
    }
}
