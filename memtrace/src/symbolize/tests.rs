//! The symbolizer on real files: this process, and objects compiled or written here.

use std::{
    ffi::{c_int, c_void},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use ::object::{Object, ObjectSegment, ObjectSymbol};
use procfs::process::{MMPermissions, MMapPath, Process};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::elf::Elf;
use crate::model::{
    mapping::{FileId, Permissions},
    stack::{ENTRY_MARK, Frame, Language, PythonEnd, PythonFrame},
};

/// Where [`mapped_file`] maps a file.
const BASE: u64 = 0x5555_0000_0000;

fn open_by_name(mapping: &Mapping) -> io::Result<File> {
    File::open(&mapping.name)
}

fn mapped_file(path: &Path) -> Mapping {
    Mapping {
        start: BASE,
        end: BASE + (1 << 30),
        file_offset: 0,
        file: Some(FileId { device: (0, 0), inode: 1 }),
        name: path.to_str().unwrap().to_owned(),
        deleted: false,
        permissions: Permissions { read: true, write: false, execute: true },
    }
}

fn symbolizer_of(path: &Path) -> Symbolizer {
    let mut symbolizer = Symbolizer::new();
    symbolizer.add_mappings(&[mapped_file(path)], &open_by_name);
    symbolizer
}

fn raw(frames: impl IntoIterator<Item = u64>) -> RawStack {
    RawStack::native(frames.into_iter().collect(), StackEnd::NoFramePointer)
}

fn name(symbolizer: &mut Symbolizer, raw: &RawStack) -> NamedStack {
    symbolizer.observe(StackId(1), raw, &[]);
    symbolizer.name(StackId(1))
}

fn functions(stack: &NamedStack) -> Vec<&str> {
    stack.frames.iter().map(|frame| frame.function.as_str()).collect()
}

/// Compiles a shared object with the C compiler.
fn compile(directory: &TempDir, source: &str, options: &[&str]) -> PathBuf {
    let (input, output) = (directory.path().join("leaky.c"), directory.path().join("leaky.so"));
    fs::write(&input, source).unwrap();
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&output, &input])
        .args(options)
        .status()
        .unwrap();
    assert!(done.success());
    output
}

/// An address just inside a function of a file that is mapped at [`BASE`].
fn inside(path: &Path, symbol: &str) -> u64 {
    let bytes = fs::read(path).unwrap();
    let elf = ::object::File::parse(&*bytes).unwrap();
    let symbols = elf.symbols().chain(elf.dynamic_symbols());
    let address = { symbols }.find(|one| one.name() == Ok(symbol)).unwrap().address();
    let segment = elf
        .segments()
        .find(|one| (one.address()..one.address() + one.size()).contains(&address))
        .unwrap();
    BASE + address - segment.address() + segment.file_range().0 + 1
}

const LIBRARY: &str = "
    void *keep;
    void plain(void) { keep = &keep; }
    void cpp(void) __asm__(\"_ZN5cache6insertEPKci\");
    void cpp(void) { keep = &keep; }
    void rust(void) __asm__(\"_ZN4core3fmt5write17h0123456789abcdefE\");
    void rust(void) { keep = &keep; }
    static void hidden(void) { keep = &keep; }
    void (*pointer)(void) = hidden;
";

#[test]
fn names_are_demangled_and_rust_hashes_dropped() {
    let directory = TempDir::new().unwrap();
    let path = compile(&directory, LIBRARY, &["-O0"]);
    let cases = [
        ("plain", "plain"),
        ("_ZN5cache6insertEPKci", "cache::insert(char const*, int)"),
        ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
    ];
    for (symbol, expected) in cases {
        let stack = name(&mut symbolizer_of(&path), &raw([inside(&path, symbol)]));
        assert_eq!(functions(&stack), [expected]);
        assert_eq!(stack.frames[0].module, "leaky.so");
        assert_eq!(stack.frames[0].file, None);
    }
}

#[test]
fn inlined_functions_are_frames_of_their_own_with_their_own_lines() {
    let directory = TempDir::new().unwrap();
    let source = "extern void *malloc(unsigned long);
        static inline __attribute__((always_inline)) void *inner(void) {
            return malloc(10);
        }
        void **outer(void **out) {
            *out = inner();
            return out;
        }";
    let path = compile(&directory, source, &["-g", "-O1"]);
    let bytes = fs::read(&path).unwrap();
    // The return address of outer's only call: the byte after its `E8 rel32`.
    let start = inside(&path, "outer") - 1;
    let code = &bytes[(start - BASE) as usize..];
    let call = code.iter().position(|byte| *byte == 0xe8).unwrap();
    let stack = name(&mut symbolizer_of(&path), &raw([start + call as u64 + 5]));
    assert_eq!(functions(&stack), ["inner", "outer"]);
    let [inner, outer] = &stack.frames[..] else { panic!("{stack:?}") };
    assert_eq!((inner.line, inner.inlined), (Some(3), true));
    assert_eq!((outer.line, outer.inlined), (Some(6), false));
    assert!(inner.file.as_ref().unwrap().ends_with("/leaky.c"), "{inner:?}");
}

#[test]
fn a_function_without_a_symbol_is_the_module_and_the_offset() {
    let directory = TempDir::new().unwrap();
    let path = compile(&directory, LIBRARY, &["-O0"]);
    let hidden = inside(&path, "hidden");
    assert!(Command::new("strip").arg(&path).status().unwrap().success());
    let stack = name(&mut symbolizer_of(&path), &raw([hidden]));
    assert_eq!(functions(&stack), [format!("leaky.so+{:#x}", hidden - BASE)]);
    assert_eq!(stack.missing_root.as_deref(), Some("[no frame pointer]"));
}

#[test]
fn a_stripped_program_of_the_system_gets_offsets() {
    let path = fs::canonicalize("/bin/true").unwrap();
    let module = path.file_name().unwrap().to_str().unwrap().to_owned();
    let stack = name(&mut symbolizer_of(&path), &raw([BASE + 0x2800]));
    assert_eq!(functions(&stack), [format!("{module}+0x2800")]);
}

#[test]
fn a_deleted_file_still_has_its_names() {
    let directory = TempDir::new().unwrap();
    let path = compile(&directory, LIBRARY, &["-O0"]);
    let plain = inside(&path, "plain");
    let mut symbolizer = symbolizer_of(&path);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "another file under its name").unwrap();
    assert_eq!(functions(&name(&mut symbolizer, &raw([plain]))), ["plain"]);
}

#[test]
fn names_stay_when_the_mappings_are_gone() {
    let directory = TempDir::new().unwrap();
    let path = compile(&directory, LIBRARY, &["-O0"]);
    let mut symbolizer = symbolizer_of(&path);
    let stack = raw([inside(&path, "plain")]);
    symbolizer.observe(StackId(1), &stack, &[]);
    symbolizer.forget_mappings();
    assert_eq!(functions(&symbolizer.name(StackId(1))), ["plain"]);
    assert_eq!(symbolizer.observe(StackId(2), &stack, &[]), Observed::UnknownMapping);
}

unsafe extern "C" {
    /// glibc's own unwinder, from `execinfo.h`.
    fn backtrace(buffer: *mut *mut c_void, size: c_int) -> c_int;
}

fn own_return_addresses() -> Vec<u64> {
    let mut buffer = [std::ptr::null_mut(); 64];
    // SAFETY: the buffer has room for the 64 pointers that it is told of.
    let count = unsafe { backtrace(buffer.as_mut_ptr(), 64) };
    buffer[..count as usize].iter().map(|address| *address as u64).collect()
}

fn own_mappings() -> Vec<Mapping> {
    let maps = Process::myself().unwrap().maps().unwrap();
    let mapping = |map: procfs::process::MemoryMap| {
        let file = match &map.pathname {
            MMapPath::Path(path) => Some(path.to_str().unwrap().to_owned()),
            _ => None,
        };
        Mapping {
            start: map.address.0,
            end: map.address.1,
            file_offset: map.offset,
            file: file
                .as_ref()
                .map(|_| FileId { device: (map.dev.0 as u32, map.dev.1 as u32), inode: map.inode }),
            name: file.unwrap_or_default(),
            deleted: false,
            permissions: Permissions {
                read: true,
                write: false,
                execute: map.perms.contains(MMPermissions::EXECUTE),
            },
        }
    };
    maps.into_iter().map(mapping).collect()
}

#[test]
fn a_real_stack_of_this_process_is_kept_whole_and_named() {
    let mut symbolizer = Symbolizer::new();
    symbolizer.add_mappings(&own_mappings(), &open_by_name);
    let frames = own_return_addresses();
    let observed = symbolizer.observe(StackId(1), &raw(frames.clone()), &[]);
    assert_eq!(observed, Observed::Kept);
    assert_eq!(symbolizer.stacks[&StackId(1)].frames.len(), frames.len());
    let stack = symbolizer.name(StackId(1));
    let expected = "memtrace::symbolize::tests::own_return_addresses";
    let own = stack.frames.iter().find(|frame| frame.function == expected).unwrap();
    assert!(own.file.as_ref().unwrap().ends_with("symbolize/tests.rs"), "{own:?}");
    assert!(own.line.is_some());
}

/// A file with two call instructions: return addresses `BASE + 15` and `BASE + 32`.
fn two_calls(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("code");
    let mut bytes = [0x90; 64];
    bytes[10] = 0xe8;
    bytes[30..32].copy_from_slice(&[0xff, 0xd0]);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_stack_is_cut_at_the_first_address_that_no_call_precedes() {
    let directory = TempDir::new().unwrap();
    let mut symbolizer = symbolizer_of(&two_calls(&directory));
    let stack = name(&mut symbolizer, &raw([BASE + 3, BASE + 15, BASE + 32, BASE + 20, BASE + 15]));
    assert_eq!(functions(&stack), ["code+0x3", "code+0xf", "code+0x20"]);
    assert_eq!(stack.missing_root.as_deref(), Some("[no frame pointer]"));
}

#[test]
fn a_return_address_at_the_very_start_or_past_the_end_of_a_file_is_no_call() {
    let directory = TempDir::new().unwrap();
    let mut symbolizer = symbolizer_of(&two_calls(&directory));
    for bad in [BASE, BASE + 4, BASE + 4096] {
        let stack = name(&mut symbolizer, &raw([BASE + 15, bad]));
        assert_eq!(functions(&stack), ["code+0xf"]);
    }
}

#[test]
fn a_stack_ends_at_an_address_outside_of_all_code_until_its_mapping_is_added() {
    let directory = TempDir::new().unwrap();
    let mapping = mapped_file(&two_calls(&directory));
    let mut symbolizer = Symbolizer::new();
    let stack = raw([BASE + 15]);
    assert_eq!(symbolizer.observe(StackId(7), &stack, &[]), Observed::UnknownMapping);
    let named = symbolizer.name(StackId(7));
    assert_eq!((named.frames.len(), named.missing_root.as_deref()), (0, Some("[unknown mapping]")));
    let mut data = mapping.clone();
    data.permissions.execute = false;
    symbolizer.add_mappings(&[data], &open_by_name);
    assert_eq!(symbolizer.observe(StackId(7), &stack, &[]), Observed::UnknownMapping);
    symbolizer.add_mappings(&[mapping], &open_by_name);
    assert_eq!(symbolizer.observe(StackId(7), &stack, &[]), Observed::Kept);
    assert_eq!(symbolizer.name(StackId(7)).frames.len(), 1);
}

#[test]
fn code_without_a_file_is_named_by_its_address_and_the_kernels_by_its_offset() {
    let anonymous = Mapping { file: None, name: String::new(), ..mapped_file(Path::new("")) };
    let mut vdso = Mapping { name: "[vdso]".to_owned(), ..anonymous.clone() };
    (vdso.start, vdso.end) = (vdso.end, vdso.end + 4096);
    let mut symbolizer = Symbolizer::new();
    symbolizer.add_mappings(&[anonymous, vdso.clone()], &open_by_name);
    let stack = name(&mut symbolizer, &raw([BASE + 16, vdso.start + 2]));
    assert_eq!(functions(&stack), [format!("[anon]+{:#x}", BASE + 0x10), "[vdso]+0x2".to_owned()]);
}

#[test]
fn a_call_without_a_stack_says_so() {
    let stack = Symbolizer::new().name(StackId::NONE);
    assert_eq!((stack.frames.len(), stack.missing_root.as_deref()), (0, Some("[no stack]")));
}

#[test]
fn a_full_table_refuses_new_stacks_and_takes_known_ones_again() {
    let directory = TempDir::new().unwrap();
    let mut symbolizer = symbolizer_of(&two_calls(&directory));
    symbolizer.observe(StackId(1), &raw([BASE + 15, BASE + 32]), &[]);
    symbolizer.kept_frames += MAX_FRAMES - 2;
    assert_eq!(symbolizer.observe(StackId(2), &raw([BASE + 15]), &[]), Observed::TableFull);
    assert_eq!(symbolizer.name(StackId(2)).missing_root.as_deref(), Some("[no stack]"));
    assert_eq!(symbolizer.observe(StackId(1), &raw([BASE + 15]), &[]), Observed::Kept);
}

#[test]
fn a_device_is_not_read() {
    let mut symbolizer = symbolizer_of(Path::new("/dev/zero"));
    let stack = name(&mut symbolizer, &raw([BASE + 16]));
    assert_eq!(functions(&stack), ["zero+0x10"]);
}

/// What any target may hand over: the frame must be there, whatever it says.
fn survives(bytes: &[u8], address: u64) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("hostile");
    fs::write(&path, bytes).unwrap();
    let stack = name(&mut symbolizer_of(&path), &raw([address]));
    let named = |frame: &Arc<Frame>| !frame.function.is_empty() && frame.module == "hostile";
    assert!(!stack.frames.is_empty() && stack.frames.iter().all(named), "{stack:?}");
}

#[test]
fn broken_files_give_offsets_and_no_panic() {
    let directory = TempDir::new().unwrap();
    let path = compile(&directory, LIBRARY, &["-g", "-O0"]);
    let bytes = fs::read(&path).unwrap();
    let address = inside(&path, "plain");
    survives(b"", address);
    survives(b"\x7fELF", address);
    proptest!(ProptestConfig::with_cases(64), |(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
        headers in prop::collection::vec((0usize..64, any::<u8>()), 0..3),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    )| {
        let mut hostile = bytes.clone();
        for (index, byte) in flips {
            *index.get_mut(&mut hostile) = byte;
        }
        for (index, byte) in headers {
            hostile[index] = byte;
        }
        if cut {
            hostile.truncate(length.index(bytes.len()));
        }
        survives(&hostile, address);
    });
}

fn done(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// A stripped library with its debug file beside it, and an address in its static function.
struct Stripped {
    directory: TempDir,
    library: PathBuf,
    debug: PathBuf,
    hidden: u64,
}

impl Stripped {
    fn new(options: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let library = compile(&directory, LIBRARY, &[&["-O0", "-g"], options].concat());
        let (debug, hidden) = (directory.path().join("leaky.debug"), inside(&library, "hidden"));
        done(Command::new("objcopy").arg("--only-keep-debug").args([&library, &debug]));
        done(Command::new("strip").arg(&library));
        Self { directory, library, debug, hidden }
    }

    /// Writes a debug link, which leads nowhere yet.
    fn link(self) -> Self {
        let link = format!("--add-gnu-debuglink={}", self.debug.display());
        done(Command::new("objcopy").arg(link).arg(&self.library));
        let hidden = self.directory.path().join("elsewhere");
        fs::rename(&self.debug, &hidden).unwrap();
        Self { debug: hidden, ..self }
    }

    fn build_id_path(&self) -> PathBuf {
        let bytes = fs::read(&self.library).unwrap();
        let id = Elf::parse(bytes.as_slice()).unwrap().build_id().unwrap().id;
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        PathBuf::from(format!(".build-id/{}/{}.debug", &hex[..2], &hex[2..]))
    }

    /// Puts the debug file to a place below a directory.
    fn put(&self, root: &Path, at: &Path) {
        let to = root.join(at);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&self.debug, to).unwrap();
    }

    /// The function of the address, and its line, with debug files from these places.
    fn named(&self, given: &Path, target_root: &Path) -> (String, Option<u32>) {
        let roots = DebugRoots::new(&[given.to_owned()], target_root).unwrap();
        let mut symbolizer = Symbolizer::with_names(roots, PerfMap::default());
        symbolizer.add_mappings(&[mapped_file(&self.library)], &open_by_name);
        let frame = name(&mut symbolizer, &raw([self.hidden])).frames[0].clone();
        (frame.function.clone(), frame.line)
    }

    fn assert_named(&self, given: &Path, target_root: &Path) {
        let (function, line) = self.named(given, target_root);
        assert_eq!((function.as_str(), line.is_some()), ("hidden", true));
    }

    fn assert_nameless(&self, given: &Path, target_root: &Path) {
        assert!(self.named(given, target_root).0.starts_with("leaky.so+0x"));
    }
}

#[test]
fn a_debug_file_is_found_by_build_id_in_a_given_directory() {
    let (stripped, root, none) =
        (Stripped::new(&[]), TempDir::new().unwrap(), TempDir::new().unwrap());
    stripped.assert_nameless(root.path(), none.path());
    stripped.put(root.path(), &stripped.build_id_path());
    stripped.assert_named(root.path(), none.path());
}

#[test]
fn a_debug_file_is_found_by_build_id_in_the_targets_own_system() {
    let (stripped, root, none) =
        (Stripped::new(&[]), TempDir::new().unwrap(), TempDir::new().unwrap());
    stripped.put(root.path(), &Path::new("usr/lib/debug").join(stripped.build_id_path()));
    stripped.assert_named(none.path(), root.path());
}

#[test]
fn a_debug_file_is_found_by_its_link_in_a_given_directory_and_near_the_object() {
    let (stripped, none) =
        (Stripped::new(&["-Wl,--build-id=none"]).link(), TempDir::new().unwrap());
    stripped.assert_nameless(none.path(), none.path());
    let root = TempDir::new().unwrap();
    stripped.put(root.path(), Path::new("leaky.debug"));
    stripped.assert_named(root.path(), none.path());
    let inside = stripped.directory.path().strip_prefix("/").unwrap();
    for near in [inside.join("leaky.debug"), inside.join(".debug/leaky.debug")] {
        let root = TempDir::new().unwrap();
        stripped.put(root.path(), &near);
        stripped.assert_named(none.path(), root.path());
    }
}

#[test]
fn a_debug_file_of_another_build_is_not_taken() {
    let (stripped, none) = (Stripped::new(&[]), TempDir::new().unwrap());
    let (other, root) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let stripped = Stripped { debug: rebuilt(&other), ..stripped };
    stripped.put(root.path(), &stripped.build_id_path());
    stripped.assert_nameless(root.path(), none.path());
    let linked = Stripped::new(&["-Wl,--build-id=none"]).link();
    let wrong = Stripped { debug: rebuilt(&other), ..linked };
    let root = TempDir::new().unwrap();
    wrong.put(root.path(), Path::new("leaky.debug"));
    wrong.assert_nameless(root.path(), none.path());
}

/// Another build of the library, with its debug information.
fn rebuilt(directory: &TempDir) -> PathBuf {
    let source = format!("{LIBRARY}\nint one_more = 1;\n");
    compile(directory, &source, &["-O0", "-g"])
}

#[test]
fn what_blocks_or_leads_out_of_the_targets_system_is_no_debug_file() {
    let (stripped, root, none) =
        (Stripped::new(&[]), TempDir::new().unwrap(), TempDir::new().unwrap());
    let at = root.path().join("usr/lib/debug").join(stripped.build_id_path());
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&stripped.debug, &at).unwrap();
    stripped.assert_nameless(none.path(), root.path());
    fs::remove_file(&at).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &at, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    stripped.assert_nameless(none.path(), root.path());
}

#[test]
fn generated_code_is_named_by_its_perf_map_as_it_was_and_as_it_became() {
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("tmp")).unwrap();
    let map = root.path().join("tmp/perf-9.map");
    fs::write(&map, format!("{BASE:x} 10 early\n")).unwrap();
    let user = rustix::process::geteuid().as_raw();
    let perf_map = PerfMap::of(root.path(), 9, user);
    let mut symbolizer = Symbolizer::with_names(DebugRoots::default(), perf_map);
    let anonymous = Mapping { file: None, name: String::new(), ..mapped_file(Path::new("")) };
    symbolizer.add_mappings(&[anonymous], &open_by_name);
    // The return address behind the last instruction of a function is the next one's first.
    let stack = raw([BASE + 0x10, BASE + 0x14]);
    let of = |symbolizer: &mut Symbolizer| {
        let named = name(symbolizer, &stack);
        functions(&named).iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(&mut symbolizer), ["early".to_owned(), format!("[anon]+{:#x}", BASE + 0x14)]);
    fs::write(&map, format!("{BASE:x} 10 early\n{:x} 10 late\n", BASE + 0x10)).unwrap();
    symbolizer.refresh_names();
    assert_eq!(of(&mut symbolizer), ["early", "late"]);
}

/// A stack from `plain` through two runs of `cache::insert` to the end, and its Python side.
fn with_python(path: &Path) -> (RawStack, Vec<Option<Arc<Frame>>>) {
    let run = inside(path, "_ZN5cache6insertEPKci") | ENTRY_MARK;
    let position = |is_oldest: bool| if is_oldest { 7 | ENTRY_MARK } else { 7 };
    let at = |is_oldest| PythonFrame { code: 0x1000, position: position(is_oldest) };
    let frame = |function: &str| {
        let (function, language) = (function.to_owned(), Language::Python);
        Some(Arc::new(Frame { function, language, ..Frame::default() }))
    };
    let stack = RawStack {
        python: vec![at(true), at(false), at(true)],
        python_end: PythonEnd::Complete,
        ..RawStack::native(vec![inside(path, "plain"), run, run], StackEnd::Complete)
    };
    (stack, vec![frame("load"), frame("main"), frame("<module>")])
}

#[test]
fn python_frames_take_the_places_of_the_native_ones_that_run_them() {
    let directory = TempDir::new().unwrap();
    let path = compile(&directory, LIBRARY, &["-O0"]);
    let (stack, python) = with_python(&path);
    let shown = |python_frames, stack: &RawStack| {
        let mut symbolizer = symbolizer_of(&path).with_python_frames(python_frames);
        assert_eq!(symbolizer.observe(StackId(1), stack, &python), Observed::Kept);
        let named = symbolizer.name(StackId(1));
        let names: Vec<_> = functions(&named).iter().map(|name| (*name).to_owned()).collect();
        (names.join(" "), named.missing_root, symbolizer.out_of_place())
    };
    let merged = |stack| shown(PythonFrames::Merged, stack);
    assert_eq!(merged(&stack), ("plain load main <module>".to_owned(), None, 0));
    let only = shown(PythonFrames::Only, &stack);
    assert_eq!(only, ("load main <module>".to_owned(), None, 0));
    let native = "plain cache::insert(char const*, int) cache::insert(char const*, int)";
    assert_eq!(shown(PythonFrames::None, &stack).0, native);
    let truncated = RawStack { python_end: PythonEnd::Truncated, ..stack.clone() };
    assert_eq!(merged(&truncated).1.as_deref(), Some("[truncated]"));
    let other = RawStack { frames: stack.frames[..2].to_vec(), ..stack.clone() };
    let unmatched = "plain cache::insert(char const*, int) load main <module>".to_owned();
    assert_eq!(merged(&other), (unmatched, None, 1));
}

#[test]
fn a_native_thread_of_a_python_process_has_native_frames_only() {
    let directory = TempDir::new().unwrap();
    let path = compile(&directory, LIBRARY, &["-O0"]);
    let mut stack = raw([inside(&path, "plain")]);
    stack.python_end = PythonEnd::NoThreadState;
    let mut symbolizer = symbolizer_of(&path).with_python_frames(PythonFrames::Only);
    assert_eq!(functions(&name(&mut symbolizer, &stack)), ["plain"]);
}
