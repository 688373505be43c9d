//! The report's objects by file name, which is all that a frame says of its own.

use std::collections::HashMap;

use crate::{
    model::stack::{Frame, Language},
    report::Module,
};

/// Where each file name leads.
pub(super) struct Modules<'a>(HashMap<&'a str, Found<'a>>);

/// An index in the report's modules, and the path there.
enum Found<'a> {
    One(usize, &'a str),
    /// Files in different directories: which is meant cannot be told.
    Many,
}

impl<'a> Modules<'a> {
    /// A file that is mapped several times is found at its first mapping.
    pub(super) fn of(modules: &'a [Module]) -> Self {
        let mut found = HashMap::new();
        for (index, module) in modules.iter().enumerate() {
            let one = Found::One(index, &module.path);
            found.entry(file_name(&module.path)).and_modify(|it| join(it, module)).or_insert(one);
        }
        Self(found)
    }

    /// The object that a frame is in; `None` for Python's, and where it is not known.
    pub(super) fn of_frame(&self, frame: &Frame) -> Option<usize> {
        match self.0.get(frame.module.as_str())? {
            Found::One(index, _) if frame.language == Language::Native => Some(*index),
            _ => None,
        }
    }
}

fn join(found: &mut Found<'_>, other: &Module) {
    if matches!(found, Found::One(_, path) if *path != other.path) {
        *found = Found::Many;
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str) -> Module {
        Module { path: path.to_owned(), ..Module::default() }
    }

    fn frame(module: &str, language: Language) -> Frame {
        Frame { module: module.to_owned(), language, ..Frame::default() }
    }

    #[test]
    fn a_frame_is_in_the_file_of_its_name() {
        let modules = ["/lib/libc.so.6", "/srv/app", "/lib/libc.so.6", "[vdso]"].map(module);
        let modules = Modules::of(&modules);
        let of = |name| modules.of_frame(&frame(name, Language::Native));
        assert_eq!([of("libc.so.6"), of("app"), of("[vdso]")], [Some(0), Some(1), Some(3)]);
        assert_eq!([of("libm.so.6"), of("")], [None, None]);
    }

    #[test]
    fn of_two_files_of_one_name_none_is_taken() {
        let modules = ["/a/plugin.so", "/b/plugin.so", "/a/plugin.so"].map(module);
        let found = Modules::of(&modules).of_frame(&frame("plugin.so", Language::Native));
        assert_eq!(found, None);
    }

    #[test]
    fn a_line_of_python_is_in_no_object() {
        let modules = [module("/srv/serve.py")];
        let found = Modules::of(&modules).of_frame(&frame("serve.py", Language::Python));
        assert_eq!(found, None);
    }
}
