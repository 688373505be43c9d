#!/usr/bin/env python3
"""Reads a memtrace capture by docs/format.md alone and prints it as JSON.

Needs the package zstandard. This is no part of memtrace: it shows that the description suffices,
and is a start for other readers. It stops at the first block that is cut or damaged.

    python3 read_capture.py FILE.memtrace
"""

import json
import struct
import sys
import zlib

import zstandard

MAGIC = b"\x89MEMTRC\n"
(HEADER, MODULES, RAW_STACKS, EVENTS, SAMPLES, WALKS, FRAMES, STACKS, SITES, LIVE, THREADS,
 TIMELINE, EVENTS_KEPT, ENDING, END, PROCESS, LAYOUT) = range(1, 18)
CONTINUED, PROCESS_SHIFT = 2, 8
MASK = (1 << 64) - 1

FUNCTIONS = """malloc, calloc, realloc, reallocarray, free, memalign, aligned_alloc, posix_memalign,
    valloc, pvalloc, mmap, munmap, mremap, brk, sbrk, _dl_debug_state, PyMem_Malloc, PyMem_Calloc,
    PyMem_Realloc, PyMem_Free, PyObject_Malloc, PyObject_Calloc, PyObject_Realloc, PyObject_Free,
    mallocx, rallocx, xallocx, dallocx, sdallocx, operator new, operator new[], operator delete,
    operator delete[], zalloc, malloc_aligned, zalloc_aligned, realloc_aligned, mprotect, madvise,
    page fault""".replace("\n   ", "").split(", ")

# By code: name, addresses, has a stack, has a size, other numbers.
ACTIONS = [
    ("alloc", 1, True, True, 0), ("free", 1, False, False, 0),
    ("realloc_begin", 1, False, False, 0), ("realloc_end", 2, True, True, 0),
    ("map", 1, True, True, 2), ("unmap_begin", 1, False, False, 1),
    ("unmap_end", 1, False, False, 2), ("remap_begin", 1, False, False, 1),
    ("remap_end", 2, True, True, 1), ("break", 2, True, False, 0), ("fork", 0, False, False, 0),
    ("exec", 0, False, False, 0), ("thread_exit", 0, False, False, 0),
    ("code_change", 0, False, False, 0),
]


class Fields:
    """Bytes that are taken one after the other."""

    def __init__(self, data):
        self.data, self.at, self.last = data, 0, 0

    def more(self):
        return self.at < len(self.data)

    def take(self, count):
        if count > len(self.data) - self.at:
            raise ValueError("a payload ends too early")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def difference(self):
        code = self.number()
        self.last = (self.last + (code >> 1 ^ -(code & 1))) & MASK
        return self.last

    def word(self):
        return struct.unpack("<Q", self.take(8))[0]

    def bytes(self):
        return self.take(self.number())

    def text(self):
        return self.bytes().decode()

    def columns(self, count):
        return [Fields(self.bytes()) for _ in range(count)]


def rotate_left(value, bits):
    return (value << bits | value >> 64 - bits) & MASK


def blocks(data):
    """Kind, flags and payload of each block."""
    if data[:8] != MAGIC:
        raise ValueError("not a memtrace capture")
    minor, major = struct.unpack("<HH", data[8:12])
    if major != 1:
        raise ValueError(f"format {major}.{minor}")
    at = 24
    while len(data) - at >= 20:
        header = data[at:at + 20]
        stored, plain, kind, flags, payload_crc, header_crc = struct.unpack("<IIHHII", header)
        payload = data[at + 20:at + 20 + stored]
        if zlib.crc32(header[:16]) != header_crc or len(payload) < stored:
            return
        if zlib.crc32(payload) != payload_crc:
            return
        yield kind, flags, zstandard.decompress(payload, max_output_size=plain)
        at += 20 + stored
        if kind == END:
            return


def records(data):
    """Records that take several blocks are put together. Kind, process and payload of each."""
    begun = b""
    for kind, flags, payload in blocks(data):
        begun += payload
        if not flags & CONTINUED:
            yield kind, flags >> PROCESS_SHIFT, begun
            begun = b""


def frame_table(fields):
    count = fields.number()
    names = Fields(fields.bytes())
    names = [names.text() for _ in range(count)]
    functions, modules, files, lines, flags = fields.columns(5)
    frames = []
    for bits in flags.data:
        frame = {"function": names[functions.number()], "module": names[modules.number()]}
        file, line = files.number(), lines.number()
        if file:
            frame["file"] = names[file - 1]
        if line:
            frame["line"] = line - 1
        if bits & 1:
            frame["inlined"] = True
        if bits & 2:
            frame["language"] = "python"
        frames.append(frame)
    return frames


def words(fields):
    column, count = fields, fields.number()
    column.last = 0
    return [rotate_left(column.difference(), 63) for _ in range(count)]


def raw_stacks(payload):
    fields, stacks = Fields(payload), []
    names = frame_table(fields)
    while fields.more():
        stack = {"id": fields.word(), "end": fields.number(), "guessed": bool(fields.number()),
                 "python_end": fields.number(), "frames": words(fields)}
        codes, positions = words(fields), words(fields)
        stack["python"] = list(zip(codes, positions))
        found = [fields.number() for _ in range(fields.number())]
        stack["python_names"] = [names[name - 1] if name else None for name in found]
        stacks.append(stack)
    return stacks


class Stacks:
    def __init__(self):
        self.frames, self.nodes, self.stacks = [], [], []

    def add_frames(self, payload):
        fields = Fields(payload)
        assert fields.number() == len(self.frames)
        self.frames += frame_table(fields)

    def add_stacks(self, payload):
        fields = Fields(payload)
        assert fields.number() == len(self.nodes)
        parents, frames, ids, leaves, labels = fields.columns(5)
        while parents.more():
            number = len(self.nodes) + 1
            self.nodes.append((number - parents.number(), frames.difference()))
        while ids.more():
            stack, node = {"id": ids.word(), "frames": []}, leaves.difference()
            while node:
                node, frame = self.nodes[node - 1]
                stack["frames"].append(self.frames[frame])
            label = labels.text()
            if label:
                stack["missing_root"] = label
            self.stacks.append(stack)


class Events:
    def __init__(self):
        self.dictionary, self.events = [], []

    def add(self, payload, process):
        fields = Fields(payload)
        count, known, new = fields.number(), fields.number(), fields.bytes()
        self.dictionary = (self.dictionary + [0] * known)[:known]
        self.dictionary += [word for (word,) in struct.iter_unpack("<Q", new)]
        shapes = list(struct.iter_unpack("BBB", fields.bytes()))
        threads, tids = Fields(fields.bytes()), []
        while threads.more():
            tids.append(threads.difference())
        columns = fields.columns(8)
        seen, sizes, rotated = [], {}, [0] * len(tids)
        for _ in range(count):
            event = self.event(shapes, tids, rotated, seen, sizes, columns)
            self.events.append({**event, "process": process})

    def event(self, shapes, tids, rotated, seen, sizes, columns):
        shape, thread, time, reference, address, stack, size, other = columns
        code, function, flags = shapes[shape.number()]
        # 0: every block was looked at; else samples lie 2**interval bytes apart on average.
        interval = flags >> 3 | (code & 0x40) >> 1
        code, flags = code & 0x3f, flags & 7
        name, addresses, has_stack, has_size, others = ACTIONS[code]
        thread = thread.number()
        event = {"action": name, "function": FUNCTIONS[function], "tid": tids[thread],
                 "time_ns": time.difference(), "flags": flags, "interval": interval, "addresses": []}
        for _ in range(addresses):
            back = reference.number()
            if back == 0:
                address.last = rotated[thread]
                rotated[thread] = address.difference()
                found = rotate_left(rotated[thread], 3)
            else:
                found = 0 if back == 1 else seen[len(seen) - (back - 1)]
            if back != 1:
                seen.append(found)
            event["addresses"].append(found)
        if has_stack:
            index = stack.number()
            event["stack"] = self.dictionary[index]
            if has_size:
                before, code = sizes.get(index, 0), size.number()
                value = before if code == 0 else code - 1 if code <= before else code
                event["size_bytes"] = sizes[index] = value
        event["others"] = [other.number() for _ in range(others)]
        return event


def sites(payload):
    fields, rows = Fields(payload), []
    functions, has_stack, stacks = fields.columns(3)
    amounts = fields.columns(8)
    for there in has_stack.data:
        function = functions.number()
        values = [column.number() for column in amounts]
        names = ("live", "allocated", "freed", "peak")
        pairs = zip(names, values[::2], values[1::2])
        row = {name: {"bytes": size, "count": count} for name, size, count in pairs}
        row["function"] = FUNCTIONS[function - 1] if 0 < function <= len(FUNCTIONS) else None
        row["stack"] = stacks.word() if there else None
        rows.append(row)
    return rows


def live(payload):
    fields, rows = Fields(payload), []
    addresses, sizes, times, sites = fields.columns(4)
    intervals = iter(fields.columns(1)[0].data if fields.more() else ())
    while addresses.more():
        rows.append({"address": addresses.difference(), "bytes": sizes.number(),
                     "time_ns": times.difference(), "site": sites.number(),
                     "interval": next(intervals, 0)})
    return rows


def pairs(column):
    ranges = []
    while column.more():
        ranges.append([column.difference(), column.difference()])
    return ranges


def pools(column, start):
    found, column.last = [], start
    while column.more():
        found.append([column.difference()] + [column.number() for _ in range(3)])
    return found


def layout(payload, known):
    """Adds a block to the layouts that are known, by process and side."""
    fields = Fields(payload)
    of, number = fields.number(), fields.number()
    if number == 0:
        known[of] = {"arenas": [], "mapped": [], "pymalloc": [], "resident": []}
    found = known[of]
    while fields.more():
        item = fields.number()
        if item == 0:
            at = fields.number()
            found["at_ns"] = at >> 1 ^ -(at & 1)
            names = ("page_bytes", "huge_page_bytes", "left_out_bytes")
            found.update({name: fields.number() for name in names})
        elif item == 1:
            names = ("heap", "index", "attached_threads")
            arena = {name: fields.number() for name in names}
            arena["attached_threads"] = arena["attached_threads"] - 1 if arena["attached_threads"] else None
            found["arenas"].append({**arena, "segments": []})
        elif item == 2:
            segments = found["arenas"][-1]["segments"]
            segments.append({"start": fields.number(), "pieces": []})
        elif item == 3:
            codes = Fields(fields.bytes())
            while codes.more():
                code = codes.number()
                segments[-1]["pieces"].append([code & 7, code & ~7])
        elif item in (4, 7):
            found["mapped" if item == 4 else "resident"] += pairs(Fields(fields.bytes()))
        elif item == 5:
            start, size, pool = (fields.number() for _ in range(3))
            found["pymalloc"].append({"start": start, "bytes": size, "pool_bytes": pool, "pools": []})
        elif item == 6:
            arena = found["pymalloc"][-1]
            arena["pools"] += pools(Fields(fields.bytes()), arena["start"])


def layouts_of(process, layouts):
    return {"before": layouts.get(2 * process), "after": layouts.get(2 * process + 1)}


def read(data):
    capture = {"raw_stacks": [], "sites": [], "live": [], "threads": [], "unknown": []}
    samples, stacks, events, layouts, processes = [], Stacks(), Events(), {}, {}
    last = {HEADER: "header", MODULES: "modules", WALKS: "walks", EVENTS_KEPT: "events_kept",
            ENDING: "ending", END: "end"}
    lists = {THREADS: ("threads", json.loads), RAW_STACKS: ("raw_stacks", raw_stacks),
             SITES: ("sites", sites), LIVE: ("live", live)}
    for kind, process, payload in records(data):
        if kind in last:
            capture[last[kind]] = json.loads(payload)
        elif kind in lists:
            name, parse = lists[kind]
            capture[name] += parse(payload)
        elif kind == EVENTS:
            events.add(payload, process)
        elif kind == FRAMES:
            stacks.add_frames(payload)
        elif kind == STACKS:
            stacks.add_stacks(payload)
        elif kind == SAMPLES:
            samples += json.loads(payload)
        elif kind == TIMELINE:
            capture["timeline"], samples = json.loads(payload), []
        elif kind == PROCESS:
            known = json.loads(payload)
            processes[known["number"]] = known
        elif kind == LAYOUT:
            layout(payload, layouts)
        else:
            capture["unknown"].append(kind)
    capture.setdefault("timeline", {})["samples"] = samples
    capture["layouts"] = layouts_of(0, layouts)
    for number, process in processes.items():
        process["layouts"] = layouts_of(number, layouts)
        for site in capture["sites"][process["first_site"]:][:process["sites"]]:
            site["process"] = number
    capture["processes"] = [processes[number] for number in sorted(processes)]
    return {**capture, "stacks": stacks.stacks, "events": events.events}


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        json.dump(read(file.read()), sys.stdout, indent=1)
    print()
