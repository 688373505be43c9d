//! Lines, columns, colours.

use crate::{model::size::Units, render::label::clean};

use super::TextOptions;

/// Narrower terminals get lines of this width, which they break themselves.
const MIN_WIDTH: usize = 50;

/// The width of the labels of [`Page::field`].
const LABEL_WIDTH: usize = 11;

/// Stands for the part of a text that was left out.
const ELLIPSIS: &str = "...";

/// The look of a piece of text; the value is its ANSI code (ECMA-48, SGR).
#[derive(Clone, Copy, Debug)]
pub(super) enum Style {
    /// What to read first.
    Strong = 1,
    /// Details.
    Faint = 2,
    /// Something is wrong.
    Warning = 33,
}

/// The text so far.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
    colour: bool,
    width: Option<usize>,
    units: Units,
}

impl Page {
    pub(super) fn new(options: TextOptions) -> Self {
        let width = options.width.map(|width| width.max(MIN_WIDTH));
        Self { text: String::new(), colour: options.colour, width, units: options.units }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    /// What sizes are written in.
    pub(super) fn units(&self) -> Units {
        self.units
    }

    /// The columns that are left after an indent.
    pub(super) fn room(&self, indent: usize) -> usize {
        self.width.map_or(usize::MAX, |width| width - indent)
    }

    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.text.push('\n');
    }

    /// One line in one style, not broken and not cleaned.
    pub(super) fn line(&mut self, style: Option<Style>, text: &str) {
        match style.filter(|_| self.colour) {
            Some(style) => {
                self.text.push_str(&format!("\x1b[{}m{text}\x1b[0m\n", style as u8));
            }
            None => self.text.push_str(&format!("{text}\n")),
        }
    }

    /// Sentences, broken between words, after an indent.
    pub(super) fn prose(&mut self, style: Option<Style>, indent: usize, text: &str) {
        for line in wrap(text, self.room(indent)) {
            self.line(style, &format!("{:indent$}{line}", ""));
        }
    }

    /// A label and what it labels, broken between words into its own column.
    pub(super) fn field(&mut self, label: &str, text: &str) {
        for (index, line) in wrap(text, self.room(LABEL_WIDTH)).iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            self.line(None, &format!("{label:LABEL_WIDTH$}{line}"));
        }
    }
}

/// Breaks between words; a longer word has a line of its own. At least one line.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in clean(text).split(' ') {
        let line = lines.len() - 1;
        if lines[line].is_empty() {
            lines[line].push_str(word);
        } else if columns(&lines[line]) + 1 + columns(word) > width {
            lines.push(word.to_owned());
        } else {
            lines[line].push(' ');
            lines[line].push_str(word);
        }
    }
    lines
}

/// How many columns the text takes, if every character takes one.
pub(super) fn columns(text: &str) -> usize {
    text.chars().count()
}

/// The text cut to the columns, with a mark where it was cut.
pub(super) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(ELLIPSIS.len())).chain(ELLIPSIS.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("incomprehensible to me", 5), ["incomprehensible", "to me"]);
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn a_cut_text_has_exactly_the_width_and_shows_the_cut() {
        assert_eq!(cut("größer", 6), "größer");
        assert_eq!(cut("größere", 6), "grö...");
    }

    #[test]
    fn without_colour_there_is_no_escape() {
        let mut page = Page::new(TextOptions::default());
        page.line(Some(Style::Strong), "text");
        assert_eq!(page.finish(), "text\n");
    }
}
