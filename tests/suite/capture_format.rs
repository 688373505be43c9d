//! docs/format.md suffices to read a capture: a reader that was made from it alone finds what
//! memtrace finds.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use memtrace::{
    capture::{Capture, CapturedProcess, Events as _, KeptEvent, Opened, Reader, Writer},
    model::{
        AllocFn,
        census::Extent,
        layout::{ArenaLayout, HeapLayout, Piece, PoolLayout, PymallocArenaLayout, SegmentLayout},
        stack::{Frame, NamedStack, StackId},
    },
};
use memtrace_tests::pythons::system;
use serde_json::{Value, json};

fn root(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

fn golden() -> PathBuf {
    root("memtrace/src/capture/golden/v1_2.memtrace")
}

fn opened() -> Opened<File> {
    Reader::open(File::open(golden()).unwrap()).unwrap()
}

fn by_the_description() -> Value {
    read(&golden())
}

fn read(capture: &Path) -> Value {
    let mut command = system().command_with_package("zstandard");
    let output = command.arg(root("docs/read_capture.py")).arg(capture).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// As the other reader shows a stack.
fn stack((id, stack): &(StackId, NamedStack)) -> Value {
    let frame = |frame: &std::sync::Arc<Frame>| serde_json::to_value(frame.as_ref()).unwrap();
    json!({"id": id.0, "frames": stack.frames.iter().map(frame).collect::<Vec<_>>()})
}

fn sites(capture: &Capture) -> Vec<Value> {
    let site = |site: &memtrace::capture::CapturedSite| {
        let mut shown = serde_json::to_value(site.stats).unwrap();
        shown["function"] = json!(site.function.map(|function| function.name()));
        shown["stack"] = json!(site.stack.map(|stack| stack.0));
        shown
    };
    capture.sites.iter().map(site).collect()
}

fn live(capture: &Capture) -> Vec<Value> {
    let record = |it: &memtrace::capture::LiveItem| {
        let memtrace::capture::LiveItem { address, bytes, time_ns, site, interval } = *it;
        let interval = interval.exponent();
        json!({"address": address, "bytes": bytes, "time_ns": time_ns, "site": site, "interval": interval})
    };
    capture.live.iter().map(record).collect()
}

/// What all events have, and every number of their actions.
fn event(kept: &KeptEvent) -> (Value, String) {
    let event = &kept.event;
    let head = json!([event.function.name(), event.tid, event.time_ns]);
    (head, format!("{:?}", event.action))
}

fn assert_same_event(kept: &KeptEvent, found: &Value) {
    let (head, action) = event(kept);
    assert_eq!(head, json!([found["function"], found["tid"], found["time_ns"]]));
    assert_eq!(found["interval"], json!(kept.event.interval.exponent()));
    for number in found["addresses"].as_array().unwrap().iter().chain(found.get("size_bytes")) {
        assert!(action.contains(&format!(": {number}")), "{number} is not in {action}");
    }
    if let Some(stack) = found.get("stack") {
        assert!(action.contains(&format!("StackId({stack})")), "{stack} is not in {action}");
    }
}

#[test]
fn a_reader_that_was_made_from_the_description_finds_what_memtrace_finds() {
    let (found, opened) = (by_the_description(), opened());
    let capture = &opened.capture;
    assert_eq!(found["header"], serde_json::to_value(&capture.header).unwrap());
    assert_eq!(found["ending"], serde_json::to_value(&capture.ending).unwrap());
    assert_eq!(found["modules"], serde_json::to_value(&capture.modules).unwrap());
    assert_eq!(found["timeline"], serde_json::to_value(&capture.timeline).unwrap());
    assert_eq!(found["threads"], serde_json::to_value(&capture.threads).unwrap());
    assert_eq!(found["stacks"], json!(capture.stacks.iter().map(stack).collect::<Vec<_>>()));
    assert_eq!(found["sites"], json!(sites(capture)));
    assert_eq!(found["live"], json!(live(capture)));
    assert_eq!(found["raw_stacks"].as_array().unwrap().len(), 3);
    assert_eq!(found["end"]["events"], json!(capture.events.kept));
}

/// As the other reader shows a layout.
fn layout(layout: &HeapLayout) -> Value {
    let extent = |extent: &Extent| json!([extent.start, extent.end]);
    let segment = |segment: &SegmentLayout| {
        let piece = |piece: Piece| json!([piece.kind as u8, piece.extent.bytes()]);
        json!({"start": segment.start(), "pieces": segment.pieces().map(piece).collect::<Vec<_>>()})
    };
    let arena = |arena: &ArenaLayout| {
        json!({
            "heap": arena.heap,
            "index": arena.index,
            "attached_threads": arena.attached_threads,
            "segments": arena.segments.iter().map(segment).collect::<Vec<_>>(),
        })
    };
    let pool =
        |pool: &PoolLayout| json!([pool.start, pool.block_bytes, pool.in_use, pool.capacity]);
    let pymalloc = |arena: &PymallocArenaLayout| {
        json!({
            "start": arena.extent.start,
            "bytes": arena.extent.bytes(),
            "pool_bytes": arena.pool_bytes,
            "pools": arena.pools.iter().map(pool).collect::<Vec<_>>(),
        })
    };
    json!({
        "at_ns": layout.at_ns,
        "page_bytes": layout.page_bytes,
        "huge_page_bytes": layout.huge_page_bytes,
        "left_out_bytes": layout.left_out_bytes,
        "arenas": layout.arenas.iter().map(arena).collect::<Vec<_>>(),
        "mapped": layout.mapped.iter().map(extent).collect::<Vec<_>>(),
        "pymalloc": layout.pymalloc.iter().map(pymalloc).collect::<Vec<_>>(),
        "resident": layout.resident.iter().map(extent).collect::<Vec<_>>(),
    })
}

#[test]
fn and_the_same_layouts() {
    let (found, opened) = (by_the_description(), opened());
    let layouts = &opened.capture.layouts;
    assert_eq!(found["layouts"]["before"], layout(layouts.before.as_ref().unwrap()));
    assert_eq!(found["layouts"]["after"], layout(layouts.after.as_ref().unwrap()));
}

#[test]
fn and_the_same_events() {
    let (found, opened) = (by_the_description(), opened());
    let found = found["events"].as_array().unwrap();
    let mut count = 0;
    opened
        .events
        .replay(&mut |kept| {
            assert_same_event(kept, &found[count]);
            count += 1;
        })
        .unwrap();
    assert_eq!((count, found.len()), (12, 12));
}

#[test]
fn and_the_same_functions() {
    let script = "import json, read_capture; print(json.dumps(read_capture.FUNCTIONS))";
    let mut command = system().command_with_package("zstandard");
    let output = command.args(["-c", script]).current_dir(root("docs")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found, AllocFn::ALL.map(AllocFn::name));
}

/// The golden capture as if two processes had done what is in it, in turns.
fn of_two_processes(path: &Path) -> Capture {
    let Opened { mut capture, events, .. } = opened();
    capture.processes = vec![process(&capture, 0), process(&capture, 1)];
    capture.sites.iter_mut().skip(1).for_each(|site| site.process = 1);
    let mut writer = Writer::new(File::create(path).unwrap(), &capture.header).unwrap();
    let mut number = 0;
    let mut write = |kept: &KeptEvent| {
        writer.event(&KeptEvent { process: number % 2, ..kept.clone() }).unwrap();
        number += 1;
    };
    events.replay(&mut write).unwrap();
    writer.finish(&capture).unwrap();
    capture
}

fn process(capture: &Capture, number: u8) -> CapturedProcess {
    let mut process = CapturedProcess {
        number,
        parent: (number > 0).then_some(capture.header.target.pid),
        header: capture.header.clone(),
        ending: Some(capture.ending.clone()),
        layouts: capture.layouts.clone(),
        ..CapturedProcess::default()
    };
    process.header.target.pid += u32::from(number);
    process
}

#[test]
fn and_the_same_processes() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("two.memtrace");
    let capture = of_two_processes(&path);
    let found = read(&path);
    assert_eq!(found["unknown"], json!([]));
    for (process, found) in capture.processes.iter().zip(found["processes"].as_array().unwrap()) {
        assert_eq!(found["number"], process.number);
        assert_eq!(found["parent"], json!(process.parent));
        assert_eq!(found["header"], serde_json::to_value(&process.header).unwrap());
        assert_eq!(found["layouts"]["after"], layout(process.layouts.after.as_ref().unwrap()));
    }
    let numbers = |of: &str| -> Vec<Value> {
        found[of].as_array().unwrap().iter().map(|it| it["process"].clone()).collect()
    };
    let of_sites: Vec<u8> = capture.sites.iter().map(|site| site.process).collect();
    assert_eq!(json!(numbers("sites")), json!(of_sites));
    assert_eq!(json!(numbers("events")), json!([0, 1].repeat(6)));
}
