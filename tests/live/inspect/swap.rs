//! Memory in swap: not read, which would bring it back, and not passed over in silence.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use memtrace::{
    model::{census::Extent, mapping::Mapping},
    sys::procfs::ProcFs,
};
use memtrace_tests::{status_bytes, swap::Swap, target::Target};
use serde_json::Value;

use super::{bytes, inspect_idle};

/// Anonymous memory that the program writes to.
fn heaps(pid: u32) -> Vec<Extent> {
    let is_heap = |mapping: &&Mapping| {
        mapping.permissions.write
            && mapping.file.is_none()
            && (mapping.name.is_empty() || mapping.name == "[heap]")
    };
    let maps = ProcFs::new("/proc").maps(pid).unwrap();
    maps.iter().filter(is_heap).map(|it| Extent { start: it.start, end: it.end }).collect()
}

/// Sends pages of a process to swap; those that another process shares stay.
fn page_out(pid: u32, extents: &[Extent]) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let process: OwnedFd =
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    for extent in extents {
        let range = libc::iovec {
            iov_base: extent.start as *mut libc::c_void,
            iov_len: extent.bytes() as usize,
        };
        // SAFETY: the range is of the other process, whose content stays the same.
        let bytes = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                process.as_raw_fd(),
                &raw const range,
                1_usize,
                libc::MADV_PAGEOUT,
                0_u32,
            )
        };
        assert_eq!(bytes, extent.bytes() as i64, "{}", io::Error::last_os_error());
    }
}

/// Its last pages: arenas have their own state at their beginning.
fn end_of(extent: Extent) -> Extent {
    let middle = extent.start + extent.bytes() / 2;
    Extent { start: middle & !0xfff, ..extent }
}

/// Looks at a process that is partly in swap, and checks that it stays there.
fn look(pid: u32) -> Value {
    let swapped = status_bytes(pid, "VmSwap");
    assert!(swapped > 0, "nothing went to swap");
    let look = inspect_idle(pid);
    assert_eq!(status_bytes(pid, "VmSwap"), swapped, "looking has brought pages back");
    assert_eq!(look["rss"]["swap_bytes"], swapped, "{look:#}");
    look
}

fn sum(look: &Value, field: &str) -> u64 {
    let heaps = look["glibc"].as_array().unwrap().iter();
    let arenas = heaps.flat_map(|heap| heap["arenas"].as_array().unwrap());
    arenas.map(|arena| arena.pointer(field).unwrap().as_u64().unwrap()).sum()
}

#[test]
fn what_of_a_heap_is_in_swap_is_in_the_bound() {
    let _swap = Swap::on();
    let target = Target::start("two_libcs", &[]);
    let before = inspect_idle(target.pid());
    let ends: Vec<_> = heaps(target.pid()).into_iter().map(end_of).collect();
    page_out(target.pid(), &ends);
    let after = look(target.pid());
    let bound = after["error_bound_bytes"].as_u64().unwrap();
    for field in ["/in_use/bytes", "/free/bytes", "/tcache/bytes"] {
        let (truth, found) = (sum(&before, field), sum(&after, field));
        assert!(truth.abs_diff(found) <= bound, "{field}: {found}, {truth}, bound {bound}");
    }
    let swapped = sum(&after, "/quality/swapped_bytes");
    assert!(swapped > 4 << 20 && bound >= swapped, "{swapped}, {bound}");
    assert!(bytes(&after, "in_use") < bytes(&before, "in_use"));
}

#[test]
fn a_heap_that_is_in_swap_as_a_whole_is_not_called_something_else() {
    let _swap = Swap::on();
    let target = Target::start("two_libcs", &[]);
    page_out(target.pid(), &heaps(target.pid()));
    let look = look(target.pid());
    // Whatever can be said of it: not that this is sure.
    let bound = look["error_bound_bytes"].as_u64().unwrap();
    let refused = look["refusals"].as_array().unwrap().iter().any(|it| it["part"] == "glibc");
    assert!(refused || bound > 10 << 20, "{look:#}");
    assert_ne!(look["verdict"]["confidence"]["level"], "high", "{look:#}");
}

/// The first page of each heap of an arena that is not the main one: its state is there.
fn arena_states(pid: u32) -> Vec<Extent> {
    let is_arena = |heap: &Extent| heap.start.is_multiple_of(64 << 20);
    let first_page = |heap: Extent| Extent { end: heap.start + 4096, ..heap };
    heaps(pid).into_iter().filter(is_arena).map(first_page).collect()
}

#[test]
fn an_arena_whose_state_is_in_swap_does_not_hide_the_others() {
    let _swap = Swap::on();
    let target = Target::start("two_libcs", &[]);
    let before = inspect_idle(target.pid());
    let states = arena_states(target.pid());
    assert_eq!(states.len(), 2, "one for each libc's second thread");
    page_out(target.pid(), &states[..1]);
    let after = look(target.pid());
    let reason = after["refusals"][0]["reason"].as_str().unwrap();
    let address = format!("its arena at {:#x} is in swap", states[0].start + 0x30);
    assert!(reason.contains(&address), "{reason}");
    let arenas = |look: &Value| -> Vec<Value> {
        let heaps = look["glibc"].as_array().unwrap().iter();
        heaps.flat_map(|heap| heap["arenas"].as_array().unwrap().clone()).collect()
    };
    let (all, found) = (arenas(&before), arenas(&after));
    assert_eq!(all.len(), found.len());
    let (mut lost_in_use, mut lost_bound) = (0, 0);
    for (was, is) in all.iter().zip(&found) {
        assert_eq!(was["address"], is["address"]);
        assert_eq!(was["system_bytes"], is["system_bytes"]);
        if is["address"] == states[0].start + 0x30 {
            lost_in_use = was["in_use"]["bytes"].as_u64().unwrap();
            lost_bound = is["quality"]["error_bound_bytes"].as_u64().unwrap();
            assert!(is["resident"]["unknown_bytes"].as_u64().unwrap() > 1 << 20, "{is:#}");
        } else {
            assert_eq!(was["resident"], is["resident"]);
        }
    }
    assert!(lost_in_use > 1 << 20 && lost_bound >= lost_in_use, "{lost_in_use}, {lost_bound}");
    assert!(after["error_bound_bytes"].as_u64().unwrap() >= lost_bound);
    let text = memtrace_tests::binary::run(&["inspect", "-p", &target.pid().to_string()]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("part of the heap is in swap") && !text.contains("exact"), "{text}");
}
