//! A frame in a sentence.

use crate::model::stack::Frame;

/// `function (file:line)`; what a C++ function takes is left out, as it can be as long as a page.
pub(super) fn frame_name(frame: &Frame) -> String {
    let function = without_parameters(&frame.function);
    let file = frame.file.as_deref().map(|file| file.rsplit('/').next().unwrap_or(file));
    match (file, frame.line) {
        (Some(file), Some(line)) => format!("{function} ({file}:{line})"),
        (Some(file), None) => format!("{function} ({file})"),
        _ => function.to_owned(),
    }
}

/// What may follow the parameters of a demangled function.
const AFTER: [&str; 5] = [" const", " volatile", " &&", " &", "]"];

/// A demangled C++ name up to its list of parameters; any other name as it is. For people: a line of source tells
/// one of the same name from another.
pub(crate) fn without_parameters(function: &str) -> &str {
    let end = function.find(" [clone ").unwrap_or(function.len());
    let mut rest = &function[..end];
    while let Some(shorter) = AFTER.iter().find_map(|after| rest.strip_suffix(after)) {
        rest = shorter;
    }
    match opening(rest).map(|at| &rest[..at]) {
        // `(anonymous namespace)` begins a name, and `operator()` is one.
        Some(name) if !name.is_empty() && !name.ends_with("::") && !name.ends_with("operator") => {
            name
        }
        _ => function,
    }
}

/// Where the parenthesis opens that the text closes with.
fn opening(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate().rev() {
        match byte {
            b')' => depth += 1,
            b'(' if depth == 1 => return Some(at),
            b'(' => depth = depth.checked_sub(1)?,
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_function_are_left_out_and_nothing_else() {
        let cases = [
            ("cache::insert(char const*, int)", "cache::insert"),
            (
                "v8::(anonymous namespace)::Make(v8::Isolate*, v8::Handle<A (*)(B)>)",
                "v8::(anonymous namespace)::Make",
            ),
            ("Cache<int (*)(char)>::get(int) const", "Cache<int (*)(char)>::get"),
            (
                "f(int)::{lambda(int)#1}::operator()(int) const",
                "f(int)::{lambda(int)#1}::operator()",
            ),
            ("Heap::grow() [clone .part.0]", "Heap::grow"),
        ];
        for (function, expected) in cases {
            assert_eq!(without_parameters(function), expected);
        }
        for kept in [
            "",
            "()",
            "main",
            "operator()",
            "app::operator()",
            "core::fmt::write",
            "a (b) c",
            "x)",
            "<alloc::vec::Vec<T> as Drop>::drop",
            "JS:load /srv/app.js:3",
            "<lambda>",
            "((",
            "node::(anonymous namespace)",
        ] {
            assert_eq!(without_parameters(kept), kept);
        }
    }

    #[test]
    fn a_frame_is_its_function_and_its_line() {
        let mut frame = Frame { function: "get(int)".to_owned(), ..Frame::default() };
        assert_eq!(frame_name(&frame), "get");
        frame.file = Some("/src/a.cc".to_owned());
        assert_eq!(frame_name(&frame), "get (a.cc)");
        frame.line = Some(7);
        assert_eq!(frame_name(&frame), "get (a.cc:7)");
    }
}
