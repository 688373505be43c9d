//! Which frame of a stack to look at first: the one nearest to the leaf that somebody on call can
//! do something about.

mod passing;

use std::sync::Arc;

use crate::model::stack::{Frame, Language, PROCESS};

/// Objects whose frames only pass an allocation on, by the start of their file name.
const PASSING_MODULES: [&str; 14] = [
    "libc.so",
    "libc-2.",
    "ld-linux",
    "ld-musl",
    "libpthread",
    "libstdc++",
    "libc++",
    "libgcc_s",
    "libjemalloc",
    "libtcmalloc",
    "libmimalloc",
    "libglib-2.0",
    "[vdso]",
    "[return probe]",
];

/// Functions of allocators that are linked into a program or library, by the start of their name:
/// jemalloc (with the prefix of Rust's tikv-jemallocator), mimalloc, tcmalloc. What they call, which
/// has all sorts of names, is theirs, too.
const ALLOCATORS: [&str; 7] =
    ["_rjem_", "je_", "_mi_", "mi_malloc", "mi_heap_", "tcmalloc::", "tc_malloc"];

/// How deep in a stack such an allocator is looked for.
const ALLOCATOR_FRAMES: usize = 24;

/// Where the sources of standard libraries are, whose generic code is compiled into the program.
/// rustc maps the paths of its own to the first (rustc-dev-guide, "remap-debuginfo").
const PASSING_SOURCES: [&str; 4] =
    ["/rustc/", "/usr/include/c++/", "/usr/lib/rustlib/src/rust/library/", "/usr/src/rustc-"];

/// The directories that Python installs the packages of others in.
const PYTHON_PACKAGES: [&str; 2] = ["/site-packages/", "/dist-packages/"];

/// How the path of Python's own library goes on behind its directory `lib` (or `lib64`).
const PYTHON_LIBRARY: &str = "/python3.";

/// The index of that frame. Where Python runs, it is the innermost frame of the program's own
/// Python code, or else the innermost of any Python code; where JavaScript does and has names, the
/// innermost of the program's own. When every frame only passes on: the
/// outermost of the wrappers, since `HashMap::insert` says more than `alloc`. `None` without frames.
pub(super) fn key_frame(frames: &[Arc<Frame>]) -> Option<usize> {
    // The process is nothing to look at, unless there is nothing else.
    if let [own @ .., root] = frames
        && root.module == PROCESS
        && !own.is_empty()
    {
        return key_frame(own);
    }
    if let Some(index) = python_key_frame(frames).or_else(|| javascript_key_frame(frames)) {
        return Some(index);
    }
    let is_key = |frame: &Arc<Frame>| !is_library(frame) && !is_wrapper(frame);
    let inside = allocator_frames(frames);
    let key = frames.iter().skip(inside).position(is_key).map(|index| inside + index);
    let outermost_wrapper = || frames.iter().take_while(|frame| is_wrapper(frame)).count();
    let index = key.unwrap_or_else(|| outermost_wrapper().saturating_sub(1));
    (!frames.is_empty()).then(|| named_caller(frames, index))
}

/// How many frames at the leaf side are those of an allocator that is linked in.
fn allocator_frames(frames: &[Arc<Frame>]) -> usize {
    let near = &frames[..frames.len().min(ALLOCATOR_FRAMES)];
    near.iter().rposition(|frame| starts(&frame.function, &ALLOCATORS)).map_or(0, |last| last + 1)
}

fn python_key_frame(frames: &[Arc<Frame>]) -> Option<usize> {
    let is_python = |frame: &Arc<Frame>| frame.language == Language::Python;
    let own = frames.iter().position(|frame| is_python(frame) && is_own_python(frame));
    own.or_else(|| frames.iter().position(is_python))
}

/// The innermost function of the program's own JavaScript, as V8 names it in its map for perf:
/// `JS:*keep /srv/app.js:12:5`; Node's own modules are `node:internal/buffer` and the like.
fn javascript_key_frame(frames: &[Arc<Frame>]) -> Option<usize> {
    let is_own = |frame: &Arc<Frame>| {
        frame.function.starts_with("JS:") && !frame.function.contains(" node:")
    };
    frames.iter().position(is_own)
}

/// Whether the code is the program's own: not installed, not a part of Python.
fn is_own_python(frame: &Frame) -> bool {
    let frozen = |file: &str| file.starts_with("<frozen ");
    frame.file.as_deref().is_some_and(|file| !frozen(file) && python_package(file).is_none())
}

/// The top-level package (or module) of installed code and of Python's own library: `numpy`,
/// `asyncio`. `None` for the program's own.
pub(super) fn python_package(file: &str) -> Option<&str> {
    let installed = PYTHON_PACKAGES.iter().find_map(|inside| Some(file.split_once(inside)?.1));
    let inside = installed.or_else(|| in_python_library(file))?;
    let top = inside.split('/').next().unwrap_or(inside);
    Some(top.strip_suffix(".py").unwrap_or(top))
}

/// What follows `/lib/python3.11/`.
fn in_python_library(file: &str) -> Option<&str> {
    file.match_indices(PYTHON_LIBRARY).find_map(|(at, _)| {
        let (version, inside) = file[at + PYTHON_LIBRARY.len()..].split_once('/')?;
        let is_version =
            !version.is_empty() && version.bytes().all(|it| it.is_ascii_alphanumeric());
        let of_library = file[..at].ends_with("/lib") || file[..at].ends_with("/lib64");
        (is_version && of_library).then_some(inside)
    })
}

/// In a stripped object only the exported functions have names: the first of those in the same
/// object says more than an address in it. The frame itself where there is none.
fn named_caller(frames: &[Arc<Frame>], index: usize) -> usize {
    let module = &frames[index].module;
    let same_object = frames[index..].iter().take_while(|frame| frame.module == *module);
    index + same_object.into_iter().position(|frame| !is_nameless(frame)).unwrap_or(0)
}

/// `libplugin.so+0x1a2b0`: what stands for a function that has no name.
fn is_nameless(frame: &Frame) -> bool {
    frame.function.strip_prefix(&frame.module).is_some_and(|rest| rest.starts_with("+0x"))
}

fn is_library(frame: &Frame) -> bool {
    starts(&frame.module, &PASSING_MODULES)
}

fn is_wrapper(frame: &Frame) -> bool {
    let source = frame.file.as_deref().unwrap_or_default();
    passing::is_passing_function(&frame.function)
        || implements_alloc_trait(&frame.function)
        || starts(source, &PASSING_SOURCES)
}

/// `<u8 as alloc::vec::spec_from_elem::SpecFromElem>::from_elem`: traits of `alloc` are its own
/// machinery; those of `core` and `std` are what programs implement.
fn implements_alloc_trait(function: &str) -> bool {
    function.starts_with('<') && function.contains(" as alloc::")
}

fn starts(text: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|one| text.starts_with(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(functions: &[(&str, &str)], expected: Option<usize>) {
        let frame = |(function, module): &(&str, &str)| {
            let (function, module) = ((*function).to_owned(), (*module).to_owned());
            Arc::new(Frame { function, module, ..Frame::default() })
        };
        let frames: Vec<_> = functions.iter().map(frame).collect();
        assert_eq!(key_frame(&frames), expected);
    }

    #[test]
    fn libraries_and_containers_are_passed_over() {
        check(
            &[
                ("operator new(unsigned long)", "libstdc++.so.6"),
                ("std::vector<int>::push_back(int&&)", "app"),
                ("Cache::insert(Key const&)", "app"),
                ("main", "app"),
            ],
            Some(2),
        );
        check(&[("strdup", "libc.so.6"), ("read_line", "app")], Some(1));
    }

    /// As in Polars, whose allocator is in its library.
    #[test]
    fn the_inside_of_an_allocator_that_is_linked_in_is_passed_over() {
        let module = "_polars_runtime.abi3.so";
        check(
            &[
                ("_rjem_je_pages_map", module),
                ("_rjem_je_ecache_alloc_grow", module),
                ("pac_alloc_real", module),
                ("_rjem_je_malloc_default", module),
                ("<alloc::raw_vec::RawVecInner>::finish_grow", module),
                ("polars_core::chunked_array::ops::gather", module),
                ("start_thread", "libc.so.6"),
            ],
            Some(5),
        );
        check(
            &[("unix_mmap_prim", "app"), ("_mi_malloc_generic", "app"), ("load", "app")],
            Some(2),
        );
        check(&[("_rjem_je_background_thread", "app"), ("start_thread", "libc.so.6")], Some(0));
    }

    #[test]
    fn javascript_of_the_program_goes_before_native_code_and_nodes_own() {
        let functions = [
            ("node::NodeArrayBufferAllocator::AllocateUninitialized(unsigned long)", "node"),
            ("node::Buffer::(anonymous namespace)::CreateUnsafeArrayBuffer()", "node"),
            ("JS:*createUnsafeBuffer node:internal/buffer:1056:28", "[anon]"),
            ("JS:*keep /srv/app.js:12:5", "[anon]"),
            ("Builtins_JSEntry", "node"),
        ];
        check(&functions, Some(3));
        check(&functions[..3], Some(1));
    }

    #[test]
    fn the_inside_of_rusts_vectors_is_passed_over() {
        check(
            &[
                ("alloc::alloc::alloc", "app"),
                ("<u8 as alloc::vec::spec_from_elem::SpecFromElem>::from_elem", "app"),
                ("alloc::vec::from_elem", "app"),
                ("<app::Weights as core::clone::Clone>::clone", "app"),
            ],
            Some(3),
        );
    }

    #[test]
    fn code_from_the_sources_of_a_standard_library_is_passed_over() {
        let frame = |function: &str, file: &str| {
            let (function, module) = (function.to_owned(), "app".to_owned());
            Arc::new(Frame { function, module, file: Some(file.to_owned()), ..Frame::default() })
        };
        let frames = [
            frame("extend_desugared", "/rustc/5980/library/alloc/src/vec/mod.rs"),
            frame("allocate", "/usr/include/c++/12/bits/new_allocator.h"),
            frame("load", "/srv/load.rs"),
        ];
        assert_eq!(key_frame(&frames), Some(2));
    }

    #[test]
    fn in_a_stripped_object_the_first_exported_function_is_taken() {
        let nameless = ("python3.11+0xfb51c", "python3.11");
        let resize = ("PyByteArray_Resize", "python3.11");
        check(&[nameless, nameless, resize], Some(2));
        check(&[nameless, ("main", "app"), resize], Some(0));
        check(&[nameless], Some(0));
    }

    #[test]
    fn the_outermost_wrapper_is_taken_when_no_frame_is_the_programs() {
        check(
            &[
                ("alloc::alloc::alloc", "app"),
                ("hashbrown::raw::RawTable<T>::reserve_rehash", "app"),
                ("__libc_start_call_main", "libc.so.6"),
            ],
            Some(1),
        );
    }

    #[test]
    fn the_leaf_is_taken_when_all_frames_are_a_librarys() {
        check(&[("strdup", "libc.so.6"), ("libc.so.6+0x2724a", "libc.so.6")], Some(0));
    }

    #[test]
    fn where_python_runs_the_programs_own_python_line_is_taken() {
        let frames = [
            ("PyByteArray_Resize", None),
            ("asarray", Some("/venv/lib/python3.11/site-packages/numpy/core/numeric.py")),
            ("run", Some("/usr/lib/python3.11/asyncio/runners.py")),
            ("_find", Some("<frozen importlib._bootstrap>")),
            ("[python: unreadable]", Some("")),
            ("load_model", Some("/srv/model_server.py")),
            ("<module>", Some("/srv/model_server.py")),
        ]
        .map(|(function, file)| {
            let language = if file.is_some() { Language::Python } else { Language::Native };
            let file = file.filter(|file| !file.is_empty()).map(str::to_owned);
            Arc::new(Frame { function: function.to_owned(), file, language, ..Frame::default() })
        });
        assert_eq!(key_frame(&frames), Some(5));
        assert_eq!(key_frame(&frames[..5]), Some(1), "any Python line says more than C");
    }

    #[test]
    fn code_is_the_programs_own_wherever_it_is_not_installed() {
        let cases = [
            ("/srv/app/lib/python3/server.py", None),
            ("/srv/python3.11/server.py", None),
            ("/opt/lib/python3.x-y/server.py", None),
            ("<string>", None),
            ("/root/.pyenv/versions/3.12.1/lib/python3.12/threading.py", Some("threading")),
            ("/usr/lib64/python3.13t/json/__init__.py", Some("json")),
            ("/usr/lib/python3.11/site-packages/torch/nn/modules/x.py", Some("torch")),
            ("/usr/lib/python3/dist-packages/apt/cache.py", Some("apt")),
        ];
        for (file, expected) in cases {
            assert_eq!(python_package(file), expected, "{file}");
        }
    }

    #[test]
    fn a_stack_without_frames_has_no_key_frame() {
        check(&[], None);
    }
}
