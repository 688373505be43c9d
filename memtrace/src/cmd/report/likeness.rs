//! What a file that is no capture looks like, for who took the wrong one of several.

/// Signatures, of the formats' own documents, and what they tell.
const SIGNATURES: [(&[u8], &str); 7] = [
    (b"\x7fELF", "it is a program or a library"),
    (b"\x28\xb5\x2f\xfd", "it is compressed by zstd; decompress it first"),
    (
        b"\x1f\x8b",
        "it is compressed by gzip (a pprof profile, or a capture to be decompressed first)",
    ),
    (b"PK\x03\x04", "it is a zip archive"),
    (b"<?xml", "it is a picture or another XML document"),
    (b"<svg", "it is a picture"),
    (b"<!doctype html", "it is a page"),
];

/// By the beginning of its contents.
pub fn likeness(head: &[u8]) -> &'static str {
    if head.is_empty() {
        return "it is empty (a trace that has not begun, or that could not write)";
    }
    let is_of = |signature: &[u8]| {
        head.get(..signature.len()).is_some_and(|start| start.eq_ignore_ascii_case(signature))
    };
    if let Some((_, meaning)) = SIGNATURES.iter().find(|(signature, _)| is_of(signature)) {
        return meaning;
    }
    match std::str::from_utf8(head) {
        Ok(text) if text.trim_start().starts_with('{') => {
            "it is a JSON document (a report as JSON is not its capture)"
        }
        Ok(_) => "it is a text",
        Err(error) if error.error_len().is_none() => "it is a text",
        Err(_) => "it is of another kind, or its beginning is damaged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_take_for_a_capture_is_told_apart() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "empty"),
            (b"\x7fELF\x02\x01", "program"),
            (b"<?xml version=\"1.0\"?><svg/>", "picture"),
            (b"<!DOCTYPE html><html>", "page"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"{\"schema\": \"memtrace-report/1\"}", "JSON"),
            ("größe".as_bytes(), "text"),
            (b"\x93MEM\xff", "another kind"),
        ];
        for (head, expected) in cases {
            assert!(likeness(head).contains(expected), "{head:?}: {}", likeness(head));
        }
    }

    #[test]
    fn a_text_that_is_cut_inside_of_a_character_is_still_one() {
        assert_eq!(likeness(&"grö".as_bytes()[..3]), "it is a text");
    }
}
