use proptest::prelude::*;

use super::*;

/// Names as they follow each other in the section of strings.
const NAMES: &str =
    "\0task_struct\0thread\0fsbase\0thread_info\0btf_trace_mark_victim\0mm_rss_stat\0count\0";

fn name(name: &str) -> u32 {
    NAMES.find(&format!("\0{name}\0")).unwrap() as u32 + 1
}

fn info(kind: u32, count: u32, has_sizes: bool) -> u32 {
    u32::from(has_sizes) << 31 | kind << 24 | count
}

/// `struct task_struct { int thread_info; (int); struct { int fsbase; } thread; }`, with `int` as
/// type 2 and a type of each other form around.
fn types(has_sizes: bool) -> Vec<u32> {
    let size = if has_sizes { 32 << 24 } else { 0 };
    let mut words = Vec::new();
    words.extend([0, info(2, 0, false), 2]); // 1: int *
    words.extend([0, info(1, 0, false), 4, 32]); // 2: int
    words.extend([0, info(3, 0, false), 0, 2, 2, 4]); // 3: int[4]
    words.extend([0, info(6, 2, false), 4, 0, 0, 0, 1]); // 4: an enum of two
    words.extend([name("task_struct"), info(7, 0, false), 0]); // 5: a forward declaration
    words.extend([name("task_struct"), info(4, 3, has_sizes), 64]); // 6: the struct
    words.extend([name("thread_info"), 2, size]);
    words.extend([0, 2, size | 32]);
    words.extend([name("thread"), 8, 256]);
    words.extend([0, info(19, 1, false), 8, 0, 0, 0]); // 7: an enum64 of one
    words.extend([0, info(4, 1, false), 32, name("fsbase"), 2, 192]); // 8: the inner struct
    words
}

fn btf(types: &[u32]) -> Vec<u8> {
    let length = types.len() as u32 * 4;
    let header = [0x0001_eb9f, 24, 0, length, length, NAMES.len() as u32];
    let words = header.iter().chain(types).flat_map(|word| word.to_le_bytes());
    words.chain(NAMES.bytes()).collect()
}

fn offset(bytes: &[u8], path: &[&'static str]) -> Result<u64, String> {
    member_offset(bytes, "task_struct", path).map_err(|error| error.to_string())
}

#[test]
fn the_offsets_of_nested_members_add_up() {
    for has_sizes in [false, true] {
        let bytes = btf(&types(has_sizes));
        assert_eq!(offset(&bytes, &["thread", "fsbase"]), Ok((256 + 192) / 8));
        assert_eq!(offset(&bytes, &["thread_info"]), Ok(0));
    }
}

#[test]
fn what_is_not_there_is_named() {
    let bytes = btf(&types(false));
    let missing = |what| format!("the kernel's BTF does not say where {what} is");
    assert_eq!(offset(&bytes, &["thread", "thread"]), Err(missing("thread")));
    assert_eq!(offset(&bytes, &["fsbase"]), Err(missing("fsbase")));
    assert_eq!(offset(&bytes, &["thread_info", "fsbase"]), Err(missing("fsbase")));
    assert_eq!(offset(&btf(&[]), &["thread"]), Err(missing("task_struct")));
    assert_eq!(offset(b"\x7fELF", &["thread"]), Err(missing("anything")));
}

/// The tracepoint's type where its argument is of this type: 1 is `void *`, 2 `int`.
fn tracepoint(argument: u32) -> Vec<u8> {
    let mut words = Vec::new();
    words.extend([0, info(2, 0, false), 0]); // 1: void *
    words.extend([0, info(1, 0, false), 4, 32]); // 2: int
    words.extend([0, info(13, 2, false), 0, 0, 1, 0, argument]); // 3: void (void *, argument)
    words.extend([0, info(2, 0, false), 3]); // 4: a pointer to it
    words.extend([name("btf_trace_mark_victim"), info(8, 0, false), 4]); // 5: typedef
    words.extend([name("mm_rss_stat"), info(4, 1, false), 32, name("count"), 2, 0]); // 6
    btf(&words)
}

#[test]
fn the_tracepoint_itself_says_whether_it_gives_a_task() {
    let gives_a_task = |bytes: &[u8]| oom::gives_a_task(&Btf::parse(bytes).unwrap());
    assert_eq!(gives_a_task(&tracepoint(1)), Some(true));
    assert_eq!(gives_a_task(&tracepoint(2)), Some(false));
    assert_eq!(gives_a_task(&btf(&types(false))), None);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmlinux");
    fs::write(&path, tracepoint(2)).unwrap();
    assert_eq!(oom_layout(&path).unwrap(), memtrace_common::oom::OomLayout::default());
}

#[test]
fn counters_of_old_kernels_follow_each_other() {
    let bytes = tracepoint(1);
    assert_eq!(oom::counters(&Btf::parse(&bytes).unwrap()), Some((0, 8)));
}

#[test]
fn a_kernel_without_btf_is_said_to_be_one() {
    let error = task_thread_pointer(Path::new("/nowhere/vmlinux")).unwrap_err().to_string();
    assert!(error.contains("no BTF") && error.contains("/nowhere/vmlinux"), "{error}");
}

proptest! {
    #[test]
    fn broken_btf_never_panics(
        of_tracepoint in any::<bool>(),
        at in 0..400usize,
        word in any::<u32>(),
        length in 0..400usize,
    ) {
        let mut bytes = if of_tracepoint { tracepoint(1) } else { btf(&types(true)) };
        if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
            *place = word.to_le_bytes();
        }
        bytes.truncate(length);
        let _ = offset(&bytes, &["thread", "fsbase"]);
        let _ = Btf::parse(&bytes).map(|it| (oom::gives_a_task(&it), oom::counters(&it)));
    }
}
