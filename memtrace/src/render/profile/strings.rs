//! A table of strings, each once; the first is empty, as the formats want it.

use indexmap::IndexSet;

use crate::render::label::clean;

/// The table.
pub(in crate::render) struct Strings(IndexSet<String>);

impl Strings {
    /// With nothing but the empty string.
    pub(in crate::render) fn new() -> Self {
        Self(IndexSet::from([String::new()]))
    }

    /// The index of a text that may come from the target: it is kept without what terminals obey.
    pub(in crate::render) fn add(&mut self, text: &str) -> usize {
        let text = clean(text);
        match self.0.get_index_of(&text) {
            Some(index) => index,
            None => self.0.insert_full(text).0,
        }
    }

    /// All of them, by index.
    pub(in crate::render) fn into_vec(self) -> Vec<String> {
        self.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_kept_once_and_clean() {
        let mut strings = Strings::new();
        assert_eq!([strings.add(""), strings.add("a;b"), strings.add("\x1b[2J")], [0, 1, 2]);
        assert_eq!(strings.add("a;b"), 1);
        assert_eq!(strings.into_vec(), ["", "a;b", "?[2J"]);
    }
}
